// The body of the vector variants of screening in bf16: kRows latents x 2 vectors of tokens in registers of
// fp32 sums. Rows of weights are read where they lie, two dimensions of one latent at a time, as broadcasts.
//
// Include after lanes_*.h, ahead.inl and push.inl. The including file says, for a pair of dimensions, how the
// tokens lie in the panel (kPairBytes, pack) and how products are added:
//
//   template <int Rows> void add_pair(Vec (&sums)[Rows][2], const std::uint8_t* w, std::size_t stride, const
//   char* x)

namespace personascope {
namespace {

constexpr std::size_t kGroup = 2 * kLanes;

std::size_t panel_bytes(std::size_t width) {
  return (width + 1) / 2 * kPairBytes;
}

template <int Rows>
__attribute__((noinline)) void tile(const ScreenArgs& args, std::size_t latent, Ahead& ahead) {
  const std::size_t stride = args.weights_stride;
  const std::uint8_t* w = args.weights + (latent - args.begin) * stride;
  const char* x = static_cast<const char*>(args.panel);
  Vec sums[Rows][2];
#pragma GCC unroll 12
  for (int r = 0; r < Rows; ++r) sums[r][0] = sums[r][1] = v_zero();
  for (std::size_t begin = 0; begin < args.width; begin += kStretch) {
    ahead.ask();
    const std::size_t here = args.width - begin < kStretch ? args.width - begin : kStretch;
    for (const std::uint8_t* end = w + (here + 1) / 2 * 4; w < end; w += 4, x += kPairBytes)
      add_pair<Rows>(sums, w, stride, x);
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
      const Vec value = v_fma(sums[r][half], scale, bias);
      const Vec slack = v_fma(slack_norm, v_load(args.norm + token),
                              v_fma(slack_error, v_load(args.error + token), slack_offset));
      const Vec upper = v_add(value, slack);
      const unsigned hits = v_at_least(upper, v_load(args.thresholds + token));
      if (__builtin_expect(hits != 0, 0)) push_lanes(args, l, 0, token, 1, hits, upper, v_sub(value, slack));
    }
  }
}

void screen(const ScreenArgs& args) {
  Ahead ahead(args, (args.end - args.begin + kRows - 1) / kRows);
  std::size_t latent = args.begin;
  for (; latent + kRows <= args.end; latent += kRows) tile<kRows>(args, latent, ahead);
  for (; latent + 4 <= args.end; latent += 4) tile<4>(args, latent, ahead);
  for (; latent < args.end; ++latent) tile<1>(args, latent, ahead);
}

}  // namespace
}  // namespace personascope
