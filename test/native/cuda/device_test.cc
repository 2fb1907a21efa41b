// What runs on a GPU against the CPU: the same bits. Without a device nothing is tested, and the exit code
// is 77.
#include <cstdlib>
#include <memory>

#include "native/core/plugin.h"
#include "native/kernels/decode/decode.h"
#include "native/kernels/latent_stats/difference.h"
#include "native/kernels/latent_stats/latent_stats.h"
#include "native/kernels/steer/steer.h"
#include "native/sae/sae.h"
#include "test/native/kernels/encode_cases.h"

// Asked before check.h's main() runs any test.
namespace {
const bool kDevice = [] {
  if (personascope::cuda_plugin()) return true;
  std::printf("skipped: %s\n", personascope::cuda_plugin_state().reason.c_str());
  std::exit(77);
}();
}  // namespace

#include "test/native/check.h"

using namespace personascope;

namespace {

const DevicePlugin& plugin() {
  return *cuda_plugin();
}
void must(int status) {
  check_device(plugin(), status);
}

// PERSONASCOPE_TEST_SMALL: where a GPU is emulated, fewer tokens do, and most tests leave out what has the
// most latents.
const bool kSmall = std::getenv("PERSONASCOPE_TEST_SMALL") != nullptr;

std::vector<encode_cases::Case> all_cases(bool many_latents = true) {
  std::vector<encode_cases::Case> cases = encode_cases::all();
  if (!kSmall) return cases;
  if (!many_latents) std::erase_if(cases, [](const auto& c) { return c.latents > 6000; });
  for (encode_cases::Case& c : cases) {
    const std::size_t most = std::max<std::size_t>(3, 10000 / c.latents);
    if (c.tokens > most) c = c.tokens_of(0, most);
  }
  return cases;
}

using Encoder = std::unique_ptr<DeviceEncoder, void (*)(DeviceEncoder*)>;
using Codes = std::unique_ptr<DeviceCodes, void (*)(DeviceCodes*)>;

// Memory of the device with a copy of what the host has.
template <class T>
class OnDevice {
 public:
  explicit OnDevice(const std::vector<T>& values) : bytes_(values.size() * sizeof(T)) {
    must(plugin().allocate(0, bytes_ + 64, "a test", &memory_));
    must(plugin().copy(0, memory_, values.data(), bytes_));
  }
  ~OnDevice() { plugin().release(0, memory_); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
  T* data() const { return static_cast<T*>(memory_); }
  std::vector<T> read() const {
    std::vector<T> values(bytes_ / sizeof(T));
    must(plugin().copy(0, values.data(), memory_, bytes_));
    return values;
  }

 private:
  void* memory_ = nullptr;
  std::size_t bytes_;
};

Encoder encoder_of(const encode_cases::Case& c, DevicePrecision precision, std::uint64_t weight_bytes = 0,
                   std::uint64_t workspace = 0) {
  const Selection selection = c.selection();
  DeviceEncoderArgs args = {};
  args.precision = precision;
  args.rows = {c.rows.data(), Place::host, c.dtype, c.view().stride, c.latents, c.width};
  args.bias = c.bias.data();
  args.centre = c.centre.empty() ? nullptr : c.centre.data();
  args.mean = c.mean.empty() ? nullptr : c.mean.data();
  args.selection = &selection;
  args.weight_bytes = weight_bytes;
  args.workspace_bytes = workspace;
  DeviceEncoder* made = nullptr;
  must(plugin().encoder_create(&args, &made));
  return Encoder(made, plugin().encoder_destroy);
}

Codes encode_on(DeviceEncoder& encoder, const encode_cases::Case& c, DeviceKernel kernel,
                const float* device_x, DeviceEncodeCount* count = nullptr) {
  DeviceEncodeArgs args = {};
  args.x = device_x ? device_x : c.x.data();
  args.place = device_x ? Place::device : Place::host;
  args.tokens = c.tokens;
  args.stride = c.stride;
  args.k = c.k;
  args.kernel = kernel;
  DeviceCodes* codes = nullptr;
  must(plugin().encode(&encoder, &args, &codes, count));
  return Codes(codes, plugin().codes_destroy);
}

std::vector<std::vector<Code>> read(const DeviceCodes& codes) {
  DeviceCodesView view = {};
  must(plugin().codes_view(&codes, &view));
  std::vector<std::uint64_t> offsets(view.tokens + 1);
  std::vector<std::uint32_t> indices(view.pairs);
  std::vector<float> values(view.pairs);
  must(plugin().codes_read(&codes, offsets.data(), indices.data(), values.data()));
  std::vector<std::vector<Code>> all(view.tokens);
  for (std::size_t t = 0; t < all.size(); ++t)
    for (std::uint64_t i = offsets[t]; i < offsets[t + 1]; ++i) all[t].push_back({values[i], indices[i]});
  return all;
}

const char* name_of(DeviceKernel kernel) {
  constexpr const char* kNames[] = {"automatic", "portable", "narrow", "hopper", "hopper pair"};
  return kNames[static_cast<int>(kernel)];
}

void compare(const Codes& codes, const std::vector<std::vector<Code>>& wanted, const std::string& what) {
  const std::string difference = encode_cases::difference(read(*codes), wanted);
  if (!difference.empty()) check::report(__FILE__, __LINE__, what + ": " + difference);
}

struct Sparse {
  std::vector<std::uint64_t> offsets = {0};
  std::vector<std::uint32_t> small_offsets = {0}, indices;
  std::vector<float> values;
  CodesView view() const {
    return {offsets.size() - 1, indices.data(), values.data(), small_offsets.data(), 0, nullptr};
  }
  Codes on_device() const {
    DeviceCodes* codes = nullptr;
    must(plugin().codes_create(0, offsets.size() - 1, offsets.data(), indices.data(), values.data(), &codes));
    return Codes(codes, plugin().codes_destroy);
  }
};

Sparse sparse(std::size_t tokens, std::size_t latents, std::size_t most, std::uint64_t seed) {
  Sparse codes;
  const Philox random(seed, 3);
  for (std::size_t t = 0; t < tokens; ++t) {
    const std::size_t count = random.words(t * 1000)[0] % (most + 1);
    for (std::size_t i = 0; i < count; ++i) {
      const auto words = random.words(t * 1000 + 1 + i);
      codes.indices.push_back(words[0] % static_cast<std::uint32_t>(latents));
      codes.values.push_back(
          std::ldexp(1 + static_cast<float>(words[1] >> 9) * 0x1p-23f, static_cast<int>(words[2] % 20) - 10));
    }
    codes.offsets.push_back(codes.indices.size());
    codes.small_offsets.push_back(static_cast<std::uint32_t>(codes.indices.size()));
  }
  return codes;
}

}  // namespace

namespace {

void compare_encodings(const std::vector<DeviceKernel>& kernels, bool many_latents) {
  for (const encode_cases::Case& c : all_cases(many_latents)) {
    const auto wanted = encode_cases::expected(c);
    for (DevicePrecision precision : {DevicePrecision::bf16, DevicePrecision::int8}) {
      const Encoder encoder = encoder_of(c, precision);
      for (DeviceKernel kernel : kernels) {
        if (kernel == DeviceKernel::narrow && c.tokens > 16) continue;
        compare(encode_on(*encoder, c, kernel, nullptr), wanted,
                c.name + (precision == DevicePrecision::int8 ? ", int8, " : ", bf16, ") + name_of(kernel));
      }
    }
  }
}

}  // namespace

TEST(encode_has_the_cpu_s_bits) {
  std::vector<DeviceKernel> kernels = {DeviceKernel::portable, DeviceKernel::narrow};
  if (!kSmall) kernels.push_back(DeviceKernel::automatic);  // one of them, or Hopper's
  compare_encodings(kernels, true);
}

TEST(hopper_kernels_have_the_cpu_s_bits) {
  DeviceInfo info = {};
  must(plugin().device_info(0, &info));
  if (info.hopper_kernels) compare_encodings({DeviceKernel::hopper, DeviceKernel::hopper_pair}, false);
}

TEST(streamed_weights_and_small_batches_change_nothing) {
  for (const encode_cases::Case& c : all_cases(false)) {
    if (c.latents < 256) continue;
    const auto wanted = encode_cases::expected(c);
    for (DevicePrecision precision : {DevicePrecision::bf16, DevicePrecision::int8}) {
      const Encoder streamed = encoder_of(c, precision, c.rows.size() / 2);
      DeviceEncoderInfo info = {};
      must(plugin().encoder_info(streamed.get(), &info));
      CHECK_EQ(info.streamed, 1);
      compare(encode_on(*streamed, c, DeviceKernel::automatic, nullptr), wanted, c.name + ", streamed");
      const Encoder batched = encoder_of(c, precision, 0, 1 << 20);
      const OnDevice<float> x(c.x);
      compare(encode_on(*batched, c, DeviceKernel::automatic, x.data()), wanted, c.name + ", in batches");
    }
  }
}

TEST(one_encoder_for_many_sizes) {
  const int tokens = kSmall ? 300 : 700;
  const auto c =
      encode_cases::make("sizes", kSmall ? 300 : 3000, 64, static_cast<std::size_t>(tokens), 8, Dtype::bf16);
  const auto wanted = encode_cases::expected(c);
  const Encoder encoder = encoder_of(c, DevicePrecision::int8);
  for (const auto& [begin, end] : {std::pair{0, 1}, {1, 17}, {17, 40}, {40, tokens}, {3, 5}, {0, tokens}}) {
    const auto part = c.tokens_of(static_cast<std::size_t>(begin), static_cast<std::size_t>(end));
    compare(encode_on(*encoder, part, DeviceKernel::automatic, nullptr),
            {wanted.begin() + begin, wanted.begin() + end},
            "tokens " + std::to_string(begin) + " to " + std::to_string(end));
  }
}

TEST(overflow_runs_again_and_is_counted) {
  for (const encode_cases::Case& c : all_cases()) {
    if (c.name.find("rising") == std::string::npos) continue;
    DeviceEncodeCount count = {};
    const Encoder encoder = encoder_of(c, DevicePrecision::int8);
    compare(encode_on(*encoder, c, DeviceKernel::automatic, nullptr, &count), encode_cases::expected(c),
            c.name);
    CHECK(count.repeated > 0 && count.waves > count.repeated);
  }
}

TEST(bad_input_is_located_and_the_encoder_goes_on) {
  auto c = encode_cases::make("bad", 500, 70, 30, 5, Dtype::f32);
  const auto wanted = encode_cases::expected(c);
  const Encoder encoder = encoder_of(c, DevicePrecision::int8);
  auto bad = c;
  bad.x[20 * bad.stride + 13] = NAN;
  bad.x[25 * bad.stride] = INFINITY;
  try {
    encode_on(*encoder, bad, DeviceKernel::automatic, nullptr);
    CHECK(false);
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::non_finite);
    CHECK(std::string(error.what()).find("token 20, dimension 13") != std::string::npos);
  }
  bad = c;
  for (std::size_t i = 0; i < bad.width; ++i) bad.x[7 * bad.stride + i] = 3e37f;
  CHECK_THROWS(encode_on(*encoder, bad, DeviceKernel::automatic, nullptr), ErrorCode::non_finite);
  bad = c;
  bad.k = 501;
  CHECK_THROWS(encode_on(*encoder, bad, DeviceKernel::automatic, nullptr), ErrorCode::invalid_argument);
  CHECK_THROWS(encode_on(*encoder, c, DeviceKernel::narrow, nullptr), ErrorCode::invalid_argument);
  auto broken = c;
  broken.weights[3 * broken.width + 2] = INFINITY;
  encode_cases::store_rows(broken);
  CHECK_THROWS(encoder_of(broken, DevicePrecision::int8), ErrorCode::non_finite);
  compare(encode_on(*encoder, c, DeviceKernel::automatic, nullptr), wanted, "after errors");
}

