#include "bench/native/peak.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <functional>

#include "native/core/aligned.h"
#include "native/core/isa.h"
#include "native/core/thread_pool.h"

// One block: `steps` rounds over chains that do not wait for each other. The operands are opaque to the
// compiler, which would otherwise see through the sums.
#include "native/kernels/simd/target_avx512.h"
static float fp32_avx512(long steps) {
  __m512 s[16];
  for (int i = 0; i < 16; ++i) s[i] = _mm512_set1_ps(static_cast<float>(i));
  const __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.001f);
  for (long step = 0; step < steps; ++step)
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) s[i] = _mm512_fmadd_ps(s[i], a, b);
  __m512 sum = s[0];
  for (int i = 1; i < 16; ++i) sum = _mm512_add_ps(sum, s[i]);
  return _mm512_cvtss_f32(sum);
}

static float read_avx512(const char* p, std::size_t bytes) {
  __m512 s[8];
  for (auto& v : s) v = _mm512_setzero_ps();
  for (std::size_t i = 0; i < bytes; i += 512)
#pragma GCC unroll 8
    for (std::size_t j = 0; j < 8; ++j) {
      _mm_prefetch(p + i + 64 * j + 4096, _MM_HINT_T0);
      s[j] = _mm512_add_ps(s[j], _mm512_loadu_ps(p + i + 64 * j));
    }
  for (int i = 1; i < 8; ++i) s[0] = _mm512_add_ps(s[0], s[i]);
  return _mm512_cvtss_f32(s[0]);
}
#include "native/kernels/simd/target_end.h"

#include "native/kernels/simd/target_avx2.h"
static float fp32_avx2(long steps) {
  __m256 s[12];
  for (int i = 0; i < 12; ++i) s[i] = _mm256_set1_ps(static_cast<float>(i));
  const __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.001f);
  for (long step = 0; step < steps; ++step)
#pragma GCC unroll 12
    for (int i = 0; i < 12; ++i) s[i] = _mm256_fmadd_ps(s[i], a, b);
  __m256 sum = s[0];
  for (int i = 1; i < 12; ++i) sum = _mm256_add_ps(sum, s[i]);
  return _mm256_cvtss_f32(sum);
}

static float read_avx2(const char* p, std::size_t bytes) {
  __m256 s[8];
  for (auto& v : s) v = _mm256_setzero_ps();
  for (std::size_t i = 0; i < bytes; i += 256)
#pragma GCC unroll 8
    for (std::size_t j = 0; j < 8; ++j) {
      if (j % 2 == 0) _mm_prefetch(p + i + 32 * j + 4096, _MM_HINT_T0);
      s[j] = _mm256_add_ps(s[j], _mm256_loadu_ps(reinterpret_cast<const float*>(p + i + 32 * j)));
    }
  for (int i = 1; i < 8; ++i) s[0] = _mm256_add_ps(s[0], s[i]);
  return _mm256_cvtss_f32(s[0]);
}

static float copy_avx2(const char* from, char* to, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; i += 128) {
    _mm_prefetch(from + i + 4096, _MM_HINT_T0);
    _mm_prefetch(from + i + 4096 + 64, _MM_HINT_T0);
#pragma GCC unroll 4
    for (std::size_t j = 0; j < 128; j += 32)
      _mm256_stream_si256(reinterpret_cast<__m256i*>(to + i + j),
                          _mm256_load_si256(reinterpret_cast<const __m256i*>(from + i + j)));
  }
  _mm_sfence();
  return static_cast<float>(to[0]);
}
#include "native/kernels/simd/target_end.h"

// A dozen chains. In assembly: compilers keep the sums of these instructions in memory (GCC 12), and nothing
// but the assembler has to know the instructions, which are only run where the CPU has them.
#define ON(OP, SUM) OP " %%zmm14, %%zmm15, %%zmm" #SUM "\n"
#define DOZEN(OP) \
  ON(OP, 0)       \
  ON(OP, 1)       \
  ON(OP, 2) ON(OP, 3) ON(OP, 4) ON(OP, 5) ON(OP, 6) ON(OP, 7) ON(OP, 8) ON(OP, 9) ON(OP, 10) ON(OP, 11)
