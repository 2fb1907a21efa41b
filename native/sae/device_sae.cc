#include "native/sae/device_sae.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <string>

#include "native/core/check_finite.h"
#include "native/core/device_tensor.h"
#include "native/core/lost_pages.h"
#include "native/core/rows.h"
#include "native/core/thread_pool.h"

namespace personascope {

namespace {

constexpr std::size_t kMostInt8Width = 65536;
constexpr std::size_t kTeachingTokens = 32;  // a mean of fewer says little
constexpr std::size_t kSample = 256;
// Rows of W_dec begin at multiples of this, so that the device reads them in wide words.
constexpr std::size_t kRowBytes = 128;

// Carries an exception of the caller's check through the plugin.
struct Checking {
  const std::function<void()>* check;
  std::exception_ptr thrown;
  static std::int32_t call(void* context) {
    auto& self = *static_cast<Checking*>(context);
    try {
      (*self.check)();
      return 0;
    } catch (...) {
      self.thrown = std::current_exception();
      return 1;
    }
  }
  DeviceCheck hook() { return *check ? DeviceCheck{call, this} : DeviceCheck{nullptr, nullptr}; }
};

void finish(const DevicePlugin& plugin, int status, const Checking& checking) {
  if (checking.thrown) std::rethrow_exception(checking.thrown);
  check_device(plugin, status);
}

// fp32 is the CPU's: the GPU's tensor cores screen in less, with the same codes.
DevicePrecision device_precision(const std::optional<Precision>& wanted, std::size_t width) {
  require(!wanted || *wanted != Precision::fp32, ErrorCode::invalid_argument,
          "precision 'fp32' is the CPU's: a GPU screens in 'int8' or 'bf16', which give the same codes");
  return (wanted && *wanted == Precision::bf16) || width > kMostInt8Width ? DevicePrecision::bf16
                                                                          : DevicePrecision::int8;
}

// First place of a row that is NaN or infinite, or the width.
std::size_t first_non_finite(const std::uint8_t* row, Dtype dtype, std::size_t width) {
  const std::size_t size = dtype_size(dtype);
  const std::uint32_t exponent = dtype == Dtype::f32 ? 0x7f800000u : dtype == Dtype::bf16 ? 0x7f80u : 0x7c00u;
  for (std::size_t i = 0; i < width; ++i) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, row + i * size, size);
    if ((bits & exponent) == exponent) return i;
  }
  return width;
}

}  // namespace

DeviceSae::DeviceSae(const DeviceChoice& device) : device_(device), plugin_(plugin_of(device)) {}

// Residual streams have a few dimensions with a large mean, which would spoil the rounding of all others.
std::vector<float> DeviceSae::mean_of(const EncoderWeights& encoder, const DeviceInputs& inputs) const {
  const std::size_t rows = std::min(inputs.tokens, kSample), width = encoder.width;
  std::vector<float> sample(rows * width);
  for (std::size_t r = 0; r < rows; ++r) {
    const std::size_t token = r * inputs.tokens / rows;
    const float* from = inputs.x + token * inputs.stride;
    float* to = sample.data() + r * width;
    if (inputs.place == Place::host)
      std::copy_n(from, width, to);
    else
      check_device(plugin_, plugin_.copy(device_.index, to, from, width * sizeof(float)));
    check_finite("activations", to, 1, width, width, inputs.first_token + token);
  }
  std::vector<double> means(width);
  column_means(sample.data(), rows, width, means.data());
  std::vector<float> mean(width);
  for (std::size_t i = 0; i < width; ++i)
    mean[i] = static_cast<float>(means[i] - (encoder.centre ? encoder.centre[i] : 0));
  return mean;
}

DeviceSae::Weights& DeviceSae::weights_for(const EncoderWeights& encoder, const DeviceInputs& inputs,
                                           DevicePrecision precision, const std::function<void()>& check) {
  Weights& weights = weights_[precision == DevicePrecision::int8 ? 0 : 1];
  const bool teaches = inputs.tokens >= kTeachingTokens;
  if (weights.encoder && (weights.centred || !teaches)) return weights;
  const MappedReads reads;
  const std::vector<float> mean = teaches ? mean_of(encoder, inputs) : std::vector<float>();
  weights.encoder.reset();  // before the next one takes memory
  DeviceEncoderArgs made = {};
  made.device = device_.index;
  made.precision = precision;
  made.rows = {encoder.rows.data,   Place::host,     encoder.rows.dtype,
               encoder.rows.stride, encoder.latents, encoder.width};
  made.bias = encoder.bias;
  made.centre = encoder.centre;
  made.mean = mean.empty() ? nullptr : mean.data();
  made.selection = &encoder.selection;
  Checking checking{&check, {}};
  made.check = checking.hook();
  DeviceEncoder* handle = nullptr;
  finish(plugin_, plugin_.encoder_create(&made, &handle), checking);
  weights.encoder = {handle, plugin_.encoder_destroy};
  if (reads.lost()) {
    weights.encoder.reset();
    throw reads.error();
  }
  weights.centred = teaches;
  return weights;
}

