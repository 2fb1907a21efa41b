// Screening: its bounds, and what every selection rule and every kind of weights gives against float64.
#include "native/kernels/encode/screen.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "native/core/half.h"
#include "native/core/isa.h"
#include "native/core/random.h"
#include "native/core/thread_pool.h"
#include "native/kernels/encode/block.h"
#include "native/kernels/encode/int8_copy.h"
#include "native/kernels/encode/variants.h"
#include "test/native/check.h"

using namespace personascope;

namespace {

constexpr Precision kPrecisions[] = {Precision::fp32, Precision::bf16, Precision::int8};

std::vector<float> gaussian(std::size_t count, std::uint64_t seed) {
  const Philox random(seed, 0);
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>(random.gaussian(i));
  return values;
}

struct Data {
  std::size_t latents, width, tokens;
  std::vector<float> w, b, centre, x;
  Data(std::size_t n, std::size_t d, std::size_t t, std::uint64_t seed)
      : latents(n),
        width(d),
        tokens(t),
        w(gaussian(n * d, seed)),
        b(gaussian(n, seed + 1)),
        centre(gaussian(d, seed + 2)),
        x(gaussian(t * d, seed + 3)) {}
  RowView rows() const {
    return {reinterpret_cast<const std::uint8_t*>(w.data()), Dtype::f32, width * 4, latents, width};
  }
  EncoderWeights encoder(const Selection& selection = {}) const {
    return EncoderWeights(rows(), b.data(), centre.data(), selection);
  }
  // w x' in float64, and a bound on the rounding of its canonical value.
  struct Product {
    double value, rounding;
  };
  Product product(std::size_t token, std::size_t latent) const {
    double sum = 0, size = 0;
    for (std::size_t i = 0; i < width; ++i) {
      const float centred = x[token * width + i] - centre[i];
      sum += static_cast<double>(w[latent * width + i]) * centred;
      size += std::fabs(static_cast<double>(w[latent * width + i]) * centred);
    }
    return {sum, (static_cast<double>(width) / 64 + 10) * 0x1p-24 * (size + std::fabs(b[latent])) + 1e-40};
  }
};

std::vector<std::vector<Code>> encode_lists(const EncoderWeights& encoder, const Screen& screen,
                                            const Data& data, std::size_t k) {
  std::vector<std::vector<Code>> codes(data.tokens);
  EncodeArgs args;
  args.encoder = &encoder;
  args.screen = &screen;
  args.x = data.x.data();
  args.tokens = data.tokens;
  args.x_stride = data.width;
  args.k = k;
  args.codes = codes.data();
  encode(args);
  return codes;
}

bool same(const std::vector<std::vector<Code>>& a, const std::vector<std::vector<Code>>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& p, const auto& q) {
    return std::equal(p.begin(), p.end(), q.begin(), q.end(), [](const Code& c, const Code& d) {
      return c.latent == d.latent && std::memcmp(&c.value, &d.value, sizeof(float)) == 0;
    });
  });
}

// Runs body on every ISA.
template <class Body>
void every_isa(const Body& body) {
  const Isa before = active_isa();
  for (const Isa isa : kAllIsas) {
    if (!cpu_has(isa)) continue;
    set_isa(isa);
    body(std::string(isa_name(isa)));
  }
  set_isa(before);
}

