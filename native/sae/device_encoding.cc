#include "native/sae/device_encoding.h"

#include <algorithm>
#include <exception>
#include <string>

#include "native/core/check_finite.h"
#include "native/core/rows.h"

namespace personascope {

namespace {

constexpr std::size_t kMostInt8Width = 65536;
constexpr std::size_t kTeachingTokens = 32;  // a mean of fewer says little

const DevicePlugin& usable_plugin() {
  const DevicePlugin* plugin = cuda_plugin();
  require(plugin != nullptr, ErrorCode::not_found, "no GPU: " + cuda_plugin_state().reason);
  return *plugin;
}

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

}  // namespace

DeviceEncoding::DeviceEncoding(const DeviceChoice& device) : device_(device), plugin_(usable_plugin()) {}

DeviceEncoding::Weights& DeviceEncoding::weights_for(const EncodeArgs& args, DevicePrecision precision) {
  Weights& weights = weights_[precision == DevicePrecision::int8 ? 0 : 1];
  const bool teaches = args.tokens >= kTeachingTokens;
  if (weights.encoder && (weights.centred || !teaches)) return weights;
  const EncoderWeights& encoder = *args.encoder;
  std::vector<float> mean;
  if (teaches) {
    // Residual streams have a few dimensions with a large mean, which would spoil the rounding of all others.
    check_finite("activations", args.x, args.tokens, encoder.width, args.x_stride, args.first_token);
    const std::size_t rows = std::min<std::size_t>(args.tokens, 256);
    std::vector<float> sample(rows * encoder.width);
    for (std::size_t t = 0; t < rows; ++t)
      std::copy_n(args.x + t * args.tokens / rows * args.x_stride, encoder.width,
                  sample.data() + t * encoder.width);
    std::vector<double> means(encoder.width);
    column_means(sample.data(), rows, encoder.width, means.data());
    for (std::size_t i = 0; i < encoder.width; ++i)
      mean.push_back(static_cast<float>(means[i] - (encoder.centre ? encoder.centre[i] : 0)));
  }
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
  Checking checking{&args.check, {}};
  made.check = checking.hook();
  DeviceEncoder* handle = nullptr;
  finish(plugin_, plugin_.encoder_create(&made, &handle), checking);
  weights.encoder = {handle, plugin_.encoder_destroy};
  weights.centred = teaches;
  return weights;
}

Precision DeviceEncoding::encode(const EncodeArgs& args, const std::optional<Precision>& wanted) {
  const bool bf16 = (wanted && *wanted == Precision::bf16) || args.encoder->width > kMostInt8Width;
  if (!args.encoder->selection.bounded())
    require(args.codes != nullptr, ErrorCode::invalid_argument,
            "encode: this selection rule gives any number of codes; k places a token cannot hold them");
  const std::lock_guard lock(mutex_);
  Weights& weights = weights_for(args, bf16 ? DevicePrecision::bf16 : DevicePrecision::int8);
  DeviceEncodeArgs call = {};
  call.x = args.x;
  call.place = Place::host;
  call.tokens = args.tokens;
  call.stride = args.x_stride;
  call.first_token = args.first_token;
  call.k = args.k;
  Checking checking{&args.check, {}};
  call.check = checking.hook();
  DeviceCodes* handle = nullptr;
  DeviceEncodeCount count = {};
  finish(plugin_, plugin_.encode(weights.encoder.get(), &call, &handle, &count), checking);
  const std::unique_ptr<DeviceCodes, void (*)(DeviceCodes*)> codes(handle, plugin_.codes_destroy);
  DeviceCodesView view = {};
  check_device(plugin_, plugin_.codes_view(codes.get(), &view));
  std::vector<std::uint64_t> offsets(view.tokens + 1);
  std::vector<std::uint32_t> indices(view.pairs);
  std::vector<float> values(view.pairs);
  check_device(plugin_, plugin_.codes_read(codes.get(), offsets.data(), indices.data(), values.data()));
  for (std::size_t t = 0; t < args.tokens; ++t) {
    const std::size_t begin = offsets[t], size = offsets[t + 1] - begin;
    if (args.codes) {
      args.codes[t].clear();
      for (std::size_t i = 0; i < size; ++i) args.codes[t].push_back({values[begin + i], indices[begin + i]});
    } else {
      std::copy_n(indices.data() + begin, size, args.indices + t * args.k);
      std::copy_n(values.data() + begin, size, args.values + t * args.k);
      args.counts[t] = static_cast<std::uint32_t>(size);
    }
  }
  if (args.count) {
    args.count->screened += count.screened;
    args.count->rescored += count.rescored;
  }
  return bf16 ? Precision::bf16 : Precision::int8;
}

}  // namespace personascope
