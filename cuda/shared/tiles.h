// Where things lie in tiles, fragments and schedules: plain index arithmetic, tested on the host.
#pragma once
#include <cstdint>

#include "native/core/host_device.h"

namespace personascope::cuda {

struct Place2 {
  int row, column;
};

// ---- mma.sync m16n8, 32 bytes deep (k16 of bf16, k32 of int8) ------------------------------------------
//
// The order of k may be permuted, if it is for both operands alike. Lane l reads sixteen bytes at once: chunk
// l % 4 of the 64 bytes of a row, row l / 4 (and l / 4 + 8) of the latents, row l / 4 of the tokens. Its four
// words feed two instructions: words 0, 1 the first, words 2, 3 the second. So a step of 64 bytes takes three
// loads and two instructions for 16 x 8 results, and eight lanes of a load cover 128 bytes side by side.
constexpr int kMmaRows = 16, kMmaColumns = 8, kMmaBytes = 32, kStepBytes = 64, kChunkBytes = 16;

PERSONASCOPE_HOST_DEVICE inline int chunk_row(int lane) {
  return lane / 4;
}
PERSONASCOPE_HOST_DEVICE inline int chunk_offset(int lane) {
  return lane % 4 * kChunkBytes;
}
// Accumulator i (0 to 3) of a lane.
PERSONASCOPE_HOST_DEVICE inline Place2 mma_accumulator(int lane, int i) {
  return {lane / 4 + 8 * (i / 2), 2 * (lane % 4) + i % 2};
}

// ---- wgmma m64nN ----------------------------------------------------------------------------------------
// Accumulator i (0 to N / 2 - 1) of thread 0 to 127 of a warp group.
PERSONASCOPE_HOST_DEVICE inline Place2 wgmma_accumulator(int thread, int i) {
  return {16 * (thread / 32) + thread % 32 / 4 + 8 * (i / 2 % 2), 8 * (i / 4) + 2 * (thread % 4) + i % 2};
}

// An operand in shared memory: rows of 128 bytes of k, swizzled by 128 bytes as bulk copies write them, eight
// rows (1024 bytes) a group. The tile begins at a multiple of 1024 bytes; 32 bytes further along k is 2 more
// in the descriptor.
PERSONASCOPE_HOST_DEVICE inline std::uint64_t operand_descriptor(std::uint32_t shared_address) {
  constexpr std::uint64_t kGroup = 1024 >> 4, kSwizzle128 = 1;
  return (shared_address & 0x3FFFFu) >> 4 | std::uint64_t{1} << 16 | kGroup << 32 | kSwizzle128 << 62;
}

// ---- the portable kernel's block: 8 warps, 4 along latents, 2 along tokens ------------------------------
constexpr int kBlockLatents = 128, kBlockTokens = 128, kBlockWarps = 8;
constexpr int kWarpLatents = 32, kWarpTokens = 64;
PERSONASCOPE_HOST_DEVICE inline Place2 warp_origin(int warp) {
  return {warp / 2 * kWarpLatents, warp % 2 * kWarpTokens};
}

// ---- the Hopper kernel's block: two warp groups of 64 latents, 256 tokens -------------------------------
constexpr int kHopperLatents = 128, kHopperTokens = 256, kHopperStepBytes = 128;

// ---- schedule -------------------------------------------------------------------------------------------
// Tokens run fastest: a row of weights comes from memory once and stays in the cache for all tokens.
struct TileSchedule {
  std::uint32_t latent_tiles, token_tiles;
  PERSONASCOPE_HOST_DEVICE TileSchedule(std::uint32_t latents, std::uint32_t tokens,
                                        std::uint32_t tile_latents, std::uint32_t tile_tokens)
      : latent_tiles((latents + tile_latents - 1) / tile_latents),
        token_tiles((tokens + tile_tokens - 1) / tile_tokens) {}
  PERSONASCOPE_HOST_DEVICE std::uint64_t tiles() const {
    return static_cast<std::uint64_t>(latent_tiles) * token_tiles;
  }
  PERSONASCOPE_HOST_DEVICE std::uint32_t latent_tile(std::uint64_t tile) const {
    return static_cast<std::uint32_t>(tile / token_tiles);
  }
  PERSONASCOPE_HOST_DEVICE std::uint32_t token_tile(std::uint64_t tile) const {
    return static_cast<std::uint32_t>(tile % token_tiles);
  }
};

}  // namespace personascope::cuda
