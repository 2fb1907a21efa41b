// Screening in int8 with AVX-512 VNNI: 32 latents x 14 tokens in 28 registers of 32-bit sums, which are
// exact.
//
// Weights are the unsigned operand (q + 128), tokens the signed one, broadcast four dimensions at a time; the
// sums begin with -128 times the sum of the token's bytes. The product is written in assembly because GCC 12
// spills the accumulators of _mm512_dpbusd_epi32; nothing else needs VNNI.
#include "native/kernels/encode/int8_copy.h"
#include "native/kernels/encode/int8_variants.h"

#include "native/kernels/simd/target_avx512.h"

#include "native/kernels/simd/lanes_avx512.h"

namespace personascope {
namespace {
constexpr std::size_t kGroup = 14;
}
}  // namespace personascope

#include "native/kernels/encode/ahead.inl"
#include "native/kernels/encode/int8_pack.inl"

namespace personascope {
namespace {

inline void add_products(__m512i& sums, __m512i weights, __m512i token) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(weights), "v"(token));
}

// What the table says of 16 latents.
struct Latents {
  __m512 scale, bias, slack_norm, slack_error, slack_offset;
  __mmask16 valid;
  std::size_t first;
  Latents(const ScreenArgs& args, std::size_t first_) : first(first_) {
    const Screen& screen = *args.screen;
    unsigned bits = 0xFFFF;
    if (first < args.begin) bits &= args.begin - first >= 16 ? 0 : 0xFFFFu << (args.begin - first);
    if (first + 16 > args.end) bits &= args.end <= first ? 0 : 0xFFFFu >> (first + 16 - args.end);
    valid = static_cast<__mmask16>(bits);
    scale = _mm512_maskz_loadu_ps(valid, screen.scale.data() + first);
    bias = _mm512_maskz_loadu_ps(valid, screen.bias.data() + first);
    slack_norm = _mm512_maskz_loadu_ps(valid, screen.slack_norm.data() + first);
    slack_error = _mm512_maskz_loadu_ps(valid, screen.slack_error.data() + first);
    slack_offset = _mm512_maskz_loadu_ps(valid, screen.slack_offset.data() + first);
  }
};

// Rare: some of the latents may be codes of the token.
__attribute__((noinline)) void push(const ScreenArgs& args, std::size_t token, std::size_t first,
                                    __mmask16 hits, __m512 upper, __m512 lower) {
  CandidateList& list = args.lists[token];
  if (list.count + static_cast<unsigned>(__builtin_popcount(hits)) > args.capacity) {
    args.compact(args.context, token);
    hits = _mm512_mask_cmp_ps_mask(hits, upper, _mm512_set1_ps(args.thresholds[token]), _CMP_GE_OQ);
  }
  const __m512i index =
      _mm512_add_epi32(_mm512_set1_epi32(static_cast<int>(first)),
                       _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  _mm512_storeu_ps(list.upper + list.count, _mm512_maskz_compress_ps(hits, upper));
  _mm512_storeu_ps(list.lower + list.count, _mm512_maskz_compress_ps(hits, lower));
  _mm512_storeu_si512(list.index + list.count, _mm512_maskz_compress_epi32(hits, index));
  list.count += static_cast<std::uint32_t>(__builtin_popcount(hits));
}

inline void judge(const ScreenArgs& args, std::size_t token, const Latents& latents, __m512i sums) {
  const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), latents.scale);
  const __m512 value = _mm512_fmadd_ps(scaled, _mm512_set1_ps(args.token_scale[token]), latents.bias);
  const __m512 slack = _mm512_fmadd_ps(
      latents.slack_norm, _mm512_set1_ps(args.norm[token]),
      _mm512_fmadd_ps(latents.slack_error, _mm512_set1_ps(args.error[token]), latents.slack_offset));
  const __m512 upper = _mm512_add_ps(value, slack);
  const __mmask16 hits =
      _mm512_mask_cmp_ps_mask(latents.valid, upper, _mm512_set1_ps(args.thresholds[token]), _CMP_GE_OQ);
  if (__builtin_expect(hits != 0, 0))
    push(args, token, latents.first, hits, upper, _mm512_sub_ps(value, slack));
}

template <int Tokens>
__attribute__((noinline)) void tile(const ScreenArgs& args) {
  const std::int32_t* starts = static_cast<const std::int32_t*>(args.panel);
  const std::int8_t* x = static_cast<const std::int8_t*>(args.panel) + kHeader;
  const std::uint8_t* w = args.weights;
  Ahead ahead(args, 1);
  __m512i low[Tokens], high[Tokens];
#pragma GCC unroll 14
  for (int t = 0; t < Tokens; ++t) low[t] = high[t] = _mm512_set1_epi32(starts[t]);
  const std::size_t width = Int8Copy::width4(args.width);
  for (std::size_t begin = 0; begin < width; begin += kStretch) {
    ahead.ask();
    const std::size_t here = width - begin < kStretch ? width - begin : kStretch;
    for (const std::uint8_t* end = w + kPanelLatents * here; w < end; w += 128, x += 4 * kGroup) {
      const __m512i w0 = _mm512_loadu_si512(w), w1 = _mm512_loadu_si512(w + 64);
#pragma GCC unroll 14
      for (int t = 0; t < Tokens; ++t) {
        int four;
        __builtin_memcpy(&four, x + 4 * t, 4);
        const __m512i token = _mm512_set1_epi32(four);
        add_products(low[t], w0, token);
        add_products(high[t], w1, token);
      }
    }
  }
  const std::size_t first = args.begin / kPanelLatents * kPanelLatents;
  const Latents lower_half(args, first);
#pragma GCC unroll 14
  for (int t = 0; t < Tokens; ++t) judge(args, static_cast<std::size_t>(t), lower_half, low[t]);
  const Latents upper_half(args, first + 16);
#pragma GCC unroll 14
  for (int t = 0; t < Tokens; ++t) judge(args, static_cast<std::size_t>(t), upper_half, high[t]);
}

void screen(const ScreenArgs& args) {
  static constexpr void (*tiles[kGroup + 1])(const ScreenArgs&) = {
      nullptr, tile<1>, tile<2>,  tile<3>,  tile<4>,  tile<5>,  tile<6>, tile<7>,
      tile<8>, tile<9>, tile<10>, tile<11>, tile<12>, tile<13>, tile<14>};
  tiles[args.tokens](args);
}

}  // namespace

const ScreenKernels int8_avx512 = {kGroup, kPanelLatents, panel_bytes<std::int8_t>, pack<std::int8_t>,
                                   screen};

}  // namespace personascope
#include "native/kernels/simd/target_end.h"
