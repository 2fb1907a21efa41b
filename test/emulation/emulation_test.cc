// The emulated machine finds what it is there to find: each kernel here has one defect, and a twin without.
#include <cuda.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <vector>

#include "cuda/device/hopper_ptx.cuh"
#include "cuda/device/ptx.cuh"
#include "cuda/shared/bounds.h"
#include "native/core/random.h"
#include "test/emulation/tensor_core.h"
#include "test/native/check.h"

using namespace personascope;
using namespace personascope::cuda;

namespace {

// Hopper's instructions are there, and little memory. Before the machine is first asked.
const bool kSet = [] {
  setenv("PERSONASCOPE_EMULATION_HOPPER", "1", 1);
  setenv("PERSONASCOPE_EMULATION_MEMORY", "1048576", 1);
  return true;
}();

struct Memory {
  explicit Memory(std::size_t bytes) { CHECK(cudaMalloc(&at, bytes) == cudaSuccess); }
  ~Memory() { cudaFree(at); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  template <class T>
  T* as() const {
    return static_cast<T*>(at);
  }
  void* at = nullptr;
};

template <class... Parameters, class... Arguments>
cudaError_t start(cudaStream_t stream, unsigned blocks, unsigned threads, unsigned cluster,
                  void (*kernel)(Parameters...), Arguments... arguments) {
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 65536);
  cudaLaunchAttribute attribute = {cudaLaunchAttributeClusterDimension, {dim3(cluster)}};
  const cudaLaunchConfig_t config = {dim3(blocks), dim3(threads), 65536, stream, &attribute, 1};
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

// What the machine says of a launch; "" where all is well.
template <class... Parameters, class... Arguments>
std::string said(unsigned blocks, unsigned threads, void (*kernel)(Parameters...), Arguments... arguments) {
  const cudaError_t error = start(nullptr, blocks, threads, 1, kernel, arguments...);
  cudaGetLastError();
  return error == cudaSuccess ? "" : cudaGetErrorString(error);
}
bool has(const std::string& text, const char* part) {
  if (text.find(part) != std::string::npos) return true;
  std::printf("  found: %s\n", text.c_str());
  return false;
}

constexpr int kThreads = 96;

struct Numbers {
  int values[kThreads];
};

// Each thread reads its neighbour's number. sync: 0 nothing, 1 the block, 2 the warp.
void neighbours(int* out, int sync, int distance) {
  auto& numbers = static_shared<Numbers>().values;
  const int own = static_cast<int>(threadIdx.x);
  numbers[own] = own;
  if (sync == 1) __syncthreads();
  if (sync == 2) __syncwarp();
  out[own] = numbers[own - own % distance + (own + 1) % distance];
}

void write_at(int* out, std::size_t place) {
  if (threadIdx.x == 0) out[place] = 1;
}
void read_at(const int* in, std::size_t place, int* out) {
  out[threadIdx.x] = in[place];
}
void read_shared(int* out) {
  out[threadIdx.x] = dynamic_shared<int>()[threadIdx.x];
}
void blocks_write(int* out, bool atomic) {
  if (threadIdx.x != 0) return;
  if (atomic)
    atomicAdd(reinterpret_cast<unsigned*>(out), 1u);
  else
    *out = static_cast<int>(blockIdx.x);
}
void some_leave(bool whole_warps) {
  if (threadIdx.x >= (whole_warps ? 64 : 70)) return;
  if (whole_warps)
    __shfl_xor_sync(0xffffffffu, 1, 1);
  else
    __syncthreads();
}
void lane_leaves() {
  if (threadIdx.x == 5) return;
  __ballot_sync(0xffffffffu, true);
}
void cached(int* out) {
  if (threadIdx.x == 0) out[0] = 1;
  __syncthreads();
  out[1 + threadIdx.x] = __ldg(out);
}
void copies(const int* in, int* out, bool commit, bool wait, bool sync) {
  int* shared = dynamic_shared<int>();
  copy_async(shared + 4 * threadIdx.x, in + 4 * threadIdx.x);
  if (commit) copy_commit();
  if (wait) copy_wait<0>();
  if (sync) __syncthreads();
  const unsigned other = (threadIdx.x + 1) % kThreads;
  out[threadIdx.x] = shared[4 * other];
}

}  // namespace

TEST(races) {
  const Memory out(kThreads * 4);
  CHECK(said(1, kThreads, neighbours, out.as<int>(), 1, kThreads).empty());
  std::vector<int> found(kThreads);
  CHECK(cudaMemcpy(found.data(), out.at, kThreads * 4, cudaMemcpyDeviceToHost) == cudaSuccess);
  for (int i = 0; i < kThreads; ++i) CHECK_EQ(found[static_cast<std::size_t>(i)], (i + 1) % kThreads);
  // A warp's barrier orders its lanes, not others.
  CHECK(said(1, kThreads, neighbours, out.as<int>(), 2, 32).empty());
  const std::string across = said(1, kThreads, neighbours, out.as<int>(), 2, kThreads);
  CHECK(!across.empty());
  // Thread 0 finds nothing there, or somebody else's.
  CHECK(!said(1, kThreads, neighbours, out.as<int>(), 0, 32).empty());
  CHECK(has(said(2, 32, blocks_write, out.as<int>(), false), "a race"));
  CHECK(said(2, 32, blocks_write, out.as<int>(), true).empty());
  CHECK(has(said(1, 32, cached, out.as<int>()), "constant cache"));
}

TEST(bounds_and_values) {
  const Memory in(10 * 4), out(32 * 4);
  CHECK(said(1, 1, write_at, in.as<int>(), std::size_t{9}).empty());
  CHECK(has(said(1, 1, write_at, in.as<int>(), std::size_t{10}), "out of bounds"));
  CHECK(has(said(1, 1, write_at, in.as<int>(), ~std::size_t{0}), "out of bounds"));
  CHECK(said(1, 32, read_at, in.as<int>(), std::size_t{9}, out.as<int>()).empty());
  CHECK(has(said(1, 32, read_at, in.as<int>(), std::size_t{8}, out.as<int>()), "nobody wrote"));
  CHECK(has(said(1, 32, read_shared, out.as<int>()), "nobody wrote"));
  const std::vector<int> host(10);
  CHECK(has(said(1, 32, read_at, host.data(), std::size_t{0}, out.as<int>()), "not the device's"));
  int* gone;
  {
    const Memory freed(64);
    gone = freed.as<int>();
  }
  CHECK(has(said(1, 1, write_at, gone, std::size_t{0}), "out of bounds"));
  CHECK(cudaMemcpy(in.at, host.data(), 44, cudaMemcpyHostToDevice) != cudaSuccess);
  cudaGetLastError();
}

TEST(barriers_that_some_miss) {
  CHECK(said(1, kThreads, some_leave, true).empty());
  CHECK(has(said(1, kThreads, some_leave, false), "__syncthreads"));
  CHECK(has(said(1, 32, lane_leaves), "__ballot_sync"));
}

TEST(copies_arrive_at_their_wait) {
  const Memory in(kThreads * 16), out(kThreads * 4);
  std::vector<int> numbers(kThreads * 4);
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<int>(i);
  CHECK(cudaMemcpy(in.at, numbers.data(), kThreads * 16, cudaMemcpyHostToDevice) == cudaSuccess);
  const auto run = [&](bool commit, bool wait, bool sync) {
    return said(1, kThreads, copies, in.as<const int>(), out.as<int>(), commit, wait, sync);
  };
  CHECK(run(true, true, true).empty());
  CHECK(!run(true, true, false).empty());
  CHECK(has(run(true, false, true), "nobody wrote"));
  CHECK(has(run(false, true, true), "nobody wrote"));
}

TEST(streams_run_when_they_are_waited_for) {
  const Memory memory(32 * 4), out(32 * 4);
  cudaStream_t a, b;
  cudaEvent_t event;
  cudaStreamCreate(&a), cudaStreamCreate(&b), cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  // b reads what a has not written yet.
  start(a, 1, 32, 1, write_at, memory.as<int>(), std::size_t{3});
  start(b, 1, 32, 1, read_at, memory.as<const int>(), std::size_t{3}, out.as<int>());
  CHECK(cudaStreamSynchronize(b) == cudaErrorLaunchFailure);
  cudaGetLastError();
  start(a, 1, 32, 1, write_at, memory.as<int>(), std::size_t{4});
  cudaEventRecord(event, a);
  cudaStreamWaitEvent(b, event, 0);
  start(b, 1, 32, 1, read_at, memory.as<const int>(), std::size_t{4}, out.as<int>());
  CHECK(cudaStreamSynchronize(b) == cudaSuccess);
  cudaEventDestroy(event), cudaStreamDestroy(a), cudaStreamDestroy(b);
}

TEST(memory_is_limited) {
  void* memory = nullptr;
  CHECK(cudaMalloc(&memory, 1 << 21) == cudaErrorMemoryAllocation);
  const Memory most(1 << 20);
  CHECK(cudaMalloc(&memory, 1) == cudaErrorMemoryAllocation);
  std::size_t free = 1, total = 0;
  cudaMemGetInfo(&free, &total);
  CHECK(free == 0 && total == 1 << 20);
  cudaGetLastError();
}

namespace {

using Encode = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                            const cuuint64_t*, const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave,
                            CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
CUtensorMap map_of(void* rows, std::uint64_t count, std::uint32_t box_rows) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found;
  cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found);
  CUtensorMap map;
  const cuuint64_t extents[2] = {128, count}, strides[1] = {128};
  const cuuint32_t box[2] = {128, box_rows}, steps[2] = {1, 1};
  CHECK(reinterpret_cast<Encode>(function)(&map, CU_TENSOR_MAP_DATA_TYPE_UINT8, 2, rows, extents, strides,
                                           box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                                           CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                                           CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS);
  return map;
}

enum class Flaw { none, no_init, no_fence, few_bytes, no_wait, shifted, no_product_wait, no_product_fence };

// out [64, 256] = the 64 rows of a times the 256 of b, 128 bytes of k.
void multiply(const CUtensorMap a, const CUtensorMap b, std::int32_t* out, Flaw flaw) {
  std::uint8_t* memory = dynamic_shared<std::uint8_t>();
  std::uint8_t* tiles = memory + (1024 - shared_address(memory) % 1024) % 1024;
  if (flaw == Flaw::shifted) tiles += 128;
  auto* barrier = reinterpret_cast<std::uint64_t*>(tiles + 42 * 1024);
  if (threadIdx.x == 0 && flaw != Flaw::no_init) {
    barrier_init(barrier, 1);
    if (flaw != Flaw::no_fence) barrier_init_fence();
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    arrive_expecting(barrier, flaw == Flaw::few_bytes ? 64 : 320 * 128);
    copy_box(tiles, &a, 0, 0, barrier);
    copy_box(tiles + 64 * 128, &b, 0, 0, barrier);
  }
  if (flaw != Flaw::no_wait) wait_for(barrier, 0);
  std::int32_t sums[128];
  if (flaw != Flaw::no_product_fence) product_fence();
  for (int k = 0; k < 4; ++k)
    Int8Wgmma::multiply(sums, operand_descriptor(shared_address(tiles)) + 2 * static_cast<unsigned>(k),
                        operand_descriptor(shared_address(tiles + 64 * 128)) + 2 * static_cast<unsigned>(k),
                        k > 0);
  product_commit();
  if (flaw != Flaw::no_product_wait) product_wait<0>();
  for (int i = 0; i < 128; ++i) {
    const Place2 at = wgmma_accumulator(static_cast<int>(threadIdx.x), i);
    out[at.row * 256 + at.column] = sums[i];
  }
  if (flaw == Flaw::no_wait) wait_for(barrier, 0);
}

}  // namespace

