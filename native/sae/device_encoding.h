// Encoding on a GPU: the weights are taken there at the first call, in the precision that fits, and stay.
#pragma once
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "native/core/plugin.h"
#include "native/kernels/encode/encode.h"
#include "native/kernels/encode/screen.h"

namespace personascope {

class DeviceEncoding {
 public:
  // Throws not_found where there is no such device.
  explicit DeviceEncoding(const DeviceChoice& device);

  // As encode() of args; returns the precision that screened. fp32 is none of the device's: int8 or bf16
  // screens then, with the same codes. args.encoder and its arrays must outlive this object. One call at a
  // time; others wait. Errors also: out_of_memory, naming the request and what is free on the device.
  Precision encode(const EncodeArgs& args, const std::optional<Precision>& wanted);

 private:
  struct Weights {
    std::unique_ptr<DeviceEncoder, void (*)(DeviceEncoder*)> encoder{nullptr, nullptr};
    bool centred = false;
  };
  Weights& weights_for(const EncodeArgs& args, DevicePrecision precision);

  DeviceChoice device_;
  const DevicePlugin& plugin_;
  std::mutex mutex_;
  Weights weights_[2];  // int8, bf16
};

}  // namespace personascope
