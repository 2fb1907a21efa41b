// Steering in place; the arithmetic of native/kernels/steer, to the bit. One block a row at a time: the
// products with the vectors are canonical, an octet of lanes each.
#include <algorithm>
#include <cstring>
#include <vector>

#include "cuda/device/canonical.cuh"
#include "cuda/device/launch.cuh"
#include "cuda/device/ptx.cuh"
#include "cuda/operations.h"
#include "native/kernels/steer/steer.h"

namespace personascope::cuda {

namespace {

constexpr int kThreads = 256, kOctets = kThreads / kCanonicalLanes;
constexpr std::size_t kMostSharedRow = 64 * 1024;

struct SteerKernelArgs {
  SteerKind kind;
  float* x;
  std::size_t rows, width, padded, stride;
  const std::uint8_t* mask;
  const std::uint32_t* group;
  std::size_t dimensions;
  const float* vectors;  // [groups, dimensions, padded]
  const float *amounts, *low, *high, *centre;
  float* scratch;  // [blocks, padded], or null: shared memory
};

__global__ void __launch_bounds__(kThreads) steer_kernel(const SteerKernelArgs args) {
  float* shared_row = dynamic_shared<float>();
  auto& change = static_shared<float[kMostSteerDimensions]>();
  float* centred = args.scratch ? args.scratch + blockIdx.x * args.padded : shared_row;
  const int octet = threadIdx.x / kCanonicalLanes;
  const auto dimensions = static_cast<int>(args.dimensions);
  for (std::size_t row = blockIdx.x; row < args.rows; row += gridDim.x) {
    if (args.mask && !args.mask[row]) continue;
    float* x = args.x + row * args.stride;
    const std::size_t group = args.group ? args.group[row] : 0;
    const float* vectors = args.vectors + group * args.dimensions * args.padded;
    __syncthreads();  // the row before is done with
    if (args.kind == SteerKind::add) {
      if (static_cast<int>(threadIdx.x) < dimensions)
        change[threadIdx.x] = args.amounts[group * args.dimensions + threadIdx.x];
    } else {
      for (std::size_t i = threadIdx.x; i < args.padded; i += kThreads)
        centred[i] = i >= args.width ? 0.0f : args.centre ? x[i] - args.centre[i] : x[i];
      __syncthreads();
      for (int first = 0; first < dimensions; first += kOctets) {
        // Octets without a vector repeat the last one's: shuffles need whole warps.
        const int j = min(first + octet, dimensions - 1);
        const float along = canonical_product<RowReader<Dtype::f32>>(
            reinterpret_cast<const std::uint8_t*>(vectors + j * args.padded), centred, args.padded);
        if (first + octet >= dimensions || threadIdx.x % kCanonicalLanes != 0) continue;
        const std::size_t at = group * args.dimensions + j;
        if (args.kind == SteerKind::ablate) change[j] = -along;
        if (args.kind == SteerKind::clamp) {
          const float raised = along < args.low[at] ? args.low[at] : along;
          change[j] = (args.high[at] < raised ? args.high[at] : raised) - along;
        }
        if (args.kind == SteerKind::project) change[j] = along;
      }
    }
    __syncthreads();
    for (std::size_t i = threadIdx.x; i < args.width; i += kThreads) {
      float value = args.kind != SteerKind::project ? x[i] : args.centre ? args.centre[i] : 0.0f;
      for (int j = 0; j < dimensions; ++j) value = fmaf(change[j], vectors[j * args.padded + i], value);
      x[i] = value;
    }
  }
}

}  // namespace

void steer(const DeviceSteerArgs& given) {
  require(given.kind >= 0 && given.kind <= 3 && given.width > 0 && given.stride >= given.width &&
              given.dimensions >= 1 && given.dimensions <= kMostSteerDimensions && given.groups >= 1 &&
              given.vectors,
          ErrorCode::invalid_argument, "steer on the device: sizes or vectors are wrong");
  if (given.rows == 0) return;
  Stream stream;
  SteerKernelArgs args = {};
  args.kind = static_cast<SteerKind>(given.kind);
  args.x = given.x;
  args.rows = given.rows;
  args.width = given.width;
  args.padded = (given.width + 63) / 64 * 64;
  args.stride = given.stride;
  args.dimensions = given.dimensions;
  const std::size_t count = given.groups * given.dimensions;
  // The host's arrays one behind the other, each at a multiple of kApart bytes: one allocation, one copy.
  constexpr std::size_t kApart = 256, kAbsent = ~std::size_t{0};
  std::vector<std::uint8_t> packed;
  const auto put = [&packed](const auto* from, std::size_t size, std::size_t pitch, std::size_t times) {
    if (!from) return kAbsent;
    const std::size_t at = packed.size(), element = sizeof *from;
    packed.resize((at + times * pitch * element + kApart - 1) / kApart * kApart, 0);
    for (std::size_t i = 0; i < times; ++i)
      std::memcpy(packed.data() + at + i * pitch * element, from + i * size, size * element);
    return at;
  };
  const std::size_t vectors = put(given.vectors, given.width, args.padded, count),
                    amounts = put(given.amounts, count, count, 1), low = put(given.low, count, count, 1),
                    high = put(given.high, count, count, 1),
                    centre = put(given.centre, given.width, given.width, 1),
                    mask = put(given.mask, given.rows, given.rows, 1),
                    group = put(given.group, given.rows, given.rows, 1);
  Buffer<std::uint8_t> arrays;
  Buffer<float> scratch;
  upload(arrays, packed.data(), packed.size(), stream, "steering");
  const auto floats = [&arrays](std::size_t at) {
    return at == kAbsent ? nullptr : reinterpret_cast<const float*>(arrays.data() + at);
  };
  args.vectors = floats(vectors);
  args.amounts = floats(amounts);
  args.low = floats(low);
  args.high = floats(high);
  args.centre = floats(centre);
  args.mask = mask == kAbsent ? nullptr : arrays.data() + mask;
  args.group = group == kAbsent ? nullptr : reinterpret_cast<const std::uint32_t*>(arrays.data() + group);
  int processors = 0;
  check_cuda(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, given.device),
             "asking the device");
  const std::size_t bytes = args.padded * sizeof(float);
  const bool in_shared = bytes <= kMostSharedRow;
  const std::size_t most = static_cast<std::size_t>(processors) * (in_shared ? 32 : 4);
  const auto blocks = static_cast<unsigned>(std::min(args.rows, most));
  if (!in_shared) {
    scratch.reserve(blocks * args.padded, "steering");
    args.scratch = scratch.data();
  }
  allow_shared("steer", steer_kernel, kMostSharedRow);
  launch("steer", steer_kernel, {blocks, kThreads, in_shared ? bytes : 0}, stream, args);
  stream.wait();
}

}  // namespace personascope::cuda
