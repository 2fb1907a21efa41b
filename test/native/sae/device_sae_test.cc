// Tensors in and out of an SAE through the C interface, on the CPU and, where there is one, on a GPU: what
// the calls on arrays give.
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "native/core/dlpack.h"
#include "native/core/plugin.h"
#include "native/core/random.h"
#include "native/include/personascope.h"
#include "test/native/check.h"

namespace {

constexpr std::uint64_t kLatents = 300, kWidth = 24, kTokens = 70, kMost = 9;

std::vector<float> gaussians(std::size_t count, std::uint64_t stream) {
  const personascope::Philox random(7, stream);
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>(random.gaussian(i));
  return values;
}

std::vector<const char*> devices() {
  if (personascope::cuda_plugin()) return {"cpu", "cuda:0"};
  return {"cpu"};
}

template <class T>
using Handle = std::unique_ptr<T, void (*)(T*)>;
using Tensor = Handle<personascope_tensor>;
using Sae = Handle<personascope_sae>;
using Codes = Handle<personascope_device_codes>;
using HostCodes = Handle<personascope_codes>;
using Stats = Handle<personascope_stats>;
using DeviceStats = Handle<personascope_device_stats>;

const std::vector<float> kEncoder = gaussians(kLatents * kWidth, 1),
                         kDecoder = gaussians(kLatents * kWidth, 2), kBias = gaussians(kLatents, 3),
                         kCentre = gaussians(kWidth, 4), kInputs = gaussians(kTokens * kWidth, 5);

Sae make_sae(const char* device, std::int32_t precision = PERSONASCOPE_AUTO,
             std::int32_t norm = PERSONASCOPE_NORM_NONE) {
  personascope_sae_spec spec = {};
  spec.struct_size = sizeof spec;
  spec.latents = kLatents;
  spec.width = kWidth;
  spec.k = kMost;
  spec.precision = precision;
  spec.input_norm = norm;
  spec.subtract_decoder_bias = 1;
  spec.w_enc = kEncoder.data();
  spec.w_dec = kDecoder.data();
  spec.b_enc = kBias.data();
  spec.b_dec = kCentre.data();
  spec.device = device;
  personascope_sae* made = nullptr;
  CHECK_EQ(personascope_sae_create_from_spec(&spec, &made), PERSONASCOPE_OK);
  return Sae(made, personascope_sae_destroy);
}

Tensor make_tensor(const char* device, const char* dtype, const std::vector<std::uint64_t>& shape) {
  personascope_tensor* made = nullptr;
  CHECK_EQ(personascope_tensor_create(device, dtype, shape.data(), static_cast<int>(shape.size()), &made),
           PERSONASCOPE_OK);
  return Tensor(made, personascope_tensor_destroy);
}

Tensor on(const char* device, const std::vector<float>& values, const std::vector<std::uint64_t>& shape) {
  const Tensor here = make_tensor("cpu", "F32", shape);
  std::memcpy(personascope_tensor_data(here.get()), values.data(), values.size() * sizeof(float));
  Tensor there = make_tensor(device, "F32", shape);
  CHECK_EQ(personascope_tensor_copy(here.get(), there.get()), PERSONASCOPE_OK);
  return there;
}

template <class T>
std::vector<T> read(const personascope_tensor* tensor, const char* dtype, std::uint64_t size) {
  const Tensor here = make_tensor("cpu", dtype, {size});
  CHECK_EQ(personascope_tensor_copy(tensor, here.get()), PERSONASCOPE_OK);
  const T* values = static_cast<const T*>(personascope_tensor_data(here.get()));
  return {values, values + size};
}

Codes encode(const Sae& sae, const Tensor& x) {
  personascope_device_codes* made = nullptr;
  CHECK_EQ(personascope_sae_encode_tensor(sae.get(), x.get(), &made), PERSONASCOPE_OK);
  return Codes(made, personascope_device_codes_destroy);
}

Tensor slice(const Tensor& tensor, int axis, std::uint64_t begin, std::uint64_t end) {
  personascope_tensor* view = nullptr;
  CHECK_EQ(personascope_tensor_slice(tensor.get(), axis, begin, end, &view), PERSONASCOPE_OK);
  return Tensor(view, personascope_tensor_destroy);
}

bool failed_with(personascope_status status, personascope_status wanted, const char* text) {
  return status == wanted && std::strstr(personascope_last_error(), text);
}

}  // namespace

