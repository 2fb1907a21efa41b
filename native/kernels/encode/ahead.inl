// Asks for the weights that come next while the present ones are multiplied. Include in the ISA variants.

namespace personascope {
namespace {

// One call of `screen` has `tiles` tiles over `width` dimensions, a stretch of kStretch of them at a time;
// before each stretch it asks for its share. (A request with every product would take the place of a load.)
constexpr std::size_t kStretch = 64;

class Ahead {
 public:
  Ahead(const ScreenArgs& args, std::size_t tiles)
      : next_(args.wanted), end_(args.wanted + args.wanted_bytes) {
    const std::size_t stretches = tiles * ((args.width + kStretch - 1) / kStretch);
    lines_ = (args.wanted_bytes / 64 + stretches - 1) / stretches;
  }
  void ask() {
    for (std::size_t i = 0; i < lines_ && next_ < end_; ++i, next_ += 64) _mm_prefetch(next_, _MM_HINT_T1);
  }

 private:
  const char* next_;
  const char* end_;
  std::size_t lines_;
};

}  // namespace
}  // namespace personascope
