#include "cuda/device/runtime.h"

namespace personascope::cuda {

namespace {

std::string megabytes(std::size_t bytes) {
  return std::to_string((bytes + (std::size_t{1} << 20) - 1) >> 20) + " MiB";
}

}  // namespace

void check_cuda(cudaError_t status, const std::string& what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // errors that do not stick are forgotten
  fail(status == cudaErrorMemoryAllocation ? ErrorCode::out_of_memory : ErrorCode::internal,
       what + ": " + cudaGetErrorName(status) + ", " + cudaGetErrorString(status));
}

DeviceScope::DeviceScope(int device) {
  check_cuda(cudaGetDevice(&before_), "asking for the current device");
  check_cuda(cudaSetDevice(device), "choosing device " + std::to_string(device));
}

DeviceScope::~DeviceScope() {
  cudaSetDevice(before_);
}

void* device_allocate(std::size_t bytes, const std::string& what) {
  void* memory = nullptr;
  const cudaError_t status = cudaMalloc(&memory, bytes ? bytes : 1);
  if (status == cudaSuccess) return memory;
  cudaGetLastError();
  std::size_t free = 0, total = 0;
  const bool known = cudaMemGetInfo(&free, &total) == cudaSuccess;
  if (status != cudaErrorMemoryAllocation) check_cuda(status, "device memory for " + what);
  fail(ErrorCode::out_of_memory,
       "device memory for " + what + ": " + megabytes(bytes) + " asked for" +
           (known ? ", " + megabytes(free) + " of " + megabytes(total) + " free" : ""));
}

Stream::Stream() {
  check_cuda(cudaStreamCreate(&stream_), "making a stream");
}
Stream::~Stream() {
  if (stream_) cudaStreamDestroy(stream_);
}
void Stream::wait() const {
  check_cuda(cudaStreamSynchronize(stream_), "waiting for the device");
}

Event::Event() {
  check_cuda(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "making an event");
}
Event::~Event() {
  if (event_) cudaEventDestroy(event_);
}
void Event::record(cudaStream_t stream) const {
  check_cuda(cudaEventRecord(event_, stream), "recording an event");
}
void Event::wait_in(cudaStream_t stream) const {
  check_cuda(cudaStreamWaitEvent(stream, event_, 0), "waiting for an event");
}
void Event::wait() const {
  check_cuda(cudaEventSynchronize(event_), "waiting for the device");
}

void copy_bytes(void* to, const void* from, std::size_t bytes, cudaStream_t stream, const std::string& what) {
  if (bytes == 0) return;
  check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream), "copying " + what);
  check_cuda(cudaStreamSynchronize(stream), "copying " + what);
}

int device_of(const void* memory) {
  cudaPointerAttributes attributes = {};
  check_cuda(cudaPointerGetAttributes(&attributes, memory), "asking where memory lies");
  return attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged
             ? attributes.device
             : -1;
}

}  // namespace personascope::cuda
