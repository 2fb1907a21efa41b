#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "native/core/lost_pages.h"
#include "native/core/mapped_file.h"
#include "native/core/pages.h"
#include "native/core/thread_pool.h"
#include "test/native/check.h"
#include "test/native/io/files.h"

using namespace personascope;

namespace {

constexpr std::size_t kPages = 64;

// kPages pages full of ones.
struct File : TemporaryFile {
  File() : TemporaryFile(std::string(kPages * kPage, '\1')) {}
  void shorten(std::size_t pages) const {
    CHECK_EQ(truncate(path.c_str(), static_cast<off_t>(pages * kPage)), 0);
  }
};

// The first bytes of pages [first, last): ones, or zeros where they are lost.
std::size_t count_ones(const MappedFile& file, std::size_t first_page, std::size_t last_page) {
  const volatile std::uint8_t* data = file.data();
  std::size_t ones = 0;
  for (std::size_t page = first_page; page < last_page; ++page) ones += data[page * kPage];
  return ones;
}

// The message of the failure, or none.
std::string failure(const MappedReads& reads) {
  try {
    reads.check();
    return "";
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::io);
    return error.what();
  }
}

bool names(const std::string& message, const File& file) {
  return message.find(file.path) != std::string::npos;
}

}  // namespace

TEST(a_whole_file_is_read_without_a_word) {
  const File file;
  const MappedFile mapped(file.path);
  const MappedReads reads;
  CHECK_EQ(count_ones(mapped, 0, kPages), kPages);
  CHECK(!reads.lost());
  reads.check();
}

TEST(a_shortened_file_is_told_of_each_time_it_is_read) {
  const File file, other;
  const MappedFile mapped(file.path), whole(other.path);
  file.shorten(10);
  for (int round = 0; round < 3; ++round) {
    const MappedReads reads;
    CHECK_EQ(count_ones(mapped, 0, 10), 10u);
    CHECK(!reads.lost());
    CHECK_EQ(count_ones(mapped, 0, kPages), 10u);
    CHECK(reads.lost());
    CHECK(names(failure(reads), file));
    // It is lost as long as the reader lives.
    CHECK(names(failure(reads), file));
    // Those that begin later know nothing of it while they read other pages.
    const MappedReads later;
    CHECK_EQ(count_ones(whole, 0, kPages), kPages);
    CHECK_EQ(count_ones(mapped, 0, 10), 10u);
    CHECK(!later.lost());
  }
}

TEST(pages_are_lost_from_the_back_to_the_front) {
  const File file;
  const MappedFile mapped(file.path);
  file.shorten(0);
  const MappedReads reads;
  for (std::size_t page = kPages; page-- > 0;) CHECK_EQ(count_ones(mapped, page, page + 1), 0u);
  CHECK(reads.lost());
  CHECK(names(failure(reads), file));
  for (const std::size_t page : {std::size_t{0}, std::size_t{5}, kPages - 1}) {
    const MappedReads again;
    CHECK_EQ(count_ones(mapped, page, page + 1), 0u);
    CHECK(names(failure(again), file));
  }
}

TEST(who_begins_while_zeros_can_be_read_fails_too) {
  const File file;
  const MappedFile mapped(file.path);
  file.shorten(1);
  const MappedReads first;
  CHECK_EQ(count_ones(mapped, 5, 6), 0u);
  const MappedReads second;
  CHECK_EQ(count_ones(mapped, 6, 7), 0u);  // a zero already: no signal
  CHECK(names(failure(first), file));
  CHECK(names(failure(second), file));
}

TEST(a_loss_that_was_never_told_ends_with_its_file) {
  const File file;
  const MappedReads before;
  {
    const MappedFile mapped(file.path);
    file.shorten(1);
    CHECK_EQ(count_ones(mapped, 0, kPages), 1u);
  }
  const MappedReads after;
  CHECK(names(failure(before), file));
  CHECK(!after.lost());
}

// The place of a mapping that is gone is used for the next.
TEST(many_mappings_come_and_go) {
  const File file;
  for (int round = 0; round < 100; ++round) {
    const MappedFile a(file.path);
    const auto b = std::make_unique<MappedFile>(file.path);
    const MappedReads reads;
    CHECK_EQ(count_ones(a, 0, kPages) + count_ones(*b, 0, kPages), 2 * kPages);
    CHECK(!reads.lost());
  }
}

TEST(no_thread_takes_zeros_for_the_file) {
  // Readers of a file that is shortened at any moment: who saw a zero must have been told.
  set_thread_count(2);
  std::atomic<std::size_t> told{0}, unseen{0};
  for (int round = 0; round < 60; ++round) {
    const File file, other;
    const MappedFile mapped(file.path), whole(other.path);
    std::atomic<bool> stop{false};
    std::vector<std::thread> readers;
    for (int reader = 0; reader < 3; ++reader)
      readers.emplace_back([&, reader] {
        for (std::size_t i = 0; !stop || i < 4; ++i) {
          const MappedReads reads;
          const std::size_t page = (i * 7 + static_cast<std::size_t>(reader) * 13) % kPages;
          const bool zero = count_ones(mapped, page, page + 1) == 0;
          CHECK_EQ(count_ones(whole, page, page + 1), 1u);
          const bool lost = !failure(reads).empty();
          told += lost;
          unseen += zero && !lost;
        }
      });
    file.shorten(static_cast<std::size_t>(round) % kPages);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    stop = true;
    for (std::thread& reader : readers) reader.join();
  }
  CHECK_EQ(unseen.load(), 0u);
  CHECK(told > 60);
  const MappedReads after;
  CHECK(!after.lost());
}

TEST(what_is_not_ours_ends_the_process_as_before) {
  const File file;
  const MappedFile mapped(file.path);  // the handler is there
  const pid_t child = fork();
  if (child == 0) {
    const int descriptor = open(file.path.c_str(), O_RDONLY);
    void* memory = mmap(nullptr, kPages * kPage, PROT_READ, MAP_PRIVATE, descriptor, 0);
    file.shorten(0);
    const volatile auto* data = static_cast<const volatile std::uint8_t*>(memory);
    _exit(data[kPage] + 1 > 0 ? 0 : 1);  // not reached
  }
  int status = 0;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK(!(WIFEXITED(status) && WEXITSTATUS(status) == 0));
}
