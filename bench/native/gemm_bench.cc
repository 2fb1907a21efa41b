// Matrix products at the sizes of small and real models, against the machine's fp32 multiply-add peak
// measured in the same run. One JSON line a case:
// {"bench":"gemm","case":...,"gflops":...,"share_of_peak":...}. Usage: gemm_bench [seconds a case, default
// 0.2]; PERSONASCOPE_THREADS and PERSONASCOPE_ISA are honoured.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "bench/native/peak.h"
#include "native/core/thread_pool.h"
#include "native/kernels/gemm/gemm.h"

using namespace personascope;

namespace {

double wall() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// With one thread its CPU time, which a busy neighbour does not lengthen; else the wall's.
double now() {
  return thread_count() == 1 ? bench::thread_seconds() : wall();
}

std::vector<float> values(std::size_t count) {
  std::vector<float> v(count);
  for (std::size_t i = 0; i < count; ++i) v[i] = static_cast<float>(i * 2654435761u % 1000) * 1e-3f - 0.5f;
  return v;
}

struct Case {
  const char* name;
  std::size_t m, n, k;
  bool transpose_a, transpose_b, packed;
};

}  // namespace

int main(int argc, char** argv) {
  const double seconds = argc > 1 ? std::atof(argv[1]) : 0.2;
  const std::size_t tokens = 3408;  // 48 sequences of 71
  const Case cases[] = {
      {"qkv", tokens, 384, 128, false, true, false},
      {"attention-out", tokens, 128, 128, false, true, false},
      {"mlp-up", tokens, 512, 128, false, true, false},
      {"mlp-down", tokens, 128, 512, false, true, false},
      {"logits", tokens, 600, 128, false, true, false},
      {"mlp-up-dx", tokens, 128, 512, false, false, false},
      {"mlp-down-dx", tokens, 512, 128, false, false, false},
      {"logits-dx", tokens, 128, 600, false, false, false},
      {"mlp-up-dw", 512, 128, tokens, true, false, false},
      {"mlp-down-dw", 128, 512, tokens, true, false, false},
      {"attention-out-dw", 128, 128, tokens, true, false, false},
      {"logits-dw", 600, 128, tokens, true, false, false},
      {"decode-64-mlp-up", 64, 512, 128, false, true, true},
      {"decode-64-logits", 64, 600, 128, false, true, true},
      {"decode-16-mlp-up", 16, 512, 128, false, true, true},
      {"decode-1-mlp-up", 1, 512, 128, false, true, true},
      {"large", 1024, 4096, 1024, false, true, false},
      {"large-decode-8", 8, 4096, 1024, false, true, true},
  };
  for (const Case& c : cases) {
    const std::vector<float> a = values(c.m * c.k), b = values(c.n * c.k);
    std::vector<float> out(c.m * c.n);
    GemmArgs g;
    g.m = c.m;
    g.n = c.n;
    g.k = c.k;
    g.a = a.data();
    g.lda = c.transpose_a ? c.m : c.k;
    g.transpose_a = c.transpose_a;
    g.b = b.data();
    g.ldb = c.transpose_b ? c.k : c.n;
    g.transpose_b = c.transpose_b;
    g.c = out.data();
    g.ldc = c.n;
    PackedMatrix packed;
    if (c.packed) {
      packed.pack(b.data(), g.ldb, c.transpose_b, c.k, c.n);
      g.packed_b = &packed;
    }
    gemm(g);
    // Peak and product take turns; medians.
    std::vector<double> rates, peaks;
    const double flops = 2.0 * static_cast<double>(c.m) * static_cast<double>(c.n) * static_cast<double>(c.k);
    const int repeats = std::max(1, static_cast<int>(1e9 / flops));
    const double end = wall() + seconds;
    do {
      peaks.push_back(bench::fp32_peak_gflops(0.004));
      const double start = now();
      for (int i = 0; i < repeats; ++i) gemm(g);
      rates.push_back(flops * repeats / (now() - start) * 1e-9);
    } while (wall() < end || rates.size() < 5);
    std::sort(rates.begin(), rates.end());
    std::sort(peaks.begin(), peaks.end());
    const double rate = rates[rates.size() / 2], peak = peaks[peaks.size() / 2];
    std::printf(
        "{\"bench\":\"gemm\",\"case\":\"%s\",\"m\":%zu,\"n\":%zu,\"k\":%zu,\"isa\":\"%s\",\"threads\":%d,"
        "\"microseconds\":"
        "%.1f,\"gflops\":%.1f,\"peak_gflops\":%.1f,\"share_of_peak\":%.3f}\n",
        c.name, c.m, c.n, c.k, isa_name(active_isa()), thread_count(), flops / rate * 1e-3, rate, peak,
        rate / peak);
    std::fflush(stdout);
  }
}