void DeviceSae::prepare(const EncoderWeights& encoder, const DeviceInputs& inputs,
                        const std::optional<Precision>& wanted, const std::function<void()>& check) {
  const DevicePrecision precision = device_precision(wanted, encoder.width);
  const std::lock_guard lock(mutex_);
  weights_for(encoder, inputs, precision, check);
}

DeviceSae::Encoded DeviceSae::encode(const EncoderWeights& encoder, const DeviceInputs& inputs, std::size_t k,
                                     const std::optional<Precision>& wanted,
                                     const std::function<void()>& check) {
  const DevicePrecision precision = device_precision(wanted, encoder.width);
  const std::lock_guard lock(mutex_);
  Weights& weights = weights_for(encoder, inputs, precision, check);
  DeviceEncodeArgs call = {};
  call.x = inputs.x;
  call.place = inputs.place;
  call.tokens = inputs.tokens;
  call.stride = inputs.stride;
  call.first_token = inputs.first_token;
  call.k = k;
  Checking checking{&check, {}};
  call.check = checking.hook();
  DeviceCodes* handle = nullptr;
  DeviceEncodeCount count = {};
  finish(plugin_, plugin_.encode(weights.encoder.get(), &call, &handle, &count), checking);
  return {{handle, plugin_.codes_destroy},
          precision == DevicePrecision::bf16 ? Precision::bf16 : Precision::int8,
          {count.screened, count.rescored}};
}

void DeviceSae::upload_decoder(const RowView& weights, const char* name) {
  const MappedReads reads;
  const std::size_t size = dtype_size(weights.dtype), row = weights.width * size;
  const std::size_t stride = (row + kRowBytes - 1) / kRowBytes * kRowBytes;
  const DeviceTensor room = make_device_tensor(device_, Dtype::u8, {weights.rows, stride}, name);
  constexpr std::size_t kPiece = std::size_t{64} << 20;
  const std::size_t step = std::clamp<std::size_t>(kPiece / stride, 1, weights.rows);
  std::vector<std::uint8_t> staging(step * stride, 0);
  for (std::size_t first = 0; first < weights.rows; first += step) {
    const std::size_t count = std::min(step, weights.rows - first);
    parallel_for(count, 64, [&](std::size_t begin, std::size_t end) {
      for (std::size_t r = begin; r < end; ++r) {
        const std::uint8_t* from = weights.row(first + r);
        if (const std::size_t bad = first_non_finite(from, weights.dtype, weights.width); bad < weights.width)
          fail(ErrorCode::non_finite, std::string(name) + ": NaN or infinity in row " +
                                          std::to_string(first + r) + " at dimension " + std::to_string(bad));
        std::memcpy(staging.data() + r * stride, from, row);
      }
    });
    check_device(plugin_, plugin_.copy(device_.index, static_cast<std::uint8_t*>(room.data) + first * stride,
                                       staging.data(), count * stride));
  }
  reads.check();
  decoder_ = room.owner;
  decoder_rows_ = {room.data, Place::device, weights.dtype, stride, weights.rows, weights.width};
}

bool DeviceSae::take_decoder(const RowView& weights, const char* name) {
  const std::lock_guard lock(decoder_mutex_);
  if (decoder_ || !decoder_fits_) return decoder_fits_;
  try {
    upload_decoder(weights, name);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::out_of_memory) throw;
    decoder_fits_ = false;
  }
  return decoder_fits_;
}

void DeviceSae::decode(const float* bias, const DeviceCodes& codes, float* out, Place place,
                       std::size_t stride) {
  DeviceDecodeArgs args = {};
  args.device = device_.index;
  args.weights = decoder_rows_;
  args.bias = bias;
  args.out = out;
  args.place = place;
  args.out_stride = stride;
  check_device(plugin_, plugin_.decode(&args, &codes));
}

}  // namespace personascope
