// What screening needs of an encoder, kept in a file beside it: the int8 copy, and the rows of W_enc where
// the SAE's own file holds them the other way round. Built once, mapped by every process that uses it.
//
// Layout, little-endian, version 1. A header of 4096 bytes: magic, version, identity of the source, sizes,
// place and checksum of each section, and last a checksum of the header. Then the sections, each at a
// multiple of 4096: panels (int8_copy.h), scale, residual, norm [latents] fp32, mean [padded width] fp32,
// mean_product [latents] fp64, rows [latents, stride] as they are. A file of another identity, version or
// checksum is built anew. The file is written beside and renamed.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "native/core/dtype.h"
#include "native/core/tensor.h"

namespace personascope {

struct WatchedMapping;

enum class PreparedSection : int { panels = 0, scale, residual, norm, mean, mean_product, rows };
constexpr std::size_t kPreparedSections = 7;

class PreparedFile {
 public:
  // Bytes of each section; 0: not there.
  using Sizes = std::array<std::uint64_t, kPreparedSections>;

  // Maps the file if it is there, whole, and of that identity and those sizes; else null. Reads all of it to
  // check its sums.
  static std::shared_ptr<PreparedFile> open(const std::string& path, std::uint64_t identity,
                                            const Sizes& sizes);
  // A new one, to be filled in and committed; removed if it is not, by the next process where this one is
  // killed. Throws io.
  static std::shared_ptr<PreparedFile> create(const std::string& path, std::uint64_t identity,
                                              const Sizes& sizes);
  ~PreparedFile();
  PreparedFile(const PreparedFile&) = delete;
  PreparedFile& operator=(const PreparedFile&) = delete;

  bool complete() const { return partial_.empty(); }
  std::uint8_t* section(PreparedSection section);
  // Writes sums and header, and gives the file its name.
  void commit();

 private:
  PreparedFile() = default;
  std::string path_, partial_;  // partial_: the name before commit
  int file_ = -1;               // of a new one: holds its lock
  std::uint8_t* data_ = nullptr;
  std::size_t size_ = 0;
  WatchedMapping* watched_ = nullptr;
};

// Of where W_enc comes from: `text` (sizes and times of files), its shape and type, and bytes sampled from
// it.
std::uint64_t source_identity(const Tensor& w_enc, const std::string& text);

}  // namespace personascope