TEST(out_of_memory_names_the_request_and_the_device_goes_on) {
  DeviceInfo info = {};
  must(plugin().device_info(0, &info));
  void* memory = nullptr;
  try {
    must(plugin().allocate(0, 2 * info.total_bytes, "something enormous", &memory));
    CHECK(false);
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::out_of_memory);
    CHECK(std::string(error.what()).find("something enormous") != std::string::npos);
    CHECK(std::string(error.what()).find("free") != std::string::npos);
  }
  must(plugin().allocate(0, 1024, "something small", &memory));
  plugin().release(0, memory);
}

TEST(a_check_may_abort) {
  const auto c = encode_cases::make("abort", 30000, 64, 20, 5, Dtype::bf16);
  const Encoder encoder = encoder_of(c, DevicePrecision::bf16);
  DeviceEncodeArgs args = {};
  args.x = c.x.data();
  args.tokens = c.tokens;
  args.stride = c.stride;
  args.k = c.k;
  args.check = {[](void*) { return 1; }, nullptr};
  DeviceCodes* codes = nullptr;
  CHECK_EQ(plugin().encode(encoder.get(), &args, &codes, nullptr), 1 + static_cast<int>(ErrorCode::aborted));
  compare(encode_on(*encoder, c, DeviceKernel::automatic, nullptr), encode_cases::expected(c),
          "after an abort");
}

