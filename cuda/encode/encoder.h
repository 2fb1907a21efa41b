// An encoder on a device: batches of tokens, waves of latents.
#pragma once
#include <memory>
#include <vector>

#include "cuda/device/codes.h"
#include "cuda/encode/kernels.h"
#include "cuda/encode/weights.h"
#include "cuda/shared/waves.h"

namespace personascope {

struct DeviceEncoder {
 public:
  explicit DeviceEncoder(const DeviceEncoderArgs& args);

  std::unique_ptr<DeviceCodes> encode(const DeviceEncodeArgs& args, DeviceEncodeCount& count);
  void pre_activations(const DeviceEncodeArgs& args, const std::uint32_t* chosen, std::uint64_t count,
                       float* out);
  DeviceEncoderInfo info() const;
  int device() const { return device_; }

 private:
  // Tokens a batch and candidates a token, from the memory there is and the codes a token has.
  void plan(const DeviceEncodeArgs& args);
  void reserve(std::uint32_t tokens);
  void load(const DeviceEncodeArgs& args, std::uint64_t first, std::uint32_t tokens);
  void run(const DeviceEncodeArgs& args, std::uint32_t tokens, DeviceEncodeCount& count);
  // Latents [begin, end) from empty lists to codes in the store.
  void run_segment(const DeviceEncodeArgs& args, std::uint64_t begin, std::uint64_t end, std::uint32_t tokens,
                   DeviceEncodeCount& count);
  void screen(const DeviceEncodeArgs& args, const cuda::WeightTile& tile, std::uint64_t begin,
              std::uint64_t end, std::uint32_t tokens);
  void empty_into_store(std::uint32_t tokens, std::uint32_t most_codes);
  cuda::Status read_status();
  void check_finite(const DeviceEncodeArgs& args, std::uint64_t first);
  DeviceKernel kernel_for(const DeviceEncodeArgs& args, std::uint32_t tokens) const;
  cuda::Lists lists() const;

  int device_;
  bool hopper_ = false;
  std::uint64_t workspace_bytes_;
  cuda::DeviceWeights weights_;
  cuda::Stream stream_;

  std::uint32_t k_ = 0;  // codes a list keeps; 0: any number
  std::uint32_t capacity_ = 0, batch_ = 0;
  bool apart_ = false;  // a code's value is not its score
  // What batches use; grows and is kept.
  cuda::Buffer<float> x_, rows_, upper_, lower_, value_, threshold_;
  cuda::Buffer<std::uint8_t> screen_rows_;
  cuda::Buffer<float4> bounds_;
  cuda::Buffer<std::uint32_t> index_, count_, kept_;
  cuda::Buffer<std::uint32_t> code_latents_, code_counts_;
  cuda::Buffer<float> code_values_;
  cuda::Buffer<std::uint64_t> keys_;
  std::uint32_t pitch_ = 0;
  cuda::Buffer<cuda::Status> status_;
  cuda::PinnedBuffer<cuda::Status> status_here_;
  cuda::Buffer<cuda::Findings> findings_;
  cuda::HopperMaps maps_ = {};
  const void* map_of_ = nullptr;  // the rows that maps_ shows
  const void* map_of_tokens_ = nullptr;
  std::size_t map_tokens_ = 0;
};

}  // namespace personascope
