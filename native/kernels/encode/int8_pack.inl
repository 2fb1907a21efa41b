// Tokens as the vector variants of screening in int8 read them; `Element` is what holds one value, and
// the including file says how many make a group (kGroup). Include after target_*.h.

namespace personascope {
namespace {

constexpr std::size_t kHeader = 64;  // bytes: what each token's sums begin with, as weights are q + 128

template <class Element>
std::size_t panel_bytes(std::size_t width) {
  return kHeader + Int8Copy::width4(width) * kGroup * sizeof(Element);
}

// [64 bytes of starts][width4 / 4][kGroup tokens][4 dimensions]
template <class Element>
void pack(const void* rows, std::size_t row_pitch, std::size_t tokens, std::size_t width, void* panel) {
  const std::int8_t* q = static_cast<const std::int8_t*>(rows);
  std::int32_t* starts = static_cast<std::int32_t*>(panel);
  Element* out = reinterpret_cast<Element*>(static_cast<char*>(panel) + kHeader);
  for (std::size_t t = 0; t < kGroup; ++t) {
    std::int32_t sum = 0;
    for (std::size_t i = 0; i < Int8Copy::width4(width); i += 4)
      for (std::size_t j = 0; j < 4; ++j) {
        const Element value = t < tokens && i + j < width ? q[t * row_pitch + i + j] : Element{0};
        sum += value;
        out[i * kGroup + t * 4 + j] = value;
      }
    starts[t] = -128 * sum;
  }
}

}  // namespace
}  // namespace personascope
