// What the plugin offers beside encoding. Calls return when their results are there; they throw Error.
#pragma once
#include <cstdint>

#include "cuda/device/codes.h"
#include "native/core/device_api.h"

namespace personascope {

// What was found in codes that are to be added.
struct StatsFindings {
  unsigned long long latent, negative, non_finite;  // first pair each, or ~0
  unsigned long long spilled;
};

struct DeviceStats {
  int device = 0;
  std::uint64_t latents = 0, rows = 0;
  cuda::Buffer<std::uint64_t> sum, squares, active;  // [latents, 2], [latents, 3], [latents]
  cuda::Buffer<std::uint32_t> max;                   // bits of floats >= 0
  // Pairs outside the window of the totals.
  cuda::Buffer<std::uint32_t> spilled_latents;
  cuda::Buffer<float> spilled_values;
  std::uint64_t spilled = 0;
  // Kept from call to call: making them takes longer than adding the codes of a batch.
  cuda::Stream stream;
  cuda::Buffer<StatsFindings> findings;
  cuda::PinnedBuffer<StatsFindings> findings_here;
};

namespace cuda {

// W_dec must lie on the device. Nothing is written when a latent is not there.
void decode(const DeviceDecodeArgs& args, const DeviceCodes& codes);
// Of the vectors only sizes are checked: the caller does the rest (native/kernels/steer).
void steer(const DeviceSteerArgs& args);

void stats_start(DeviceStats& stats, std::uint64_t latents);
void stats_add(DeviceStats& stats, const DeviceCodes& codes);
void stats_read(const DeviceStats& stats, DeviceTotals& totals);
void stats_difference(const DeviceStats& before, const DeviceStats& after, double* delta,
                      double* effect_size);

}  // namespace cuda
}  // namespace personascope
