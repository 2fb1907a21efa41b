// The fp32 multiply-add rate that this machine reaches now, on all threads of the pool and with the ISA in
// force: independent chains of fused multiply-adds in registers. With one thread it is a rate of CPU time,
// else of wall time.
#pragma once

namespace bench {
double fma_peak_gflops(double seconds);
// CPU time of the calling thread.
double thread_seconds();
}  // namespace bench