// Screens every pair and counts bounds that do not hold the exact value or the canonical one.
std::size_t violations(const Data& data, Precision precision, const float* mean) {
  const EncoderWeights encoder = data.encoder();
  const auto screen = make_screen(encoder, precision, mean);
  const ScreenKernels& kernels = screen_kernels(precision);
  EncodeArgs args;
  args.encoder = &encoder;
  args.screen = screen.get();
  args.x = data.x.data();
  args.tokens = data.tokens;
  args.x_stride = data.width;
  Block block;
  block.load(encode_variants().active(), kernels, args, 0, data.tokens);
  const std::size_t slots = block.panels * block.group, capacity = data.latents + kListPadding;
  std::vector<float> upper(slots * capacity), lower(slots * capacity);
  std::vector<std::uint32_t> index(slots * capacity);
  std::vector<float> thresholds(slots, -std::numeric_limits<float>::infinity());
  std::vector<CandidateList> lists(slots);
  for (std::size_t t = 0; t < slots; ++t)
    lists[t] = {upper.data() + t * capacity, lower.data() + t * capacity, nullptr,
                index.data() + t * capacity, 0};
  // fp32 and bf16 kernels ask for every lane: places without a token are kept out by +Inf.
  for (std::size_t t = data.tokens; t < slots; ++t) thresholds[t] = std::numeric_limits<float>::infinity();
  std::vector<std::uint16_t> half(kernels.step * padded_width(data.width));
  ScreenArgs screening;
  screening.screen = screen.get();
  screening.width = precision == Precision::int8 ? padded_width(data.width) : data.width;
  screening.capacity = static_cast<std::uint32_t>(data.latents);
  for (std::size_t begin = 0; begin < data.latents; begin += kernels.step) {
    screening.begin = begin;
    screening.end = std::min(data.latents, begin + kernels.step);
    screening.weights = reinterpret_cast<const std::uint8_t*>(data.w.data() + begin * data.width);
    screening.weights_stride = data.width * 4;
    if (precision == Precision::int8) screening.weights = screen->copy->panel_of(begin);
    if (precision == Precision::bf16) {
      for (std::size_t l = begin; l < screening.end; ++l)
        for (std::size_t i = 0; i < data.width; ++i)
          half[(l - begin) * padded_width(data.width) + i] = f32_to_bf16(data.w[l * data.width + i]);
      screening.weights = reinterpret_cast<const std::uint8_t*>(half.data());
      screening.weights_stride = padded_width(data.width) * 2;
    }
    screening.wanted = reinterpret_cast<const char*>(screening.weights);
    screening.wanted_bytes = 256;
    for (std::size_t p = 0; p < block.panels; ++p) {
      screening.tokens = std::min(block.group, data.tokens - p * block.group);
      screening.panel = block.panel(p);
      screening.token_scale = block.scale.data() + p * block.group;
      screening.norm = block.norm.data() + p * block.group;
      screening.error = block.error.data() + p * block.group;
      screening.thresholds = thresholds.data() + p * block.group;
      screening.lists = lists.data() + p * block.group;
      kernels.screen(screening);
    }
  }
  std::size_t wrong = 0;
  std::vector<std::uint32_t> all(data.latents);
  for (std::size_t l = 0; l < data.latents; ++l) all[l] = static_cast<std::uint32_t>(l);
  std::vector<float> canonical(data.latents);
  for (std::size_t t = 0; t < data.tokens; ++t) {
    CHECK_EQ(lists[t].count, data.latents);
    pre_activations(encoder, data.x.data() + t * data.width, 1, data.width, all.data(), all.size(),
                    canonical.data());
    for (std::uint32_t i = 0; i < lists[t].count; ++i) {
      const std::uint32_t l = lists[t].index[i];
      const double exact = data.product(t, l).value + data.b[l];
      wrong += !(lists[t].lower[i] <= canonical[l] && canonical[l] <= lists[t].upper[i]);
      wrong += !(lists[t].lower[i] <= exact && exact <= lists[t].upper[i]);
      wrong += !(lists[t].lower[i] < lists[t].upper[i]);  // equal bounds stand for rescored latents
    }
  }
  return wrong;
}

