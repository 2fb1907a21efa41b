// The kernels that memory bounds, for bench/decode.ts, stats.ts and steer.ts.
//
// usage: bandwidth <folder> <latents> <width> <k> <tokens>
//
// <folder> is what sae_data wrote, with decoder. Makes codes, k latents a token drawn evenly with falling
// values, and writes them for the peers: codes.indices.u32 and codes.values.f32, [tokens, k]; and a vector of
// unit length, vector.f32 [width]. Commands; `bytes` is the least that must pass through memory:
//
//   decode       the codes through W_dec as it lies in the mapped file; bytes: a row a code, and the output
//   stats        the codes into statistics that keep growing; bytes: the codes, and for each latent among
//   them
//                one cache line read and written, however often it occurs; the caches are swept before
//   steer <kind> add | ablate | clamp | project, the activations in place; bytes: all of them read and
//   written write <name> what the last command made, <name>.f32: decode's output, stats' sums [latents], or
//   steered
//                activations
#include <algorithm>
#include <cmath>
#include <memory>

#include "bench/native/commands.h"
#include "bench/native/files.h"
#include "native/core/aligned.h"
#include "native/core/isa.h"
#include "native/core/random.h"
#include "native/core/thread_pool.h"
#include "native/io/safetensors.h"
#include "native/kernels/decode/decode.h"
#include "native/kernels/latent_stats/latent_stats.h"
#include "native/kernels/steer/steer.h"

using namespace personascope;

namespace {

class Bandwidth {
 public:
  Bandwidth(const std::string& folder, std::size_t n, std::size_t d, std::size_t k, std::size_t tokens)
      : folder_(folder), n_(n), d_(d), k_(k), tokens_(tokens), file_(folder + "/sae/sae.safetensors") {
    const Philox draw(11, 0);
    for (std::size_t t = 0; t < tokens; ++t)
      for (std::size_t c = 0; c < k; ++c) {
        indices_.push_back(static_cast<std::uint32_t>(draw.uniform(t * k + c) * static_cast<double>(n)));
        values_.push_back(1.5f - static_cast<float>(c) / static_cast<float>(k));
      }
    counts_.assign(tokens, static_cast<std::uint32_t>(k));
    vector_.resize(d);
    double length = 0;
    for (std::size_t i = 0; i < d; ++i) {
      vector_[i] = static_cast<float>(draw.gaussian(i));
      length += static_cast<double>(vector_[i]) * vector_[i];
    }
    for (float& value : vector_) value = static_cast<float>(value / std::sqrt(length));
    bench::write_array(folder + "/codes.indices.u32", indices_.data(), indices_.size());
    bench::write_array(folder + "/codes.values.f32", values_.data(), values_.size());
    bench::write_array(folder + "/vector.f32", vector_.data(), d);
  }

  std::string decode() {
    const TensorInfo& info = file_.at("W_dec", {n_, d_});
    if (made_.size() != tokens_ * d_) made_ = AlignedBuffer<float>(tokens_ * d_);
    DecodeArgs args;
    args.codes = codes();
    args.weights = file_.bytes(info);
    args.dtype = info.dtype;
    args.latents = n_;
    args.width = args.stride = args.out_stride = d_;
    args.out = made_.data();
    const double row = static_cast<double>(d_ * dtype_size(info.dtype));
    return told(static_cast<double>(tokens_) * (static_cast<double>(k_) * row + static_cast<double>(d_) * 4),
                [&] { personascope::decode(args); });
  }

  std::string stats() {
    if (!stats_) {
      LatentStatsOptions options;
      options.latents = n_;
      stats_ = std::make_unique<LatentStats>(options);
    }
    if (touched_ == 0) {
      std::vector<std::uint32_t> sorted = indices_;
      std::sort(sorted.begin(), sorted.end());
      touched_ = static_cast<std::size_t>(std::unique(sorted.begin(), sorted.end()) - sorted.begin());
    }
    sweep();
    return told(static_cast<double>(tokens_ * k_ * 8 + touched_ * 2 * sizeof(LatentRecord)),
                [&] { stats_->add(codes(), nullptr, nullptr); });
  }

  std::string steer(const std::string& kind) {
    if (made_.size() != tokens_ * d_ || !steering_) {
      const auto x = bench::read_array<float>(folder_ + "/x.f32", tokens_ * d_);
      made_ = AlignedBuffer<float>(tokens_ * d_);
      std::copy(x.begin(), x.end(), made_.data());
      steering_ = true;
    }
    const float amount = 0.5f;
    SteerArgs args;
    args.kind = kind == "add"      ? SteerKind::add
                : kind == "ablate" ? SteerKind::ablate
                : kind == "clamp"  ? SteerKind::clamp
                                   : SteerKind::project;
    args.x = made_.data();
    args.rows = tokens_;
    args.width = args.stride = d_;
    args.vectors = vector_.data();
    args.amounts = args.low = args.high = &amount;
    return told(static_cast<double>(tokens_ * d_) * 8, [&] { personascope::steer(args); });
  }

  void write(const std::string& name) const {
    const std::string path = folder_ + "/" + name + ".f32";
    if (!stats_) return bench::write_array(path, made_.data(), made_.size());
    std::vector<float> sums(n_);
    for (std::size_t l = 0; l < n_; ++l) sums[l] = static_cast<float>(stats_->sum(l));
    bench::write_array(path, sums.data(), n_);
  }

 private:
  CodesView codes() const { return {tokens_, indices_.data(), values_.data(), nullptr, k_, counts_.data()}; }
  // Nothing of what comes next is left in a cache, and the core is awake.
  void sweep() {
    if (swept_.size() == 0) swept_ = AlignedBuffer<std::uint64_t>(std::size_t{1} << 24);
    for (std::size_t i = 0; i < swept_.size(); i += 8) ++swept_[i];
  }
  static std::string told(double bytes, const std::function<void()>& work) {
    return bench::timed(work) + ", \"bytes\": " + std::to_string(static_cast<unsigned long long>(bytes));
  }

  std::string folder_;
  std::size_t n_, d_, k_, tokens_;
  SafetensorsFile file_;
  std::vector<std::uint32_t> indices_, counts_;
  std::vector<float> values_, vector_;
  AlignedBuffer<float> made_;
  bool steering_ = false;
  std::size_t touched_ = 0;  // latents among the codes
  AlignedBuffer<std::uint64_t> swept_;
  std::unique_ptr<LatentStats> stats_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) {
    std::fprintf(stderr, "usage: bandwidth <folder> <latents> <width> <k> <tokens>\n");
    return 2;
  }
  Bandwidth kernels(argv[1], std::strtoull(argv[2], nullptr, 10), std::strtoull(argv[3], nullptr, 10),
                    std::strtoull(argv[4], nullptr, 10), std::strtoull(argv[5], nullptr, 10));
  char about[160];
  std::snprintf(about, sizeof about, "\"isa\": \"%s\", \"threads\": %d", isa_name(active_isa()),
                thread_count());
  bench::answer(about, {
                           {"decode", [&](const bench::Words&) { return kernels.decode(); }},
                           {"stats", [&](const bench::Words&) { return kernels.stats(); }},
                           {"steer", [&](const bench::Words& words) { return kernels.steer(words.at(0)); }},
                           {"write",
                            [&](const bench::Words& words) {
                              kernels.write(words.at(0));
                              return std::string("\"written\": true");
                            }},
                       });
  return 0;
}
