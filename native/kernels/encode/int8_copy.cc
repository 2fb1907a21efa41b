#include "native/kernels/encode/int8_copy.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "native/core/error.h"
#include "native/core/pages.h"

namespace personascope {

namespace {

// Untouched: the threads that write the copy are the first to, each in its part.
std::shared_ptr<void> fresh_block(std::size_t bytes) {
  void* const block = take_pages(bytes);
  require(block != nullptr, ErrorCode::out_of_memory,
          "could not allocate " + std::to_string(bytes) + " bytes for the int8 copy of the encoder");
  return {block, [bytes](void* memory) { give_back_pages(memory, bytes); }};
}

}  // namespace

Int8Copy::Int8Copy(std::size_t latents_, std::size_t width_, std::shared_ptr<void> owner,
                   std::uint8_t* panels)
    : latents(latents_),
      width(width_),
      scale(latents_),
      norm(latents_),
      residual(latents_),
      panels_(panels),
      owner_(std::move(owner)) {
  if (panels_) return;
  owner_ = fresh_block(bytes());
  panels_ = static_cast<std::uint8_t*>(owner_.get());
}

void Int8Copy::write(std::size_t begin, std::size_t end, const std::int8_t* q, std::size_t pitch) {
  for (std::size_t first = begin; first < end; first += kPanelLatents) {
    std::uint8_t* panel = panels_ + first / kPanelLatents * panel_bytes(width);
    const std::size_t rows = std::min(kPanelLatents, end - first);
    // Rows are zero beyond the width and up to a multiple of 16 at least.
    for (std::size_t i = 0; i < width4(width); i += 4)
      for (std::size_t r = 0; r < kPanelLatents; ++r) {
        std::uint32_t four = 0;
        if (r < rows) std::memcpy(&four, q + (first - begin + r) * pitch + i, 4);
        four ^= 0x80808080u;  // + 128
        std::memcpy(panel + i * kPanelLatents + r * 4, &four, 4);
      }
  }
}

}  // namespace personascope