// Tokens along what rounding the first rows to int8 leaves: there the bound is tight.
void aim_at_residuals(Data& data) {
  const EncoderWeights encoder = data.encoder();
  const auto screen = make_screen(encoder, Precision::int8, nullptr);
  const EncodeKernels& kernels = encode_reference;
  const std::size_t padded = padded_width(data.width);
  for (std::size_t t = 0; t < data.tokens; ++t) {
    std::vector<float> row(padded);
    kernels.widen(encoder.rows, t, row.data());
    kernels.rotate(row.data(), padded);
    const std::uint8_t* panel = screen->copy->panel_of(t) + t % kPanelLatents * 4;
    for (std::size_t i = 0; i < padded; ++i)
      row[i] -= screen->copy->scale[t] * static_cast<float>(panel[i / 4 * 4 * kPanelLatents + i % 4] - 128);
    // Back through the rotation: it is Hadamard after signs, its inverse signs after Hadamard.
    const auto flip = [&] {
      for (std::size_t i = 0; i < padded; ++i)
        if (rotation_sign(i / 16)) row[i] = -row[i];
    };
    flip();
    kernels.rotate(row.data(), padded);
    flip();
    for (std::size_t i = 0; i < data.width; ++i) data.x[t * data.width + i] = row[i] * 1000 + data.centre[i];
  }
}

}  // namespace

TEST(bounds_hold_for_random_and_adversarial_pairs) {
  const std::size_t n = 1000, d = 80, tokens = 160;
  std::vector<std::pair<std::string, Data>> kinds;
  kinds.emplace_back("gaussian", Data(n, d, tokens, 1));
  kinds.emplace_back("odd", Data(n, 77, tokens, 2));
  {
    Data data(n, d, tokens, 3);  // heavy tails, row lengths over many decades
    for (std::size_t i = 0; i < data.w.size(); ++i)
      data.w[i] = data.w[i] * data.w[i] * data.w[i] * std::pow(10.0f, static_cast<float>(i / d % 25) - 12);
    for (float& x : data.x) x = x * x * x;
    kinds.emplace_back("heavy tails", std::move(data));
  }
  {
    Data data(n, d, tokens, 4);  // values half-way between two steps of rounding
    for (float& w : data.w) w = (std::nearbyint(w * 20) + 0.5f) / 20;
    for (float& x : data.x) x = std::nearbyint(x * 3) + 0.5f;
    for (float& c : data.centre) c = 0;
    kinds.emplace_back("half steps", std::move(data));
  }
  {
    Data data(n, d, tokens, 5);
    aim_at_residuals(data);
    kinds.emplace_back("along residuals", std::move(data));
  }
  {
    Data data(n, d, tokens, 6);  // subnormal and zero rows
    for (std::size_t i = 0; i < data.w.size(); ++i)
      data.w[i] *= i / d % 3 == 0 ? 1e-41f : i / d % 3 == 1 ? 0 : 1e-20f;
    for (std::size_t i = 0; i < data.x.size(); ++i) data.x[i] *= i / d % 2 ? 1e-39f : 1e-10f;
    for (float& b : data.b) b = 0;
    for (float& c : data.centre) c = 0;
    kinds.emplace_back("vanishing", std::move(data));
  }
  {
    Data data(n, d, tokens, 7);  // one dimension rules the tokens
    for (std::size_t t = 0; t < tokens; ++t) data.x[t * d + 5] += 3000;
    kinds.emplace_back("a massive dimension", std::move(data));
  }
  std::size_t pairs = 0;
  for (const auto& [name, data] : kinds)
    every_isa([&](const std::string& isa) {
      for (const Precision precision : kPrecisions) {
        for (const float* mean : {static_cast<const float*>(nullptr), data.x.data() + data.width}) {
          if (precision == Precision::fp32 && mean) continue;
          const std::size_t wrong = violations(data, precision, mean);
          pairs += data.latents * data.tokens;
          if (wrong)
            check::report(__FILE__, __LINE__,
                          name + ", " + isa + ", " + precision_name(precision) + ": " +
                              std::to_string(wrong) + " violations");
        }
      }
    });
  std::printf("  %zu pairs\n", pairs);
}

