#include "native/core/device_tensor.h"

#include <cstring>

#include "native/include/personascope.h"
#include "test/native/check.h"

using namespace personascope;

TEST(tensors_of_the_host_through_dlpack) {
  const DeviceTensor made = make_device_tensor({}, Dtype::bf16, {3, 5}, "a test");
  CHECK_EQ(made.bytes(), 30u);
  for (int i = 0; i < 15; ++i) static_cast<std::uint16_t*>(made.data)[i] = static_cast<std::uint16_t>(i);
  const long before = made.owner.use_count();
  DLManagedTensor* out = to_dlpack(made);
  CHECK(out->dl_tensor.device.device_type == kDLCPU && out->dl_tensor.ndim == 2);
  CHECK(out->dl_tensor.dtype.code == kDLBfloat && out->dl_tensor.dtype.bits == 16 &&
        out->dl_tensor.shape[1] == 5);
  CHECK(out->dl_tensor.strides[0] == 5 && out->dl_tensor.strides[1] == 1);
  {
    const DeviceTensor back = from_dlpack(out);
    CHECK(back.data == made.data && back.dtype == Dtype::bf16 && back.shape == made.shape &&
          back.contiguous());
    CHECK_EQ(made.owner.use_count(), before + 1);
  }
  CHECK_EQ(made.owner.use_count(), before);  // the deleter ran
}

TEST(what_others_hand_over) {
  static int deleted = 0;
  float values[12] = {};
  std::int64_t shape[2] = {2, 3}, strides[2] = {6, 2};
  DLManagedTensor managed = {{values, {kDLCPU, 0}, 2, {kDLFloat, 32, 1}, shape, nullptr, 8},
                             nullptr,
                             [](DLManagedTensor*) { ++deleted; }};
  {
    const DeviceTensor taken = from_dlpack(&managed);
    CHECK(taken.data == values + 2 && taken.contiguous());
  }
  CHECK_EQ(deleted, 1);
  managed.dl_tensor.strides = strides;
  {
    const DeviceTensor taken = from_dlpack(&managed);
    CHECK(!taken.contiguous());
    const DeviceTensor other = make_device_tensor({}, Dtype::f32, {2, 3}, "a test");
    CHECK_THROWS(copy_tensor(taken, other), ErrorCode::invalid_argument);
  }
  CHECK_EQ(deleted, 2);
  // What is refused stays the caller's.
  managed.dl_tensor.dtype.lanes = 4;
  CHECK_THROWS(from_dlpack(&managed), ErrorCode::format);
  managed.dl_tensor.dtype.lanes = 1;
  managed.dl_tensor.device.device_type = 8;
  CHECK_THROWS(from_dlpack(&managed), ErrorCode::format);
  managed.dl_tensor.device.device_type = kDLCPU;
  shape[0] = -1;
  CHECK_THROWS(from_dlpack(&managed), ErrorCode::format);
  CHECK_EQ(deleted, 2);
  CHECK_THROWS(from_dlpack(nullptr), ErrorCode::invalid_argument);
}

TEST(copies_and_refusals) {
  const DeviceTensor a = make_device_tensor({}, Dtype::u32, {4}, "a test");
  const DeviceTensor b = make_device_tensor({}, Dtype::u32, {2, 2}, "a test");
  const std::uint32_t values[4] = {1, 2, 3, 4};
  std::memcpy(a.data, values, sizeof values);
  copy_tensor(a, b);
  CHECK(std::memcmp(b.data, values, sizeof values) == 0);
  CHECK_THROWS(copy_tensor(a, make_device_tensor({}, Dtype::u32, {5}, "a test")),
               ErrorCode::invalid_argument);
  CHECK_THROWS(copy_tensor(a, make_device_tensor({}, Dtype::f32, {4}, "a test")),
               ErrorCode::invalid_argument);
  CHECK_THROWS(make_device_tensor({}, Dtype::f32, {1ull << 40, 1ull << 40}, "a test"),
               ErrorCode::invalid_argument);
  if (!cuda_plugin()) {
    CHECK_THROWS(make_device_tensor({true, 0}, Dtype::f32, {1}, "a test"), ErrorCode::not_found);
    return;
  }
  const DeviceTensor there = make_device_tensor({true, 0}, Dtype::u32, {4}, "a test");
  std::memset(b.data, 0, b.bytes());
  copy_tensor(a, there);
  copy_tensor(there, b);
  CHECK(std::memcmp(b.data, values, sizeof values) == 0);
}

TEST(the_c_interface) {
  const char* reason = nullptr;
  CHECK_EQ(personascope_cuda_devices(&reason), cuda_plugin() ? cuda_plugin()->device_count() : 0);
  CHECK(reason && *reason);
  const uint64_t shape[2] = {2, 3};
  personascope_tensor *made = nullptr, *taken = nullptr;
  CHECK_EQ(personascope_tensor_create("cpu", "F32", shape, 2, &made), PERSONASCOPE_OK);
  CHECK_EQ(personascope_tensor_bytes(made), 24u);
  static_cast<float*>(personascope_tensor_data(made))[5] = 2.5f;
  DLManagedTensor* managed = nullptr;
  CHECK_EQ(personascope_tensor_to_dlpack(made, &managed), PERSONASCOPE_OK);
  CHECK_EQ(personascope_tensor_from_dlpack(managed, &taken), PERSONASCOPE_OK);
  CHECK(personascope_tensor_data(taken) == personascope_tensor_data(made));
  personascope_tensor_destroy(made);  // the memory lives on
  CHECK(static_cast<float*>(personascope_tensor_data(taken))[5] == 2.5f);
  CHECK_EQ(personascope_tensor_create("cpu", "F31", shape, 2, &made), PERSONASCOPE_INVALID_ARGUMENT);
  CHECK_EQ(personascope_tensor_create("gpu", "F32", shape, 2, &made), PERSONASCOPE_INVALID_ARGUMENT);
  CHECK_EQ(personascope_tensor_create("cuda:4096", "F32", shape, 2, &made), PERSONASCOPE_NOT_FOUND);
  CHECK_EQ(personascope_tensor_create("cpu", "F32", nullptr, 2, &made), PERSONASCOPE_INVALID_ARGUMENT);
  CHECK_EQ(personascope_tensor_copy(nullptr, taken), PERSONASCOPE_INVALID_ARGUMENT);
  personascope_tensor_destroy(taken);
  personascope_tensor_destroy(nullptr);
}
