// Totals per latent over codes: exact sums by integer atomics, whose order does not matter
// (shared/exact_totals.h); and the difference of two of them.
#include <cmath>
#include <vector>

#include "cuda/device/launch.cuh"
#include "cuda/operations.h"
#include "cuda/shared/exact_totals.h"

namespace personascope::cuda {

namespace {

constexpr int kThreads = 256;

using Checked = StatsFindings;

__global__ void __launch_bounds__(kThreads)
    check_kernel(const std::uint32_t* indices, const float* values, std::uint64_t pairs,
                 std::uint64_t latents, Checked* checked) {
  for (std::uint64_t i = blockIdx.x * std::uint64_t{kThreads} + threadIdx.x; i < pairs;
       i += std::uint64_t{gridDim.x} * kThreads) {
    const float value = values[i];
    if (indices[i] >= latents) atomicMin(&checked->latent, i);
    if (!isfinite(value)) atomicMin(&checked->non_finite, i);
    if (value < 0) atomicMin(&checked->negative, i);
    if (value > 0 && !fits_totals(value)) atomicAdd(&checked->spilled, 1ull);
  }
}

struct Totals {
  std::uint64_t *sum, *squares, *active;
  std::uint32_t* max;
  std::uint32_t* spilled_latents;
  float* spilled_values;
};

struct AtomicAdd {
  __device__ std::uint64_t operator()(std::uint64_t* word, std::uint64_t addend) const {
    return atomicAdd(reinterpret_cast<unsigned long long*>(word), static_cast<unsigned long long>(addend));
  }
};

__global__ void __launch_bounds__(kThreads) add_kernel(const std::uint32_t* indices, const float* values,
                                                       std::uint64_t pairs, Totals totals, Checked* checked) {
  for (std::uint64_t i = blockIdx.x * std::uint64_t{kThreads} + threadIdx.x; i < pairs;
       i += std::uint64_t{gridDim.x} * kThreads) {
    const std::uint32_t latent = indices[i];
    const float value = values[i];
    if (!(value > 0)) continue;  // a code of 0 is none
    AtomicAdd()(totals.active + latent, 1);
    atomicMax(totals.max + latent, float_bits(value));
    if (fits_totals(value)) {
      add_to_totals(totals.sum + std::uint64_t{kSumLimbs} * latent,
                    totals.squares + std::uint64_t{kSquaresLimbs} * latent, value, AtomicAdd());
    } else {
      const unsigned long long place = atomicAdd(&checked->spilled, 1ull);
      totals.spilled_latents[place] = latent;
      totals.spilled_values[place] = value;
    }
  }
}

struct DifferenceSide {
  const std::uint64_t *sum, *squares, *active;
  double rows;
};

__global__ void __launch_bounds__(kThreads)
    difference_kernel(std::uint64_t latents, DifferenceSide before, DifferenceSide after, double* delta,
                      double* effect_size) {
  const std::uint64_t latent = blockIdx.x * std::uint64_t{kThreads} + threadIdx.x;
  if (latent >= latents) return;
  // The order of operations of diff_latents with one model after.
  double change = 0, variance = 0;
  bool alive = false;
  for (int m = 0; m < 2; ++m) {
    const DifferenceSide& side = m == 0 ? before : after;
    const double mean = round_totals(side.sum + kSumLimbs * latent, kSumLimbs, kSumUnit) / side.rows;
    const double squares = round_totals(side.squares + kSquaresLimbs * latent, kSquaresLimbs, kSquaresUnit);
    change += (m == 0 ? -1.0 : 1.0) * mean;
    const double spread = squares / side.rows - mean * mean;
    variance += 1.0 / 2 * (spread > 0 ? spread : 0.0);
    alive = alive || side.active[latent] > 0;
  }
  delta[latent] = change;
  effect_size[latent] = !alive ? NAN : variance > 0 ? change / sqrt(variance) : change == 0 ? 0.0 : NAN;
}

unsigned blocks_for(std::uint64_t count) {
  const std::uint64_t blocks = (count + kThreads - 1) / kThreads;
  return static_cast<unsigned>(blocks < 4096 ? (blocks ? blocks : 1) : 4096);
}

template <class T>
void start_at_zero(Buffer<T>& buffer, std::size_t size, cudaStream_t stream) {
  buffer.reserve(size, "latent statistics");
  check_cuda(cudaMemsetAsync(buffer.data(), 0, size * sizeof(T), stream), "clearing latent statistics");
}

}  // namespace

void stats_start(DeviceStats& stats, std::uint64_t latents) {
  require(latents >= 1 && latents < (std::uint64_t{1} << 32), ErrorCode::invalid_argument,
          "latent statistics of " + std::to_string(latents) + " latents, expected 1 to 4294967295");
  const Stream& stream = stats.stream;
  stats.latents = latents;
  stats.findings.reserve(1, "latent statistics");
  stats.findings_here.reserve(1, "latent statistics");
  start_at_zero(stats.sum, latents * kSumLimbs, stream);
  start_at_zero(stats.squares, latents * kSquaresLimbs, stream);
  start_at_zero(stats.active, latents, stream);
  start_at_zero(stats.max, latents, stream);
  stream.wait();
}

void stats_add(DeviceStats& stats, const DeviceCodes& codes) {
  const Stream& stream = stats.stream;
  Checked& found = *stats.findings_here.data();
  found = {~0ull, ~0ull, ~0ull, 0};
  check_cuda(cudaMemcpyAsync(stats.findings.data(), &found, sizeof found, cudaMemcpyHostToDevice, stream),
             "clearing findings");
  const unsigned blocks = blocks_for(codes.pairs);
  launch("check_codes", check_kernel, {blocks, kThreads}, stream, codes.indices.data(), codes.values.data(),
         codes.pairs, stats.latents, stats.findings.data());
  copy_bytes(&found, stats.findings.data(), sizeof found, stream, "findings");
  const auto refuse = [](unsigned long long place, ErrorCode code, const std::string& what) {
    if (place != ~0ull) fail(code, "latent statistics: code " + std::to_string(place) + " " + what);
  };
  refuse(found.latent, ErrorCode::invalid_argument,
         "is of a latent beyond the " + std::to_string(stats.latents) + " there are");
  refuse(found.non_finite, ErrorCode::non_finite, "is not finite");
  refuse(found.negative, ErrorCode::invalid_argument, "is negative");
  // Room for every spilled pair; they are appended.
  const std::uint64_t spilled = stats.spilled + found.spilled;
  if (spilled > stats.spilled_latents.size()) {
    Buffer<std::uint32_t> latents(2 * spilled, "latent statistics");
    Buffer<float> values(2 * spilled, "latent statistics");
    copy_bytes(latents.data(), stats.spilled_latents.data(), stats.spilled * 4, stream, "latent statistics");
    copy_bytes(values.data(), stats.spilled_values.data(), stats.spilled * 4, stream, "latent statistics");
    stats.spilled_latents = std::move(latents);
    stats.spilled_values = std::move(values);
  }
  check_cuda(cudaMemsetAsync(&stats.findings.data()->spilled, 0, sizeof found.spilled, stream),
             "clearing findings");
  const Totals totals = {stats.sum.data(),
                         stats.squares.data(),
                         stats.active.data(),
                         stats.max.data(),
                         stats.spilled_latents.data() + stats.spilled,
                         stats.spilled_values.data() + stats.spilled};
  launch("add_codes", add_kernel, {blocks, kThreads}, stream, codes.indices.data(), codes.values.data(),
         codes.pairs, totals, stats.findings.data());
  stream.wait();
  stats.spilled = spilled;
  stats.rows += codes.tokens;
}

void stats_read(const DeviceStats& stats, DeviceTotals& totals) {
  Stream stream;
  const std::uint64_t n = stats.latents;
  copy_bytes(totals.sum, stats.sum.data(), n * kSumLimbs * 8, stream, "latent statistics");
  copy_bytes(totals.squares, stats.squares.data(), n * kSquaresLimbs * 8, stream, "latent statistics");
  copy_bytes(totals.active, stats.active.data(), n * 8, stream, "latent statistics");
  copy_bytes(totals.max, stats.max.data(), n * 4, stream, "latent statistics");
  totals.rows = stats.rows;
  const std::uint64_t places = totals.spilled;
  totals.spilled = stats.spilled;
  if (stats.spilled > places) return;
  copy_bytes(totals.spilled_latents, stats.spilled_latents.data(), stats.spilled * 4, stream,
             "latent statistics");
  copy_bytes(totals.spilled_values, stats.spilled_values.data(), stats.spilled * 4, stream,
             "latent statistics");
}

void stats_difference(const DeviceStats& before, const DeviceStats& after, double* delta,
                      double* effect_size) {
  require(before.latents == after.latents && before.device == after.device, ErrorCode::invalid_argument,
          "diff: statistics of " + std::to_string(before.latents) + " and of " +
              std::to_string(after.latents) + " latents, or on two devices, cannot be compared");
  require(before.rows > 0 && after.rows > 0, ErrorCode::invalid_argument, "diff: statistics over no rows");
  require(before.spilled == 0 && after.spilled == 0, ErrorCode::invalid_argument,
          "diff on the device: values outside 2^-27 to 2^26; compare on the host");
  Stream stream;
  const std::uint64_t n = before.latents;
  Buffer<double> results(2 * n, "a difference");
  const auto side = [](const DeviceStats& stats) {
    return DifferenceSide{stats.sum.data(), stats.squares.data(), stats.active.data(),
                          static_cast<double>(stats.rows)};
  };
  const auto blocks = static_cast<unsigned>((n + kThreads - 1) / kThreads);
  launch("difference", difference_kernel, {blocks, kThreads}, stream, n, side(before), side(after),
         results.data(), results.data() + n);
  copy_bytes(delta, results.data(), n * sizeof(double), stream, "a difference");
  copy_bytes(effect_size, results.data() + n, n * sizeof(double), stream, "a difference");
}

}  // namespace personascope::cuda
