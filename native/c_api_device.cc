// The C interface of tensors, of what SAEs do with them, and of DLPack (native/include/personascope.h).
#include <array>
#include <cstring>
#include <string>

#include "native/c_api_types.h"
#include "native/kernels/steer/device.h"

using namespace personascope;
using c_api::guarded;
using c_api::present;

namespace {

// The plugin's streams do not wait for those of the program that made the tensor.
void settle(const DeviceTensor& tensor) {
  if (!tensor.device.cuda) return;
  const DevicePlugin& plugin = plugin_of(tensor.device);
  check_device(plugin, plugin.synchronize(tensor.device.index));
}

}  // namespace

int personascope_cuda_devices(const char** reason) {
  const DevicePlugin* plugin = cuda_plugin();
  if (reason) *reason = cuda_plugin_state().reason.c_str();
  return plugin ? plugin->device_count() : 0;
}

personascope_status personascope_tensor_create(const char* device, const char* dtype, const uint64_t* shape,
                                               int32_t dimensions, personascope_tensor** tensor) {
  return guarded([&] {
    present(device, "device");
    present(dtype, "dtype");
    present(tensor, "tensor");
    const auto found = dtype_named(dtype);
    require(found.has_value(), ErrorCode::invalid_argument,
            std::string("dtype '") + dtype + "' is not known");
    require(dimensions >= 0 && (dimensions == 0 || shape), ErrorCode::invalid_argument,
            "a tensor of " + std::to_string(dimensions) + " dimensions needs a shape");
    *tensor = new personascope_tensor{
        make_device_tensor(choose_device(device), *found, {shape, shape + dimensions}, "a tensor")};
  });
}

void personascope_tensor_destroy(personascope_tensor* tensor) {
  delete tensor;
}

personascope_status personascope_tensor_from_dlpack(DLManagedTensor* managed, personascope_tensor** tensor) {
  return guarded([&] {
    present(managed, "managed");
    present(tensor, "tensor");
    // Before it is taken over: where waiting fails, the caller keeps it.
    const DLDevice& device = managed->dl_tensor.device;
    if (device.device_type == kDLCUDA) settle({{true, device.device_id}, {}, {}, {}, nullptr, nullptr});
    *tensor = new personascope_tensor{from_dlpack(managed)};
  });
}

personascope_status personascope_tensor_to_dlpack(const personascope_tensor* tensor,
                                                  DLManagedTensor** managed) {
  return guarded([&] {
    present(tensor, "tensor");
    present(managed, "managed");
    *managed = to_dlpack(tensor->tensor);
  });
}

personascope_status personascope_tensor_slice(const personascope_tensor* tensor, int32_t axis, uint64_t begin,
                                              uint64_t end, personascope_tensor** view) {
  return guarded([&] {
    present(tensor, "tensor");
    present(view, "view");
    require(axis >= 0, ErrorCode::invalid_argument, "axis " + std::to_string(axis) + ", expected 0 or more");
    *view = new personascope_tensor{sliced(tensor->tensor, static_cast<std::size_t>(axis), begin, end)};
  });
}

personascope_status personascope_tensor_copy(const personascope_tensor* from, personascope_tensor* to) {
  return guarded([&] {
    present(from, "from");
    present(to, "to");
    copy_tensor(from->tensor, to->tensor);
  });
}

void* personascope_tensor_data(const personascope_tensor* tensor) {
  return tensor ? tensor->tensor.data : nullptr;
}

uint64_t personascope_tensor_bytes(const personascope_tensor* tensor) {
  return tensor ? tensor->tensor.bytes() : 0;
}

const char* personascope_sae_device(const personascope_sae* sae) {
  return sae ? sae->device.c_str() : "";
}

personascope_status personascope_sae_encode_tensor(const personascope_sae* sae, const personascope_tensor* x,
                                                   personascope_device_codes** codes) {
  return guarded([&] {
    present(codes, "codes");
    *codes = nullptr;
    present(sae, "sae");
    present(x, "x");
    *codes = new personascope_device_codes{sae->sae.encode_kept(x->tensor)};
  });
}

void personascope_device_codes_destroy(personascope_device_codes* codes) {
  delete codes;
}

uint64_t personascope_device_codes_tokens(const personascope_device_codes* codes) {
  return codes ? codes->codes.tokens() : 0;
}

uint64_t personascope_device_codes_pairs(const personascope_device_codes* codes) {
  return codes ? codes->codes.pairs() : 0;
}

