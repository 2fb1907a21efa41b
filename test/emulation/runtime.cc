// CUDA's runtime on the emulated machine. What is put into a stream runs as late as it can: when somebody
// waits for it. So work that lacks a wait is seen to lack it.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "test/emulation/hopper.h"
#include "test/emulation/machine.h"
#include "test/emulation/memory.h"

// Pieces of work in order; how many were put in, and how many have run.
struct EmulatedStream {
  struct Work {
    std::function<cudaError_t()> run;
  };
  std::deque<Work> work;
  std::uint64_t put = 0, done = 0;
};
// The place in a stream at which it was recorded last.
struct EmulatedEvent {
  EmulatedStream* stream = nullptr;
  std::uint64_t place = 0;
};

namespace {

using emulation::Allocation;

// The device is one for all threads of the host.
std::recursive_mutex& lock() {
  static std::recursive_mutex mutex;
  return mutex;
}
#define EMULATED_CALL const std::lock_guard<std::recursive_mutex> guard(lock())

thread_local cudaError_t last_error = cudaSuccess;
thread_local int current_device = 0;
thread_local std::string last_defect;

std::uint64_t number_of(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text && *text ? std::strtoull(text, nullptr, 10) : otherwise;
}
int devices() {
  static const int count = static_cast<int>(number_of("PERSONASCOPE_EMULATION_DEVICES", 1));
  return count;
}
std::size_t device_bytes() {
  static const std::size_t bytes = number_of("PERSONASCOPE_EMULATION_MEMORY", std::uint64_t{2} << 30);
  return bytes;
}
bool hopper() {
  static const bool yes = number_of("PERSONASCOPE_EMULATION_HOPPER", 0) != 0;
  return yes;
}

cudaError_t returned(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}
cudaError_t defective(const std::string& what) {
  if (what.empty()) return cudaSuccess;
  last_defect = what;
  std::fprintf(stderr, "emulation: %s\n", what.c_str());
  return returned(cudaErrorLaunchFailure);
}

std::vector<EmulatedStream*>& streams() {
  static std::vector<EmulatedStream*> all;
  return all;
}
// Pinned memory of the host.
std::map<const char*, std::size_t>& pinned() {
  static std::map<const char*, std::size_t> all;
  return all;
}
bool is_pinned(const void* at) {
  auto next = pinned().upper_bound(static_cast<const char*>(at));
  if (next == pinned().begin()) return false;
  --next;
  return static_cast<const char*>(at) < next->first + next->second;
}

// Runs the stream's work up to a place.
cudaError_t run_until(EmulatedStream& stream, std::uint64_t place) {
  cudaError_t first = cudaSuccess;
  while (stream.done < place && !stream.work.empty()) {
    const auto work = std::move(stream.work.front());
    stream.work.pop_front();
    ++stream.done;
    const cudaError_t error = work.run();
    if (first == cudaSuccess) first = error;
  }
  return first;
}
cudaError_t run_all() {
  cudaError_t first = cudaSuccess;
  for (EmulatedStream* stream : streams()) {
    const cudaError_t error = run_until(*stream, stream->put);
    if (first == cudaSuccess) first = error;
  }
  return first;
}

cudaError_t put(EmulatedStream* stream, std::function<cudaError_t()> run) {
  if (!stream) {  // the default stream: waits for all others
    const cudaError_t error = run_all();
    return error == cudaSuccess ? returned(run()) : returned(error);
  }
  stream->work.push_back({std::move(run)});
  ++stream->put;
  // Any stream may already be further.
  if (emulation::seed() != 0 && emulation::chance() % 4 == 0 && !streams().empty()) {
    EmulatedStream& some = *streams()[emulation::chance() % streams().size()];
    return returned(run_until(some, some.done + 1 + emulation::chance() % (some.put - some.done + 1)));
  }
  return cudaSuccess;
}

cudaError_t copy_now(void* to, const void* from, std::size_t bytes) {
  const bool in = emulation::on_device(to), out = emulation::on_device(from);
  std::string wrong;
  if (in && out)
    wrong = emulation::copied_within(to, from, bytes);
  else if (in)
    wrong = emulation::copied_in(to, bytes);
  else if (out)
    wrong = emulation::copied_out(from, bytes);
  if (!wrong.empty()) return defective(wrong);
  std::memmove(to, from, bytes);
  return cudaSuccess;
}

bool fits(const void* to, const void* from, cudaMemcpyKind kind) {
  const bool in = emulation::on_device(to), out = emulation::on_device(from);
  switch (kind) {
    case cudaMemcpyHostToHost:
      return !in && !out;
    case cudaMemcpyHostToDevice:
      return in && !out;
    case cudaMemcpyDeviceToHost:
      return !in && out;
    case cudaMemcpyDeviceToDevice:
      return in && out;
    default:
      return true;
  }
}

}  // namespace