TEST(bulk_copies_and_products_of_a_warp_group) {
  // 60 rows of 64: the others are zeros.
  const Memory a(60 * 128), b(256 * 128), out(64 * 256 * 4);
  std::vector<std::int8_t> rows(60 * 128), columns(256 * 128);
  const Philox random(5, 0);
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<std::int8_t>(random.words(i)[0]);
  for (std::size_t i = 0; i < columns.size(); ++i) columns[i] = static_cast<std::int8_t>(random.words(i)[1]);
  cudaMemcpy(a.at, rows.data(), rows.size(), cudaMemcpyHostToDevice);
  cudaMemcpy(b.at, columns.data(), columns.size(), cudaMemcpyHostToDevice);
  const auto run = [&](Flaw flaw) {
    return said(1, 128, multiply, map_of(a.at, 60, 64), map_of(b.at, 256, 256), out.as<std::int32_t>(), flaw);
  };
  CHECK(run(Flaw::none).empty());
  std::vector<std::int32_t> found(64 * 256);
  CHECK(cudaMemcpy(found.data(), out.at, found.size() * 4, cudaMemcpyDeviceToHost) == cudaSuccess);
  for (std::size_t row = 0; row < 64; ++row)
    for (std::size_t column = 0; column < 256; ++column) {
      std::int32_t wanted = 0;
      for (std::size_t k = 0; row < 60 && k < 128; ++k)
        wanted += rows[row * 128 + k] * columns[column * 128 + k];
      CHECK_EQ(found[row * 256 + column], wanted);
    }
  CHECK(has(run(Flaw::no_init), "not initialised"));
  CHECK(has(run(Flaw::no_fence), "not fenced"));
  CHECK(!run(Flaw::few_bytes).empty());
  CHECK(has(run(Flaw::no_wait), "not written"));
  CHECK(has(run(Flaw::no_product_wait), "under way"));
  CHECK(has(run(Flaw::no_product_fence), "without a fence"));
  CHECK(has(run(Flaw::shifted), "multiple of 1024"));
}

