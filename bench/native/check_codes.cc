// Compares codes with float64 arithmetic over all latents, by brute force and with no code of the library's
// encoders.
//
// usage: check_codes <folder> <latents> <width> <k> <tokens> <name>:<ours|peer> ...
//
// <folder> is what sae_data wrote, and holds <name>.indices.u32 [tokens, k], <name>.values.f32 and
// <name>.counts.u32 [tokens] of each contender. A token is wrong where a latent is missing (or an extra one
// there) whose float64 value differs by more than fp32 rounding from the least value among the codes, where a
// latent appears twice, or where a value is off by more than fp32 rounding. Rounding is
// u (width / 64 + 8) |w| |x| for `ours`, the bound of its 64 sums side by side, and u (width / 8 + 8) |w| |x|
// for a peer's matrix product (u = 2^-24); with a bf16 peer nothing is forgiven beyond that.
//
// Prints one line {"<name>": {"wrongTokens": .., "wrongValues": ..}, ...}; wrongValues counts the values of a
// peer apart, as a peer may be right about the set alone.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <set>
#include <string>

#include "bench/native/files.h"
#include "native/core/half.h"
#include "native/core/thread_pool.h"
#include "native/io/safetensors.h"

using namespace personascope;

namespace {

// Sums of products in eight chains.
#if defined(__GNUC__) && !defined(__clang__)
__attribute__((target_clones("avx512f", "avx2,fma", "default")))
#endif
double dot(const double* a, const double* b, std::size_t padded) {
  double sums[32] = {};
  for (std::size_t i = 0; i < padded; i += 32)
    for (std::size_t j = 0; j < 32; ++j) sums[j] += a[i + j] * b[i + j];
  double sum = 0;
  for (double s : sums) sum += s;
  return sum;
}

struct Codes {
  std::string name;
  double slack = 0;  // of |w| |x|
  std::vector<std::uint32_t> indices, counts;
  std::vector<float> values;
  std::vector<double> least;             // [tokens], float64
  std::vector<std::uint8_t> wrong, off;  // [tokens]
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 7) {
    std::fprintf(stderr,
                 "usage: check_codes <folder> <latents> <width> <k> <tokens> <name>:<ours|peer> ...\n");
    return 2;
  }
  const std::string folder = argv[1];
  const std::size_t n = std::strtoull(argv[2], nullptr, 10), d = std::strtoull(argv[3], nullptr, 10),
                    k = std::strtoull(argv[4], nullptr, 10), tokens = std::strtoull(argv[5], nullptr, 10);
  const std::size_t padded = (d + 31) / 32 * 32;
  const SafetensorsFile file(folder + "/sae/sae.safetensors");
  const TensorInfo& weights = file.at("encoder.weight", {n, d});
  std::vector<float> bias(n);
  file.read_f32(file.at("encoder.bias", {n}), bias.data());
  const auto x32 = bench::read_array<float>(folder + "/x.f32", tokens * d);
  std::vector<double> x(tokens * padded), x_length(tokens);
  for (std::size_t t = 0; t < tokens; ++t) {
    std::copy_n(x32.data() + t * d, d, x.data() + t * padded);
    x_length[t] = std::sqrt(dot(x.data() + t * padded, x.data() + t * padded, padded));
  }
  const auto row_of = [&](std::size_t l, float* narrow, double* wide) {
    file.read_f32(weights, narrow, l * d, d);
    std::copy_n(narrow, d, wide);
  };

  std::vector<Codes> all;
  for (int a = 6; a < argc; ++a) {
    const std::string argument = argv[a];
    const std::size_t colon = argument.find(':');
    if (colon == std::string::npos) bench::die("check_codes: expected <name>:<ours|peer>, found " + argument);
    Codes codes;
    codes.name = argument.substr(0, colon);
    codes.slack = 0x1p-24 * (static_cast<double>(d) / (argument.substr(colon) == ":ours" ? 64 : 8) + 8);
    const std::string stem = folder + "/" + codes.name;
    codes.indices = bench::read_array<std::uint32_t>(stem + ".indices.u32", tokens * k);
    codes.values = bench::read_array<float>(stem + ".values.f32", tokens * k);
    codes.counts = bench::read_array<std::uint32_t>(stem + ".counts.u32", tokens);
    codes.least.assign(tokens, 0);
    codes.wrong.assign(tokens, 0);
    codes.off.assign(tokens, 0);
    all.push_back(std::move(codes));
  }

  // The codes themselves.
  parallel_for(tokens, 1, [&](std::size_t begin, std::size_t end) {
    std::vector<float> narrow(d);
    std::vector<double> row(padded);
    for (std::size_t t = begin; t < end; ++t)
      for (Codes& codes : all) {
        const std::size_t count = codes.counts[t];
        double least = count < k ? 0 : INFINITY;
        if (count > k) codes.wrong[t] = 1;
        for (std::size_t c = t * k; c < t * k + std::min(count, k); ++c) {
          if (codes.indices[c] >= n) {
            codes.wrong[t] = 1;
            continue;
          }
          row_of(codes.indices[c], narrow.data(), row.data());
          const double value = dot(row.data(), x.data() + t * padded, padded) + bias[codes.indices[c]];
          const double slack =
              codes.slack * std::sqrt(dot(row.data(), row.data(), padded)) * x_length[t] + 1e-30;
          if (value < -slack) codes.wrong[t] = 1;
          if (!(std::fabs(codes.values[c] - value) <= slack)) codes.off[t] = 1;
          least = std::min(least, value);
        }
        codes.least[t] = least;
        const auto first = codes.indices.begin() + static_cast<std::ptrdiff_t>(t * k);
        const std::set<std::uint32_t> different(first,
                                                first + static_cast<std::ptrdiff_t>(std::min(count, k)));
        if (different.size() != count) codes.wrong[t] = 1;
      }
  });
  // Latents that should have been among them.
  parallel_for(n, 64, [&](std::size_t begin, std::size_t end) {
    std::vector<float> narrow(d);
    std::vector<double> row(padded);
    for (std::size_t l = begin; l < end; ++l) {
      row_of(l, narrow.data(), row.data());
      const double row_length = std::sqrt(dot(row.data(), row.data(), padded));
      for (std::size_t t = 0; t < tokens; ++t) {
        const double value = dot(row.data(), x.data() + t * padded, padded) + bias[l];
        for (Codes& codes : all) {
          if (value <= codes.least[t] + codes.slack * row_length * x_length[t] + 1e-30) continue;
          const auto first = codes.indices.begin() + static_cast<std::ptrdiff_t>(t * k);
          const auto last = first + static_cast<std::ptrdiff_t>(std::min<std::size_t>(codes.counts[t], k));
          // Any thread may find a token wrong; all of them write the same.
          if (std::find(first, last, l) == last) __atomic_store_n(&codes.wrong[t], 1, __ATOMIC_RELAXED);
        }
      }
    }
  });
  std::printf("{");
  for (const Codes& codes : all)
    std::printf("%s\"%s\": {\"wrongTokens\": %zu, \"wrongValues\": %zu}", &codes == all.data() ? "" : ", ",
                codes.name.c_str(),
                static_cast<std::size_t>(std::count(codes.wrong.begin(), codes.wrong.end(), 1)),
                static_cast<std::size_t>(std::count(codes.off.begin(), codes.off.end(), 1)));
  std::printf("}\n");
  return 0;
}
