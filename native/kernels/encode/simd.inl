// The body of the ISA variants of encoding; the including file has chosen the vectors (lanes_*.h).
//
// The tile: kRows latents x 2 vectors of tokens in registers (AVX-512: 12 x 32, 24 accumulators of 32
// registers; AVX2: 6 x 16, 12 of 16). Tokens lie in a panel [width][2 vectors]; weights are read where they
// lie, row by row, as broadcasts: no second copy of W is ever made. Both operands stream from L2.

namespace personascope {
namespace {

constexpr int kRows = kLanes == 16 ? 12 : 6;  // of 32 or 16 registers
constexpr std::size_t kGroup = 2 * kLanes;

double prepare(const float* x, const float* centre, std::size_t width, float* row) {
  VecDouble squares;
  std::size_t i = 0;
  for (; i + kLanes <= width; i += kLanes) {
    const Vec value = centre ? v_sub(v_load(x + i), v_load(centre + i)) : v_load(x + i);
    v_store(row + i, value);
    squares.add_product(value, value);
  }
  for (; i < padded_width(width); i += kLanes) {
    const std::size_t left = i < width ? width - i : 0;
    const Vec value = centre ? v_sub(v_load(x + i, v_first(left)), v_load(centre + i, v_first(left)))
                             : v_load(x + i, v_first(left));
    v_store(row + i, value);
    squares.add_product(value, value);
  }
  return squares.sum();
}

// With at most kLanes tokens the panel has one vector a dimension instead of two.
std::size_t panel_pitch(std::size_t tokens) {
  return tokens <= kLanes ? kLanes : kGroup;
}

void pack(const float* rows, std::size_t tokens, std::size_t width, float* panel) {
  const std::size_t pitch = panel_pitch(tokens), padded = padded_width(width);
  // Sixteen dimensions at a time: the panel's lines of one block stay in L1 while the tokens write them.
  for (std::size_t begin = 0; begin < width; begin += 16) {
    const std::size_t end = begin + 16 < width ? begin + 16 : width;
    for (std::size_t token = 0; token < pitch; ++token) {
      float* out = panel + begin * pitch + token;
      if (token >= tokens) {
        for (std::size_t i = begin; i < end; ++i, out += pitch) *out = 0;
        continue;
      }
      const float* row = rows + token * padded;
      for (std::size_t i = begin; i < end; ++i, out += pitch) *out = row[i];
    }
  }
}

inline void push(const ScreenArgs& args, std::size_t token, std::size_t latent, float upper, float lower) {
  CandidateList& list = args.lists[token];
  if (list.count == args.capacity) {
    args.compact(args.context, token);
    if (!(upper >= args.thresholds[token])) return;
  }
  list.upper[list.count] = upper;
  list.lower[list.count] = lower;
  list.index[list.count++] = static_cast<std::uint32_t>(latent);
}

// Rare: at least one token of the vector may want this latent.
__attribute__((noinline)) void push_lanes(const ScreenArgs& args, std::size_t latent, std::size_t token,
                                          unsigned hits, Vec upper, Vec lower) {
  alignas(64) float uppers[kLanes], lowers[kLanes];
  v_store(uppers, upper);
  v_store(lowers, lower);
  while (hits) {
    const unsigned lane = static_cast<unsigned>(__builtin_ctz(hits));
    hits &= hits - 1;
    push(args, token + lane, latent, uppers[lane], lowers[lane]);
  }
}

// Screens `Rows` latents from `latent` on against the panel's Vectors x kLanes tokens.
template <int Rows, int Vectors>
__attribute__((noinline)) void tile(const ScreenArgs& args, std::size_t latent) {
  const EncoderWeights& encoder = *args.encoder;
  const std::size_t stride = encoder.stride, width = encoder.width;
  Vec sums[Rows][Vectors];
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) sums[r][v] = v_zero();
  const float* w = encoder.weights + latent * stride;
  const float* x = args.panel;
  // The panel's next lines are asked for a few steps ahead (it streams from L2), and the next rows of W in
  // time (they come from memory): a line every four dimensions.
  const char* next = args.prefetch;
  for (std::size_t i = 0; i < width; ++i, ++w, x += Vectors * kLanes, next += 16) {
    _mm_prefetch(next, _MM_HINT_T1);
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v)
      _mm_prefetch(reinterpret_cast<const char*>(x + (8 * Vectors + v) * kLanes), _MM_HINT_T0);
    Vec tokens[Vectors];
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) tokens[v] = v_load(x + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r) {
      const Vec weight = v_set(w[static_cast<std::size_t>(r) * stride]);
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; ++v) sums[r][v] = v_fma(weight, tokens[v], sums[r][v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r) {
    const std::size_t l = latent + static_cast<std::size_t>(r);
    const Vec bias = v_set(encoder.bias[l]), scale = v_set(args.slack_scale[l]),
              offset = v_set(args.slack_offset[l]);
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) {
      const Vec value = v_add(sums[r][v], bias);
      const Vec slack = v_fma(scale, v_load(args.norms + v * kLanes), offset);
      const Vec upper = v_add(value, slack);
      const unsigned hits = v_at_least(upper, v_load(args.thresholds + v * kLanes));
      if (__builtin_expect(hits != 0, 0))
        push_lanes(args, l, static_cast<std::size_t>(v) * kLanes, hits, upper, v_sub(value, slack));
    }
  }
}