TEST(codes_and_reconstructions_are_those_of_arrays) {
  for (const char* device : devices())
    for (const std::int32_t norm : {PERSONASCOPE_NORM_NONE, PERSONASCOPE_LAYER_NORM}) {
      const Sae host = make_sae("cpu", PERSONASCOPE_AUTO, norm);
      const Sae sae = make_sae(device, PERSONASCOPE_AUTO, norm);
      CHECK(std::strcmp(personascope_sae_device(sae.get()), device) == 0);
      personascope_codes* raw = nullptr;
      CHECK_EQ(personascope_sae_encode_codes(host.get(), kInputs.data(), kTokens, &raw), PERSONASCOPE_OK);
      const HostCodes wanted(raw, personascope_codes_destroy);
      std::vector<float> decoded(kTokens * kWidth);
      CHECK_EQ(personascope_sae_decode_codes(host.get(), wanted.get(), decoded.data()), PERSONASCOPE_OK);
      const std::uint64_t pairs = personascope_codes_offsets(wanted.get())[kTokens];

      // As it is, as three axes, and as columns of a wider matrix.
      std::vector<float> wide(kTokens * (kWidth + 5), NAN);
      for (std::size_t t = 0; t < kTokens; ++t)
        std::memcpy(&wide[t * (kWidth + 5) + 3], &kInputs[t * kWidth], kWidth * sizeof(float));
      const Tensor whole = on(device, wide, {kTokens, kWidth + 5});
      Tensor inputs[] = {on(device, kInputs, {kTokens, kWidth}), on(device, kInputs, {7, 10, kWidth}),
                         slice(whole, 1, 3, 3 + kWidth)};
      for (const Tensor& x : inputs) {
        const Codes codes = encode(sae, x);
        CHECK_EQ(personascope_device_codes_tokens(codes.get()), kTokens);
        CHECK_EQ(personascope_device_codes_pairs(codes.get()), pairs);
        personascope_codes* down = nullptr;
        CHECK_EQ(personascope_device_codes_download(codes.get(), &down), PERSONASCOPE_OK);
        const HostCodes found(down, personascope_codes_destroy);
        CHECK(std::memcmp(personascope_codes_indices(found.get()), personascope_codes_indices(wanted.get()),
                          pairs * 4) == 0);
        CHECK(std::memcmp(personascope_codes_values(found.get()), personascope_codes_values(wanted.get()),
                          pairs * 4) == 0);
        CHECK(std::memcmp(personascope_codes_offsets(found.get()), personascope_codes_offsets(wanted.get()),
                          (kTokens + 1) * 4) == 0);
        for (const char* place : {"cpu", device}) {
          const Tensor out = make_tensor(place, "F32", {kTokens, kWidth});
          CHECK_EQ(personascope_sae_decode_tensor(sae.get(), codes.get(), nullptr, out.get()),
                   PERSONASCOPE_OK);
          CHECK(read<float>(out.get(), "F32", kTokens * kWidth) == decoded);
        }
      }
      // Arrays of the host go to the device and back.
      std::vector<std::uint32_t> indices(kTokens * kMost), counts(kTokens);
      std::vector<float> values(kTokens * kMost), back(kTokens * kWidth);
      CHECK_EQ(personascope_sae_encode(sae.get(), kInputs.data(), kTokens, indices.data(), values.data(),
                                       counts.data()),
               PERSONASCOPE_OK);
      std::size_t at = 0;
      for (std::size_t t = 0; t < kTokens; ++t)
        for (std::size_t i = 0; i < counts[t]; ++i, ++at)
          CHECK(indices[t * kMost + i] == personascope_codes_indices(wanted.get())[at] &&
                values[t * kMost + i] == personascope_codes_values(wanted.get())[at]);
      CHECK_EQ(at, pairs);
      if (norm != PERSONASCOPE_NORM_NONE) continue;
      CHECK_EQ(personascope_sae_decode(sae.get(), indices.data(), values.data(), counts.data(), kTokens,
                                       back.data()),
               PERSONASCOPE_OK);
      CHECK(back == decoded);
    }
}

