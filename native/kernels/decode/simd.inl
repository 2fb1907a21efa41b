// The body of the ISA variants of decoding: rows of a token are added four at a time to the output, which
// stays in the cache, while the lines of the rows that come later are prefetched one for one.

namespace personascope {
namespace {

constexpr std::size_t kLine = 64, kPage = 4096, kRows = 4;

// The part [at, at + width) of every row.
template <class Row>
class DecodePart {
 public:
  DecodePart(const DecodeArgs& args, std::size_t at, std::size_t width)
      : args_(args), at_(at), width_(width) {
    // Enough rows ahead for a memory's latency, few enough to stay in the first cache.
    const std::size_t rows = 4 * kPage / (width * Row::kBytes);
    ahead_ = rows < kRows ? kRows : rows > 64 ? 64 : rows;
  }

  void token(std::size_t t) {
    float* out = args_.out + t * args_.out_stride + at_;
    start(out);
    const std::size_t first = args_.codes.begin(t), count = args_.codes.count(t);
    std::size_t c = 0;
    for (; c + kRows <= count; c += kRows) add<kRows>(out, t, first + c, c, count);
    if (count - c == 3) add<3>(out, t, first + c, c, count);
    if (count - c == 2) add<2>(out, t, first + c, c, count);
    if (count - c == 1) add<1>(out, t, first + c, c, count);
  }

 private:
  const char* row(std::size_t code) const {
    return static_cast<const char*>(args_.weights) +
           (args_.codes.indices[code] * args_.stride + at_) * Row::kBytes;
  }

  // The row wanted `ahead_` codes after number c of token t, in this token or the next; null beyond.
  const char* later(std::size_t t, std::size_t c, std::size_t count) const {
    if (c + ahead_ < count) return row(args_.codes.begin(t) + c + ahead_);
    const std::size_t over = c + ahead_ - count;
    if (t + 1 < args_.codes.tokens && over < args_.codes.count(t + 1))
      return row(args_.codes.begin(t + 1) + over);
    return nullptr;
  }

  void start(float* out) const {
    const float* bias = args_.bias ? args_.bias + at_ : nullptr;
    for (std::size_t i = 0; i < width_; i += kLanes) {
      const Mask some = v_first(width_ - i < kLanes ? width_ - i : kLanes);
      const Vec from = bias ? v_load(bias + i, some) : v_zero();
      v_store(out + i, args_.accumulate ? v_add(v_load(out + i, some), from) : from, some);
    }
  }

  // Codes [code, code + Count), which are numbers c ... of the token's `count`.
  template <std::size_t Count>
  void add(float* out, std::size_t t, std::size_t code, std::size_t c, std::size_t count) const {
    const char* rows[Count];
    const char* next[Count];
    Vec values[Count];
#pragma GCC unroll 4
    for (std::size_t r = 0; r < Count; ++r) {
      rows[r] = row(code + r);
      next[r] = later(t, c + r, count);
      if (!next[r]) next[r] = rows[r];
      values[r] = v_set(args_.codes.values[code + r]);
    }
    constexpr std::size_t kElements = kLine / Row::kBytes;
    std::size_t i = 0;
    for (; i + kElements <= width_; i += kElements) {
#pragma GCC unroll 4
      for (std::size_t r = 0; r < Count; ++r) _mm_prefetch(next[r] + i * Row::kBytes, _MM_HINT_T0);
#pragma GCC unroll 4
      for (std::size_t o = i; o < i + kElements; o += kLanes) {
        Vec sum = v_load(out + o);
#pragma GCC unroll 4
        for (std::size_t r = 0; r < Count; ++r)
          sum = v_fma(values[r], Row::load(rows[r] + o * Row::kBytes), sum);
        v_store(out + o, sum);
      }
    }
    if (i == width_) return;
#pragma GCC unroll 4
    for (std::size_t r = 0; r < Count; ++r) _mm_prefetch(next[r] + (width_ - 1) * Row::kBytes, _MM_HINT_T0);
    for (; i < width_; i += kLanes) {
      const std::size_t n = width_ - i < kLanes ? width_ - i : kLanes;
      Vec sum = v_load(out + i, v_first(n));
#pragma GCC unroll 4
      for (std::size_t r = 0; r < Count; ++r)
        sum = v_fma(values[r], Row::load(rows[r] + i * Row::kBytes, n), sum);
      v_store(out + i, sum, v_first(n));
    }
  }

  const DecodeArgs& args_;
  std::size_t at_, width_, ahead_;
};

template <class Row>
void decode_rows_of(const DecodeArgs& args, std::size_t begin, std::size_t end) {
  constexpr std::size_t kElements = kPage / Row::kBytes;
  for (std::size_t at = 0; at < args.width; at += kElements) {
    DecodePart<Row> part(args, at, args.width - at < kElements ? args.width - at : kElements);
    for (std::size_t t = begin; t < end; ++t) part.token(t);
  }
}

void decode_rows(const DecodeArgs& args, std::size_t begin, std::size_t end) {
  if (args.dtype == Dtype::f32) decode_rows_of<F32Row>(args, begin, end);
  if (args.dtype == Dtype::bf16) decode_rows_of<Bf16Row>(args, begin, end);
  if (args.dtype == Dtype::f16) decode_rows_of<F16Row>(args, begin, end);
}

}  // namespace
}  // namespace personascope
