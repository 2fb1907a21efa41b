// Screening in bf16 with AVX-512 BF16: 12 latents x 32 tokens in 24 registers of fp32 sums. Rows of weights
// are read where they lie, two dimensions of one latent at a time, as broadcasts.
#include "native/kernels/encode/bf16_variants.h"

#include "native/kernels/simd/target_avx512.h"

#include "native/kernels/simd/lanes_avx512.h"

#include "native/kernels/encode/push.inl"

namespace personascope {
namespace {

constexpr std::size_t kGroup = 32, kRows = 12;

std::size_t panel_bytes(std::size_t width) {
  return (width + 1) / 2 * kGroup * 4;
}

// [pairs of dimensions][32 tokens][2]
void pack(const void* rows, std::size_t row_pitch, std::size_t tokens, std::size_t width, void* panel) {
  const std::uint16_t* in = static_cast<const std::uint16_t*>(rows);
  std::uint16_t* out = static_cast<std::uint16_t*>(panel);
  for (std::size_t i = 0; i < width; i += 2)
    for (std::size_t t = 0; t < kGroup; ++t)
      for (std::size_t j = 0; j < 2; ++j)
        out[i * kGroup + t * 2 + j] =
            t < tokens && i + j < width ? in[t * row_pitch + i + j] : std::uint16_t{0};
}

inline void add_products(__m512& sums, __m512i weight, __m512i tokens) {
  asm("vdpbf16ps %2, %1, %0" : "+v"(sums) : "v"(weight), "v"(tokens));
}

template <int Rows>
__attribute__((noinline)) void tile(const ScreenArgs& args, std::size_t latent) {
  const std::uint8_t* w = args.weights + (latent - args.begin) * args.weights_stride;
  const char* x = static_cast<const char*>(args.panel);
  const char* next = args.prefetch;
  __m512 low[Rows], high[Rows];
#pragma GCC unroll 12
  for (int r = 0; r < Rows; ++r) low[r] = high[r] = _mm512_setzero_ps();
  for (std::size_t left = (args.width + 1) / 2; left > 0; --left, w += 4, x += 128) {
    _mm_prefetch(next, _MM_HINT_T1);
    next += args.prefetch_step;
    _mm_prefetch(x + 1024, _MM_HINT_T0);
    _mm_prefetch(x + 1088, _MM_HINT_T0);
    const __m512i x0 = _mm512_loadu_si512(x), x1 = _mm512_loadu_si512(x + 64);
#pragma GCC unroll 12
    for (int r = 0; r < Rows; ++r) {
      int two;
      __builtin_memcpy(&two, w + static_cast<std::size_t>(r) * args.weights_stride, 4);
      const __m512i weight = _mm512_set1_epi32(two);
      add_products(low[r], weight, x0);
      add_products(high[r], weight, x1);
    }
  }
  const Screen& screen = *args.screen;
#pragma GCC unroll 12
  for (int r = 0; r < Rows; ++r) {
    const std::size_t l = latent + static_cast<std::size_t>(r);
    const Vec scale = v_set(screen.scale[l]), bias = v_set(screen.bias[l]),
              slack_norm = v_set(screen.slack_norm[l]), slack_error = v_set(screen.slack_error[l]),
              slack_offset = v_set(screen.slack_offset[l]);
#pragma GCC unroll 2
    for (std::size_t half = 0; half < 2; ++half) {
      const std::size_t token = half * kLanes;
      const Vec value = v_fma(half ? high[r] : low[r], scale, bias);
      const Vec slack = v_fma(slack_norm, v_load(args.norm + token),
                              v_fma(slack_error, v_load(args.error + token), slack_offset));
      const Vec upper = v_add(value, slack);
      const unsigned hits = v_at_least(upper, v_load(args.thresholds + token));
      if (__builtin_expect(hits != 0, 0)) push_lanes(args, l, 0, token, 1, hits, upper, v_sub(value, slack));
    }
  }
}

void screen(const ScreenArgs& args) {
  std::size_t latent = args.begin;
  for (; latent + kRows <= args.end; latent += kRows) tile<kRows>(args, latent);
  for (; latent + 4 <= args.end; latent += 4) tile<4>(args, latent);
  for (; latent < args.end; ++latent) tile<1>(args, latent);
}

}  // namespace

const ScreenKernels bf16_avx512 = {kGroup, kRows, panel_bytes, pack, screen};

}  // namespace personascope
#include "native/kernels/simd/target_end.h"