TEST(codes_as_tensors_outlive_the_codes) {
  for (const char* device : devices()) {
    const Sae sae = make_sae(device);
    Codes codes = encode(sae, on(device, kInputs, {kTokens, kWidth}));
    const std::uint64_t pairs = personascope_device_codes_pairs(codes.get());
    personascope_tensor *offsets = nullptr, *indices = nullptr, *values = nullptr;
    CHECK_EQ(personascope_device_codes_tensors(codes.get(), &offsets, &indices, &values), PERSONASCOPE_OK);
    CHECK_EQ(personascope_device_codes_tensors(codes.get(), nullptr, nullptr, nullptr), PERSONASCOPE_OK);
    personascope_codes* down = nullptr;
    CHECK_EQ(personascope_device_codes_download(codes.get(), &down), PERSONASCOPE_OK);
    const HostCodes wanted(down, personascope_codes_destroy);
    codes.reset();
    DLManagedTensor* managed = nullptr;
    CHECK_EQ(personascope_tensor_to_dlpack(indices, &managed), PERSONASCOPE_OK);
    CHECK(managed->dl_tensor.dtype.code == kDLUInt && managed->dl_tensor.dtype.bits == 32 &&
          managed->dl_tensor.shape[0] == static_cast<std::int64_t>(pairs));
    personascope_tensor_destroy(indices);
    personascope_tensor* again = nullptr;
    CHECK_EQ(personascope_tensor_from_dlpack(managed, &again), PERSONASCOPE_OK);
    const auto found = read<std::uint32_t>(again, "U32", pairs);
    CHECK(std::memcmp(found.data(), personascope_codes_indices(wanted.get()), pairs * 4) == 0);
    const auto places = read<std::uint64_t>(offsets, "U64", kTokens + 1);
    for (std::size_t t = 0; t <= kTokens; ++t)
      CHECK_EQ(places[t], personascope_codes_offsets(wanted.get())[t]);
    const auto amounts = read<float>(values, "F32", pairs);
    CHECK(std::memcmp(amounts.data(), personascope_codes_values(wanted.get()), pairs * 4) == 0);
    for (personascope_tensor* tensor : {offsets, values, again}) personascope_tensor_destroy(tensor);
  }
}

