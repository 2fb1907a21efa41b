#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "native/include/personascope.h"
#include "native/sae/sae.h"
#include "test/native/check.h"
#include "test/native/io/files.h"
#include "test/native/kernels/variants.h"

using namespace personascope;

namespace {

struct Weights {
  std::size_t n = 40, d = 11;
  std::vector<float> w_enc = check::normal(n * d, 1), w_dec = check::normal(n * d, 2),
                     b_enc = check::normal(n, 3), b_dec = check::normal(d, 4);
  personascope_sae_config config{40, 11, 5, 1, 0};
  personascope_sae* make() {
    personascope_sae* sae = nullptr;
    CHECK_EQ(personascope_sae_create(&config, w_enc.data(), w_dec.data(), b_enc.data(), b_dec.data(), &sae),
             0);
    return sae;
  }
};

}  // namespace

TEST(version_is_the_packages) {
  std::ifstream file("package.json");
  std::stringstream text;
  text << file.rdbuf();
  CHECK(text.str().find(std::string("\"version\": \"") + personascope_version() + "\"") != std::string::npos);
}

TEST(a_file_that_is_shortened_is_an_error) {
  constexpr std::uint64_t kN = 4096, kD = 16;
  const TemporaryFolder folder;
  std::ofstream(folder.path + "/cfg.json")
      << R"({"architecture":"topk","d_in":16,"d_sae":4096,"k":5,"apply_b_dec_to_input":true,"metadata":{}})";
  std::string header, name = folder.path + "/sae_weights.safetensors";
  std::uint64_t end = 0;
  const auto tensor = [&](const std::string& of, const std::string& shape, std::uint64_t elements) {
    header += (header.empty() ? "{\"" : ",\"") + of + "\":{\"dtype\":\"F32\",\"shape\":[" + shape +
              "],\"data_offsets\":[" + std::to_string(end) + "," + std::to_string(end + 4 * elements) + "]}";
    end += 4 * elements;
  };
  tensor("b_enc", "4096", kN);
  tensor("b_dec", "16", kD);
  tensor("W_enc", "16,4096", kN * kD);
  tensor("W_dec", "4096,16", kN * kD);
  header += "}";
  const std::uint64_t size = header.size();
  std::ofstream(name, std::ios::binary)
      << std::string(reinterpret_cast<const char*>(&size), 8) << header << std::string(end, '\0');
  personascope_sae* sae = nullptr;
  CHECK_EQ(personascope_sae_load(folder.path.c_str(), &sae), 0);
  std::vector<float> vector(kD), x(kD, 1);
  CHECK_EQ(personascope_sae_decoder_vector(sae, kN - 1, vector.data()), 0);
  std::filesystem::resize_file(name, 40'000);
  for (int round = 0; round < 2; ++round) {
    CHECK_EQ(personascope_sae_decoder_vector(sae, kN - 1, vector.data()), PERSONASCOPE_IO);
    CHECK(std::string(personascope_last_error()).find(name) != std::string::npos);
    std::uint32_t indices[5], count;
    float values[5];
    CHECK_EQ(personascope_sae_encode(sae, x.data(), 1, indices, values, &count), PERSONASCOPE_IO);
  }
  personascope_sae_destroy(sae);
}

TEST(encode_and_decode_agree_with_the_core) {
  Weights w;
  personascope_sae* sae = w.make();
  const std::size_t tokens = 23, k = 5;
  const auto x = check::normal(tokens * w.d, 5);
  std::vector<std::uint32_t> indices(tokens * k), counts(tokens);
  std::vector<float> values(tokens * k), out(tokens * w.d);
  CHECK_EQ(personascope_sae_encode(sae, x.data(), tokens, indices.data(), values.data(), counts.data()), 0);
  CHECK_EQ(personascope_sae_decode(sae, indices.data(), values.data(), counts.data(), tokens, out.data()), 0);
  const Sae core(topk_spec(w.n, w.d, k, true, w.w_enc.data(), EncoderLayout::latent_major, w.w_dec.data(),
                           w.b_enc.data(), w.b_dec.data()));
  const SparseCodes codes = core.encode(x.data(), tokens, w.d);
  std::vector<float> back(tokens * w.d);
  core.decode(codes.view(), {}, back.data());
  CHECK(back == out);
  for (std::size_t t = 0; t < tokens; ++t) {
    CHECK_EQ(counts[t], codes.offsets[t + 1] - codes.offsets[t]);
    for (std::size_t c = 0; c < counts[t]; ++c) {
      CHECK_EQ(indices[t * k + c], codes.indices[codes.offsets[t] + c]);
      CHECK_EQ(values[t * k + c], codes.values[codes.offsets[t] + c]);
    }
  }
  // The other layout of W_enc gives the same SAE.
  std::vector<float> transposed(w.n * w.d);
  for (std::size_t l = 0; l < w.n; ++l)
    for (std::size_t i = 0; i < w.d; ++i) transposed[i * w.n + l] = w.w_enc[l * w.d + i];
  personascope_sae_config config = w.config;
  config.encoder_width_major = 1;
  personascope_sae* other = nullptr;
  CHECK_EQ(personascope_sae_create(&config, transposed.data(), w.w_dec.data(), w.b_enc.data(), w.b_dec.data(),
                                   &other),
           0);
  std::vector<std::uint32_t> again(tokens * k);
  CHECK_EQ(personascope_sae_encode(other, x.data(), tokens, again.data(), values.data(), counts.data()), 0);
  for (std::size_t t = 0; t < tokens; ++t)
    for (std::size_t c = 0; c < counts[t]; ++c) CHECK_EQ(again[t * k + c], indices[t * k + c]);
  std::vector<float> vector(w.d);
  CHECK_EQ(personascope_sae_decoder_vector(sae, 7, vector.data()), 0);
  CHECK(std::equal(vector.begin(), vector.end(), w.w_dec.begin() + 7 * 11));
  personascope_sae_destroy(other);
  personascope_sae_destroy(sae);
  personascope_sae_destroy(nullptr);
}

TEST(codes_of_varying_number) {
  Weights w;
  personascope_sae* sae = w.make();
  const std::size_t tokens = 23;
  const auto x = check::normal(tokens * w.d, 5);
  std::vector<std::uint32_t> indices(tokens * 5), counts(tokens);
  std::vector<float> values(tokens * 5), out(tokens * w.d), again(tokens * w.d);
  CHECK_EQ(personascope_sae_encode(sae, x.data(), tokens, indices.data(), values.data(), counts.data()), 0);
  CHECK_EQ(personascope_sae_decode(sae, indices.data(), values.data(), counts.data(), tokens, out.data()), 0);
  personascope_codes* codes = nullptr;
  CHECK_EQ(personascope_sae_encode_codes(sae, x.data(), tokens, &codes), 0);
  CHECK_EQ(personascope_codes_tokens(codes), tokens);
  const std::uint32_t* offsets = personascope_codes_offsets(codes);
  for (std::size_t t = 0; t < tokens; ++t) {
    CHECK_EQ(offsets[t + 1] - offsets[t], counts[t]);
    for (std::size_t c = 0; c < counts[t]; ++c) {
      CHECK_EQ(personascope_codes_indices(codes)[offsets[t] + c], indices[t * 5 + c]);
      CHECK_EQ(personascope_codes_values(codes)[offsets[t] + c], values[t * 5 + c]);
    }
  }
  CHECK_EQ(personascope_sae_decode_codes(sae, codes, again.data()), 0);
  CHECK(out == again);
  CHECK_EQ(personascope_sae_decode_codes(sae, codes, nullptr), PERSONASCOPE_INVALID_ARGUMENT);
  personascope_codes_destroy(codes);
  personascope_codes_destroy(nullptr);
  CHECK_EQ(personascope_codes_tokens(nullptr), 0u);
  CHECK_EQ(personascope_sae_encode_codes(sae, nullptr, 1, &codes), PERSONASCOPE_INVALID_ARGUMENT);
  CHECK(codes == nullptr);
  CHECK_EQ(personascope_sae_encode_codes(sae, nullptr, 0, &codes), 0);
  CHECK_EQ(personascope_codes_tokens(codes), 0u);
  personascope_codes_destroy(codes);
  personascope_sae_destroy(sae);
}

TEST(statistics_and_difference) {
  Weights w;
  personascope_sae* sae = w.make();
  personascope_stats *before = nullptr, *after = nullptr;
  CHECK_EQ(personascope_stats_create(w.n, 1, &before), 0);
  CHECK_EQ(personascope_stats_create(w.n, 1, &after), 0);
  const std::size_t tokens = 60;
  auto x = check::normal(tokens * w.d, 5);
  std::vector<std::uint32_t> groups(tokens);
  for (std::size_t t = 0; t < tokens; ++t) groups[t] = static_cast<std::uint32_t>(t / 5);
  CHECK_EQ(personascope_stats_add(before, sae, x.data(), tokens, groups.data()), 0);
  for (std::size_t t = 0; t < tokens; ++t)
    for (std::size_t i = 0; i < w.d; ++i) x[t * w.d + i] += 0.7f * w.w_enc[9 * w.d + i];
  CHECK_EQ(personascope_stats_add(after, sae, x.data(), tokens, groups.data()), 0);
  std::vector<double> delta(w.n), low(w.n), high(w.n), q(w.n), sum(w.n);
  std::vector<std::uint32_t> order(w.n);
  CHECK_EQ(personascope_stats_diff(before, after, 200, 0.95, 1, delta.data(), nullptr, low.data(),
                                   high.data(), q.data(), order.data()),
           0);
  CHECK_EQ(order[0], 9u);
  CHECK(low[9] > 0 && q[9] < 0.01);
  std::uint64_t rows = 0;
  CHECK_EQ(personascope_stats_merge(before, before), 0);
  CHECK_EQ(personascope_stats_read(before, &rows, sum.data(), nullptr, nullptr, nullptr), 0);
  CHECK_EQ(rows, 2 * tokens);
  // Groups are needed where they were asked for.
  CHECK_EQ(personascope_stats_add(before, sae, x.data(), tokens, nullptr), PERSONASCOPE_INVALID_ARGUMENT);
  personascope_stats_destroy(before);
  personascope_stats_destroy(after);
  personascope_sae_destroy(sae);
}

TEST(failures_have_a_status_and_a_text_a_thread) {
  Weights w;
  personascope_sae* sae = w.make();
  auto x = check::normal(3 * w.d, 5);
  x[2 * w.d + 4] = std::numeric_limits<float>::quiet_NaN();
  std::uint32_t indices[15], counts[3] = {0, 6, 0};
  float values[15];
  CHECK_EQ(personascope_sae_encode(sae, x.data(), 3, indices, values, counts), PERSONASCOPE_NON_FINITE);
  const std::string text = personascope_last_error();
  CHECK(text.find("row 2") != std::string::npos && text.find("dimension 4") != std::string::npos);
  std::thread([] { CHECK(std::string(personascope_last_error()).empty()); }).join();
  CHECK_EQ(personascope_sae_encode(nullptr, x.data(), 3, indices, values, counts),
           PERSONASCOPE_INVALID_ARGUMENT);
  CHECK_EQ(personascope_sae_encode(sae, nullptr, 3, indices, values, counts), PERSONASCOPE_INVALID_ARGUMENT);
  CHECK_EQ(personascope_sae_encode(sae, nullptr, 0, nullptr, nullptr, nullptr), PERSONASCOPE_OK);
  counts[1] = 6;
  CHECK_EQ(personascope_sae_decode(sae, indices, values, counts, 3, x.data()), PERSONASCOPE_INVALID_ARGUMENT);
  CHECK_EQ(personascope_sae_decoder_vector(sae, 40, values), PERSONASCOPE_INVALID_ARGUMENT);
  personascope_sae_config config = w.config;
  config.k = 41;
  personascope_sae* other = sae;
  CHECK_EQ(personascope_sae_create(&config, w.w_enc.data(), w.w_dec.data(), w.b_enc.data(), w.b_dec.data(),
                                   &other),
           PERSONASCOPE_INVALID_ARGUMENT);
  CHECK(other == nullptr);
  CHECK_EQ(personascope_set_isa("sse9"), PERSONASCOPE_INVALID_ARGUMENT);
  CHECK_EQ(personascope_set_threads(0), PERSONASCOPE_INVALID_ARGUMENT);
  CHECK(std::string(personascope_status_name(PERSONASCOPE_NON_FINITE)) == "ERR_NON_FINITE");
  CHECK(personascope_threads() >= 1);
  CHECK(!std::string(personascope_isa()).empty());
  personascope_sae_destroy(sae);
}

TEST(every_selection_rule_through_specs) {
  const std::size_t n = 300, d = 20, tokens = 15;
  const auto w_enc = check::normal(n * d, 31), w_dec = check::normal(n * d, 32), b_enc = check::normal(n, 33),
             b_dec = check::normal(d, 34), x = check::normal(tokens * d, 35);
  std::vector<float> ones(n, 1.0f), threshold(n, 2.5f);
  for (const int rule :
       {PERSONASCOPE_TOPK, PERSONASCOPE_THRESHOLD, PERSONASCOPE_GATED, PERSONASCOPE_GROUPMAX})
    for (const int precision : {PERSONASCOPE_FP32, PERSONASCOPE_BF16, PERSONASCOPE_INT8}) {
      personascope_sae_spec spec = {};
      spec.struct_size = sizeof spec;
      spec.latents = n;
      spec.width = d;
      spec.k = 10;
      spec.rule = rule;
      spec.precision = precision;
      spec.input_norm = PERSONASCOPE_LAYER_NORM;
      spec.subtract_decoder_bias = 1;
      spec.w_enc = w_enc.data();
      spec.w_dec = w_dec.data();
      spec.b_enc = b_enc.data();
      spec.b_dec = b_dec.data();
      spec.threshold = threshold.data();
      spec.gate_bias = b_enc.data();
      spec.magnitude_scale = ones.data();
      spec.magnitude_bias = b_enc.data();
      personascope_sae* sae = nullptr;
      CHECK_EQ(personascope_sae_create_from_spec(&spec, &sae), 0);
      personascope_codes* codes = nullptr;
      CHECK_EQ(personascope_sae_encode_codes(sae, x.data(), tokens, &codes), 0);
      CHECK_EQ(personascope_codes_tokens(codes), tokens);
      const std::uint32_t* offsets = personascope_codes_offsets(codes);
      const std::uint32_t* indices = personascope_codes_indices(codes);
      const float* values = personascope_codes_values(codes);
      // The definition in float64.
      for (std::size_t t = 0; t < tokens; ++t) {
        double mean = 0, squares = 0;
        for (std::size_t i = 0; i < d; ++i) mean += x[t * d + i] / static_cast<double>(d);
        for (std::size_t i = 0; i < d; ++i) squares += std::pow(x[t * d + i] - mean, 2);
        const double sd = std::sqrt(squares / (static_cast<double>(d) - 1));
        std::vector<double> h(n);
        for (std::size_t l = 0; l < n; ++l) {
          h[l] = b_enc[l];
          for (std::size_t i = 0; i < d; ++i)
            h[l] += w_enc[l * d + i] * ((x[t * d + i] - mean) / (sd + 1e-5) - b_dec[i]);
        }
        std::size_t wanted = 0;
        const double limit = rule == PERSONASCOPE_THRESHOLD ? 2.5 : 0;
        for (const double value : h) wanted += value > limit;
        if (rule == PERSONASCOPE_TOPK || rule == PERSONASCOPE_GROUPMAX)
          wanted = std::min<std::size_t>(wanted, 10);
        CHECK_EQ(offsets[t + 1] - offsets[t], wanted);
        for (std::size_t c = offsets[t]; c < offsets[t + 1]; ++c) CHECK_CLOSE(values[c], h[indices[c]], 1e-4);
      }
      std::vector<float> out(tokens * d);
      CHECK_EQ(personascope_sae_decode_codes(sae, codes, out.data()), 0);
      double mean = 0, squares = 0, sum = b_dec[3];
      for (std::size_t i = 0; i < d; ++i) mean += x[i] / static_cast<double>(d);
      for (std::size_t i = 0; i < d; ++i) squares += std::pow(x[i] - mean, 2);
      for (std::size_t c = 0; c < offsets[1]; ++c) sum += values[c] * w_dec[indices[c] * d + 3];
      CHECK_CLOSE(out[3], sum * std::sqrt(squares / (static_cast<double>(d) - 1)) + mean, 1e-3);
      personascope_codes_destroy(codes);
      personascope_sae_destroy(sae);
    }
  personascope_sae_spec spec = {};
  personascope_sae* sae = nullptr;
  CHECK_EQ(personascope_sae_create_from_spec(&spec, &sae), PERSONASCOPE_INVALID_ARGUMENT);
}