TEST(sets_equal_float64_outside_fp32_ties) {
  const std::size_t shapes[][3] = {{701, 96, 32},  {333, 17, 5},   {1000, 65, 64}, {97, 128, 97},
                                   {512, 31, 1},   {640, 100, 20}, {1, 7, 1},      {33, 63, 8},
                                   {400, 200, 50}, {900, 48, 300}, {131, 129, 13}, {777, 20, 7},
                                   {257, 77, 256}, {64, 256, 16},  {1200, 33, 40}, {450, 90, 450},
                                   {2000, 16, 10}, {99, 99, 9},    {600, 64, 33},  {31, 3, 4}};
  std::uint64_t seed = 100;
  std::size_t sets = 0;
  for (const auto& [n, d, k] : shapes) {
    const Data data(n, d, 500, seed += 10);
    const EncoderWeights encoder = data.encoder();
    std::vector<std::vector<std::vector<Code>>> found;
    for (const Precision precision : kPrecisions)
      found.push_back(encode_lists(
          encoder, *make_screen(encoder, precision, precision == Precision::fp32 ? nullptr : data.x.data()),
          data, k));
    const std::string shape = std::to_string(n) + " x " + std::to_string(d) + ", k " + std::to_string(k);
    for (std::size_t i = 1; i < found.size(); ++i)
      if (!same(found[0], found[i])) check::report(__FILE__, __LINE__, shape + ": precisions differ");
    for (std::size_t t = 0; t < data.tokens; ++t) {
      std::vector<Data::Product> exact(n);
      std::vector<std::size_t> order;
      for (std::size_t l = 0; l < n; ++l) {
        exact[l] = data.product(t, l);
        exact[l].value += data.b[l];
        if (exact[l].value > 0) order.push_back(l);
      }
      std::sort(order.begin(), order.end(),
                [&](std::size_t a, std::size_t b) { return exact[a].value > exact[b].value; });
      const std::size_t count = std::min(k, order.size());
      // The value that decides: of the first that is left out, or 0.
      const double limit = order.size() > count ? exact[order[count]].value : 0;
      const double rounding = order.size() > count ? exact[order[count]].rounding : 0;
      const auto& codes = found[0][t];
      std::vector<bool> chosen(n);
      for (const Code& code : codes) {
        chosen[code.latent] = true;
        CHECK(std::fabs(code.value - exact[code.latent].value) <= exact[code.latent].rounding);
      }
      for (std::size_t i = 0; i < order.size(); ++i) {
        const bool tie =
            std::fabs(exact[order[i]].value - (i < count ? limit : exact[order[count - 1]].value)) <=
            exact[order[i]].rounding + rounding;
        if (!tie && chosen[order[i]] != (i < count))
          check::report(__FILE__, __LINE__,
                        shape + ": token " + std::to_string(t) + ", latent " + std::to_string(order[i]));
      }
      ++sets;
    }
  }
  std::printf("  %zu sets\n", sets);
}