#define CHAINS(NAME, OP)                                                                                    \
  static float NAME(long steps) {                                                                           \
    asm volatile("vpxord %%zmm14, %%zmm14, %%zmm14\nvpxord %%zmm15, %%zmm15, %%zmm15\n1:\n" DOZEN(          \
                     OP) "dec %0\njnz 1b\nvzeroupper\n"                                                     \
                 : "+r"(steps)                                                                              \
                 :                                                                                          \
                 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
                   "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "cc");                                      \
    return static_cast<float>(steps);                                                                       \
  }
CHAINS(bf16_avx512, "vdpbf16ps")
CHAINS(int8_avx512, "vpdpbusd")

namespace bench {

namespace {

using namespace personascope;

constexpr long kSteps = 20000;
constexpr std::size_t kMemory = std::size_t{1} << 28;

double wall() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Units of work a second, in 10^9: every thread repeats body(thread), which does `amount` of it.
double rate(double seconds, double amount, const std::function<float(std::size_t)>& body) {
  const double start = wall(), cpu = thread_seconds();
  std::atomic<long> done{0};
  std::atomic<float> sink{0};
  parallel_for(static_cast<std::size_t>(thread_count()), 1, [&](std::size_t thread, std::size_t) {
    do {
      sink.store(body(thread), std::memory_order_relaxed);
      done.fetch_add(1, std::memory_order_relaxed);
    } while (wall() - start < seconds);
  });
  const double took = thread_count() == 1 ? thread_seconds() - cpu : wall() - start;
  return amount * static_cast<double>(done.load()) / took * 1e-9;
}

bool wide() {
  return active_isa() == Isa::avx512;
}

// The threads' parts of memory that was written to, so that it is really there. Kept: the peak is measured
// again and again in one run.
char* memory() {
  static AlignedBuffer<char> buffer = [] {
    AlignedBuffer<char> made(kMemory + 8192);
    std::memset(made.data(), 1, made.size());
    return made;
  }();
  return buffer.data();
}

}  // namespace

double thread_seconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

double fp32_peak_gflops(double seconds) {
  if (active_isa() == Isa::reference) return 0;
  return rate(seconds, (wide() ? 16.0 * 16 : 12.0 * 8) * 2 * kSteps,
              [](std::size_t) { return wide() ? fp32_avx512(kSteps) : fp32_avx2(kSteps); });
}

double bf16_peak_gflops(double seconds) {
  if (!wide() || !__builtin_cpu_supports("avx512bf16")) return 0;
  return rate(seconds, 12.0 * 32 * 2 * kSteps, [](std::size_t) { return bf16_avx512(kSteps); });
}

double int8_peak_gops(double seconds) {
  if (!wide() || !__builtin_cpu_supports("avx512vnni")) return 0;
  return rate(seconds, 12.0 * 64 * 2 * kSteps, [](std::size_t) { return int8_avx512(kSteps); });
}

double read_gbytes(double seconds) {
  const char* from = memory();
  const std::size_t part = kMemory / static_cast<std::size_t>(thread_count()) / 4096 * 4096;
  return rate(seconds, static_cast<double>(part), [=](std::size_t thread) {
    const char* mine = from + thread * part;
    return cpu_has(Isa::avx512) ? read_avx512(mine, part) : read_avx2(mine, part);
  });
}

double copy_gbytes(double seconds) {
  char* all = memory();
  const std::size_t part = kMemory / 2 / static_cast<std::size_t>(thread_count()) / 4096 * 4096;
  return rate(seconds, 2 * static_cast<double>(part), [=](std::size_t thread) {
    return copy_avx2(all + thread * part, all + kMemory / 2 + thread * part, part);
  });
}

}  // namespace bench
