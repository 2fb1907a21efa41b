// An autoencoder's weights on a GPU and what is computed with them there: taken at the first call that needs
// them, in the precision that fits, and kept. Results are the CPU's, bit for bit.
#pragma once
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "native/core/plugin.h"
#include "native/kernels/encode/encode.h"
#include "native/kernels/encode/screen.h"

namespace personascope {

// Activations as the encoder takes them, on the host or on the device.
struct DeviceInputs {
  const float* x = nullptr;  // [tokens, stride], the first `width` of each row are read
  Place place = Place::host;
  std::size_t tokens = 0, stride = 0;
  std::size_t first_token = 0;  // number of token 0 in messages
};

class DeviceSae {
 public:
  // Throws not_found where there is no such device.
  explicit DeviceSae(const DeviceChoice& device);

  struct Encoded {
    std::shared_ptr<DeviceCodes> codes;
    Precision precision = Precision::int8;
    EncodeCount count;
  };
  // As encode() of native/kernels/encode, k: topk and groupmax. `wanted`: int8 unless bf16 is asked for, or
  // rows are too long for int8; fp32 is refused. `encoder` and its arrays must outlive this object. One call
  // at a time; others wait. Errors also: out_of_memory, naming the request and what is free on the device.
  Encoded encode(const EncoderWeights& encoder, const DeviceInputs& inputs, std::size_t k,
                 const std::optional<Precision>& wanted, const std::function<void()>& check);
  // Takes the encoder's weights to the device; inputs like those to come make screening sharper.
  void prepare(const EncoderWeights& encoder, const DeviceInputs& inputs,
               const std::optional<Precision>& wanted, const std::function<void()>& check);

  // Takes the decoder's weights to the device, once. False where they do not fit beside the encoder, and
  // never will: decoding is the host's then. Throws non_finite (located).
  bool take_decoder(const RowView& weights, const char* name);
  // out [tokens, stride] = bias + codes W, as decode() of native/kernels/decode; after take_decoder().
  void decode(const float* bias, const DeviceCodes& codes, float* out, Place place, std::size_t stride);

 private:
  struct Weights {
    std::unique_ptr<DeviceEncoder, void (*)(DeviceEncoder*)> encoder{nullptr, nullptr};
    bool centred = false;
  };
  // mutex_ is held.
  Weights& weights_for(const EncoderWeights& encoder, const DeviceInputs& inputs, DevicePrecision precision,
                       const std::function<void()>& check);
  std::vector<float> mean_of(const EncoderWeights& encoder, const DeviceInputs& inputs) const;
  void upload_decoder(const RowView& weights, const char* name);

  DeviceChoice device_;
  const DevicePlugin& plugin_;
  std::mutex mutex_;
  Weights weights_[2];  // int8, bf16
  std::mutex decoder_mutex_;
  std::shared_ptr<void> decoder_;
  DeviceRows decoder_rows_ = {};
  bool decoder_fits_ = true;
};

}  // namespace personascope