TEST(pre_activations_have_the_cpu_s_bits) {
  const auto c = encode_cases::make("pre-activations", 500, 130, 9, 5, Dtype::f16);
  EncoderWeights cpu(c.view(), c.bias.data(), c.centre.data(), {});
  const std::vector<std::uint32_t> chosen = {499, 0, 7, 7, 123};
  std::vector<float> wanted(c.tokens * chosen.size()), found(wanted.size());
  pre_activations(cpu, c.x.data(), c.tokens, c.stride, chosen.data(), chosen.size(), wanted.data());
  const Encoder encoder = encoder_of(c, DevicePrecision::int8);
  DeviceEncodeArgs args = {};
  args.x = c.x.data();
  args.tokens = c.tokens;
  args.stride = c.stride;
  must(plugin().pre_activations(encoder.get(), &args, chosen.data(), chosen.size(), found.data()));
  CHECK(std::memcmp(found.data(), wanted.data(), wanted.size() * sizeof(float)) == 0);
}

TEST(decode_has_the_cpu_s_bits) {
  for (Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::f16})
    for (std::size_t width : {1, 33, 64, 1000, 2304}) {
      const auto c = encode_cases::make("decode", 700, width, 1, 1, dtype);
      const Sparse codes = sparse(37, c.latents, 70, width);
      const auto bias = encode_cases::gaussians(width, 8);
      std::vector<float> wanted(37 * width), found(37 * (width + 5), -7.0f);
      DecodeArgs cpu;
      cpu.codes = codes.view();
      cpu.weights = c.rows.data();
      cpu.dtype = dtype;
      cpu.latents = c.latents;
      cpu.width = cpu.stride = cpu.out_stride = width;
      cpu.bias = bias.data();
      cpu.out = wanted.data();
      decode(cpu);
      const OnDevice<std::uint8_t> weights(c.rows);
      const Codes on_device = codes.on_device();
      DeviceDecodeArgs args = {};
      args.weights = {weights.data(), Place::device, dtype, c.view().stride, c.latents, width};
      args.bias = bias.data();
      args.out = found.data();
      args.out_stride = width + 5;
      must(plugin().decode(&args, on_device.get()));
      for (std::size_t t = 0; t < 37; ++t) {
        CHECK(std::memcmp(&found[t * (width + 5)], &wanted[t * width], width * sizeof(float)) == 0);
        CHECK(found[t * (width + 5) + width] == -7.0f);
      }
      args.weights.rows = 3;  // codes of latents that are not there
      CHECK_EQ(plugin().decode(&args, on_device.get()), 1 + static_cast<int>(ErrorCode::invalid_argument));
    }
}

