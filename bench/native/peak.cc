#include "bench/native/peak.h"

#include <atomic>
#include <chrono>
#include <ctime>

#include "native/core/isa.h"
#include "native/core/thread_pool.h"

#include "native/kernels/simd/target_avx512.h"
static float chains_avx512(long steps) {
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
#include "native/kernels/simd/target_end.h"

#include "native/kernels/simd/target_avx2.h"
static float chains_avx2(long steps) {
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
#include "native/kernels/simd/target_end.h"

namespace bench {

double thread_seconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

double fma_peak_gflops(double seconds) {
  using namespace personascope;
  using Clock = std::chrono::steady_clock;
  const bool wide = active_isa() == Isa::avx512;
  const long block = 20000;
  const double flops = (wide ? 16.0 * 16 : 12.0 * 8) * 2 * static_cast<double>(block);
  const auto start = Clock::now();
  const double cpu = thread_seconds();
  std::atomic<long> blocks{0};
  std::atomic<float> sink{0};
  parallel_for(static_cast<std::size_t>(thread_count()), 1, [&](std::size_t, std::size_t) {
    do {
      const float value = wide ? chains_avx512(block) : chains_avx2(block);
      sink.store(value, std::memory_order_relaxed);
      blocks.fetch_add(1, std::memory_order_relaxed);
    } while (std::chrono::duration<double>(Clock::now() - start).count() < seconds);
  });
  const double took = thread_count() == 1 ? thread_seconds() - cpu
                                          : std::chrono::duration<double>(Clock::now() - start).count();
  return flops * static_cast<double>(blocks.load()) / took * 1e-9;
}

}  // namespace bench
