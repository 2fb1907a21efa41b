// The C interface (native/include/personascope.h): arguments checked, exceptions turned into a status and a
// text.
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <new>
#include <string>

#include "native/c_api_types.h"
#include "native/core/isa.h"
#include "native/core/thread_pool.h"
#include "native/core/version.h"
#include "native/kernels/encode/encode.h"
#include "native/kernels/latent_stats/difference.h"
#include "native/sae/saelens.h"

namespace {

using personascope::Error;
using personascope::ErrorCode;
using personascope::fail;
using personascope::c_api::guarded;
using personascope::c_api::present;

thread_local std::string t_error;

personascope_status status_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument:
      return PERSONASCOPE_INVALID_ARGUMENT;
    case ErrorCode::not_found:
      return PERSONASCOPE_NOT_FOUND;
    case ErrorCode::format:
      return PERSONASCOPE_FORMAT;
    case ErrorCode::non_finite:
      return PERSONASCOPE_NON_FINITE;
    case ErrorCode::io:
      return PERSONASCOPE_IO;
    case ErrorCode::out_of_memory:
      return PERSONASCOPE_OUT_OF_MEMORY;
    case ErrorCode::aborted:
      return PERSONASCOPE_ABORTED;
    case ErrorCode::internal:
      return PERSONASCOPE_INTERNAL;
  }
  return PERSONASCOPE_INTERNAL;
}

template <class T>
void copy_out(const std::vector<T>& values, T* out) {
  if (out) std::copy(values.begin(), values.end(), out);
}

}  // namespace

personascope_status personascope::c_api::failed() noexcept {
  personascope_status status = PERSONASCOPE_INTERNAL;
  // Not even one thrown while the text is kept leaves the library.
  try {
    try {
      throw;
    } catch (const Error& error) {
      status = status_of(error.code());
      t_error = error.what();
    } catch (const std::bad_alloc&) {
      status = PERSONASCOPE_OUT_OF_MEMORY;
      t_error = "out of memory";
    } catch (const std::exception& error) {
      t_error = error.what();
    }
  } catch (...) {
    t_error.clear();
  }
  return status;
}

const char* personascope_version(void) {
  return PERSONASCOPE_VERSION;
}

const char* personascope_last_error(void) {
  return t_error.c_str();
}

const char* personascope_status_name(personascope_status status) {
  switch (status) {
    case PERSONASCOPE_OK:
      return "OK";
    case PERSONASCOPE_INVALID_ARGUMENT:
      return personascope::error_code_name(ErrorCode::invalid_argument);
    case PERSONASCOPE_NOT_FOUND:
      return personascope::error_code_name(ErrorCode::not_found);
    case PERSONASCOPE_FORMAT:
      return personascope::error_code_name(ErrorCode::format);
    case PERSONASCOPE_NON_FINITE:
      return personascope::error_code_name(ErrorCode::non_finite);
    case PERSONASCOPE_IO:
      return personascope::error_code_name(ErrorCode::io);
    case PERSONASCOPE_OUT_OF_MEMORY:
      return personascope::error_code_name(ErrorCode::out_of_memory);
    case PERSONASCOPE_ABORTED:
      return personascope::error_code_name(ErrorCode::aborted);
    case PERSONASCOPE_INTERNAL:
      return personascope::error_code_name(ErrorCode::internal);
  }
  return "unknown status";
}

personascope_status personascope_set_threads(int threads) {
  return guarded([&] { personascope::set_thread_count(threads); });
}

int personascope_threads(void) {
  int threads = 0;
  guarded([&] { threads = personascope::thread_count(); });
  return threads;
}

personascope_status personascope_set_isa(const char* isa) {
  return guarded([&] {
    present(isa, "isa");
    personascope::set_isa(personascope::parse_isa(isa));
  });
}

const char* personascope_isa(void) {
  const char* name = "";
  guarded([&] { name = personascope::isa_name(personascope::active_isa()); });
  return name;
}