TEST(steering_has_the_cpu_s_bits) {
  const Philox random(17, 0);
  for (std::size_t width : {5, 64, 1000, 20000})
    for (SteerKind kind : {SteerKind::add, SteerKind::ablate, SteerKind::clamp, SteerKind::project})
      for (std::size_t dimensions : {1, 3}) {
        const std::size_t rows = 11, stride = width + 2, groups = 2;
        auto x = encode_cases::gaussians(rows * stride, width);
        const auto centre = encode_cases::gaussians(width, 21);
        // Orthonormal: each vector is one of its own dimensions.
        std::vector<float> vectors(groups * dimensions * width), amounts, low, high;
        for (std::size_t j = 0; j < groups * dimensions; ++j) {
          const std::size_t own = j % dimensions, place = (own * 2 + j / dimensions) % width;
          vectors[j * width + place] = own % 2 ? -1.0f : 1.0f;
          amounts.push_back(static_cast<float>(random.gaussian(j)));
          low.push_back(-0.25f);
          high.push_back(j % 2 ? INFINITY : 0.5f);
        }
        std::vector<std::uint8_t> mask(rows, 1);
        mask[4] = 0;
        std::vector<std::uint32_t> group(rows);
        for (std::size_t row = 0; row < rows; ++row) group[row] = row % 2;
        const OnDevice<float> on_device(x);
        SteerArgs cpu;
        cpu.kind = kind;
        cpu.x = x.data();
        cpu.rows = rows, cpu.width = width, cpu.stride = stride;
        cpu.mask = mask.data(), cpu.group = group.data();
        cpu.groups = groups, cpu.dimensions = dimensions;
        cpu.vectors = vectors.data(), cpu.amounts = amounts.data();
        cpu.low = low.data(), cpu.high = high.data(), cpu.centre = centre.data();
        steer(cpu);
        DeviceSteerArgs args = {0,
                                static_cast<int>(kind),
                                on_device.data(),
                                rows,
                                width,
                                stride,
                                mask.data(),
                                group.data(),
                                groups,
                                dimensions,
                                vectors.data(),
                                amounts.data(),
                                low.data(),
                                high.data(),
                                centre.data()};
        must(plugin().steer(&args));
        CHECK(on_device.read() == x);
      }
}

