// The body of the ISA variants of encoding; the including file has chosen the vectors (lanes_*.h).
//
// The tile: latents x vectors of tokens in registers (AVX-512: 6 x 64, 24 accumulators of 32 registers; AVX2:
// 6 x 16, 12 of 16). The squarer it is, the fewer loads a product takes. Tokens lie in a panel
// [width][vectors]; weights are read where they lie, row by row, as broadcasts: no second copy of W is ever
// made. Both operands stream from L2.

#include "native/kernels/encode/ahead.inl"

namespace personascope {
namespace {

constexpr int kVectors = kLanes == 16 ? 4 : 2;
constexpr std::size_t kGroup = kVectors * kLanes, kStep = 24;

// Latents of a tile of so many vectors of tokens, which leave room for the sums in 32 or 16 registers.
constexpr int rows_of(int vectors) {
  return kLanes == 16 ? (vectors == 1 ? 12 : 24 / vectors) : 6;
}

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

// A panel has as many vectors a dimension as its tokens need.
std::size_t panel_pitch(std::size_t tokens) {
  return (tokens + kLanes - 1) / kLanes * kLanes;
}

std::size_t panel_bytes(std::size_t width) {
  return width * kGroup * sizeof(float);
}

void pack(const void* rows_, std::size_t padded, std::size_t tokens, std::size_t width, void* panel_) {
  const float* rows = static_cast<const float*>(rows_);
  float* panel = static_cast<float*>(panel_);
  const std::size_t pitch = panel_pitch(tokens);
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

// Screens `Rows` latents from `latent` on against the panel's Vectors x kLanes tokens.
template <int Rows, int Vectors>
__attribute__((noinline)) void tile(const ScreenArgs& args, std::size_t latent, Ahead& ahead) {
  const std::size_t stride = args.weights_stride / sizeof(float), width = args.width;
  Vec sums[Rows][Vectors];
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) sums[r][v] = v_zero();
  const float* w = reinterpret_cast<const float*>(args.weights) + (latent - args.begin) * stride;
  const float* x = static_cast<const float*>(args.panel);
  for (std::size_t begin = 0; begin < width; begin += kStretch) {
    ahead.ask();
    const float* end = w + (width - begin < kStretch ? width - begin : kStretch);
    for (; w < end; ++w, x += Vectors * kLanes) {
      Vec tokens[Vectors];
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) tokens[v] = v_load(x + v * kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < Rows; ++r) {
        const Vec weight = v_set(w[static_cast<std::size_t>(r) * stride]);
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) sums[r][v] = v_fma(weight, tokens[v], sums[r][v]);
      }
    }
  }
  const Screen& screen = *args.screen;
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r) {
    const std::size_t l = latent + static_cast<std::size_t>(r);
    const Vec scale = v_set(screen.scale[l]), bias = v_set(screen.bias[l]),
              slack_norm = v_set(screen.slack_norm[l]), slack_offset = v_set(screen.slack_offset[l]);
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      const Vec value = v_fma(sums[r][v], scale, bias);
      const Vec slack = v_fma(slack_norm, v_load(args.norm + v * kLanes), slack_offset);
      const Vec upper = v_add(value, slack);
      const unsigned hits = v_at_least(upper, v_load(args.thresholds + v * kLanes));
      if (__builtin_expect(hits != 0, 0))
        push_lanes(args, l, 0, static_cast<std::size_t>(v) * kLanes, 1, hits, upper, v_sub(value, slack));
    }
  }
}

template <int Vectors>
void screen_panel(const ScreenArgs& args) {
  constexpr int kRows = rows_of(Vectors);
  Ahead ahead(args, (args.end - args.begin + kRows - 1) / kRows);
  std::size_t latent = args.begin;
  for (; latent + kRows <= args.end; latent += kRows) tile<kRows, Vectors>(args, latent, ahead);
  for (; latent + 4 <= args.end; latent += 4) tile<4, Vectors>(args, latent, ahead);
  for (; latent < args.end; ++latent) tile<1, Vectors>(args, latent, ahead);
}