personascope_status personascope_sae_create(const personascope_sae_config* config, const float* w_enc,
                                            const float* w_dec, const float* b_enc, const float* b_dec,
                                            personascope_sae** sae) {
  return guarded([&] {
    present(sae, "sae");
    *sae = nullptr;
    present(config, "config");
    present(w_enc, "w_enc");
    present(w_dec, "w_dec");
    present(b_enc, "b_enc");
    present(b_dec, "b_dec");
    const auto layout = config->encoder_width_major ? personascope::EncoderLayout::width_major
                                                    : personascope::EncoderLayout::latent_major;
    *sae = new personascope_sae{personascope::Sae(
        personascope::topk_spec(config->latents, config->width, config->k, config->subtract_decoder_bias != 0,
                                w_enc, layout, w_dec, b_enc, b_dec))};
  });
}

personascope_status personascope_sae_load(const char* folder, personascope_sae** sae) {
  return personascope_sae_load_on(folder, "cpu", sae);
}

personascope_status personascope_sae_load_on(const char* folder, const char* device, personascope_sae** sae) {
  return guarded([&] {
    present(sae, "sae");
    *sae = nullptr;
    present(folder, "folder");
    present(device, "device");
    const personascope::DeviceChoice choice = personascope::choose_device(device);
    personascope::SaeSpec spec = personascope::read_saelens(folder);
    spec.device = choice;
    *sae = new personascope_sae{personascope::Sae(std::move(spec))};
  });
}

void personascope_sae_destroy(personascope_sae* sae) {
  delete sae;
}

uint64_t personascope_sae_latents(const personascope_sae* sae) {
  return sae ? sae->sae.spec().latents : 0;
}

uint64_t personascope_sae_width(const personascope_sae* sae) {
  return sae ? sae->sae.spec().width : 0;
}

uint64_t personascope_sae_k(const personascope_sae* sae) {
  return sae ? sae->sae.spec().k : 0;
}

personascope_status personascope_sae_encode(const personascope_sae* sae, const float* x, uint64_t tokens,
                                            uint32_t* indices, float* values, uint32_t* counts) {
  return guarded([&] {
    present(sae, "sae");
    if (sae->sae.spec().k == 0)
      fail(ErrorCode::invalid_argument,
           "the number of this SAE's codes varies; use personascope_sae_encode_codes");
    if (tokens == 0) return;
    present(x, "x");
    present(indices, "indices");
    present(values, "values");
    present(counts, "counts");
    sae->sae.encode_to(x, tokens, sae->sae.spec().width, indices, values, counts);
  });
}

personascope_status personascope_sae_decode(const personascope_sae* sae, const uint32_t* indices,
                                            const float* values, const uint32_t* counts, uint64_t tokens,
                                            float* out) {
  return guarded([&] {
    present(sae, "sae");
    if (tokens == 0) return;
    present(indices, "indices");
    present(values, "values");
    present(counts, "counts");
    present(out, "out");
    const std::size_t k = sae->sae.spec().k;
    for (uint64_t t = 0; t < tokens; ++t)
      if (counts[t] > k)
        fail(ErrorCode::invalid_argument, "token " + std::to_string(t) + " has " + std::to_string(counts[t]) +
                                              " codes, expected at most k = " + std::to_string(k));
    sae->sae.decode({tokens, indices, values, nullptr, k, counts}, {}, out);
  });
}

personascope_status personascope_sae_encode_codes(const personascope_sae* sae, const float* x,
                                                  uint64_t tokens, personascope_codes** codes) {
  return guarded([&] {
    present(codes, "codes");
    *codes = nullptr;
    present(sae, "sae");
    if (tokens > 0) present(x, "x");
    *codes = new personascope_codes{sae->sae.encode(x, tokens, sae->sae.spec().width)};
  });
}

void personascope_codes_destroy(personascope_codes* codes) {
  delete codes;
}