// Sums lose something, and never as much as the bound of the screens allows.
TEST(rounding_of_products_stays_within_the_bound) {
  double worst = 0;
  const Philox random(6, 0);
  for (int kind = 0; kind < 3; ++kind)
    for (std::size_t width : {64, 1024, 4096}) {
      std::vector<std::uint16_t> a(width), b(width);
      for (std::size_t i = 0; i < width; ++i) {
        // All of one sign; of both; a few that exceed the others.
        const double x = kind == 0 ? 1 + std::fabs(random.gaussian(2 * i)) : random.gaussian(2 * i);
        a[i] = bf16_round(static_cast<float>(kind == 2 && i % 97 == 0 ? 100 * x : x));
        b[i] = bf16_round(static_cast<float>(kind == 0 ? 1.3 : random.gaussian(2 * i + 1)));
      }
      float sum = 0;
      double exact = 0, aa = 0, bb = 0;
      for (std::size_t i = 0; i < width; i += 16) sum = emulation::Rounding(16).add(sum, &a[i], &b[i]);
      for (std::size_t i = 0; i < width; ++i) {
        const double x = bf16_widen(a[i]), y = bf16_widen(b[i]);
        exact += x * y, aa += x * x, bb += y * y;
      }
      const double allowed = kTensorRoundings * static_cast<double>(width) * kUnit * std::sqrt(aa * bb);
      worst = std::max(worst, std::fabs(sum - exact) / allowed);
    }
  CHECK(worst > 0.01 && worst < 0.5);
  std::printf("  worst loss of a sum: %.3f of what is allowed\n", worst);
}
