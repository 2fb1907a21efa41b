// What this machine reaches now, on all threads of the pool: rates that kernels are held against. With one
// thread a rate is of CPU time, which a busy neighbour does not lengthen, else of wall time.
#pragma once

namespace bench {

// fp32 multiply-adds with the ISA in force, 2 operations each: independent chains in registers.
double fp32_peak_gflops(double seconds);
// bf16 dot products with fp32 sums (vdpbf16ps), and int8 ones with int32 sums (vpdpbusd), 2 operations a
// product. 0 where the CPU lacks them or the ISA in force is not avx512.
double bf16_peak_gflops(double seconds);
double int8_peak_gops(double seconds);

// Bytes a second, in units of 10^9, over memory far larger than the caches: read once, in order; and copied
// (bytes read plus bytes written, with stores that go past the cache).
double read_gbytes(double seconds);
double copy_gbytes(double seconds);

// CPU time of the calling thread.
double thread_seconds();

}  // namespace bench