void screen(const ScreenArgs& args) {
  switch (panel_pitch(args.tokens) / kLanes) {
    case 1:
      return screen_panel<1>(args);
    case 2:
      return screen_panel<2>(args);
    case 3:
      return screen_panel<kVectors == 4 ? 3 : 1>(args);
    default:
      return screen_panel<kVectors>(args);
  }
}

// How a row of weights is read.
struct RowF32 {
  using Element = float;
  static Vec load(const Element* p) { return v_load(p); }
};
struct RowBf16 {
  using Element = std::uint16_t;
  static Vec load(const Element* p) { return v_load_bf16(p); }
};
struct RowF16 {
  using Element = std::uint16_t;
  static Vec load(const Element* p) { return v_load_f16(p); }
};

// The last width % 64 elements of a row, and zeros: nothing beyond the row is read.
template <class Row>
struct Tail {
  typename Row::Element values[64] = {};
  Tail(const typename Row::Element* row, std::size_t begin, std::size_t width) {
    for (std::size_t i = begin; i < width; ++i) values[i - begin] = row[i];
  }
};

// Canonical products of one row of W with `Tokens` rows of x'.
template <class Row, int Tokens>
inline void canonical(const typename Row::Element* w, const float* const* x, std::size_t width,
                      std::size_t padded, float* out) {
  Sum64 sums[Tokens];
  std::size_t i = 0;
  for (; i + 64 <= width; i += 64)
#pragma GCC unroll 8
    for (std::size_t p = 0; p < Sum64::kParts; ++p) {
      const Vec weight = Row::load(w + i + p * kLanes);
#pragma GCC unroll 4
      for (int t = 0; t < Tokens; ++t)
        sums[t].part[p] = v_fma(weight, v_load(x[t] + i + p * kLanes), sums[t].part[p]);
    }
  if (i < width) {
    const Tail<Row> tail(w, i, width);
#pragma GCC unroll 8
    for (std::size_t p = 0; p < Sum64::kParts; ++p) {
      if (i + p * kLanes < padded) {
        const Vec weight = Row::load(tail.values + p * kLanes);
#pragma GCC unroll 4
        for (int t = 0; t < Tokens; ++t)
          sums[t].part[p] = v_fma(weight, v_load(x[t] + i + p * kLanes), sums[t].part[p]);
      }
    }
  }
  for (int t = 0; t < Tokens; ++t) out[t] = sums[t].total();
}

// Inlined by force: GCC 12 takes a function that only prefetches for one without effect.
__attribute__((always_inline)) inline void ask_for(const void* row, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; i += 64) _mm_prefetch(static_cast<const char*>(row) + i, _MM_HINT_T0);
}

template <class Row>
void products_of(const PairsArgs& args) {
  using Element = typename Row::Element;
  constexpr std::size_t kTogether = kLanes == 16 ? 4 : 1;  // as many sums as registers hold
  const RowView& weights = *args.weights;
  const std::size_t bytes = weights.width * sizeof(Element);
  // Survivors lie anywhere in W, and their tokens anywhere in the block: the rows that come next are asked
  // for while these are summed.
  std::size_t asked_rows = 0, asked_tokens = 0;
  for (std::size_t i = 0; i < args.count;) {
    const std::uint32_t latent = args.latents[i];
    std::size_t end = i + 1;
    while (end < args.count && args.latents[end] == latent) ++end;
    const std::size_t count = end - i < kTogether ? end - i : kTogether;
    for (; asked_rows < i + count + 2 && asked_rows < args.count; ++asked_rows)
      if (asked_rows == 0 || args.latents[asked_rows] != args.latents[asked_rows - 1])
        ask_for(weights.row(args.latents[asked_rows]), bytes);
    for (; asked_tokens < i + count + 1 && asked_tokens < args.count; ++asked_tokens)
      ask_for(args.rows + args.tokens[asked_tokens] * args.padded, args.padded * sizeof(float));
    const Element* w = reinterpret_cast<const Element*>(weights.row(latent));
    const float* x[kTogether];
    if (count == kTogether) {
      for (std::size_t t = 0; t < kTogether; ++t) x[t] = args.rows + args.tokens[i + t] * args.padded;
      canonical<Row, kTogether>(w, x, weights.width, args.padded, args.out + i);
    } else {
      for (std::size_t t = 0; t < count; ++t) {
        x[0] = args.rows + args.tokens[i + t] * args.padded;
        canonical<Row, 1>(w, x, weights.width, args.padded, args.out + i + t);
      }
    }
    i += count;
  }
}

