// Screening in int8 with AVX2: bytes are widened to 16 bits, whose products in pairs are exact in 32 bits
// (_mm256_maddubs_epi16 would saturate). 8 latents x 4 tokens in registers.
#include "native/kernels/encode/int8_copy.h"
#include "native/kernels/encode/int8_variants.h"

#include "native/kernels/simd/target_avx2.h"

#include "native/kernels/simd/lanes_avx2.h"

#include "native/kernels/encode/push.inl"

namespace personascope {
namespace {
constexpr std::size_t kGroup = 12;
}
}  // namespace personascope

#include "native/kernels/encode/int8_pack.inl"

namespace personascope {
namespace {

constexpr std::size_t kTogether = 4;

// Latents first .. first + 7 with tokens token .. token + 3; `at` is the byte of the first in the panel's
// rows.
void tile(const ScreenArgs& args, std::size_t first, std::size_t token) {
  const std::uint8_t* w = args.weights + first % kPanelLatents * 4;
  const std::int16_t* x =
      reinterpret_cast<const std::int16_t*>(static_cast<const char*>(args.panel) + kHeader) + token * 4;
  __m256i low[kTogether], high[kTogether];
#pragma GCC unroll 4
  for (std::size_t t = 0; t < kTogether; ++t) low[t] = high[t] = _mm256_setzero_si256();
  for (std::size_t left = Int8Copy::width4(args.width) / 4; left > 0;
       --left, w += 4 * kPanelLatents, x += 4 * kGroup) {
    const __m256i w0 = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w)));
    const __m256i w1 = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w + 16)));
#pragma GCC unroll 4
    for (std::size_t t = 0; t < kTogether; ++t) {
      long long four;
      __builtin_memcpy(&four, x + 4 * t, 8);
      const __m256i values = _mm256_set1_epi64x(four);
      low[t] = _mm256_add_epi32(low[t], _mm256_madd_epi16(w0, values));
      high[t] = _mm256_add_epi32(high[t], _mm256_madd_epi16(w1, values));
    }
  }
  const Screen& screen = *args.screen;
  // Lanes of latents outside [begin, end) load nothing and are not pushed.
  unsigned valid = 0xFF;
  if (first < args.begin) valid &= 0xFFu << (args.begin - first);
  if (first + 8 > args.end) valid &= 0xFFu >> (first + 8 - args.end);
  alignas(32) std::int32_t bits[8];
  for (unsigned i = 0; i < 8; ++i) bits[i] = valid >> i & 1 ? -1 : 0;
  const Mask mask = _mm256_load_si256(reinterpret_cast<const __m256i*>(bits));
  const Vec scale = v_load(screen.scale.data() + first, mask),
            bias = v_load(screen.bias.data() + first, mask),
            slack_norm = v_load(screen.slack_norm.data() + first, mask),
            slack_error = v_load(screen.slack_error.data() + first, mask),
            slack_offset = v_load(screen.slack_offset.data() + first, mask);
  for (std::size_t t = 0; t < kTogether && token + t < args.tokens; ++t) {
    // Sums of pairs lie side by side: [l0 l0 l1 l1 | l2 l2 l3 l3], [l4 ... | ... l7].
    const __m256i pairs = _mm256_hadd_epi32(low[t], high[t]);  // l0 l1 l4 l5 | l2 l3 l6 l7
    const __m256i sums =
        _mm256_add_epi32(_mm256_permute4x64_epi64(pairs, 0xD8),
                         _mm256_set1_epi32(static_cast<const std::int32_t*>(args.panel)[token + t]));
    const Vec scaled = v_mul(_mm256_cvtepi32_ps(sums), scale);
    const Vec value = v_fma(scaled, v_set(args.token_scale[token + t]), bias);
    const Vec slack = v_fma(slack_norm, v_set(args.norm[token + t]),
                            v_fma(slack_error, v_set(args.error[token + t]), slack_offset));
    const Vec upper = v_add(value, slack);
    const unsigned hits = v_at_least(upper, v_set(args.thresholds[token + t])) & valid;
    if (__builtin_expect(hits != 0, 0))
      push_lanes(args, first, 1, token + t, 0, hits, upper, v_sub(value, slack));
  }
}

void screen(const ScreenArgs& args) {
  const std::size_t first = args.begin / 8 * 8;
  for (std::size_t token = 0; token < args.tokens; token += kTogether)
    for (std::size_t latent = first; latent < args.end; latent += 8) tile(args, latent, token);
}

}  // namespace

const ScreenKernels int8_avx2 = {kGroup, kPanelLatents, panel_bytes<std::int16_t>, pack<std::int16_t>,
                                 screen};

}  // namespace personascope
#include "native/kernels/simd/target_end.h"