namespace emulation {

cudaError_t launch(cudaStream_t stream, Grid grid) {
  EMULATED_CALL;
  if (!sound(grid)) return returned(cudaErrorInvalidConfiguration);
  if (grid.cluster > 1 && !hopper()) return returned(cudaErrorInvalidConfiguration);
  return put(stream, [grid = std::move(grid)] { return defective(run(grid)); });
}

}  // namespace emulation

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorIllegalAddress:
      return "cudaErrorIllegalAddress";
    default:
      return "cudaErrorLaunchFailure";
  }
}
const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorIllegalAddress:
      return "an illegal memory access was encountered";
    default:
      return last_defect.c_str();
  }
}
cudaError_t cudaGetLastError() {
  return std::exchange(last_error, cudaSuccess);
}

// ---- devices ---------------------------------------------------------------------------------------------

cudaError_t cudaGetDeviceCount(int* count) {
  *count = devices();
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= devices()) return returned(cudaErrorInvalidDevice);
  current_device = device;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device < 0 || device >= devices()) return returned(cudaErrorInvalidDevice);
  *properties = {};
  std::strcpy(properties->name, "emulation on the host, no GPU");
  properties->major = hopper() ? 9 : 8;
  properties->minor = 0;
  properties->multiProcessorCount = 3;  // few, so that blocks have several tiles each
  properties->l2CacheSize = 1 << 20;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp properties;
  const cudaError_t error = cudaGetDeviceProperties(&properties, device);
  if (error != cudaSuccess) return error;
  *value = attribute == cudaDevAttrMultiProcessorCount ? properties.multiProcessorCount : properties.major;
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  EMULATED_CALL;
  return returned(run_all());
}

// ---- memory ----------------------------------------------------------------------------------------------

cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  EMULATED_CALL;
  if (bytes > device_bytes() || emulation::allocated(current_device) + bytes > device_bytes())
    return returned(cudaErrorMemoryAllocation);
  *memory = emulation::allocate(bytes, current_device);
  return *memory ? cudaSuccess : returned(cudaErrorMemoryAllocation);
}
// What still uses it when it runs is told of: a device would wait, but not every kind of free does.
cudaError_t cudaFree(void* memory) {
  EMULATED_CALL;
  if (!memory) return cudaSuccess;
  return emulation::release(memory) ? cudaSuccess : returned(cudaErrorInvalidValue);
}
cudaError_t cudaMallocHost(void** memory, std::size_t bytes) {
  EMULATED_CALL;
  *memory = std::malloc(bytes ? bytes : 1);
  if (!*memory) return returned(cudaErrorMemoryAllocation);
  pinned()[static_cast<const char*>(*memory)] = bytes;
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* memory) {
  EMULATED_CALL;
  if (memory && pinned().erase(static_cast<const char*>(memory)) == 0) return returned(cudaErrorInvalidValue);
  std::free(memory);
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  EMULATED_CALL;
  *total = device_bytes();
  *free = device_bytes() - emulation::allocated(current_device);
  return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* memory) {
  EMULATED_CALL;
  const Allocation* found = emulation::allocation_of(memory);
  *attributes = {found               ? cudaMemoryTypeDevice
                 : is_pinned(memory) ? cudaMemoryTypeHost
                                     : cudaMemoryTypeUnregistered,
                 found ? found->device : -1};
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  EMULATED_CALL;
  if (!fits(to, from, kind)) return returned(cudaErrorInvalidValue);
  const cudaError_t error = run_all();
  return error == cudaSuccess ? copy_now(to, from, bytes) : returned(error);
}

cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
                              std::size_t width, std::size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream) {
  EMULATED_CALL;
  if (!fits(to, from, kind) || width > to_pitch || width > from_pitch) return returned(cudaErrorInvalidValue);
  if (width == 0 || height == 0) return cudaSuccess;
  const bool in = emulation::on_device(to), out = emulation::on_device(from);
  auto* target = static_cast<char*>(to);
  if (!out && !is_pinned(from)) {
    // The host's pageable memory is read before the call returns.
    std::vector<char> taken(width * height);
    for (std::size_t row = 0; row < height; ++row)
      std::memcpy(&taken[row * width], static_cast<const char*>(from) + row * from_pitch, width);
    return put(stream, [taken = std::move(taken), target, to_pitch, width, height] {
      cudaError_t error = cudaSuccess;
      for (std::size_t row = 0; row < height && error == cudaSuccess; ++row)
        error = copy_now(target + row * to_pitch, &taken[row * width], width);
      return error;
    });
  }
  const auto* source = static_cast<const char*>(from);
  const cudaError_t error = put(stream, [source, from_pitch, target, to_pitch, width, height] {
    cudaError_t failed = cudaSuccess;
    for (std::size_t row = 0; row < height && failed == cudaSuccess; ++row)
      failed = copy_now(target + row * to_pitch, source + row * from_pitch, width);
    return failed;
  });
  // And written before it returns.
  if (error == cudaSuccess && !in && !is_pinned(to)) return cudaStreamSynchronize(stream);
  return error;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return cudaMemcpy2DAsync(to, bytes, from, bytes, bytes, 1, kind, stream);
}
cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t bytes, cudaStream_t stream) {
  EMULATED_CALL;
  if (bytes == 0) return cudaSuccess;
  if (!emulation::on_device(memory)) return returned(cudaErrorInvalidValue);
  return put(stream, [memory, value, bytes] {
    const std::string wrong = emulation::copied_in(memory, bytes);
    if (!wrong.empty()) return defective(wrong);
    std::memset(memory, value, bytes);
    return cudaSuccess;
  });
}

// ---- streams and events ----------------------------------------------------------------------------------

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  EMULATED_CALL;
  *stream = new EmulatedStream;
  streams().push_back(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  EMULATED_CALL;
  const cudaError_t error = run_until(*stream, stream->put);
  std::erase(streams(), stream);
  // Events still know how far it came.
  static std::vector<std::unique_ptr<EmulatedStream>> gone;
  gone.emplace_back(stream);
  return returned(error);
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  EMULATED_CALL;
  return returned(stream ? run_until(*stream, stream->put) : run_all());
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  EMULATED_CALL;
  if (!event->stream) return cudaSuccess;  // never recorded
  EmulatedStream* other = event->stream;
  const std::uint64_t place = event->place;
  return put(stream, [other, place] { return run_until(*other, place); });
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new EmulatedEvent;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  EMULATED_CALL;
  event->stream = stream;
  event->place = stream ? stream->put : 0;
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  EMULATED_CALL;
  return event->stream ? returned(run_until(*event->stream, event->place)) : cudaSuccess;
}

// ---- the driver's functions ------------------------------------------------------------------------------

cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned,
                                             unsigned long long, cudaDriverEntryPointQueryResult* found) {
  const bool known = std::strcmp(symbol, "cuTensorMapEncodeTiled") == 0;
  *function = known ? emulation::tensor_map_encoder() : nullptr;
  *found = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}