TEST(statistics_are_those_of_arrays) {
  for (const char* device : devices()) {
    const Sae host = make_sae("cpu"), sae = make_sae(device);
    personascope_stats* raw[3] = {};
    for (auto& one : raw) CHECK_EQ(personascope_stats_create(kLatents, 0, &one), PERSONASCOPE_OK);
    const Stats wanted(raw[0], personascope_stats_destroy), found(raw[1], personascope_stats_destroy),
        through(raw[2], personascope_stats_destroy);
    CHECK_EQ(personascope_stats_add(wanted.get(), host.get(), kInputs.data(), kTokens, nullptr),
             PERSONASCOPE_OK);
    personascope_device_stats* made[2] = {};
    for (auto& one : made)
      CHECK_EQ(personascope_device_stats_create(device, kLatents, &one), PERSONASCOPE_OK);
    const DeviceStats before(made[0], personascope_device_stats_destroy),
        after(made[1], personascope_device_stats_destroy);
    const Tensor x = on(device, kInputs, {kTokens, kWidth});
    CHECK_EQ(personascope_device_stats_add(before.get(), sae.get(), slice(x, 0, 0, 30).get()),
             PERSONASCOPE_OK);
    CHECK_EQ(personascope_device_stats_add_codes(before.get(), encode(sae, slice(x, 0, 30, kTokens)).get()),
             PERSONASCOPE_OK);
    CHECK_EQ(personascope_device_stats_read(before.get(), found.get()), PERSONASCOPE_OK);
    CHECK_EQ(personascope_stats_add_tensor(through.get(), sae.get(), x.get(), nullptr), PERSONASCOPE_OK);
    for (const Stats* one : {&found, &through}) {
      std::uint64_t rows[2] = {};
      std::vector<double> sums[2], squares[2], counts[2];
      std::vector<float> largest[2];
      const Stats* both[2] = {&wanted, one};
      for (int i = 0; i < 2; ++i) {
        for (auto* values : {&sums[i], &squares[i], &counts[i]}) values->resize(kLatents);
        largest[i].resize(kLatents);
        CHECK_EQ(personascope_stats_read(both[i]->get(), &rows[i], sums[i].data(), squares[i].data(),
                                         counts[i].data(), largest[i].data()),
                 PERSONASCOPE_OK);
      }
      CHECK(rows[0] == kTokens && rows[1] == kTokens);
      CHECK(sums[0] == sums[1] && squares[0] == squares[1] && counts[0] == counts[1] &&
            largest[0] == largest[1]);
    }
    // A difference of halves of the tokens.
    CHECK_EQ(personascope_device_stats_add(after.get(), sae.get(), slice(x, 0, 0, 35).get()),
             PERSONASCOPE_OK);
    personascope_stats* half = nullptr;
    CHECK_EQ(personascope_stats_create(kLatents, 0, &half), PERSONASCOPE_OK);
    CHECK_EQ(personascope_stats_add(half, host.get(), kInputs.data(), 35, nullptr), PERSONASCOPE_OK);
    std::vector<double> delta(kLatents), effect(kLatents), host_delta(kLatents);
    CHECK_EQ(personascope_device_stats_difference(before.get(), after.get(), delta.data(), effect.data()),
             PERSONASCOPE_OK);
    CHECK_EQ(personascope_stats_diff(wanted.get(), half, 0, 0.95, 0, host_delta.data(), nullptr, nullptr,
                                     nullptr, nullptr, nullptr),
             PERSONASCOPE_OK);
    CHECK(delta == host_delta);
    personascope_stats_destroy(half);
    personascope_stats* grouped = nullptr;
    CHECK_EQ(personascope_stats_create(kLatents, 1, &grouped), PERSONASCOPE_OK);
    CHECK(failed_with(personascope_device_stats_read(before.get(), grouped), PERSONASCOPE_INVALID_ARGUMENT,
                      "neither examples nor groups"));
    personascope_stats_destroy(grouped);
  }
}

TEST(rows_are_steered_where_they_lie) {
  // The unit vector of one dimension: formulas are exact.
  std::vector<float> vector(kWidth, 0.0f);
  vector[4] = 1;
  const float amount = 0.75f, low = -0.25f, high = 0.5f;
  for (const char* device : devices())
    for (std::int32_t operation = PERSONASCOPE_ADD; operation <= PERSONASCOPE_PROJECT; ++operation) {
      const Tensor whole = on(device, kInputs, {kTokens, kWidth});
      const Tensor x = slice(whole, 0, 10, 20);
      personascope_steering steering = {};
      steering.struct_size = sizeof steering;
      steering.operation = operation;
      steering.width = kWidth;
      steering.vectors = vector.data();
      steering.amounts = &amount;
      steering.low = &low;
      steering.high = &high;
      CHECK_EQ(personascope_steer(x.get(), &steering), PERSONASCOPE_OK);
      const auto found = read<float>(whole.get(), "F32", kTokens * kWidth);
      for (std::size_t t = 0; t < kTokens; ++t)
        for (std::size_t i = 0; i < kWidth; ++i) {
          float wanted = kInputs[t * kWidth + i];
          if (t >= 10 && t < 20) {
            if (operation == PERSONASCOPE_PROJECT && i != 4) wanted = 0;
            if (operation == PERSONASCOPE_ADD && i == 4) wanted += amount;
            if (operation == PERSONASCOPE_ABLATE && i == 4) wanted = 0;
            if (operation == PERSONASCOPE_CLAMP && i == 4) wanted = std::fmin(std::fmax(wanted, low), high);
          }
          CHECK_CLOSE(found[t * kWidth + i], wanted, 1e-6);
        }
      steering.width = kWidth - 1;
      CHECK(failed_with(personascope_steer(x.get(), &steering), PERSONASCOPE_INVALID_ARGUMENT, "width 24"));
      steering.width = kWidth;
      steering.operation = 4;
      CHECK(failed_with(personascope_steer(x.get(), &steering), PERSONASCOPE_INVALID_ARGUMENT, "0 to 3"));
      steering.struct_size = 8;
      CHECK(
          failed_with(personascope_steer(x.get(), &steering), PERSONASCOPE_INVALID_ARGUMENT, "struct_size"));
    }
}

