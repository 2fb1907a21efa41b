#include "native/sae/prepared_file.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "native/core/error.h"
#include "test/native/check.h"
#include "test/native/io/files.h"

using namespace personascope;

namespace {

constexpr PreparedFile::Sizes kSizes = {5000, 12, 12, 12, 64, 0, 0};
constexpr std::uint64_t kIdentity = 77;

std::vector<std::string> names(const TemporaryFolder& folder) {
  std::vector<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path))
    found.push_back(entry.path().filename().string());
  return found;
}

void write(PreparedFile& file, std::uint8_t value) {
  std::memset(file.section(PreparedSection::panels), value, kSizes[0]);
}

// A process that does `work` and is then killed before it can tidy up; returns its exit signal.
int killed_after(const std::function<void()>& work) {
  const pid_t child = fork();
  if (child == 0) {
    work();
    ::kill(getpid(), SIGKILL);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

}  // namespace

TEST(a_committed_copy_is_read_back) {
  const TemporaryFolder folder;
  const std::string path = folder.path + "/copy";
  const auto made = PreparedFile::create(path, kIdentity, kSizes);
  CHECK(!made->complete());
  write(*made, 9);
  made->commit();
  CHECK(made->complete());
  CHECK(names(folder) == std::vector<std::string>{"copy"});
  const auto found = PreparedFile::open(path, kIdentity, kSizes);
  CHECK(found != nullptr && found->complete());
  if (found) CHECK_EQ(int{found->section(PreparedSection::panels)[4999]}, 9);
}

TEST(another_identity_other_sizes_and_damage_are_no_copy) {
  const TemporaryFolder folder;
  const std::string path = folder.path + "/copy";
  CHECK(PreparedFile::open(path, kIdentity, kSizes) == nullptr);
  const auto made = PreparedFile::create(path, kIdentity, kSizes);
  write(*made, 1);
  made->commit();
  CHECK(PreparedFile::open(path, kIdentity + 1, kSizes) == nullptr);
  PreparedFile::Sizes other = kSizes;
  other[1] = 16;
  CHECK(PreparedFile::open(path, kIdentity, other) == nullptr);
  for (const std::streamoff at : {0, 40, 4096, 4096 + 4999, 4096 + 8192}) {
    std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
    file.seekg(at);
    const char before = static_cast<char>(file.get());
    const auto put = [&](char byte) {
      file.seekp(at);
      file.put(byte);
      file.flush();
    };
    put(static_cast<char>(before ^ 4));
    CHECK(PreparedFile::open(path, kIdentity, kSizes) == nullptr);
    put(before);
    CHECK(PreparedFile::open(path, kIdentity, kSizes) != nullptr);
  }
}

TEST(what_was_not_committed_is_removed) {
  const TemporaryFolder folder;
  {
    const auto made = PreparedFile::create(folder.path + "/copy", kIdentity, kSizes);
  }
  CHECK(names(folder).empty());
  CHECK_THROWS(PreparedFile::create(folder.path + "/missing/copy", kIdentity, kSizes), ErrorCode::io);
}

TEST(what_a_killed_process_left_is_removed_by_the_next) {
  const TemporaryFolder folder;
  const std::string path = folder.path + "/copy";
  const auto abandon = [&] { new std::shared_ptr(PreparedFile::create(path, kIdentity, kSizes)); };
  CHECK_EQ(killed_after(abandon), SIGKILL);
  CHECK_EQ(names(folder).size(), 1u);
  // Others' files, and those of another copy, stay.
  std::ofstream(folder.path + "/copy.txt") << "mine";
  std::ofstream(folder.path + "/copy.txt.partial") << "mine";
  std::ofstream(folder.path + "/copying.1-1.partial") << "another copy's";
  std::filesystem::create_symlink(folder.path + "/copy.txt", folder.path + "/copy.2-2.partial");
  const auto made = PreparedFile::create(path, kIdentity, kSizes);
  CHECK_EQ(names(folder).size(), 5u);
  // One that is being written is left alone, by this process and by another.
  write(*made, 5);
  {
    const auto second = PreparedFile::create(path, kIdentity, kSizes);
    CHECK_EQ(names(folder).size(), 6u);
  }
  CHECK_EQ(killed_after(abandon), SIGKILL);
  CHECK_EQ(names(folder).size(), 6u);
  made->commit();
  CHECK(std::filesystem::exists(folder.path + "/copying.1-1.partial"));
  const auto found = PreparedFile::open(path, kIdentity, kSizes);
  CHECK(found != nullptr);
  if (found) CHECK_EQ(int{found->section(PreparedSection::panels)[0]}, 5);
}
