// Screening in bf16 with AVX2: 6 latents x 16 tokens, 12 registers of sums; the body is bf16.inl. Both sides
// are widened to fp32, tokens when they are packed: products of two are exact there, and only sums round.
#include "native/kernels/encode/bf16_variants.h"

#include "native/kernels/simd/target_avx2.h"

#include "native/kernels/simd/lanes_avx2.h"

#include "native/kernels/encode/ahead.inl"
#include "native/kernels/encode/push.inl"

namespace personascope {
namespace {

constexpr std::size_t kRows = 6, kTokens = 16, kPairBytes = 2 * kTokens * 4;

// [dimensions, an even number][16 tokens], in fp32
void pack(const void* rows, std::size_t row_pitch, std::size_t tokens, std::size_t width, void* panel) {
  const std::uint16_t* in = static_cast<const std::uint16_t*>(rows);
  std::uint32_t* out = static_cast<std::uint32_t*>(panel);
  for (std::size_t i = 0; i < (width + 1) / 2 * 2; ++i)
    for (std::size_t t = 0; t < kTokens; ++t)
      out[i * kTokens + t] =
          t < tokens && i < width ? static_cast<std::uint32_t>(in[t * row_pitch + i]) << 16 : 0;
}

template <int Rows>
__attribute__((always_inline)) inline void add_pair(Vec (&sums)[Rows][2], const std::uint8_t* w,
                                                    std::size_t stride, const char* x) {
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    asm("" : "+r"(w));  // broadcasts are read again rather than kept: registers are full
    const float* tokens = reinterpret_cast<const float*>(x) + static_cast<std::size_t>(i) * kTokens;
    const Vec x0 = v_load(tokens), x1 = v_load(tokens + kLanes);
#pragma GCC unroll 12
    for (int r = 0; r < Rows; ++r) {
      int two;
      __builtin_memcpy(&two, w + static_cast<std::size_t>(r) * stride, 4);
      const __m256i both = _mm256_set1_epi32(two);
      // By shifts only: there is no register left for a mask.
      const __m256i low = i == 0 ? both : _mm256_srli_epi32(both, 16);
      const Vec weight = _mm256_castsi256_ps(_mm256_slli_epi32(low, 16));
      sums[r][0] = v_fma(weight, x0, sums[r][0]);
      sums[r][1] = v_fma(weight, x1, sums[r][1]);
    }
  }
}

}  // namespace
}  // namespace personascope

#include "native/kernels/encode/bf16.inl"

namespace personascope {

const ScreenKernels bf16_avx2 = {kGroup, 2 * kRows, panel_bytes, pack, screen};

}  // namespace personascope
#include "native/kernels/simd/target_end.h"
