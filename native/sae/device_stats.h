// Totals of latent statistics on a device: codes add to them where they were made. Exact: read, they are the
// bits that LatentStats of the CPU has, whatever the order and the batches.
#pragma once
#include <cstdint>
#include <memory>
#include <mutex>

#include "native/kernels/latent_stats/latent_stats.h"
#include "native/sae/sparse_codes.h"

namespace personascope {

// Without sums per group and examples. Any number of threads may use one; calls wait for each other.
class DeviceLatentStats {
 public:
  // Throws not_found, out_of_memory and invalid_argument.
  DeviceLatentStats(const DeviceChoice& device, std::size_t latents);

  const DeviceChoice& device() const { return device_; }
  std::size_t latents() const { return latents_; }
  std::uint64_t rows() const;
  // Adds codes of the same device. Throws invalid_argument and changes nothing then.
  void add(const DeviceSparseCodes& codes);
  // Adds what was seen to statistics of the host, made without groups and examples.
  void read_into(LatentStats& stats) const;

  // delta and effect_size [latents], as diff_latents() of one model after has them. Throws invalid_argument
  // unless both have the same latents and device, and rows.
  static void difference(const DeviceLatentStats& before, const DeviceLatentStats& after, double* delta,
                         double* effect_size);

 private:
  LatentStats read() const;

  DeviceChoice device_;
  std::size_t latents_;
  mutable std::mutex mutex_;
  std::unique_ptr<LatentStats> host_;   // of the CPU
  std::shared_ptr<DeviceStats> stats_;  // of a GPU
  std::uint64_t rows_ = 0;
};

}  // namespace personascope
