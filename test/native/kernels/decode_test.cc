#include "native/kernels/decode/decode.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "native/core/half.h"
#include "test/native/check.h"
#include "test/native/kernels/variants.h"

using namespace personascope;

namespace {

// Rows of some dtype that begin at an odd address, and the values that they stand for.
struct Rows {
  std::vector<std::uint8_t> bytes;
  std::vector<float> values;
  Rows(Dtype dtype, const std::vector<float>& wanted) : bytes(1), values(wanted) {
    for (float& value : values) {
      const auto bf16 = f32_to_bf16(value);
      // A finite fp16 made of the same bits, subnormals among them.
      const auto f16 = static_cast<std::uint16_t>(bf16 & 0xbfffu);
      if (dtype == Dtype::bf16) value = bf16_to_f32(bf16);
      if (dtype == Dtype::f16) value = f16_to_f32(f16);
      const void* from = &value;
      if (dtype == Dtype::bf16) from = &bf16;
      if (dtype == Dtype::f16) from = &f16;
      const std::size_t at = bytes.size();
      bytes.resize(at + dtype_size(dtype));
      std::memcpy(bytes.data() + at, from, dtype_size(dtype));
    }
  }
  const std::uint8_t* data() const { return bytes.data() + 1; }
};

void decode_case(Dtype dtype, std::size_t width, std::size_t tokens, bool packed, bool accumulate) {
  const std::size_t latents = 40, stride = width + width % 3, pitch = 9;
  const Rows weights(dtype, check::normal(latents * stride, width));
  const auto bias = check::normal(width, 2);
  const auto before = check::normal(tokens * (width + 1), 3);
  const auto noise = check::normal(tokens * pitch, 4);
  std::vector<std::uint32_t> indices, counts, offsets = {0};
  std::vector<float> values;
  for (std::size_t t = 0; t < tokens; ++t) {
    counts.push_back(static_cast<std::uint32_t>((t * 5) % (pitch + 1)));
    for (std::size_t c = 0; c < (packed ? counts[t] : pitch); ++c) {
      // beyond a row's count there is garbage, not to be read
      indices.push_back(c < counts[t] ? static_cast<std::uint32_t>((t * 7 + c * 11) % latents) : 4000000000u);
      values.push_back(noise[t * pitch + c]);
    }
    offsets.push_back(static_cast<std::uint32_t>(indices.size()));
  }
  DecodeArgs args;
  args.codes = packed ? CodesView{tokens, indices.data(), values.data(), offsets.data(), 0, nullptr}
                      : CodesView{tokens, indices.data(), values.data(), nullptr, pitch, counts.data()};
  args.weights = weights.data();
  args.dtype = dtype;
  args.latents = latents;
  args.width = width;
  args.stride = stride;
  args.bias = tokens == 3 ? nullptr : bias.data();
  args.out_stride = width + 1;
  args.accumulate = accumulate;
  std::vector<float> first;
  check::each_isa([&](Isa) {
    bool same = false;
    const auto found = check::each_thread_count(
        [&] {
          std::vector<float> out = before;
          args.out = out.data();
          decode(args);
          return out;
        },
        same);
    CHECK(same);
    if (first.empty()) first = found;
    CHECK(first == found);  // the same bits on every ISA
  });
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::size_t i = 0; i < width; ++i) {
      double wanted = (accumulate ? before[t * (width + 1) + i] : 0.0) + (args.bias ? bias[i] : 0.0);
      for (std::size_t c = 0; c < args.codes.count(t); ++c)
        wanted += static_cast<double>(values[args.codes.begin(t) + c]) *
                  weights.values[indices[args.codes.begin(t) + c] * stride + i];
      CHECK_CLOSE(first[t * (width + 1) + i], wanted, 1e-5);
    }
    CHECK(first[t * (width + 1) + width] == before[t * (width + 1) + width]);
  }
}

}  // namespace

TEST(decode_every_variant) {
  for (Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::f16})
    for (std::size_t width : {1, 3, 7, 8, 17, 31, 33, 63, 64, 65, 100, 130, 200})
      for (std::size_t tokens : {1, 3, 65})
        for (bool packed : {false, true})
          for (bool accumulate : {false, true}) decode_case(dtype, width, tokens, packed, accumulate);
}

TEST(rows_longer_than_a_page) {
  for (Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::f16})
    for (std::size_t width : {1024, 2100, 4133}) decode_case(dtype, width, 12, true, width == 2100);
}

TEST(decode_refuses_an_unknown_latent) {
  const std::uint32_t indices[2] = {3, 10}, offsets[3] = {0, 1, 2};
  const float values[2] = {1, 1}, weights[40] = {};
  float out[8] = {};
  DecodeArgs args;
  args.codes = {2, indices, values, offsets, 0, nullptr};
  args.weights = weights;
  args.latents = 10;
  args.width = args.stride = args.out_stride = 4;
  args.out = out;
  CHECK_THROWS(decode(args), ErrorCode::invalid_argument);
  args.latents = 11;
  args.dtype = Dtype::u16;
  CHECK_THROWS(decode(args), ErrorCode::invalid_argument);
}