TEST(statistics_are_the_cpu_s) {
  const std::size_t latents = 500;
  LatentStats cpu[2] = {LatentStats({latents}), LatentStats({latents})};
  DeviceStats* stats[2] = {};
  for (int m = 0; m < 2; ++m) {
    must(plugin().stats_create(0, latents, &stats[m]));
    for (std::uint64_t round = 0; round < 3; ++round) {
      const Sparse codes = sparse(2000, latents, 40, 10 * round + static_cast<std::uint64_t>(m));
      cpu[m].add(codes.view(), nullptr, nullptr);
      must(plugin().stats_add(stats[m], codes.on_device().get()));
    }
    const LatentStatsState wanted = cpu[m].state();
    std::vector<std::uint64_t> sum(2 * latents), squares(3 * latents), active(latents);
    std::vector<float> max(latents);
    DeviceTotals totals = {0, sum.data(), squares.data(), active.data(), max.data(), 0, nullptr, nullptr};
    must(plugin().stats_read(stats[m], &totals));
    CHECK(totals.rows == wanted.rows && totals.spilled == 0);
    CHECK(sum == wanted.sum && squares == wanted.squares && active == wanted.active && max == wanted.max);
  }
  const LatentDiff wanted = diff_latents(cpu[0], {&cpu[1]}, {});
  std::vector<double> delta(latents), effect(latents);
  must(plugin().stats_difference(stats[0], stats[1], delta.data(), effect.data()));
  for (std::size_t l = 0; l < latents; ++l) {
    CHECK(delta[l] == wanted.delta[l]);
    if (!std::isnan(wanted.effect_size[l])) CHECK_CLOSE(effect[l], wanted.effect_size[l], 1e-12);
  }

  // Values outside the window come back; bad ones change nothing.
  Sparse odd;
  odd.indices = {3, 4, 3};
  odd.values = {1e30f, 1.0f, 1e-30f};
  odd.offsets.push_back(3);
  must(plugin().stats_add(stats[0], odd.on_device().get()));
  std::vector<std::uint64_t> sum(2 * latents), squares(3 * latents), active(latents);
  std::vector<float> max(latents), spilled_values(5);
  std::vector<std::uint32_t> spilled(5);
  DeviceTotals totals = {0,          sum.data(), squares.data(), active.data(),
                         max.data(), 5,          spilled.data(), spilled_values.data()};
  must(plugin().stats_read(stats[0], &totals));
  CHECK_EQ(totals.spilled, 2u);
  CHECK(spilled[0] == 3 && spilled[1] == 3 && max[3] == 1e30f);
  CHECK((spilled_values[0] == 1e30f) != (spilled_values[1] == 1e30f));
  const std::uint64_t rows = totals.rows;
  for (float bad : {-1.0f, NAN, INFINITY}) {
    odd.values[1] = bad;
    CHECK(plugin().stats_add(stats[0], odd.on_device().get()) != 0);
  }
  odd.values[1] = 1;
  odd.indices[1] = 500;
  CHECK(plugin().stats_add(stats[0], odd.on_device().get()) != 0);
  must(plugin().stats_read(stats[0], &totals));
  CHECK(totals.rows == rows && totals.spilled == 2);
  for (DeviceStats* one : stats) plugin().stats_destroy(one);
}

TEST(an_sae_encodes_there) {
  for (const encode_cases::Case& c : all_cases(false)) {
    if (c.rule != SelectionRule::topk || !c.scale.empty() || c.centre.empty()) continue;
    std::vector<float> x;
    for (std::size_t t = 0; t < c.tokens; ++t)
      x.insert(x.end(), c.x.begin() + static_cast<std::ptrdiff_t>(t * c.stride),
               c.x.begin() + static_cast<std::ptrdiff_t>(t * c.stride + c.width));
    const auto spec = [&](bool cuda) {
      SaeSpec made = topk_spec(c.latents, c.width, c.k, true, c.weights.data(), EncoderLayout::latent_major,
                               c.weights.data(), c.bias.data(), c.centre.data());
      made.device.cuda = cuda;
      return made;
    };
    const Sae cpu(spec(false)), gpu(spec(true));
    const SparseCodes wanted = cpu.encode(x.data(), c.tokens, c.width),
                      found = gpu.encode(x.data(), c.tokens, c.width);
    CHECK(found.offsets == wanted.offsets && found.indices == wanted.indices &&
          found.values == wanted.values);
  }
}
