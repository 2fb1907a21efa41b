#include "native/sae/saelens.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "native/sae/sae.h"
#include "test/native/check.h"
#include "test/native/io/files.h"
#include "test/native/kernels/variants.h"

using namespace personascope;

namespace {

constexpr std::size_t kLatents = 30, kWidth = 7, kTokens = 40;

struct Folder : TemporaryFolder {
  void config(const std::string& text) const { std::ofstream(path + "/cfg.json") << text; }
};

struct Named {
  std::string name, shape;
  std::vector<float> values;
};

void write_weights(const Folder& folder, const std::vector<Named>& tensors) {
  std::string header, data;
  for (const Named& tensor : tensors) {
    const std::string begin = std::to_string(data.size());
    data.append(reinterpret_cast<const char*>(tensor.values.data()), tensor.values.size() * 4);
    header += (header.empty() ? "{\"" : ",\"") + tensor.name + "\":{\"dtype\":\"F32\",\"shape\":[" +
              tensor.shape + "],\"data_offsets\":[" + begin + "," + std::to_string(data.size()) + "]}";
  }
  header += "}";
  const std::uint64_t size = header.size();
  std::ofstream file(folder.path + "/sae_weights.safetensors", std::ios::binary);
  file.write(reinterpret_cast<const char*>(&size), 8);
  file << header << data;
}

struct Weights {
  // w_enc is [width, latents], as SAELens has it.
  std::vector<float> w_enc = check::normal(kLatents * kWidth, 1), w_dec = check::normal(kLatents * kWidth, 2),
                     b_enc = check::normal(kLatents, 3), b_dec = check::normal(kWidth, 4),
                     threshold = check::normal(kLatents, 5), b_gate = check::normal(kLatents, 6),
                     b_mag = check::normal(kLatents, 7), r_mag = check::normal(kLatents, 8, 0.3);
  void write(const Folder& folder) const {
    const std::string n = std::to_string(kLatents), d = std::to_string(kWidth);
    write_weights(folder, {{"W_enc", d + "," + n, w_enc},
                           {"W_dec", n + "," + d, w_dec},
                           {"b_enc", n, b_enc},
                           {"b_dec", d, b_dec},
                           {"threshold", n, threshold},
                           {"b_gate", n, b_gate},
                           {"b_mag", n, b_mag},
                           {"r_mag", n, r_mag}});
  }
  // W_enc x', without a bias, in float64.
  double product(const std::vector<double>& x, std::size_t latent) const {
    double sum = 0;
    for (std::size_t i = 0; i < kWidth; ++i) sum += static_cast<double>(w_enc[i * kLatents + latent]) * x[i];
    return sum;
  }
};

using Dense = std::vector<double>;  // [latents], one token

// Encodes by the folder and compares with `wanted` of each token's input, b_dec subtracted or not.
void check_codes(const std::string& config, bool subtract,
                 const std::function<Dense(const Weights&, const std::vector<double>&)>& wanted) {
  const Folder folder;
  const Weights weights;
  weights.write(folder);
  folder.config(config);
  const Sae sae(read_saelens(folder.path));
  const auto x = check::normal(kTokens * kWidth, 9);
  const SparseCodes codes = sae.encode(x.data(), kTokens, kWidth);
  std::size_t active = 0;
  for (std::size_t t = 0; t < kTokens; ++t) {
    std::vector<double> input(kWidth);
    for (std::size_t i = 0; i < kWidth; ++i)
      input[i] = x[t * kWidth + i] - (subtract ? static_cast<double>(weights.b_dec[i]) : 0.0);
    const Dense expected = wanted(weights, input);
    Dense found(kLatents, 0.0);
    for (std::size_t c = codes.offsets[t]; c < codes.offsets[t + 1]; ++c)
      found[codes.indices[c]] = codes.values[c];
    for (std::size_t l = 0; l < kLatents; ++l) {
      CHECK_CLOSE(found[l], expected[l], 1e-5);
      active += expected[l] > 0;
    }
  }
  CHECK(active > kTokens && active < kTokens * kLatents);
}

const char kSizes[] = "\"d_in\": 7, \"d_sae\": 30";

std::string cfg(const std::string& more) {
  return std::string("{") + kSizes + (more.empty() ? "" : ", ") + more + "}";
}

Dense largest(Dense values, std::size_t k) {
  Dense sorted = values;
  std::sort(sorted.rbegin(), sorted.rend());
  for (double& value : values)
    if (value < sorted[k - 1] || value <= 0) value = 0;
  return values;
}

}  // namespace

