// A file mapped into memory, for reading.
//
// The mapping is private and copy-on-write: a stray write through a typed array changes neither the file nor
// another mapping of it, and never crashes. Pages are read when touched. Where another process shortens the
// file meanwhile, or its disk fails, what was to be read is lost (lost_pages.h); files written by this
// software are replaced by renaming, never shortened in place.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace personascope {

struct WatchedMapping;

class MappedFile {
 public:
  // Throws not_found, io (permission, ...), or format if it is not a regular file.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::uint8_t* data() { return data_; }  // null for an empty file; aligned to a page
  const std::uint8_t* data() const { return data_; }
  std::size_t size() const { return size_; }  // bytes
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  std::uint8_t* data_ = nullptr;
  std::size_t size_ = 0;
  WatchedMapping* watched_ = nullptr;
};

}  // namespace personascope
