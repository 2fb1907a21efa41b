// What the core asks of a GPU plugin: one versioned struct of functions, behind one exported symbol. The
// plugin (cuda/) is a shared library of its own that knows nothing of the core's state; plain data crosses,
// exceptions do not.
//
// Every function that can fail returns 0, or 1 + the ErrorCode; last_error() then has the text, for the
// calling thread. Handles may be used by one thread at a time. Calls return when their results are there.
#pragma once
#include <cstddef>
#include <cstdint>

#include "native/core/dtype.h"
#include "native/kernels/encode/selection.h"

namespace personascope {

// Raise it whenever anything in this file or in selection.h changes.
constexpr std::uint32_t kDevicePluginVersion = 1;
constexpr const char* kCudaPluginSymbol = "personascope_cuda_plugin";

struct DeviceInfo {
  char name[256];
  std::int32_t major, minor;  // compute capability
  std::int32_t multiprocessors;
  std::int32_t hopper_kernels;  // 1: warp-group products and bulk copies are used, else the portable kernels
  std::uint64_t total_bytes, free_bytes, cache_bytes;
};

// Where a pointer points. Pointers to memory of another device are refused.
enum class Place : std::int32_t { host = 0, device = 1 };

// Rows of fp32, bf16 or f16, each contiguous.
struct DeviceRows {
  const void* data;
  Place place;
  Dtype dtype;
  std::uint64_t stride;  // bytes from row to row
  std::uint64_t rows, width;
};

// Stops a long call: not 0 ends it with ErrorCode::aborted.
struct DeviceCheck {
  std::int32_t (*call)(void* context);  // may be null
  void* context;
};

enum class DevicePrecision : std::int32_t { bf16 = 1, int8 = 2 };
// Which kernels screen. `automatic` takes the quickest that the device and the batch allow; the others are
// for tests and benches, and refused where the device lacks them.
enum class DeviceKernel : std::int32_t {
  automatic = 0,
  portable = 1,
  narrow = 2,
  hopper = 3,
  hopper_pair = 4
};

struct DeviceEncoderArgs {
  std::int32_t device;
  DevicePrecision precision;
  // W [latents, width]. The caller keeps it where it is streamed, or lies on the device in rows of whole 128
  // bytes (256 of fp32) without gaps, which are used there; else it is copied.
  DeviceRows rows;
  const float* bias;              // [latents], host
  const float* centre;            // [width] or null, host
  const float* mean;              // [width] or null, host: tokens are centred by it before they are rounded
  const Selection* selection;     // its arrays: host
  std::uint64_t weight_bytes;     // device memory for weights; 0: as much as is free
  std::uint64_t workspace_bytes;  // device memory for a batch; 0: 384 MiB
  DeviceCheck check;
};

struct DeviceEncoderInfo {
  std::int32_t streamed;  // 1: W stays on the host (the caller keeps it) and is copied tile by tile
  std::uint64_t weight_bytes, workspace_bytes;  // on the device; the second as of the last call
};

struct DeviceEncodeArgs {
  const float* x;  // [tokens, stride], the first `width` of each row are read
  Place place;
  std::uint64_t tokens, stride, first_token;  // first_token: number of token 0 in messages
  std::uint64_t k;                            // topk, groupmax
  DeviceKernel kernel;
  DeviceCheck check;
};

// What exactness cost in one call.
struct DeviceEncodeCount {
  std::uint64_t screened, rescored;  // latents that passed the threshold of the moment; canonical products
  std::uint64_t waves, repeated;     // steps over the latents; how many of them ran again in smaller steps
};

// Codes on the device: the pairs of token t are [offsets[t], offsets[t + 1]), value falling, equal ones by
// lower latent.
struct DeviceCodesView {
  std::uint64_t tokens, pairs;
  const std::uint64_t* offsets;  // [tokens + 1], device memory each
  const std::uint32_t* indices;  // [pairs]
  const float* values;           // [pairs]
};

struct DeviceDecodeArgs {
  std::int32_t device;
  DeviceRows weights;  // W_dec [latents, width]: device memory, or pinned or plain host memory (slow)
  const float* bias;   // [width] or null, host
  float* out;          // [tokens, out_stride]
  Place place;
  std::uint64_t out_stride;
};

// As SteerArgs (native/kernels/steer/steer.h); x is device memory, the rest the host's.
struct DeviceSteerArgs {
  std::int32_t device, kind;
  float* x;
  std::uint64_t rows, width, stride;
  const std::uint8_t* mask;
  const std::uint32_t* group;
  std::uint64_t groups, dimensions;
  const float *vectors, *amounts, *low, *high, *centre;
};

// Totals of latent statistics as plain arrays (see LatentTotals): exact, whatever the order of the codes.
// A value outside the window of the totals comes back as a pair of its own.
struct DeviceTotals {
  std::uint64_t rows;
  std::uint64_t* sum;      // [latents, 2]
  std::uint64_t* squares;  // [latents, 3]
  std::uint64_t* active;   // [latents]
  float* max;              // [latents]
  std::uint64_t spilled;   // in: places in the two arrays below; out: pairs
  std::uint32_t* spilled_latents;
  float* spilled_values;
};

struct DeviceEncoder;
struct DeviceCodes;
struct DeviceStats;

struct DevicePlugin {
  std::uint32_t version, size;  // kDevicePluginVersion, sizeof(DevicePlugin)
  const char* build;            // what it was compiled for
  const char* (*last_error)();

