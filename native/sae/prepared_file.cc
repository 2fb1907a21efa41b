#include "native/sae/prepared_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <vector>

#include "native/core/error.h"
#include "native/core/lost_pages.h"
#include "native/core/thread_pool.h"

namespace personascope {

namespace {

constexpr std::size_t kPage = 4096;
constexpr char kMagic[16] = "personascope-p8";
constexpr std::uint64_t kVersion = 1;
constexpr char kPartial[] = ".partial";

struct Header {
  char magic[16];
  std::uint64_t version, identity, size;
  std::uint64_t offsets[kPreparedSections], bytes[kPreparedSections], sums[kPreparedSections];
  std::uint64_t sum;  // of all before
};
static_assert(sizeof(Header) <= kPage);

// Eight sums side by side over 64-bit words, FNV-like; the rest byte by byte.
std::uint64_t sum_of(const std::uint8_t* data, std::size_t size) {
  constexpr std::uint64_t kPrime = 0x100000001B3ull;
  std::uint64_t lanes[8];
  for (std::size_t i = 0; i < 8; ++i) lanes[i] = 0xCBF29CE484222325ull + i;
  std::size_t at = 0;
  for (; at + 64 <= size; at += 64)
    for (std::size_t i = 0; i < 8; ++i) {
      std::uint64_t word;
      std::memcpy(&word, data + at + 8 * i, 8);
      lanes[i] = (lanes[i] ^ word) * kPrime;
      lanes[i] ^= lanes[i] >> 29;
    }
  std::uint64_t sum = size;
  for (const std::uint64_t lane : lanes) sum = (sum ^ lane) * kPrime ^ sum >> 31;
  for (; at < size; ++at) sum = (sum ^ data[at]) * kPrime;
  return sum;
}

// The sum of the sums of blocks, which threads share out.
std::uint64_t section_sum(const std::uint8_t* data, std::size_t size) {
  constexpr std::size_t kBlock = std::size_t{1} << 22;
  std::vector<std::uint64_t> sums((size + kBlock - 1) / kBlock);
  parallel_for(sums.size(), 1, [&](std::size_t begin, std::size_t end) {
    for (std::size_t b = begin; b < end; ++b)
      sums[b] = sum_of(data + b * kBlock, std::min(kBlock, size - b * kBlock));
  });
  return sum_of(reinterpret_cast<const std::uint8_t*>(sums.data()), sums.size() * 8);
}

Header header_of(std::uint64_t identity, const PreparedFile::Sizes& sizes) {
  Header header = {};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kVersion;
  header.identity = identity;
  std::uint64_t at = kPage;
  for (std::size_t i = 0; i < kPreparedSections; ++i) {
    header.offsets[i] = at;
    header.bytes[i] = sizes[i];
    at += (sizes[i] + kPage - 1) / kPage * kPage;
  }
  header.size = at;
  return header;
}

std::uint64_t header_sum(const Header& header) {
  return sum_of(reinterpret_cast<const std::uint8_t*>(&header), offsetof(Header, sum));
}

[[noreturn]] void refuse(const std::string& path, const char* what) {
  fail(errno == ENOMEM ? ErrorCode::out_of_memory : ErrorCode::io,
       path + ": could not " + what + ": " + std::strerror(errno));
}

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int number() const { return number_; }

