// An encoder's weights for the kernels: resident, or copied to the device tile by tile while the tile before
// is at work.
#pragma once
#include <cstdint>
#include <vector>

#include "cuda/device/runtime.h"
#include "cuda/encode/kernels.h"

namespace personascope::cuda {

// A piece of the weights that is on the device.
struct WeightTile {
  std::uint64_t first = 0, count = 0;    // latents
  const std::uint8_t* rows = nullptr;    // as they were given, for canonical products; stride row_stride
  const std::uint8_t* screen = nullptr;  // as the screens read them, rows of screen_bytes
  std::uint64_t map_latents = 0;         // rows from `screen` on that a map may cover
};

class DeviceWeights {
 public:
  // Copies what fits, at most args.weight_bytes; throws where not even two tiles do. Non-finite rows are
  // located.
  explicit DeviceWeights(const DeviceEncoderArgs& args);

  bool streamed() const { return streamed_; }
  std::uint64_t tile_latents() const { return streamed_ ? tile_ : 0; }
  // The tile that holds the latent; work started on the stream afterwards finds it complete. It stays until
  // two further tiles were asked for.
  const WeightTile& tile_of(std::uint64_t latent, cudaStream_t stream);
  // Starts copying the tile that holds the latent, if it is not there.
  void expect(std::uint64_t latent, cudaStream_t stream);

  std::uint64_t latents = 0;
  std::size_t width = 0, row_stride = 0, screen_stride = 0;
  Dtype dtype = Dtype::f32;
  DevicePrecision precision = DevicePrecision::int8;
  const float *bias = nullptr, *centre = nullptr, *mean = nullptr;  // device; null where there is none
  Selection selection;                                              // of device arrays
  BoundTable bounds = {};
  double largest_norm = 0, largest_bias = 0;
  std::uint64_t bytes() const { return bytes_; }

 private:
  struct Slot {
    Buffer<std::uint8_t> rows, screen;
    PinnedBuffer<std::uint8_t> staging;
    Event copied, used;
    std::uint64_t tile = ~0ull;  // number
    WeightTile view;
  };
  void load_arrays(const DeviceEncoderArgs& args);
  void plan(const DeviceEncoderArgs& args);
  // Copies rows [first, first + count) of the host or the device to `to`, each at row_stride, zeros between.
  void copy_rows(std::uint64_t first, std::uint64_t count, std::uint8_t* to, std::uint8_t* staging,
                 cudaStream_t stream);
  void prepare(const WeightTile& tile, std::uint8_t* screen, cudaStream_t stream);
  void fill(Slot& slot, std::uint64_t tile);
  void read_findings();

  DeviceRows source_ = {};
  bool streamed_ = false, in_place_ = false;
  bool separate_screen_ = false;  // else the rows themselves are screened
  std::uint64_t tile_ = 0, bytes_ = 0;
  double mean_norm_ = 0;
  Buffer<float> arrays_;
  Buffer<Findings> findings_;
  Buffer<std::uint8_t> rows_, screen_;
  std::vector<Slot> slots_;
  std::size_t next_slot_ = 0;
  WeightTile whole_;
  Stream copies_;
};

}  // namespace personascope::cuda
