// CUDA's runtime, made safe: every call checked, memory and streams owned, the caller's current device
// restored.
#pragma once
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "native/core/error.h"

namespace personascope::cuda {

// Throws: out_of_memory or internal, with what was being done.
void check_cuda(cudaError_t status, const std::string& what);

// Makes a device the current one while it lives.
class DeviceScope {
 public:
  explicit DeviceScope(int device);
  ~DeviceScope();
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

 private:
  int before_ = 0;
};

// Throws out_of_memory: the request is named, with its size and what is free. The device stays usable.
void* device_allocate(std::size_t bytes, const std::string& what);

// Memory of the current device (or pinned memory of the host).
template <class T, bool kPinned = false>
class Buffer {
 public:
  Buffer() = default;
  Buffer(std::size_t size, const std::string& what) { reserve(size, what); }
  ~Buffer() { free(); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  // Room for `size` elements; what was there is lost where it grows.
  void reserve(std::size_t size, const std::string& what) {
    if (size <= size_) return;
    free();
    if constexpr (kPinned) {
      void* memory = nullptr;
      check_cuda(cudaMallocHost(&memory, size * sizeof(T)), "pinned memory for " + what);
      data_ = static_cast<T*>(memory);
    } else {
      data_ = static_cast<T*>(device_allocate(size * sizeof(T), what));
    }
    size_ = size;
  }
  void free() {
    if (data_) kPinned ? cudaFreeHost(data_) : cudaFree(data_);
    data_ = nullptr;
    size_ = 0;
  }
  T* data() const { return data_; }
  std::size_t size() const { return size_; }
  std::size_t bytes() const { return size_ * sizeof(T); }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
};
template <class T>
using PinnedBuffer = Buffer<T, true>;

class Stream {
 public:
  Stream();
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator cudaStream_t() const { return stream_; }
  void wait() const;

 private:
  cudaStream_t stream_ = nullptr;
};

class Event {
 public:
  Event();
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record(cudaStream_t stream) const;
  void wait_in(cudaStream_t stream) const;  // what is started on the stream from now on waits for it
  void wait() const;

 private:
  cudaEvent_t event_ = nullptr;
};

// Copies between any two places; upload and download are ordered on the stream, and done on return.
void copy_bytes(void* to, const void* from, std::size_t bytes, cudaStream_t stream, const std::string& what);
template <class T>
void upload(Buffer<T>& to, const T* from, std::size_t count, cudaStream_t stream, const std::string& what) {
  to.reserve(count, what);
  copy_bytes(to.data(), from, count * sizeof(T), stream, what);
}

// The device is of compute capability 9.0, and this build has Hopper's kernels for it (hopper_probe.cu). It
// must be the current one.
bool runs_hopper_kernels(int device);

// The device that memory lies on, -1 for the host's.
int device_of(const void* memory);

}  // namespace personascope::cuda