personascope_status personascope_device_codes_tensors(const personascope_device_codes* codes,
                                                      personascope_tensor** offsets,
                                                      personascope_tensor** indices,
                                                      personascope_tensor** values) {
  return guarded([&] {
    present(codes, "codes");
    auto views = codes->codes.tensors();
    personascope_tensor** const places[] = {offsets, indices, values};
    std::array<std::unique_ptr<personascope_tensor>, 3> made;
    for (std::size_t i = 0; i < 3; ++i)
      if (places[i]) made[i] = std::make_unique<personascope_tensor>(std::move(views[i]));
    for (std::size_t i = 0; i < 3; ++i)
      if (places[i]) *places[i] = made[i].release();
  });
}

personascope_status personascope_device_codes_download(const personascope_device_codes* codes,
                                                       personascope_codes** host) {
  return guarded([&] {
    present(host, "host");
    *host = nullptr;
    present(codes, "codes");
    *host = new personascope_codes{codes->codes.download()};
  });
}

personascope_status personascope_sae_decode_tensor(const personascope_sae* sae,
                                                   const personascope_device_codes* codes,
                                                   const personascope_tensor* input,
                                                   personascope_tensor* out) {
  return guarded([&] {
    present(sae, "sae");
    present(codes, "codes");
    present(out, "out");
    sae->sae.decode(codes->codes, input ? &input->tensor : nullptr, out->tensor);
  });
}

personascope_status personascope_stats_add_tensor(personascope_stats* stats, const personascope_sae* sae,
                                                  const personascope_tensor* x, const uint32_t* groups) {
  return guarded([&] {
    present(stats, "stats");
    present(sae, "sae");
    present(x, "x");
    sae->sae.encode_into(stats->stats, x->tensor, groups, nullptr);
  });
}

personascope_status personascope_device_stats_create(const char* device, uint64_t latents,
                                                     personascope_device_stats** stats) {
  return guarded([&] {
    present(stats, "stats");
    *stats = nullptr;
    present(device, "device");
    *stats = new personascope_device_stats{DeviceLatentStats(choose_device(device), latents)};
  });
}

void personascope_device_stats_destroy(personascope_device_stats* stats) {
  delete stats;
}

personascope_status personascope_device_stats_add(personascope_device_stats* stats,
                                                  const personascope_sae* sae, const personascope_tensor* x) {
  return guarded([&] {
    present(stats, "stats");
    present(sae, "sae");
    present(x, "x");
    sae->sae.encode_into(stats->stats, x->tensor);
  });
}

personascope_status personascope_device_stats_add_codes(personascope_device_stats* stats,
                                                        const personascope_device_codes* codes) {
  return guarded([&] {
    present(stats, "stats");
    present(codes, "codes");
    stats->stats.add(codes->codes);
  });
}

personascope_status personascope_device_stats_read(const personascope_device_stats* stats,
                                                   personascope_stats* to) {
  return guarded([&] {
    present(stats, "stats");
    present(to, "to");
    stats->stats.read_into(to->stats);
  });
}

personascope_status personascope_device_stats_difference(const personascope_device_stats* before,
                                                         const personascope_device_stats* after,
                                                         double* delta, double* effect_size) {
  return guarded([&] {
    present(before, "before");
    present(after, "after");
    present(delta, "delta");
    present(effect_size, "effect_size");
    DeviceLatentStats::difference(before->stats, after->stats, delta, effect_size);
  });
}

personascope_status personascope_steer(personascope_tensor* x, const personascope_steering* given) {
  return guarded([&] {
    present(x, "x");
    present(given, "steering");
    require(given->struct_size == sizeof(personascope_steering), ErrorCode::invalid_argument,
            "struct_size is " + std::to_string(given->struct_size) + ", expected " +
                std::to_string(sizeof(personascope_steering)));
    require(given->operation >= PERSONASCOPE_ADD && given->operation <= PERSONASCOPE_PROJECT,
            ErrorCode::invalid_argument,
            "operation is " + std::to_string(given->operation) + ", expected 0 to 3");
    SteerArgs args;
    args.kind = static_cast<SteerKind>(given->operation);
    args.width = given->width;
    args.groups = given->groups ? given->groups : 1;
    args.dimensions = given->dimensions ? given->dimensions : 1;
    args.vectors = given->vectors;
    args.amounts = given->amounts;
    args.low = given->low;
    args.high = given->high;
    args.centre = given->centre;
    args.mask = given->mask;
    args.group = given->group;
    steer(x->tensor, args);
  });
}