uint64_t personascope_codes_tokens(const personascope_codes* codes) {
  return codes ? codes->codes.tokens : 0;
}

const uint32_t* personascope_codes_offsets(const personascope_codes* codes) {
  return codes ? codes->codes.offsets.data() : nullptr;
}

const uint32_t* personascope_codes_indices(const personascope_codes* codes) {
  return codes ? codes->codes.indices.data() : nullptr;
}

const float* personascope_codes_values(const personascope_codes* codes) {
  return codes ? codes->codes.values.data() : nullptr;
}

personascope_status personascope_sae_decode_codes(const personascope_sae* sae,
                                                  const personascope_codes* codes, float* out) {
  return guarded([&] {
    present(sae, "sae");
    present(codes, "codes");
    if (codes->codes.tokens == 0) return;
    present(out, "out");
    personascope::DecodeInputs inputs;
    if (sae->sae.needs_input_norms()) {
      inputs.input_mean = codes->codes.input_mean.data();
      inputs.input_scale = codes->codes.input_scale.data();
      if (codes->codes.input_scale.size() != codes->codes.tokens)
        fail(ErrorCode::invalid_argument, "these codes are not of an SAE that normalises its inputs");
    }
    sae->sae.decode(codes->codes.view(), inputs, out);
  });
}

personascope_status personascope_sae_decoder_vector(const personascope_sae* sae, uint64_t latent,
                                                    float* vector) {
  return guarded([&] {
    present(sae, "sae");
    present(vector, "vector");
    const std::vector<float> row = sae->sae.decoder_vector(latent);
    std::copy(row.begin(), row.end(), vector);
  });
}

personascope_status personascope_sae_create_from_spec(const personascope_sae_spec* given,
                                                      personascope_sae** sae) {
  return guarded([&] {
    present(sae, "sae");
    *sae = nullptr;
    present(given, "spec");
    // Programs that were compiled before fields were added have a shorter one.
    constexpr std::size_t kFirst = offsetof(personascope_sae_spec, device);
    if (given->struct_size < kFirst || given->struct_size > sizeof(personascope_sae_spec))
      fail(ErrorCode::invalid_argument, "struct_size is " + std::to_string(given->struct_size) +
                                            ", expected " + std::to_string(sizeof(personascope_sae_spec)));
    personascope_sae_spec whole = {};
    std::memcpy(&whole, given, given->struct_size);
    given = &whole;
    const auto choice = [](const char* name, int32_t value, int32_t most) {
      if (value < 0 || value > most)
        fail(ErrorCode::invalid_argument,
             std::string(name) + " is " + std::to_string(value) + ", expected 0 to " + std::to_string(most));
      return value;
    };
    present(given->w_enc, "w_enc");
    present(given->w_dec, "w_dec");
    present(given->b_enc, "b_enc");
    present(given->b_dec, "b_dec");
    personascope::SaeSpec spec;
    const std::size_t n = spec.latents = given->latents, d = spec.width = given->width,
                      out = spec.out_width = given->out_width ? given->out_width : given->width;
    // Before anything of these sizes is read.
    if (n == 0 || n > 0xFFFFFFFFull || d == 0 || d > (1u << 20) || out > (1u << 20))
      fail(ErrorCode::invalid_argument, "an SAE of " + std::to_string(n) + " latents, width " +
                                            std::to_string(d) + " and output width " + std::to_string(out));
    spec.k = given->k;
    spec.rule = static_cast<personascope::SelectionRule>(choice("rule", given->rule, 3));
    if (const int32_t precision = choice("precision", given->precision, 3); precision > 0)
      spec.precision = static_cast<personascope::Precision>(precision - 1);
    if (given->device) spec.device = personascope::sae_device(given->device, spec.precision);
    spec.input_norm = static_cast<personascope::InputNorm>(choice("input_norm", given->input_norm, 2));
    spec.transcoder = given->transcoder != 0;
    spec.subtract_decoder_bias = given->subtract_decoder_bias != 0;
    spec.scaled_codes = given->scaled_codes != 0;
    const auto layout = given->encoder_width_major ? personascope::EncoderLayout::width_major
                                                   : personascope::EncoderLayout::latent_major;
    spec.w_enc = personascope::matrix_of("w_enc", given->w_enc, n, d, layout);
    spec.w_dec =
        personascope::matrix_of("w_dec", given->w_dec, n, out, personascope::EncoderLayout::latent_major);
    if (given->w_skip)
      spec.w_skip =
          personascope::matrix_of("w_skip", given->w_skip, out, d, personascope::EncoderLayout::latent_major);
    const auto copy = [](const float* values, std::size_t size) {
      return values ? std::vector<float>(values, values + size) : std::vector<float>();
    };
    spec.b_enc = copy(given->b_enc, n);
    spec.b_dec = copy(given->b_dec, out);
    spec.threshold = copy(given->threshold, n);
    spec.gate_bias = copy(given->gate_bias, n);
    spec.magnitude_scale = copy(given->magnitude_scale, n);
    spec.magnitude_bias = copy(given->magnitude_bias, n);
    spec.selection_scale = copy(given->selection_scale, n);
    spec.mean = copy(given->input_mean, d);
    spec.scale = copy(given->input_scale, d);
    *sae = new personascope_sae{personascope::Sae(std::move(spec))};
  });
}

