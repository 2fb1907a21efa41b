// Codes of a batch: as arrays of the host, or where a device left them.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "native/core/device_tensor.h"
#include "native/kernels/decode/codes.h"
#include "native/kernels/encode/encode.h"
#include "native/kernels/encode/screen.h"

namespace personascope {

// How latents were screened, and what it cost; codes never depend on it.
struct EncodeReport {
  Precision precision = Precision::fp32;
  std::uint64_t tokens = 0;
  EncodeCount count;
};

// Row t holds pairs [offsets[t], offsets[t + 1]): value > 0, descending, equal values by lower latent.
struct SparseCodes {
  std::size_t tokens = 0, latents = 0;
  std::vector<std::uint32_t> indices, offsets = {0};
  std::vector<float> values;
  // [tokens] where inputs are normalised, else empty: what decoding takes back.
  std::vector<float> input_mean, input_scale;
  EncodeReport report;
  CodesView view() const { return {tokens, indices.data(), values.data(), offsets.data(), 0, nullptr}; }
};

// Codes that stay on the device where they were made. Immutable and shared; of the CPU they are SparseCodes.
class DeviceSparseCodes {
 public:
  // Codes of the host, as they are.
  explicit DeviceSparseCodes(SparseCodes codes);
  // A copy on that device. Throws invalid_argument (a latent that is not there), non_finite (its row named)
  // and out_of_memory.
  DeviceSparseCodes(const DeviceChoice& device, SparseCodes codes);
  // What a plugin gave out; `about` holds everything but the pairs.
  DeviceSparseCodes(const DeviceChoice& device, std::shared_ptr<DeviceCodes> codes, SparseCodes about);

  const DeviceChoice& device() const { return device_; }
  std::uint64_t tokens() const { return about_->tokens; }
  std::uint64_t latents() const { return about_->latents; }
  std::uint64_t pairs() const { return pairs_; }
  const EncodeReport& report() const { return about_->report; }
  // [tokens] or empty, as SparseCodes has them.
  const std::vector<float>& input_mean() const { return about_->input_mean; }
  const std::vector<float>& input_scale() const { return about_->input_scale; }
  // Null on the CPU, where host() has everything.
  const DeviceCodes* handle() const { return codes_.get(); }
  const SparseCodes& host() const { return *about_; }

  // A copy. Throws invalid_argument where the pairs do not fit 32-bit offsets.
  SparseCodes download() const;
  // Offsets U64 [tokens + 1], indices U32 and values F32 [pairs], where they lie; they keep the memory.
  std::array<DeviceTensor, 3> tensors() const;

 private:
  DeviceChoice device_;
  std::shared_ptr<DeviceCodes> codes_;
  std::uint64_t pairs_ = 0;
  std::shared_ptr<const SparseCodes> about_;  // on the CPU with its pairs
};

// Copies pairs from a plugin behind those of `to`: rows of them from its token to.offsets.size() - 1 on.
// Throws invalid_argument where they do not fit 32-bit offsets.
void append_codes(const DevicePlugin& plugin, const DeviceCodes& codes, SparseCodes& to);

// The codes [tokens] on a GPU, checked as above.
std::shared_ptr<DeviceCodes> upload_codes(const DeviceChoice& device, const CodesView& codes,
                                          std::size_t latents);

}  // namespace personascope
