// Screening in bf16 with AVX-512 BF16: 12 latents x 32 tokens, 24 registers of sums; the body is bf16.inl.
#include "native/kernels/encode/bf16_variants.h"

#include "native/kernels/simd/target_avx512.h"

#include "native/kernels/simd/lanes_avx512.h"

#include "native/kernels/encode/ahead.inl"
#include "native/kernels/encode/push.inl"

namespace personascope {
namespace {

constexpr std::size_t kRows = 12, kTokens = 32, kPairBytes = kTokens * 4;

// [pairs of dimensions][32 tokens][2]
void pack(const void* rows, std::size_t row_pitch, std::size_t tokens, std::size_t width, void* panel) {
  const std::uint16_t* in = static_cast<const std::uint16_t*>(rows);
  std::uint16_t* out = static_cast<std::uint16_t*>(panel);
  for (std::size_t i = 0; i < width; i += 2)
    for (std::size_t t = 0; t < kTokens; ++t)
      for (std::size_t j = 0; j < 2; ++j)
        out[i * kTokens + t * 2 + j] =
            t < tokens && i + j < width ? in[t * row_pitch + i + j] : std::uint16_t{0};
}

inline void add_products(Vec& sums, __m512i weight, __m512i tokens) {
  asm("vdpbf16ps %2, %1, %0" : "+v"(sums) : "v"(weight), "v"(tokens));
}

template <int Rows>
__attribute__((always_inline)) inline void add_pair(Vec (&sums)[Rows][2], const std::uint8_t* w,
                                                    std::size_t stride, const char* x) {
  const __m512i x0 = _mm512_loadu_si512(x), x1 = _mm512_loadu_si512(x + 64);
#pragma GCC unroll 12
  for (int r = 0; r < Rows; ++r) {
    int two;
    __builtin_memcpy(&two, w + static_cast<std::size_t>(r) * stride, 4);
    const __m512i weight = _mm512_set1_epi32(two);
    add_products(sums[r][0], weight, x0);
    add_products(sums[r][1], weight, x1);
  }
}

}  // namespace
}  // namespace personascope

#include "native/kernels/encode/bf16.inl"

namespace personascope {

const ScreenKernels bf16_avx512 = {kGroup, kRows, panel_bytes, pack, screen};

}  // namespace personascope
#include "native/kernels/simd/target_end.h"
