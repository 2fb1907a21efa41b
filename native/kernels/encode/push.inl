// Puts screened values into candidate lists, lanes being tokens or latents. Include after lanes_*.h.

namespace personascope {
namespace {

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

// Rare: at least one lane may be a code. Lane i is token + i * token_step and latent + i * latent_step.
__attribute__((noinline)) inline void push_lanes(const ScreenArgs& args, std::size_t latent,
                                                 std::size_t latent_step, std::size_t token,
                                                 std::size_t token_step, unsigned hits, Vec upper,
                                                 Vec lower) {
  alignas(64) float uppers[kLanes], lowers[kLanes];
  v_store(uppers, upper);
  v_store(lowers, lower);
  while (hits) {
    const unsigned lane = static_cast<unsigned>(__builtin_ctz(hits));
    hits &= hits - 1;
    push(args, token + lane * token_step, latent + lane * latent_step, uppers[lane], lowers[lane]);
  }
}

}  // namespace
}  // namespace personascope