 private:
  int number_;
};

// Who writes a .partial holds a lock on it, which ends with the process however that ends. Removes those of
// `path` that nobody holds. Where the file system knows no locks, nothing is removed.
void remove_abandoned(const std::filesystem::path& path) {
  const std::string begin = path.filename().string() + ".";
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  std::error_code ended;
  for (std::filesystem::directory_iterator entry(folder, ended), end; !ended && entry != end;
       entry.increment(ended)) {
    const std::string name = entry->path().filename().string();
    if (!name.starts_with(begin) || !name.ends_with(kPartial) ||
        name.find_first_not_of("0123456789-", begin.size()) != name.size() - std::strlen(kPartial))
      continue;
    const Descriptor file(::open(entry->path().c_str(), O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    struct stat status = {};
    if (file.number() >= 0 && fstat(file.number(), &status) == 0 && S_ISREG(status.st_mode) &&
        ::flock(file.number(), LOCK_EX | LOCK_NB) == 0)
      std::remove(entry->path().c_str());
  }
}

// A new file beside `path`, locked; `partial` is its name.
int begin_partial(const std::string& path, std::string& partial) {
  static std::atomic<unsigned> number{0};
  for (;;) {
    const std::string name =
        path + "." + std::to_string(getpid()) + "-" + std::to_string(++number) + kPartial;
    const int file = ::open(name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (file < 0 && errno == EEXIST) continue;  // of a process elsewhere that has this number too
    if (file < 0) refuse(name, "create the prepared copy");
    ::flock(file, LOCK_EX);
    // Another process may have found it before it was locked, and removed it.
    struct stat status = {};
    if (fstat(file, &status) == 0 && status.st_nlink > 0) {
      partial = name;
      return file;
    }
    ::close(file);
  }
}

}  // namespace

std::shared_ptr<PreparedFile> PreparedFile::open(const std::string& path, std::uint64_t identity,
                                                 const Sizes& sizes) {
  const Header expected = header_of(identity, sizes);
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status = {};
  if (file.number() < 0 || fstat(file.number(), &status) != 0 || !S_ISREG(status.st_mode) ||
      static_cast<std::uint64_t>(status.st_size) != expected.size)
    return nullptr;
  std::shared_ptr<PreparedFile> made(new PreparedFile);
  void* data = mmap(nullptr, expected.size, PROT_READ, MAP_SHARED, file.number(), 0);
  if (data == MAP_FAILED) refuse(path, "map the prepared copy");
  made->path_ = path;
  made->data_ = static_cast<std::uint8_t*>(data);
  made->size_ = expected.size;
  made->watched_ = watch_mapping(data, expected.size, path);
  Header header;
  std::memcpy(&header, made->data_, sizeof header);
  if (std::memcmp(&header, &expected, offsetof(Header, sums)) != 0 || header.sum != header_sum(header))
    return nullptr;
  for (std::size_t i = 0; i < kPreparedSections; ++i)
    if (section_sum(made->data_ + header.offsets[i], header.bytes[i]) != header.sums[i]) return nullptr;
  return made;
}

std::shared_ptr<PreparedFile> PreparedFile::create(const std::string& path, std::uint64_t identity,
                                                   const Sizes& sizes) {
  Header header = header_of(identity, sizes);
  remove_abandoned(path);
  std::shared_ptr<PreparedFile> made(new PreparedFile);
  made->path_ = path;
  made->file_ = begin_partial(path, made->partial_);  // from here on it is removed where something fails
  const std::string& partial = made->partial_;
  // Space is taken now: a full disk is told here, not by a signal when a page is written.
  if (const int error = posix_fallocate(made->file_, 0, static_cast<off_t>(header.size)); error != 0) {
    errno = error;
    refuse(partial, "take the space of the prepared copy");
  }
  void* data = mmap(nullptr, header.size, PROT_READ | PROT_WRITE, MAP_SHARED, made->file_, 0);
  if (data == MAP_FAILED) refuse(partial, "map the prepared copy");
  made->data_ = static_cast<std::uint8_t*>(data);
  made->size_ = header.size;
  made->watched_ = watch_mapping(data, header.size, partial);
  std::memcpy(made->data_, &header, sizeof header);
  return made;
}

PreparedFile::~PreparedFile() {
  if (watched_) forget_mapping(watched_);
  if (data_) munmap(data_, size_);
  if (!partial_.empty()) std::remove(partial_.c_str());
  if (file_ >= 0) ::close(file_);
}

std::uint8_t* PreparedFile::section(PreparedSection section) {
  Header header;
  std::memcpy(&header, data_, sizeof header);
  return data_ + header.offsets[static_cast<std::size_t>(section)];
}

void PreparedFile::commit() {
  Header header;
  std::memcpy(&header, data_, sizeof header);
  for (std::size_t i = 0; i < kPreparedSections; ++i)
    header.sums[i] = section_sum(data_ + header.offsets[i], header.bytes[i]);
  header.sum = header_sum(header);
  std::memcpy(data_, &header, sizeof header);
  if (msync(data_, size_, MS_SYNC) != 0) refuse(partial_, "write the prepared copy");
  if (std::rename(partial_.c_str(), path_.c_str()) != 0) refuse(path_, "name the prepared copy");
  partial_.clear();
  ::flock(file_, LOCK_UN);
}

std::uint64_t source_identity(const Tensor& w_enc, const std::string& text) {
  std::string all = text + "|" + dtype_name(w_enc.dtype) + shape_text(w_enc.shape) + "|" +
                    std::to_string(w_enc.strides[0]) + "," + std::to_string(w_enc.strides[1]) + "|";
  // Rows spread over the matrix.
  constexpr std::uint64_t kRows = 64;
  const std::uint64_t rows = w_enc.shape[0], columns = std::min<std::uint64_t>(w_enc.shape[1], 1024);
  std::vector<float> sample(columns);
  for (std::uint64_t i = 0; i < std::min(rows, kRows); ++i) {
    const std::uint64_t row = i * rows / std::min(rows, kRows);
    read_f32(w_enc, row * w_enc.shape[1], columns, sample.data());
    all.append(reinterpret_cast<const char*>(sample.data()), columns * sizeof(float));
  }
  return sum_of(reinterpret_cast<const std::uint8_t*>(all.data()), all.size());
}

}  // namespace personascope