personascope_status personascope_stats_create(uint64_t latents, int32_t per_group,
                                              personascope_stats** stats) {
  return guarded([&] {
    present(stats, "stats");
    *stats = nullptr;
    personascope::LatentStatsOptions options;
    options.latents = latents;
    options.per_group = per_group != 0;
    *stats = new personascope_stats{personascope::LatentStats(options)};
  });
}

void personascope_stats_destroy(personascope_stats* stats) {
  delete stats;
}

personascope_status personascope_stats_add(personascope_stats* stats, const personascope_sae* sae,
                                           const float* x, uint64_t tokens, const uint32_t* groups) {
  return guarded([&] {
    present(stats, "stats");
    present(sae, "sae");
    if (tokens == 0) return;
    present(x, "x");
    sae->sae.encode_into(stats->stats, x, tokens, sae->sae.spec().width, groups, nullptr);
  });
}

personascope_status personascope_stats_merge(personascope_stats* stats, const personascope_stats* other) {
  return guarded([&] {
    present(stats, "stats");
    present(other, "other");
    stats->stats.merge(other->stats);
  });
}

personascope_status personascope_stats_read(const personascope_stats* stats, uint64_t* rows, double* sum,
                                            double* sum_of_squares, double* active_count, float* max) {
  return guarded([&] {
    present(stats, "stats");
    if (rows) *rows = stats->stats.rows();
    for (std::size_t l = 0; l < stats->stats.options().latents; ++l) {
      if (sum) sum[l] = stats->stats.sum(l);
      if (sum_of_squares) sum_of_squares[l] = stats->stats.sum_of_squares(l);
      if (active_count) active_count[l] = stats->stats.active_count(l);
      if (max) max[l] = stats->stats.max(l);
    }
  });
}

personascope_status personascope_stats_diff(const personascope_stats* before, const personascope_stats* after,
                                            uint64_t resamples, double confidence, uint64_t seed,
                                            double* delta, double* effect_size, double* low, double* high,
                                            double* q_value, uint32_t* descending) {
  return guarded([&] {
    present(before, "before");
    present(after, "after");
    personascope::LatentDiffOptions options;
    options.resamples = resamples;
    options.confidence = confidence;
    options.seed = seed;
    const auto diff = personascope::diff_latents(before->stats, {&after->stats}, options);
    copy_out(diff.delta, delta);
    copy_out(diff.effect_size, effect_size);
    copy_out(diff.low, low);
    copy_out(diff.high, high);
    copy_out(diff.q_value, q_value);
    copy_out(diff.descending, descending);
  });
}