// Every rule against its formula in float64, on every ISA and precision.
TEST(selection_rules) {
  const std::size_t n = 600, d = 50, tokens = 40, k = 12;
  Data data(n, d, tokens, 7);
  std::vector<float> scale = gaussian(n, 50), threshold = gaussian(n, 51), gate_bias = gaussian(n, 52),
                     magnitude_scale = gaussian(n, 53), magnitude_bias = gaussian(n, 54), constant(n, 9.0f);
  for (float& s : scale) s = s < -1 ? 0 : std::fabs(s);
  for (float& s : magnitude_scale) s = std::exp(s);
  for (float& t : threshold) t = 8 * t;
  struct Rule {
    std::string name;
    Selection selection;
    std::size_t k;
  };
  std::vector<Rule> rules(8);
  rules[0] = {"scaled topk", {}, k};
  rules[0].selection.scale = scale.data();
  rules[1] = rules[0];
  rules[1].name = "scaled topk, scaled codes";
  rules[1].selection.scaled_codes = true;
  rules[2].name = "threshold a latent";
  rules[2].selection.rule = SelectionRule::threshold;
  rules[2].selection.threshold = threshold.data();
  rules[3] = rules[2];
  rules[3].name = "one threshold, scaled";
  rules[3].selection.threshold = constant.data();
  rules[3].selection.scale = scale.data();
  rules[4].name = "gated";
  rules[4].selection.rule = SelectionRule::gated;
  rules[4].selection.gate_bias = gate_bias.data();
  rules[4].selection.magnitude_scale = magnitude_scale.data();
  rules[4].selection.magnitude_bias = magnitude_bias.data();
  rules[5] = {"groupmax", {}, k};
  rules[5].selection.rule = SelectionRule::groupmax;
  rules[6] = {"groupmax of pairs", rules[5].selection, n / 2};
  rules[7] = {"topk", {}, n};

  for (const Rule& rule : rules) {
    const Selection& s = rule.selection;
    const EncoderWeights encoder = data.encoder(s);
    std::vector<std::vector<Code>> first;
    every_isa([&](const std::string& isa) {
      for (const Precision precision : kPrecisions)
        for (const int threads : {1, 3}) {
          const int before = thread_count();
          set_thread_count(threads);
          const auto codes = encode_lists(encoder, *make_screen(encoder, precision, nullptr), data, rule.k);
          set_thread_count(before);
          if (first.empty()) first = codes;
          if (!same(codes, first))
            check::report(__FILE__, __LINE__, rule.name + ": " + isa + ", " + precision_name(precision));
        }
    });
    for (std::size_t t = 0; t < tokens; ++t) {
      // Score (> 0: a code), value and rounding of each latent by the formula.
      struct Expected {
        double score, value, rounding, margin;
      };
      std::vector<Expected> expected(n);
      for (std::size_t l = 0; l < n; ++l) {
        const auto [p, rounding] = data.product(t, l);
        if (s.rule == SelectionRule::gated) {
          const double open = p + gate_bias[l], value = p * magnitude_scale[l] + magnitude_bias[l];
          const double spread = rounding * (1 + magnitude_scale[l]) + 1e-5;
          expected[l] = {open > 0 && value > 0 ? value : 0, value, spread,
                         std::min(std::fabs(open), std::fabs(value))};
          continue;
        }
        const double h = p + data.b[l], g = s.scale ? h * scale[l] : h;
        const double limit = s.rule == SelectionRule::threshold ? std::max(0.0f, s.threshold[l]) : 0.0;
        expected[l] = {g > limit ? g : 0, s.scaled_codes ? g : h,
                       (rounding + 1e-5) * (1 + (s.scale ? scale[l] : 0)), std::fabs(g - limit)};
      }
      std::vector<bool> wanted(n), sure(n, true);
      const auto choose = [&](std::size_t begin, std::size_t end, std::size_t count) {
        std::vector<std::size_t> order;
        for (std::size_t l = begin; l < end; ++l)
          if (expected[l].score > 0) order.push_back(l);
        std::sort(order.begin(), order.end(),
                  [&](std::size_t a, std::size_t b) { return expected[a].score > expected[b].score; });
        for (std::size_t i = 0; i < order.size(); ++i) wanted[order[i]] = i < count;
        if (order.size() > count)
          for (const std::size_t l : order) {
            const double edge = wanted[l] ? expected[order[count]].score : expected[order[count - 1]].score;
            sure[l] = std::fabs(expected[l].score - edge) > 2 * expected[l].rounding;
          }
      };
      if (s.rule == SelectionRule::topk)
        choose(0, n, rule.k);
      else if (s.rule == SelectionRule::groupmax)
        for (std::size_t g = 0; g < rule.k; ++g) choose(g * (n / rule.k), (g + 1) * (n / rule.k), 1);
      else
        for (std::size_t l = 0; l < n; ++l) wanted[l] = expected[l].score > 0;
      std::vector<bool> chosen(n);
      for (std::size_t i = 0; i < first[t].size(); ++i) {
        const Code code = first[t][i];
        chosen[code.latent] = true;
        CHECK(code.value > 0);
        CHECK_CLOSE(code.value, expected[code.latent].value, expected[code.latent].rounding);
        if (i > 0) CHECK(code.value <= first[t][i - 1].value);
      }
      for (std::size_t l = 0; l < n; ++l)
        if (sure[l] && expected[l].margin > expected[l].rounding && chosen[l] != wanted[l])
          check::report(__FILE__, __LINE__,
                        rule.name + ": token " + std::to_string(t) + ", latent " + std::to_string(l));
    }
  }
}