void products(const PairsArgs& args) {
  if (args.weights->dtype == Dtype::f32)
    products_of<RowF32>(args);
  else if (args.weights->dtype == Dtype::bf16)
    products_of<RowBf16>(args);
  else
    products_of<RowF16>(args);
}

template <class Row>
void widen_of(const std::uint8_t* bytes, std::size_t width, float* out) {
  const auto* row = reinterpret_cast<const typename Row::Element*>(bytes);
  std::size_t i = 0;
  for (; i + 64 <= width; i += kLanes) v_store(out + i, Row::load(row + i));
  for (; i < padded_width(width); i += 64) {
    const Tail<Row> tail(row, i, width < i + 64 ? width : i + 64);
    for (std::size_t j = 0; j < 64 && i + j < padded_width(width); j += kLanes)
      v_store(out + i + j, Row::load(tail.values + j));
  }
}

void widen(const RowView& weights, std::size_t row, float* out) {
  if (weights.dtype == Dtype::f32)
    widen_of<RowF32>(weights.row(row), weights.width, out);
  else if (weights.dtype == Dtype::bf16)
    widen_of<RowBf16>(weights.row(row), weights.width, out);
  else
    widen_of<RowF16>(weights.row(row), weights.width, out);
}

double dot(const float* a, const float* b, std::size_t padded) {
  VecDouble sums;
  for (std::size_t i = 0; i < padded; i += kLanes) sums.add_product(v_load(a + i), v_load(b + i));
  return sums.sum();
}

void rotate(float* row, std::size_t padded) {
  const std::size_t m = padded / 16;
  std::size_t block = m & (~m + 1);
  float scale = 1;
  for (std::size_t size = block; size > 1; size /= 4) scale *= size == 2 ? 0.70710678118654752f : 0.5f;
  for (std::size_t i = 0; i < m; ++i) {
    const Vec factor = v_set(rotation_sign(i) ? -scale : scale);
    for (std::size_t j = 0; j < 16; j += kLanes)
      v_store(row + 16 * i + j, v_mul(v_load(row + 16 * i + j), factor));
  }
  for (; block > 1; block /= 2)
    for (std::size_t start = 0; start < m; start += block)
      for (std::size_t i = start; i < start + block / 2; ++i)
        for (std::size_t j = 0; j < 16; j += kLanes) {
          float* a = row + 16 * i + j;
          float* b = a + 16 * (block / 2);
          const Vec x = v_load(a), y = v_load(b);
          v_store(a, v_add(x, y));
          v_store(b, v_sub(x, y));
        }
}

Quantised quantise(const float* row, std::size_t padded, std::int8_t* q) {
  Vec most = v_zero();
  for (std::size_t i = 0; i < padded; i += kLanes) most = v_max(most, v_abs(v_load(row + i)));
  const float largest = v_max_lane(most);
  // A row too small to scale is all zeros: everything is error.
  const float scale = largest < 1e-30f ? 0.0f : largest / 127, inverse = scale > 0 ? 127 / largest : 0.0f;
  VecDouble squares;
  for (std::size_t i = 0; i < padded; i += kLanes) {
    const Vec value = v_load(row + i);
    Vec whole = v_round(v_mul(value, v_set(inverse)));
    whole = v_min(v_max(whole, v_set(-127.0f)), v_set(127.0f));
    v_store_int8(q + i, whole);
    const Vec error = v_fnma(v_set(scale), whole, value);
    squares.add_product(error, error);
  }
  return {scale, squares.sum()};
}

double round_bf16(const float* row, std::size_t padded, std::uint16_t* rounded) {
  VecDouble squares;
  for (std::size_t i = 0; i < padded; i += kLanes) {
    const Vec value = v_load(row + i), error = v_sub(value, v_store_bf16(rounded + i, value));
    squares.add_product(error, error);
  }
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

constexpr EncodeKernels kKernels = {prepare,    products,       widen,
                                    dot,        rotate,         quantise,
                                    round_bf16, count_at_least, {kGroup, kStep, panel_bytes, pack, screen}};

}  // namespace
}  // namespace personascope