template <int Vectors>
void screen_panel(const ScreenArgs& args) {
  std::size_t latent = args.begin;
  for (; latent + kRows <= args.end; latent += kRows) tile<kRows, Vectors>(args, latent);
  for (; latent + 4 <= args.end; latent += 4) tile<4, Vectors>(args, latent);
  for (; latent < args.end; ++latent) tile<1, Vectors>(args, latent);
}

void screen(const ScreenArgs& args) {
  if (args.tokens <= kLanes)
    screen_panel<1>(args);
  else
    screen_panel<2>(args);
}

// Canonical products of one row of W with `Tokens` rows of x'.
template <int Tokens>
inline void canonical(const float* w, const float* x, std::size_t padded, float* out) {
  Sum64 sums[Tokens];
  std::size_t i = 0;
  for (; i + 64 <= padded; i += 64)
#pragma GCC unroll 8
    for (std::size_t p = 0; p < Sum64::kParts; ++p) {
      const Vec weight = v_load(w + i + p * kLanes);
#pragma GCC unroll 4
      for (int t = 0; t < Tokens; ++t)
        sums[t].part[p] =
            v_fma(weight, v_load(x + static_cast<std::size_t>(t) * padded + i + p * kLanes), sums[t].part[p]);
    }
#pragma GCC unroll 8
  for (std::size_t p = 0; p < Sum64::kParts; ++p) {
    if (i + p * kLanes < padded) {
      const Vec weight = v_load(w + i + p * kLanes);
#pragma GCC unroll 4
      for (int t = 0; t < Tokens; ++t)
        sums[t].part[p] =
            v_fma(weight, v_load(x + static_cast<std::size_t>(t) * padded + i + p * kLanes), sums[t].part[p]);
    }
  }
  for (int t = 0; t < Tokens; ++t) out[t] = sums[t].total();
}

void screen_direct(const ScreenArgs& args) {
  const EncoderWeights& encoder = *args.encoder;
  const std::size_t padded = padded_width(encoder.width);
  constexpr int kTogether = kLanes == 16 ? 4 : 1;
  for (std::size_t latent = args.begin; latent < args.end; ++latent) {
    const float* w = encoder.weights + latent * encoder.stride;
    const float bias = encoder.bias[latent];
    std::size_t token = 0;
    float products[kTogether];
    const auto take = [&](int count) {
      for (int t = 0; t < count; ++t, ++token) {
        const float value = products[t] + bias;
        if (value >= args.thresholds[token]) push(args, token, latent, value, value);
      }
    };
    while (token + kTogether <= args.tokens) {
      canonical<kTogether>(w, args.rows + token * padded, padded, products);
      take(kTogether);
    }
    while (token < args.tokens) {
      canonical<1>(w, args.rows + token * padded, padded, products);
      take(1);
    }
  }
}

void products(const EncoderWeights& encoder, const float* row, const std::uint32_t* index, std::size_t count,
              float* values) {
  const std::size_t padded = padded_width(encoder.width);
  for (std::size_t i = 0; i < count; ++i) {
    // Survivors lie anywhere in W: the next row's lines are asked for while this one is summed.
    if (i + 1 < count) {
      const float* next = encoder.weights + index[i + 1] * encoder.stride;
      for (std::size_t j = 0; j < padded; j += 16)
        _mm_prefetch(reinterpret_cast<const char*>(next + j), _MM_HINT_T0);
    }
    canonical<1>(encoder.weights + index[i] * encoder.stride, row, padded, values + i);
    values[i] += encoder.bias[index[i]];
  }
}

double squared_norm(const float* row, std::size_t padded) {
  VecDouble squares;
  for (std::size_t i = 0; i < padded; i += kLanes) squares.add_product(v_load(row + i), v_load(row + i));
  return squares.sum();
}

std::size_t count_at_least(const float* values, std::size_t n, float bound) {
  const Vec limit = v_set(bound);
  std::size_t count = 0, i = 0;
  for (; i + kLanes <= n; i += kLanes)
    count += static_cast<std::size_t>(__builtin_popcount(v_at_least(v_load(values + i), limit)));
  for (; i < n; ++i) count += values[i] >= bound;
  return count;
}

}  // namespace
}  // namespace personascope
