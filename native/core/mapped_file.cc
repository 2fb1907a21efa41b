#include "native/core/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "native/core/error.h"
#include "native/core/lost_pages.h"

namespace personascope {
namespace {

[[noreturn]] void fail_with_errno(const std::string& path, int error) {
  const bool missing = error == ENOENT || error == ENOTDIR;
  fail(missing           ? ErrorCode::not_found
       : error == ENOMEM ? ErrorCode::out_of_memory
                         : ErrorCode::io,
       path + ": " + std::strerror(error));
}

}  // namespace

MappedFile::MappedFile(const std::string& path) : path_(path) {
  require(path.find('\0') == std::string::npos, ErrorCode::invalid_argument, "a path holds a NUL character");
  // O_NONBLOCK: opening a pipe must not wait for its other end; it has no effect on regular files.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) fail_with_errno(path, errno);
  struct stat status{};
  if (::fstat(descriptor, &status) != 0) {
    const int error = errno;
    ::close(descriptor);
    fail_with_errno(path, error);
  }
  if (!S_ISREG(status.st_mode)) {
    ::close(descriptor);
    fail(ErrorCode::format, path + ": found " + (S_ISDIR(status.st_mode) ? "a folder" : "no regular file") +
                                ", expected a file");
  }
  size_ = static_cast<std::size_t>(status.st_size);
  if (size_ != 0) {
    // NORESERVE: a file larger than memory may be mapped; only written pages ever take memory of their own.
    void* mapped = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, descriptor, 0);
    const int error = errno;
    ::close(descriptor);
    if (mapped == MAP_FAILED) fail_with_errno(path, error);
    data_ = static_cast<std::uint8_t*>(mapped);
    watched_ = watch_mapping(data_, size_, path_);
  } else {
    ::close(descriptor);
  }
}

MappedFile::~MappedFile() {
  if (data_ == nullptr) return;
  forget_mapping(watched_);
  ::munmap(data_, size_);
}

}  // namespace personascope