TEST(what_does_not_fit_is_refused) {
  for (const char* device : devices()) {
    const Sae sae = make_sae(device);
    personascope_device_codes* none = nullptr;
    CHECK(failed_with(
        personascope_sae_encode_tensor(sae.get(), on(device, kInputs, {kWidth, kTokens}).get(), &none),
        PERSONASCOPE_INVALID_ARGUMENT, "[24, 70], expected a last axis of dModel 24"));
    CHECK(none == nullptr);
    CHECK_EQ(personascope_sae_encode_tensor(sae.get(), make_tensor(device, "I32", {4, kWidth}).get(), &none),
             PERSONASCOPE_FORMAT);
    std::vector<float> bad = kInputs;
    bad[7 * kWidth + 3] = INFINITY;
    CHECK(failed_with(
        personascope_sae_encode_tensor(sae.get(), on(device, bad, {kTokens, kWidth}).get(), &none),
        PERSONASCOPE_NON_FINITE, "7"));
    const Codes codes = encode(sae, on(device, kInputs, {kTokens, kWidth}));
    CHECK(failed_with(personascope_sae_decode_tensor(sae.get(), codes.get(), nullptr,
                                                     make_tensor(device, "F32", {kTokens - 1, kWidth}).get()),
                      PERSONASCOPE_INVALID_ARGUMENT, "expected F32 [70, 24]"));
    CHECK(failed_with(personascope_sae_decode_tensor(sae.get(), codes.get(), nullptr,
                                                     make_tensor(device, "BF16", {kTokens, kWidth}).get()),
                      PERSONASCOPE_INVALID_ARGUMENT, "BF16"));
    personascope_device_stats* stats = nullptr;
    CHECK_EQ(personascope_device_stats_create(device, kLatents + 1, &stats), PERSONASCOPE_OK);
    CHECK_EQ(personascope_device_stats_add_codes(stats, codes.get()), PERSONASCOPE_INVALID_ARGUMENT);
    personascope_device_stats_destroy(stats);
    if (std::strcmp(device, "cpu") == 0) continue;
    // Two devices.
    const Sae host = make_sae("cpu");
    CHECK(failed_with(
        personascope_sae_encode_tensor(host.get(), on(device, kInputs, {kTokens, kWidth}).get(), &none),
        PERSONASCOPE_INVALID_ARGUMENT, "activations lie on cuda:0, the SAE is on cpu"));
    CHECK(failed_with(personascope_sae_decode_tensor(host.get(), codes.get(), nullptr,
                                                     make_tensor("cpu", "F32", {kTokens, kWidth}).get()),
                      PERSONASCOPE_INVALID_ARGUMENT, "codes lie on cuda:0"));
  }
}

TEST(a_full_gpu_decodes_on_the_host) {
  if (!personascope::cuda_plugin()) return;
  const Sae host = make_sae("cpu"), sae = make_sae("cuda:0");
  const Codes codes = encode(sae, on("cuda:0", kInputs, {kTokens, kWidth}));
  // Everything that is left, in pieces of falling size.
  std::vector<Tensor> all;
  for (std::uint64_t piece = std::uint64_t{1} << 40; piece >= 1024; piece /= 2)
    for (;;) {
      personascope_tensor* made = nullptr;
      const personascope_status status = personascope_tensor_create("cuda:0", "U8", &piece, 1, &made);
      if (status == PERSONASCOPE_OUT_OF_MEMORY) break;
      CHECK_EQ(status, PERSONASCOPE_OK);
      if (status != PERSONASCOPE_OK) return;
      all.emplace_back(made, personascope_tensor_destroy);
    }
  CHECK(std::strstr(personascope_last_error(), "asked for") &&
        std::strstr(personascope_last_error(), "free"));
  const Codes same = encode(host, on("cpu", kInputs, {kTokens, kWidth}));
  const Tensor expected = make_tensor("cpu", "F32", {kTokens, kWidth}),
               out = make_tensor("cpu", "F32", {kTokens, kWidth});
  CHECK_EQ(personascope_sae_decode_tensor(host.get(), same.get(), nullptr, expected.get()), PERSONASCOPE_OK);
  for (int turn = 0; turn < 2; ++turn) {
    CHECK_EQ(personascope_sae_decode_tensor(sae.get(), codes.get(), nullptr, out.get()), PERSONASCOPE_OK);
    CHECK(std::memcmp(personascope_tensor_data(out.get()), personascope_tensor_data(expected.get()),
                      kTokens * kWidth * sizeof(float)) == 0);
    all.clear();  // the second time there is room again
  }
}

