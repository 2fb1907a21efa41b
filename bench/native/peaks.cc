// Measures the machine's peaks when told to: the command `peak <seconds>` answers
// {"fp32Gflops", "bf16Gflops", "int8Gops", "readGBs", "copyGBs"}; 0 where the CPU has no such instructions.
// PERSONASCOPE_THREADS and PERSONASCOPE_ISA hold.
#include "bench/native/commands.h"
#include "bench/native/peak.h"
#include "native/core/isa.h"
#include "native/core/thread_pool.h"

int main() {
  using namespace personascope;
  char about[160];
  std::snprintf(about, sizeof about, "\"isa\": \"%s\", \"threads\": %d, \"cpu\": \"%s\"",
                isa_name(active_isa()), thread_count(), cpu_model().c_str());
  bench::answer(about, {{"peak", [](const bench::Words& words) {
                           const double seconds = words.empty() ? 0.1 : std::stod(words[0]);
                           char text[200];
                           std::snprintf(text, sizeof text,
                                         "\"fp32Gflops\": %.1f, \"bf16Gflops\": %.1f, \"int8Gops\": %.1f, "
                                         "\"readGBs\": %.2f, \"copyGBs\": %.2f",
                                         bench::fp32_peak_gflops(seconds), bench::bf16_peak_gflops(seconds),
                                         bench::int8_peak_gops(seconds), bench::read_gbytes(seconds),
                                         bench::copy_gbytes(seconds));
                           return std::string(text);
                         }}});
  return 0;
}
