// The plugin's one exported symbol: a struct of functions (native/core/device_api.h). Exceptions end here.
#include <cuda_runtime_api.h>

#include <new>
#include <string>

#include "cuda/device/codes.h"
#include "cuda/device/runtime.h"
#include "cuda/encode/encoder.h"
#include "cuda/operations.h"
#include "native/core/device_api.h"

namespace personascope {

namespace {

using namespace cuda;

thread_local std::string t_error;

std::int32_t failed(ErrorCode code, const char* message) {
  t_error = message;
  return 1 + static_cast<std::int32_t>(code);
}

template <class Body>
std::int32_t guarded(const Body& body) {
  try {
    body();
    return 0;
  } catch (const Error& error) {
    return failed(error.code(), error.what());
  } catch (const std::bad_alloc&) {
    return failed(ErrorCode::out_of_memory, "out of memory on the host");
  } catch (const std::exception& error) {
    return failed(ErrorCode::internal, error.what());
  }
}

template <class Body>
std::int32_t on_device(int device, const Body& body) {
  return guarded([&] {
    const DeviceScope scope(device);
    body();
  });
}

const char* last_error() {
  return t_error.c_str();
}

// Asked once: any error means that there is no device, and is the reason.
struct Devices {
  int count = 0;
  std::string reason;
  Devices() {
    int found = 0;
    const cudaError_t status = cudaGetDeviceCount(&found);
    if (status != cudaSuccess) {
      cudaGetLastError();
      reason = std::string(cudaGetErrorName(status)) + ": " + cudaGetErrorString(status);
      return;
    }
    for (int device = 0; device < found; ++device) {
      int major = 0;
      if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess ||
          major < 8) {
        reason = "device " + std::to_string(device) + " has compute capability " + std::to_string(major) +
                 ", expected at least 8.0";
        break;
      }
      ++count;
    }
    if (count == 0 && reason.empty()) reason = "the driver knows of no device";
  }
};
const Devices& devices() {
  static const Devices known;
  return known;
}

std::int32_t device_count() {
  return devices().count;
}
const char* device_reason() {
  return devices().reason.c_str();
}

std::int32_t device_info(std::int32_t device, DeviceInfo* info) {
  return on_device(device, [&] {
    cudaDeviceProp properties;
    check_cuda(cudaGetDeviceProperties(&properties, device), "asking the device");
    *info = {};
    std::snprintf(info->name, sizeof info->name, "%s", properties.name);
    info->major = properties.major;
    info->minor = properties.minor;
    info->multiprocessors = properties.multiProcessorCount;
    info->hopper_kernels = runs_hopper_kernels(device) ? 1 : 0;
    info->cache_bytes = static_cast<std::uint64_t>(properties.l2CacheSize);
    std::size_t free = 0, total = 0;
    check_cuda(cudaMemGetInfo(&free, &total), "asking for free device memory");
    info->total_bytes = total;
    info->free_bytes = free;
  });
}

std::int32_t allocate(std::int32_t device, std::uint64_t bytes, const char* what, void** memory) {
  return on_device(device, [&] { *memory = device_allocate(bytes, what); });
}

void release(std::int32_t device, void* memory) {
  on_device(device, [&] { check_cuda(cudaFree(memory), "freeing device memory"); });
}

std::int32_t copy(std::int32_t device, void* to, const void* from, std::uint64_t bytes) {
  return on_device(device, [&] {
    // cudaMemcpy() may return before the last bytes are there: between devices, and from pageable memory.
    const Stream stream;
    copy_bytes(to, from, bytes, stream, "memory");
  });
}

std::int32_t place_of(const void* memory) {
  std::int32_t place = -1;
  guarded([&] { place = device_of(memory); });
  return place;
}

std::int32_t synchronize(std::int32_t device) {
  return on_device(device, [] { check_cuda(cudaDeviceSynchronize(), "waiting for the device"); });
}

void check_place(const void* memory, Place place, int device, const char* what) {
  const int found = device_of(memory);
  require(place == Place::host ? found < 0 : found == device, ErrorCode::invalid_argument,
          std::string(what) + ": lies on " + (found < 0 ? "the host" : "device " + std::to_string(found)) +
              ", expected " + (place == Place::host ? "the host" : "device " + std::to_string(device)));
}

void check_rows(const DeviceRows& rows, int device, const char* what) {
  require(rows.dtype == Dtype::f32 || rows.dtype == Dtype::bf16 || rows.dtype == Dtype::f16,
          ErrorCode::invalid_argument, std::string(what) + ": rows must be fp32, bf16 or f16");
  const std::uint64_t element = rows.dtype == Dtype::f32 ? 4 : 2;
  require(rows.data && rows.rows >= 1 && rows.rows < (std::uint64_t{1} << 31) && rows.width >= 1 &&
              rows.width <= (std::uint64_t{1} << 20) && rows.stride >= rows.width * element &&
              rows.stride % element == 0,
          ErrorCode::invalid_argument,
          std::string(what) + ": " + std::to_string(rows.rows) + " rows of " + std::to_string(rows.width) +
              ", " + std::to_string(rows.stride) + " bytes apart");
  check_place(rows.data, rows.place, device, what);
}

std::int32_t encoder_create(const DeviceEncoderArgs* args, DeviceEncoder** encoder) {
  return on_device(args->device, [&] {
    check_rows(args->rows, args->device, "W_enc");
    require(args->bias && args->selection, ErrorCode::invalid_argument,
            "an encoder needs biases and a selection");
    require(args->precision == DevicePrecision::bf16 || args->precision == DevicePrecision::int8,
            ErrorCode::invalid_argument, "an encoder screens in bf16 or int8");
    require(args->precision == DevicePrecision::bf16 || args->rows.width <= 65536,
            ErrorCode::invalid_argument,
            "int8 products of rows of " + std::to_string(args->rows.width) + " could exceed 32 bits");
    const Selection& s = *args->selection;
    require((s.rule != SelectionRule::threshold || s.threshold) &&
                (s.rule != SelectionRule::gated || (s.gate_bias && s.magnitude_scale && s.magnitude_bias)),
            ErrorCode::invalid_argument, "the selection rule lacks its arrays");
    *encoder = new DeviceEncoder(*args);
  });
}

void encoder_destroy(DeviceEncoder* encoder) {
  if (encoder) on_device(encoder->device(), [&] { delete encoder; });
}

std::int32_t encoder_info(const DeviceEncoder* encoder, DeviceEncoderInfo* info) {
  return guarded([&] { *info = encoder->info(); });
}

std::int32_t encode(DeviceEncoder* encoder, const DeviceEncodeArgs* args, DeviceCodes** codes,
                    DeviceEncodeCount* count) {
  return on_device(encoder->device(), [&] {
    if (args->tokens) check_place(args->x, args->place, encoder->device(), "activations");
    DeviceEncodeCount counted = {};
    *codes = encoder->encode(*args, counted).release();
    if (count) *count = counted;
  });
}

std::int32_t pre_activations(DeviceEncoder* encoder, const DeviceEncodeArgs* args,
                             const std::uint32_t* chosen, std::uint64_t count, float* out) {
  return on_device(encoder->device(), [&] {
    if (args->tokens) check_place(args->x, args->place, encoder->device(), "activations");
    encoder->pre_activations(*args, chosen, count, out);
  });
}

std::int32_t codes_create(std::int32_t device, std::uint64_t tokens, const std::uint64_t* offsets,
                          const std::uint32_t* indices, const float* values, DeviceCodes** codes) {
  return on_device(device, [&] {
    require(offsets[0] == 0, ErrorCode::invalid_argument, "codes: offsets do not begin at 0");
    for (std::uint64_t t = 0; t < tokens; ++t)
      require(offsets[t] <= offsets[t + 1], ErrorCode::invalid_argument,
              "codes: offsets fall at token " + std::to_string(t));
    auto made = std::make_unique<DeviceCodes>();
    made->device = device;
    made->tokens = tokens;
    made->pairs = offsets[tokens];
    const Stream stream;
    upload(made->offsets, offsets, tokens + 1, stream, "codes");
    upload(made->indices, indices, made->pairs, stream, "codes");
    upload(made->values, values, made->pairs, stream, "codes");
    *codes = made.release();
  });
}

void codes_destroy(DeviceCodes* codes) {
  if (codes) on_device(codes->device, [&] { delete codes; });
}

std::int32_t codes_view(const DeviceCodes* codes, DeviceCodesView* view) {
  return guarded([&] {
    *view = {codes->tokens, codes->pairs, codes->offsets.data(), codes->indices.data(), codes->values.data()};
  });
}

std::int32_t codes_read(const DeviceCodes* codes, std::uint64_t* offsets, std::uint32_t* indices,
                        float* values) {
  return on_device(codes->device, [&] {
    const Stream stream;
    if (offsets) copy_bytes(offsets, codes->offsets.data(), (codes->tokens + 1) * 8, stream, "codes");
    if (indices) copy_bytes(indices, codes->indices.data(), codes->pairs * 4, stream, "codes");
    if (values) copy_bytes(values, codes->values.data(), codes->pairs * 4, stream, "codes");
  });
}

std::int32_t decode_codes(const DeviceDecodeArgs* args, const DeviceCodes* codes) {
  return on_device(args->device, [&] {
    require(codes->device == args->device, ErrorCode::invalid_argument,
            "decode: codes lie on another device");
    check_rows(args->weights, args->device, "W_dec");
    if (codes->tokens) check_place(args->out, args->place, args->device, "decode: out");
    cuda::decode(*args, *codes);
  });
}

std::int32_t steer_rows(const DeviceSteerArgs* args) {
  return on_device(args->device, [&] {
    if (args->rows) check_place(args->x, Place::device, args->device, "steer: x");
    cuda::steer(*args);
  });
}

std::int32_t stats_create(std::int32_t device, std::uint64_t latents, DeviceStats** stats) {
  return on_device(device, [&] {
    auto made = std::make_unique<DeviceStats>();
    made->device = device;
    stats_start(*made, latents);
    *stats = made.release();
  });
}

void stats_destroy(DeviceStats* stats) {
  if (stats) on_device(stats->device, [&] { delete stats; });
}

std::int32_t stats_add_codes(DeviceStats* stats, const DeviceCodes* codes) {
  return on_device(stats->device, [&] {
    require(codes->device == stats->device, ErrorCode::invalid_argument,
            "latent statistics: codes lie on another device");
    cuda::stats_add(*stats, *codes);
  });
}

std::int32_t stats_read_totals(const DeviceStats* stats, DeviceTotals* totals) {
  return on_device(stats->device, [&] { cuda::stats_read(*stats, *totals); });
}

std::int32_t stats_diff(const DeviceStats* before, const DeviceStats* after, double* delta,
                        double* effect_size) {
  return on_device(before->device, [&] { cuda::stats_difference(*before, *after, delta, effect_size); });
}

const DevicePlugin kPlugin = {kDevicePluginVersion,
                              sizeof(DevicePlugin),
                              PERSONASCOPE_CUDA_BUILD,
                              last_error,
                              device_count,
                              device_reason,
                              device_info,
                              allocate,
                              release,
                              copy,
                              place_of,
                              synchronize,
                              encoder_create,
                              encoder_destroy,
                              encoder_info,
                              encode,
                              pre_activations,
                              codes_create,
                              codes_destroy,
                              codes_view,
                              codes_read,
                              decode_codes,
                              steer_rows,
                              stats_create,
                              stats_destroy,
                              stats_add_codes,
                              stats_read_totals,
                              stats_diff};

}  // namespace
}  // namespace personascope

extern "C" __attribute__((visibility("default"))) const personascope::DevicePlugin* personascope_cuda_plugin(
    std::uint32_t version) {
  return version == personascope::kDevicePluginVersion ? &personascope::kPlugin : nullptr;
}