TEST(weights_of_16_bits_count_as_their_exact_values) {
  for (const std::size_t d : {7u, 64u, 77u, 130u}) {
    Data data(300, d, 30, d);
    for (const Dtype dtype : {Dtype::bf16, Dtype::f16}) {
      // Rows at odd distances.
      const std::size_t stride = d + 3;
      std::vector<std::uint16_t> half(data.latents * stride, 0x7F80);  // Inf between the rows
      for (std::size_t l = 0; l < data.latents; ++l)
        for (std::size_t i = 0; i < d; ++i) {
          const std::uint16_t bits =
              dtype == Dtype::bf16
                  ? f32_to_bf16(data.w[l * d + i])
                  : static_cast<std::uint16_t>((Philox(d, l).words(i)[0] & 0x83FF) | (11 + i % 5) << 10);
          half[l * stride + i] = bits;
          data.w[l * d + i] = dtype == Dtype::bf16 ? bf16_to_f32(bits) : f16_to_f32(bits);
        }
      const RowView rows = {reinterpret_cast<const std::uint8_t*>(half.data()), dtype, stride * 2,
                            data.latents, d};
      const EncoderWeights narrow(rows, data.b.data(), data.centre.data(), {}), wide = data.encoder();
      const auto expected = encode_lists(wide, *make_screen(wide, Precision::fp32, nullptr), data, 20);
      every_isa([&](const std::string& isa) {
        for (const Precision precision : kPrecisions) {
          if (!same(encode_lists(narrow, *make_screen(narrow, precision, nullptr), data, 20), expected))
            check::report(__FILE__, __LINE__,
                          isa + ", " + precision_name(precision) + ", " + dtype_name(dtype));
        }
      });
    }
  }
}

TEST(the_copy_serves_another_mean) {
  const Data data(500, 48, 20, 3);
  const EncoderWeights encoder = data.encoder();
  const auto plain = make_screen(encoder, Precision::int8, nullptr);
  const auto turned = make_screen(encoder, Precision::int8, data.x.data(), {}, plain->copy);
  const auto known = make_screen(encoder, plain->copy, turned->mean.data(), turned->mean_product.data());
  CHECK(turned->copy == plain->copy);
  CHECK(same(encode_lists(encoder, *turned, data, 9), encode_lists(encoder, *plain, data, 9)));
  CHECK(same(encode_lists(encoder, *known, data, 9), encode_lists(encoder, *plain, data, 9)));
}

TEST(progress_and_abort_of_preparation) {
  const Data data(5000, 16, 1, 3);
  const EncoderWeights encoder = data.encoder();
  std::size_t last = 0;
  ScreenHooks hooks;
  hooks.progress = [&](std::size_t done) { last = std::max(last, done); };
  make_screen(encoder, Precision::int8, nullptr, hooks);
  CHECK_EQ(last, data.latents);
  hooks.check = [] { fail(ErrorCode::aborted, "stop"); };
  CHECK_THROWS(make_screen(encoder, Precision::int8, nullptr, hooks), ErrorCode::aborted);
}