TEST(topk_of_both_generations) {
  const auto top5 = [](const Weights& w, const std::vector<double>& x) {
    Dense values(kLatents);
    for (std::size_t l = 0; l < kLatents; ++l) values[l] = w.product(x, l) + w.b_enc[l];
    return largest(values, 5);
  };
  check_codes(cfg("\"architecture\": \"topk\", \"k\": 5, \"apply_b_dec_to_input\": true, \"metadata\": {}"),
              true, top5);
  check_codes(cfg("\"architecture\": \"topk\", \"k\": 5, \"apply_b_dec_to_input\": false"), false, top5);
  check_codes(cfg("\"activation_fn_str\": \"topk\", \"activation_fn_kwargs\": {\"k\": 5}, "
                  "\"normalize_activations\": true"),
              true, top5);
  check_codes(cfg("\"architecture\": \"topk\", \"k\": 5, \"rescale_acts_by_decoder_norm\": true"), true,
              [](const Weights& w, const std::vector<double>& x) {
                Dense values(kLatents);
                for (std::size_t l = 0; l < kLatents; ++l) {
                  double norm = 0;
                  for (std::size_t i = 0; i < kWidth; ++i)
                    norm += static_cast<double>(w.w_dec[l * kWidth + i]) * w.w_dec[l * kWidth + i];
                  values[l] = (w.product(x, l) + w.b_enc[l]) * std::sqrt(norm);
                }
                return largest(values, 5);
              });
}

TEST(rules_of_variable_length) {
  check_codes(cfg("\"architecture\": \"standard\""), true,
              [](const Weights& w, const std::vector<double>& x) {
                Dense values(kLatents);
                for (std::size_t l = 0; l < kLatents; ++l)
                  values[l] = std::max(0.0, w.product(x, l) + w.b_enc[l]);
                return values;
              });
  check_codes(cfg("\"architecture\": \"jumprelu\""), true,
              [](const Weights& w, const std::vector<double>& x) {
                Dense values(kLatents);
                for (std::size_t l = 0; l < kLatents; ++l) {
                  const double h = w.product(x, l) + w.b_enc[l];
                  values[l] = h > 0 && h > w.threshold[l] ? h : 0;
                }
                return values;
              });
  check_codes(cfg("\"architecture\": \"gated\""), true, [](const Weights& w, const std::vector<double>& x) {
    Dense values(kLatents);
    for (std::size_t l = 0; l < kLatents; ++l) {
      const double p = w.product(x, l), magnitude = p * std::exp(w.r_mag[l]) + w.b_mag[l];
      values[l] = p + w.b_gate[l] > 0 && magnitude > 0 ? magnitude : 0;
    }
    return values;
  });
}

TEST(inputs_are_normalised) {
  const Folder folder;
  Weights().write(folder);
  for (const auto& [name, norm] : {std::pair{"layer_norm", InputNorm::layer_norm},
                                   std::pair{"constant_norm_rescale", InputNorm::constant_norm_rescale},
                                   std::pair{"none", InputNorm::none}}) {
    folder.config(
        cfg(std::string("\"architecture\": \"jumprelu\", \"normalize_activations\": \"") + name + "\""));
    CHECK(read_saelens(folder.path).input_norm == norm);
  }
}

TEST(refusals_name_the_file_and_the_field) {
  const Folder folder;
  Weights().write(folder);
  const auto refusal = [&](const std::string& config) -> std::string {
    folder.config(config);
    try {
      read_saelens(folder.path);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  const auto names = [&](const std::string& config, const std::string& field, const std::string& found) {
    const std::string said = refusal(config);
    CHECK(said.find("cfg.json") != std::string::npos);
    CHECK(said.find(field) != std::string::npos && said.find(found) != std::string::npos);
  };
  names("[1]", "an object", "");
  names("{\"d_in\": 7}", "d_sae", "missing");
  names("{\"d_in\": 7.5, \"d_sae\": 30}", "d_in", "7.5");
  names("{\"d_in\": \"7\", \"d_sae\": 30}", "d_in", "'7'");
  names(cfg("\"architecture\": \"topk\""), "k is missing", "from 1 to 30");
  names(cfg("\"architecture\": \"topk\", \"k\": 31"), "k is 31", "from 1 to 30");
  names(cfg("\"architecture\": \"topk\", \"k\": 0"), "k is 0", "");
  names(cfg("\"architecture\": \"transcoder\""), "architecture", "'transcoder'");
  names(cfg("\"activation_fn\": \"tanh-relu\""), "activation_fn", "'tanh-relu'");
  names(cfg("\"normalize_activations\": \"running_mean\""), "normalize_activations", "'running_mean'");
  names(cfg("\"reshape_activations\": \"hook_z\""), "reshape_activations", "'hook_z'");
  names(cfg("\"apply_b_dec_to_input\": 1"), "apply_b_dec_to_input", "1");
  names("{\"d_in\": 7, \"d_sae\": 30", "JSON", "expected '}'");
  const std::string shape = refusal("{\"d_in\": 8, \"d_sae\": 30, \"architecture\": \"standard\"}");
  CHECK(shape.find("W_enc") != std::string::npos && shape.find("[7, 30]") != std::string::npos &&
        shape.find("[8, 30]") != std::string::npos);
  CHECK_THROWS(read_saelens(folder.path + "/nowhere"), ErrorCode::not_found);
}