TEST(two_gpus) {
  if (personascope_cuda_devices(nullptr) < 2) return;
  const Sae first = make_sae("cuda:0"), second = make_sae("cuda:1");
  const Tensor x = on("cuda:1", kInputs, {kTokens, kWidth});
  personascope_device_codes* none = nullptr;
  CHECK(failed_with(personascope_sae_encode_tensor(first.get(), x.get(), &none),
                    PERSONASCOPE_INVALID_ARGUMENT, "activations lie on cuda:1, the SAE is on cuda:0"));
  const Codes codes = encode(second, x);
  const Tensor wrong = make_tensor("cuda:0", "F32", {kTokens, kWidth});
  CHECK_EQ(personascope_sae_decode_tensor(second.get(), codes.get(), nullptr, wrong.get()),
           PERSONASCOPE_INVALID_ARGUMENT);
  CHECK_EQ(personascope_sae_decode_tensor(first.get(), codes.get(), nullptr, wrong.get()),
           PERSONASCOPE_INVALID_ARGUMENT);
  personascope_device_stats* stats = nullptr;
  CHECK_EQ(personascope_device_stats_create("cuda:0", kLatents, &stats), PERSONASCOPE_OK);
  CHECK_EQ(personascope_device_stats_add_codes(stats, codes.get()), PERSONASCOPE_INVALID_ARGUMENT);
  personascope_device_stats_destroy(stats);
  // Copies go anywhere.
  CHECK_EQ(personascope_tensor_copy(x.get(), wrong.get()), PERSONASCOPE_OK);
  CHECK(read<float>(wrong.get(), "F32", kTokens * kWidth) == kInputs);
}

TEST(specs_of_devices) {
  personascope_sae_spec spec = {};
  spec.struct_size = sizeof spec;
  spec.latents = kLatents;
  spec.width = kWidth;
  spec.k = kMost;
  spec.w_enc = kEncoder.data();
  spec.w_dec = kDecoder.data();
  spec.b_enc = kBias.data();
  spec.b_dec = kCentre.data();
  spec.device = "cuda:4096";
  personascope_sae* made = nullptr;
  CHECK_EQ(personascope_sae_create_from_spec(&spec, &made), PERSONASCOPE_NOT_FOUND);
  CHECK_EQ(personascope_sae_load_on("/nowhere", "gpu", &made), PERSONASCOPE_INVALID_ARGUMENT);
  // As a program that was compiled before there were devices has it.
  spec.struct_size = offsetof(personascope_sae_spec, device);
  CHECK_EQ(personascope_sae_create_from_spec(&spec, &made), PERSONASCOPE_OK);
  CHECK(std::strcmp(personascope_sae_device(made), "cpu") == 0);
  personascope_sae_destroy(made);
  spec.struct_size = sizeof spec;
  // fp32 is the CPU's.
  spec.device = "auto";
  spec.precision = PERSONASCOPE_FP32;
  CHECK_EQ(personascope_sae_create_from_spec(&spec, &made), PERSONASCOPE_OK);
  CHECK(std::strcmp(personascope_sae_device(made), "cpu") == 0);
  personascope_sae_destroy(made);
  if (!personascope::cuda_plugin()) return;
  spec.device = "cuda";
  CHECK(failed_with(personascope_sae_create_from_spec(&spec, &made), PERSONASCOPE_INVALID_ARGUMENT,
                    "'fp32' is the CPU's"));
}
