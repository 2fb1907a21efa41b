// The native side of bench/encode.bench.mjs: makes an SAE and activations, writes them for the peer, and then
// answers one line a command on standard input, so that contenders can alternate:
//
//   encode   {"seconds": wall, "cpu_seconds": of this process}; the codes' indices go to indices.u32
//   peak     {"gflops": fp32 multiply-add peak measured now}
//
// Usage: encode_bench <folder> <latents> <width> <k> <tokens>. PERSONASCOPE_THREADS and PERSONASCOPE_ISA
// hold.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <iostream>
#include <string>
#include <vector>

#include "bench/native/peak.h"
#include "native/core/aligned.h"
#include "native/core/isa.h"
#include "native/core/random.h"
#include "native/core/thread_pool.h"
#include "native/kernels/encode/encode.h"

using namespace personascope;

namespace {

double wall() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
double cpu() {
  timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

void write(const std::string& path, const void* data, std::size_t bytes) {
  std::FILE* file = std::fopen(path.c_str(), "wb");
  const bool good = file && std::fwrite(data, 1, bytes, file) == bytes;
  if (!file || std::fclose(file) != 0 || !good) {
    std::fprintf(stderr, "could not write %s\n", path.c_str());
    std::exit(1);
  }
}

// Rows of about unit length: uniform values, whose products are normal by number.
void fill_rows(AlignedBuffer<float>& out, std::size_t width, std::uint64_t seed) {
  const float size = static_cast<float>(std::sqrt(3.0 / static_cast<double>(width)));
  parallel_for(out.size() / 4, 1 << 16, [&](std::size_t begin, std::size_t end) {
    const Philox random(seed, 0);
    for (std::size_t i = begin; i < end; ++i) {
      const auto words = random.words(i);
      for (std::size_t j = 0; j < 4; ++j)
        out[4 * i + j] = (static_cast<float>(words[j]) * 0x1p-31f - 1) * size;
    }
  });
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) {
    std::fprintf(stderr, "usage: encode_bench <folder> <latents> <width> <k> <tokens>\n");
    return 2;
  }
  const std::string folder = argv[1];
  const std::size_t n = std::strtoull(argv[2], nullptr, 10), d = std::strtoull(argv[3], nullptr, 10),
                    k = std::strtoull(argv[4], nullptr, 10), tokens = std::strtoull(argv[5], nullptr, 10);
  if (d % 16 != 0) {
    std::fprintf(stderr, "width %zu: expected a multiple of 16\n", d);
    return 2;
  }
  AlignedBuffer<float> w(n * d), x(tokens * d);
  std::vector<float> b(n, -0.02f);
  fill_rows(w, d, 1);
  fill_rows(x, d, 2);
  // Activations as an SAE sees them: some of its directions, and noise.
  const Philox random(3, 0);
  for (std::size_t t = 0; t < tokens; ++t)
    for (std::size_t a = 0; a < k; ++a) {
      const auto latent = static_cast<std::size_t>(random.uniform(t * 2 * k + a) * static_cast<double>(n));
      const float size = static_cast<float>(0.3 + random.uniform(t * 2 * k + k + a));
      for (std::size_t i = 0; i < d; ++i) x[t * d + i] += size * w[latent * d + i];
    }
  write(folder + "/w.f32", w.data(), w.size() * 4);
  write(folder + "/b.f32", b.data(), b.size() * 4);
  write(folder + "/x.f32", x.data(), x.size() * 4);

  const EncoderWeights encoder(w.data(), d, b.data(), nullptr, n, d);
  std::vector<std::uint32_t> indices(tokens * k), counts(tokens);
  std::vector<float> values(tokens * k);
  EncodeArgs args;
  args.encoder = &encoder;
  args.x = x.data();
  args.tokens = tokens;
  args.x_stride = d;
  args.k = k;
  args.indices = indices.data();
  args.values = values.data();
  args.counts = counts.data();
  std::printf("{\"ready\": true, \"isa\": \"%s\", \"threads\": %d, \"cpu\": \"%s\"}\n",
              isa_name(active_isa()), thread_count(), cpu_model().c_str());
  std::fflush(stdout);
  for (std::string command; std::getline(std::cin, command);) {
    if (command == "encode") {
      const double start = wall(), cpu_start = cpu();
      encode(args);
      const double seconds = wall() - start, cpu_seconds = cpu() - cpu_start;
      write(folder + "/indices.u32", indices.data(), indices.size() * 4);
      std::printf("{\"seconds\": %.6f, \"cpu_seconds\": %.6f}\n", seconds, cpu_seconds);
    } else if (command == "peak") {
      std::printf("{\"gflops\": %.1f}\n", bench::fp32_peak_gflops(0.3));
    } else {
      std::printf("{\"error\": \"unknown command\"}\n");
    }
    std::fflush(stdout);
  }
  return 0;
}
