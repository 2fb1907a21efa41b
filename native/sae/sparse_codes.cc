#include "native/sae/sparse_codes.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "native/core/error.h"
#include "native/core/tensor.h"

namespace personascope {

namespace {

std::shared_ptr<DeviceCodes> owned(const DevicePlugin& plugin, DeviceCodes* codes) {
  return {codes, plugin.codes_destroy};
}

}  // namespace

DeviceSparseCodes::DeviceSparseCodes(SparseCodes codes)
    : pairs_(codes.indices.size()), about_(std::make_shared<const SparseCodes>(std::move(codes))) {}

DeviceSparseCodes::DeviceSparseCodes(const DeviceChoice& device, SparseCodes codes)
    : device_(device), pairs_(codes.indices.size()) {
  if (device.cuda) {
    codes_ = upload_codes(device, codes.view(), codes.latents);
    codes.indices = {};
    codes.values = {};
    codes.offsets = {0};
  }
  about_ = std::make_shared<const SparseCodes>(std::move(codes));
}

DeviceSparseCodes::DeviceSparseCodes(const DeviceChoice& device, std::shared_ptr<DeviceCodes> codes,
                                     SparseCodes about)
    : device_(device),
      codes_(std::move(codes)),
      about_(std::make_shared<const SparseCodes>(std::move(about))) {
  const DevicePlugin& plugin = plugin_of(device_);
  DeviceCodesView view = {};
  check_device(plugin, plugin.codes_view(codes_.get(), &view));
  pairs_ = view.pairs;
}

SparseCodes DeviceSparseCodes::download() const {
  SparseCodes codes = *about_;
  if (codes_) append_codes(plugin_of(device_), *codes_, codes);
  return codes;
}

std::array<DeviceTensor, 3> DeviceSparseCodes::tensors() const {
  const auto view_of = [&](Dtype dtype, std::uint64_t size, const void* data,
                           const std::shared_ptr<void>& owner) {
    return DeviceTensor{device_, dtype, {size}, {1}, const_cast<void*>(data), owner};
  };
  if (!codes_) {
    const std::shared_ptr<void> owner = std::const_pointer_cast<SparseCodes>(about_);
    const auto offsets =
        std::make_shared<std::vector<std::uint64_t>>(about_->offsets.begin(), about_->offsets.end());
    return {view_of(Dtype::u64, tokens() + 1, offsets->data(), offsets),
            view_of(Dtype::u32, pairs_, about_->indices.data(), owner),
            view_of(Dtype::f32, pairs_, about_->values.data(), owner)};
  }
  const DevicePlugin& plugin = plugin_of(device_);
  DeviceCodesView view = {};
  check_device(plugin, plugin.codes_view(codes_.get(), &view));
  return {view_of(Dtype::u64, view.tokens + 1, view.offsets, codes_),
          view_of(Dtype::u32, view.pairs, view.indices, codes_),
          view_of(Dtype::f32, view.pairs, view.values, codes_)};
}

void append_codes(const DevicePlugin& plugin, const DeviceCodes& codes, SparseCodes& to) {
  DeviceCodesView view = {};
  check_device(plugin, plugin.codes_view(&codes, &view));
  const std::size_t before = to.indices.size();
  require(view.pairs <= 0xFFFFFFFFull - before, ErrorCode::invalid_argument,
          "the codes of " + std::to_string(to.tokens) +
              " tokens do not fit 32-bit offsets; encode in smaller batches");
  std::vector<std::uint64_t> offsets(view.tokens + 1);
  to.indices.resize(before + view.pairs);
  to.values.resize(before + view.pairs);
  check_device(plugin, plugin.codes_read(&codes, offsets.data(), to.indices.data() + before,
                                         to.values.data() + before));
  to.offsets.reserve(to.offsets.size() + view.tokens);
  for (std::size_t t = 1; t < offsets.size(); ++t)
    to.offsets.push_back(static_cast<std::uint32_t>(before + offsets[t]));
}

std::shared_ptr<DeviceCodes> upload_codes(const DeviceChoice& device, const CodesView& codes,
                                          std::size_t latents) {
  std::vector<std::uint64_t> offsets = {0};
  offsets.reserve(codes.tokens + 1);
  for (std::size_t t = 0; t < codes.tokens; ++t) offsets.push_back(offsets.back() + codes.count(t));
  // Rows with places between them are moved together.
  std::vector<std::uint32_t> indices;
  std::vector<float> values;
  const bool packed = codes.offsets && codes.tokens > 0 && codes.offsets[0] == 0;
  if (!packed)
    for (std::size_t t = 0; t < codes.tokens; ++t) {
      const std::size_t begin = codes.begin(t), end = begin + codes.count(t);
      indices.insert(indices.end(), codes.indices + begin, codes.indices + end);
      values.insert(values.end(), codes.values + begin, codes.values + end);
    }
  const std::uint32_t* all_indices = packed ? codes.indices : indices.data();
  const float* all_values = packed ? codes.values : values.data();
  for (std::size_t t = 0; t < codes.tokens; ++t)
    for (std::uint64_t c = offsets[t]; c < offsets[t + 1]; ++c) {
      if (all_indices[c] >= latents)
        fail(ErrorCode::invalid_argument, "codes: token " + std::to_string(t) + " has latent " +
                                              std::to_string(all_indices[c]) + ", expected fewer than " +
                                              std::to_string(latents));
      if (!std::isfinite(all_values[c]))
        fail(ErrorCode::non_finite, "codes: the value of latent " + std::to_string(all_indices[c]) +
                                        " in row " + std::to_string(t) + " is not finite");
    }
  const DevicePlugin& plugin = plugin_of(device);
  DeviceCodes* made = nullptr;
  check_device(plugin, plugin.codes_create(device.index, codes.tokens, offsets.data(), all_indices,
                                           all_values, &made));
  return owned(plugin, made);
}

}  // namespace personascope
