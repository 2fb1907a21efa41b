// Pages of mapped files that cannot be read: another process shortened the file, or its disk failed. The
// system then sends SIGBUS, which ends a process that does not handle it. Here the read goes on over zeros,
// and whoever may have seen some of them throws `io` instead of giving a number.
//
//   const MappedReads reads;
//   ...compute from mapped files...
//   reads.check();  // before a result is given out or kept
//
// Each later read of a lost page is a loss again, so that an object over a damaged file keeps failing. A
// failure names the file; calls that ran at the same time over other files may fail with it.
//
// The handler passes on what is not ours to the one that was there before. A program that installs its own
// later has to pass on to this one.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "native/core/error.h"

namespace personascope {

struct WatchedMapping;
// Pages [data, data + size) are a mapped file's, of this path; until forget_mapping(), which comes before
// they are unmapped.
WatchedMapping* watch_mapping(const void* data, std::size_t size, const std::string& path);
void forget_mapping(WatchedMapping* mapping);

class MappedReads {
 public:
  MappedReads();
  // Whether a page of a mapped file was lost, or read as zeros, since this was made.
  bool lost() const;
  // What to throw if so: io, naming the file.
  Error error() const;
  // Throws it if so.
  void check() const {
    if (lost()) throw error();
  }

 private:
  std::uint64_t before_;
};

}  // namespace personascope