  // How many devices can be used; with 0, device_reason() says why.
  std::int32_t (*device_count)();
  const char* (*device_reason)();
  std::int32_t (*device_info)(std::int32_t device, DeviceInfo* info);

  // `what` names the request in the message of out_of_memory.
  std::int32_t (*allocate)(std::int32_t device, std::uint64_t bytes, const char* what, void** memory);
  void (*release)(std::int32_t device, void* memory);
  // Between any two places, host or device.
  std::int32_t (*copy)(std::int32_t device, void* to, const void* from, std::uint64_t bytes);
  // The device that memory lies on; -1 for the host's.
  std::int32_t (*device_of)(const void* memory);
  // Waits for everything that was started on the device, by others too.
  std::int32_t (*synchronize)(std::int32_t device);

  std::int32_t (*encoder_create)(const DeviceEncoderArgs* args, DeviceEncoder** encoder);
  void (*encoder_destroy)(DeviceEncoder* encoder);
  std::int32_t (*encoder_info)(const DeviceEncoder* encoder, DeviceEncoderInfo* info);
  // count may be null.
  std::int32_t (*encode)(DeviceEncoder* encoder, const DeviceEncodeArgs* args, DeviceCodes** codes,
                         DeviceEncodeCount* count);
  // Canonical pre-activations of chosen latents (host): out [tokens, count], host.
  std::int32_t (*pre_activations)(DeviceEncoder* encoder, const DeviceEncodeArgs* args,
                                  const std::uint32_t* chosen, std::uint64_t count, float* out);

  // Codes of the host, copied to the device.
  std::int32_t (*codes_create)(std::int32_t device, std::uint64_t tokens, const std::uint64_t* offsets,
                               const std::uint32_t* indices, const float* values, DeviceCodes** codes);
  void (*codes_destroy)(DeviceCodes* codes);
  std::int32_t (*codes_view)(const DeviceCodes* codes, DeviceCodesView* view);
  // To the host's arrays, each of which may be null.
  std::int32_t (*codes_read)(const DeviceCodes* codes, std::uint64_t* offsets, std::uint32_t* indices,
                             float* values);

  std::int32_t (*decode)(const DeviceDecodeArgs* args, const DeviceCodes* codes);
  std::int32_t (*steer)(const DeviceSteerArgs* args);

  std::int32_t (*stats_create)(std::int32_t device, std::uint64_t latents, DeviceStats** stats);
  void (*stats_destroy)(DeviceStats* stats);
  // Refuses codes of other latents, negative and non-finite values, and changes nothing then.
  std::int32_t (*stats_add)(DeviceStats* stats, const DeviceCodes* codes);
  // Spilled pairs that do not fit the places are counted, not written.
  std::int32_t (*stats_read)(const DeviceStats* stats, DeviceTotals* totals);
  // delta, effect_size [latents], host: as diff_latents of one model after. Refused where values were
  // spilled: the host's statistics take those.
  std::int32_t (*stats_difference)(const DeviceStats* before, const DeviceStats* after, double* delta,
                                   double* effect_size);
};

}  // namespace personascope
