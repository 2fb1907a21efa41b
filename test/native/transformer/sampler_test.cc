// Sampling against the full forward pass, its independence of batch split and threads, drawing from logits,
// and what capture and interventions mean.
#include "native/transformer/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "native/core/thread_pool.h"
#include "test/native/check.h"
#include "test/native/transformer/models.h"

using namespace personascope;
using namespace personascope::test;

namespace {

struct Rows {
  std::vector<std::uint32_t> prompt;
  std::vector<std::uint64_t> stream;
};

Rows every(std::size_t prompts, std::size_t samples) {
  Rows rows;
  for (std::size_t p = 0; p < prompts; ++p)
    for (std::size_t s = 0; s < samples; ++s) {
      rows.prompt.push_back(static_cast<std::uint32_t>(p));
      rows.stream.push_back(p << 32 | s);
    }
  return rows;
}

SampleRequest request_of(const OwnedBatch& prompts, const Rows& rows) {
  SampleRequest request;
  request.prompts = prompts.view();
  request.rows = rows.prompt.size();
  request.row_prompt = rows.prompt.data();
  request.row_stream = rows.stream.data();
  request.seed = 5;
  request.max_new_tokens = 8;
  return request;
}

bool same(const SampleResult& a, const SampleResult& b) {
  return a.tokens == b.tokens && a.lengths == b.lengths && a.stopped == b.stopped &&
         std::memcmp(a.log_probs.data(), b.log_probs.data(), a.log_probs.size() * sizeof(float)) == 0;
}

std::vector<float> unit_vector(std::size_t width, std::uint64_t seed) {
  std::vector<float> v(width);
  const Philox random(seed, 0);
  double squares = 0;
  for (std::size_t i = 0; i < width; ++i) squares += (v[i] = static_cast<float>(random.gaussian(i))) * v[i];
  for (float& value : v) value /= static_cast<float>(std::sqrt(squares));
  return v;
}

const std::vector<std::size_t> kPrompts = {3, 11, 1, 7, 5};

}  // namespace

// Each answer fed back whole gives the log-probabilities that sampling with the cache reported, steered or
// not.
TEST(cached_sampling_agrees_with_the_full_forward_pass) {
  for (Family family : {Family::gpt2, Family::llama}) {
    const auto model = small_model(family, 21);
    const auto prompts = random_batch(kPrompts, model->config.vocabulary, 22);
    const auto rows = every(kPrompts.size(), 4);
    const auto v = unit_vector(model->config.width, 23);
    for (bool adapters : {false, true}) {
      if (adapters) {
        model->adapters = make_adapters(model->layout, {2, 4, false, {"*attn*", "*mlp*"}}, 1);
        for (std::size_t i = 0; i < model->adapters.values.size(); ++i)
          model->adapters.values[i] += 0.05f * static_cast<float>(Philox(2, 2).gaussian(i));
      }
      for (SteeredTokens tokens : {SteeredTokens::all, SteeredTokens::after_first, SteeredTokens::prompt,
                                   SteeredTokens::answer, SteeredTokens::masked}) {
        auto request = request_of(prompts, rows);
        Intervention change;
        change.hook = {HookPoint::mid, 1};
        change.vectors = v.data();
        change.amount = 2;
        change.tokens = tokens;
        if (tokens != SteeredTokens::masked) request.interventions = {change};
        const auto result = sample(*model, request);
        OwnedBatch whole;
        for (std::size_t r = 0; r < rows.prompt.size(); ++r) {
          const std::size_t p = rows.prompt[r];
          whole.tokens.insert(whole.tokens.end(), prompts.tokens.begin() + prompts.offsets[p],
                              prompts.tokens.begin() + prompts.offsets[p + 1]);
          whole.prompt_lengths.push_back(static_cast<std::uint32_t>(kPrompts[p]));
          CHECK_EQ(result.lengths[r], 8u);
          whole.tokens.insert(whole.tokens.end(), result.tokens.begin() + r * result.stride,
                              result.tokens.begin() + r * result.stride + 8);
          whole.offsets.push_back(static_cast<std::uint32_t>(whole.tokens.size()));
        }
        ForwardRequest check;
        check.batch = whole.view();
        check.interventions = request.interventions;
        check.log_probs = true;
        const auto full = forward(*model, check);
        for (std::size_t r = 0; r < rows.prompt.size(); ++r)
          for (std::size_t t = 0; t < 8; ++t)
            CHECK_CLOSE(result.log_probs[r * result.stride + t],
                        full.log_probs[whole.offsets[r] + kPrompts[rows.prompt[r]] - 1 + t], 2e-5);
      }
    }
  }
}

TEST(an_answer_depends_on_neither_batch_split_nor_threads) {
  for (Family family : {Family::gpt2, Family::llama}) {
    const auto model = small_model(family, 24);
    const auto prompts = random_batch(kPrompts, model->config.vocabulary, 25);
    const auto rows = every(kPrompts.size(), 7);
    auto request = request_of(prompts, rows);
    request.stop = {3, 8, 20, 21, 22};
    request.top_p = 0.9;
    set_thread_count(1);
    request.batch_rows = 1000;
    const auto reference = sample(*model, request);
    CHECK(std::count(reference.stopped.begin(), reference.stopped.end(), 1) > 0);
    for (int threads : {1, 2, 5}) {
      set_thread_count(threads);
      for (std::size_t batch : {1, 2, 3, 10, 64}) {
        request.batch_rows = batch;
        CHECK(same(sample(*model, request), reference));
      }
    }
    set_thread_count(2);
    // Alone, with its prompt alone.
    const std::size_t row = 16;
    OwnedBatch one;
    const std::size_t p = rows.prompt[row];
    one.tokens.assign(prompts.tokens.begin() + prompts.offsets[p],
                      prompts.tokens.begin() + prompts.offsets[p + 1]);
    one.offsets.push_back(static_cast<std::uint32_t>(one.tokens.size()));
    Rows alone;
    alone.prompt = {0};
    alone.stream = {rows.stream[row]};
    auto single = request_of(one, alone);
    single.stop = request.stop;
    single.top_p = request.top_p;
    const auto result = sample(*model, single);
    CHECK_EQ(result.lengths[0], reference.lengths[row]);
    CHECK(std::memcmp(result.tokens.data(), reference.tokens.data() + row * reference.stride,
                      result.lengths[0] * sizeof(std::int32_t)) == 0);
    CHECK(std::memcmp(result.log_probs.data(), reference.log_probs.data() + row * reference.stride,
                      result.lengths[0] * sizeof(float)) == 0);
  }
}

TEST(sampling_ends_where_the_positions_end) {
  const auto model = small_model(Family::gpt2, 26);
  const auto prompts = random_batch({24, 22}, model->config.vocabulary, 27);
  const auto rows = every(2, 1);
  const auto result = sample(*model, request_of(prompts, rows));
  CHECK_EQ(result.lengths[0], 1u);  // the token after the last position is drawn, but cannot be fed back
  CHECK_EQ(result.lengths[1], 3u);
  CHECK_EQ(int{result.stopped[0]}, 0);
}

TEST(bad_requests_are_refused) {
  const auto model = small_model(Family::gpt2, 28);
  auto prompts = random_batch({4, 25}, model->config.vocabulary, 29);
  const auto rows = every(2, 1);
  CHECK_THROWS(sample(*model, request_of(prompts, rows)), ErrorCode::invalid_argument);  // too long
  prompts = random_batch({4, 5}, model->config.vocabulary, 29);
  auto request = request_of(prompts, rows);
  request.temperature = -1;
  CHECK_THROWS(sample(*model, request), ErrorCode::invalid_argument);
  request = request_of(prompts, rows);
  request.top_p = 0;
  CHECK_THROWS(sample(*model, request), ErrorCode::invalid_argument);
  request = request_of(prompts, rows);
  request.stop = {99};
  CHECK_THROWS(sample(*model, request), ErrorCode::invalid_argument);
  request = request_of(prompts, rows);
  request.tick = [](std::size_t) { fail(ErrorCode::aborted, "stop"); };
  CHECK_THROWS(sample(*model, request), ErrorCode::aborted);
  std::vector<float> not_unit(model->config.width, 1.0f);
  Intervention change;
  change.vectors = not_unit.data();
  change.operation = SteerOperation::ablate;
  change.hook = {HookPoint::post, 1};
  request = request_of(prompts, rows);
  request.interventions = {change};
  CHECK_THROWS(sample(*model, request), ErrorCode::invalid_argument);
  change.operation = SteerOperation::add;
  change.hook.layer = 3;
  request.interventions = {change};
  CHECK_THROWS(sample(*model, request), ErrorCode::invalid_argument);
  const_cast<float*>(model->parameter(1))[0] = std::nanf("");
  CHECK_THROWS(sample(*model, request_of(prompts, rows)), ErrorCode::non_finite);
}

TEST(drawing_follows_the_probabilities) {
  const std::vector<float> logits = {1.0f, -0.5f, 2.0f, 2.0f, -30.0f, 0.25f};
  std::vector<std::uint32_t> order;
  std::vector<float> weights;
  const int n = 60000;
  const Philox random(1, 1);
  for (double temperature : {0.5, 1.0, 2.0}) {
    double total = 0, log_total = 0;
    std::vector<double> expected;
    for (float logit : logits) {
      expected.push_back(std::exp(logit / temperature));
      total += expected.back();
      log_total += std::exp(logit);
    }
    std::vector<int> counts(logits.size(), 0);
    for (int i = 0; i < n; ++i) {
      const Drawn drawn =
          draw(logits.data(), logits.size(), temperature, 1, 0, random.uniform(i), order, weights);
      ++counts[drawn.token];
      CHECK_CLOSE(drawn.log_prob, logits[drawn.token] - std::log(log_total), 1e-6);
    }
    for (std::size_t i = 0; i < logits.size(); ++i) {
      const double p = expected[i] / total;
      CHECK_CLOSE(double(counts[i]) / n, p, 5 * std::sqrt(p * (1 - p) / n) + 1e-9);
    }
  }
}

TEST(drawing_truncates_and_breaks_ties_by_lower_id) {
  const std::vector<float> logits = {1.0f, 0.0f, 2.0f, 2.0f, -30.0f, 0.5f};
  std::vector<std::uint32_t> order;
  std::vector<float> weights;
  const auto tokens = [&](double temperature, double top_p, std::size_t top_k) {
    std::vector<int> seen;
    for (int i = 0; i < 2000; ++i) {
      const int token =
          draw(logits.data(), logits.size(), temperature, top_p, top_k, i / 2000.0, order, weights).token;
      if (std::find(seen.begin(), seen.end(), token) == seen.end()) seen.push_back(token);
    }
    std::sort(seen.begin(), seen.end());
    return seen;
  };
  CHECK(tokens(0, 1, 0) == std::vector<int>{2});
  CHECK(tokens(1, 1, 1) == std::vector<int>{2});
  CHECK(tokens(1, 1, 2) == (std::vector<int>{2, 3}));
  CHECK(tokens(1, 1, 3) == (std::vector<int>{0, 2, 3}));
  CHECK(tokens(1, 1e-9, 0) == std::vector<int>{2});
  // p: 2 and 3 hold .368 each, 0 .135, 5 .082, 1 .05.
  CHECK(tokens(1, 0.5, 0) == (std::vector<int>{2, 3}));
  CHECK(tokens(1, 0.8, 0) == (std::vector<int>{0, 2, 3}));
  CHECK(tokens(1, 0.5, 3) == (std::vector<int>{2, 3}));
  const std::vector<float> bad = {0.0f, std::nanf(""), 1.0f};
  CHECK_THROWS(draw(bad.data(), 3, 1, 1, 0, 0.5, order, weights), ErrorCode::non_finite);
  const std::vector<float> infinite = {0.0f, INFINITY, 1.0f};
  CHECK_THROWS(draw(infinite.data(), 3, 1, 1, 0, 0.5, order, weights), ErrorCode::non_finite);
}

TEST(capture_takes_the_masked_rows_after_interventions) {
  for (Family family : {Family::gpt2, Family::llama}) {
    const auto model = small_model(family, 31);
    auto batch = random_batch(kPrompts, model->config.vocabulary, 32);
    batch.prompt_lengths = {1, 4, 0, 7, 2};
    const std::size_t d = model->config.width;
    const auto v = unit_vector(d, 33), c = unit_vector(d, 34);
    const auto capture = [&](Hook hook, const std::vector<Intervention>& interventions,
                             const std::uint8_t* mask) {
      ForwardRequest request;
      request.batch = batch.view();
      request.interventions = interventions;
      request.capture = true;
      request.hook = hook;
      request.mask = mask;
      return forward(*model, request);
    };
    std::vector<std::uint8_t> mask(batch.tokens.size(), 0);
    for (std::size_t row = 0; row < mask.size(); row += 3) mask[row] = 1;
    for (std::size_t l = 0; l < 3; ++l) {
      for (HookPoint point : {HookPoint::pre, HookPoint::mid, HookPoint::post}) {
        const Hook hook{point, l};
        const auto plain = capture(hook, {}, nullptr);
        CHECK_EQ(plain.captured_rows, batch.tokens.size());
        const auto masked = capture(hook, {}, mask.data());
        std::size_t at = 0;
        for (std::size_t row = 0; row < mask.size(); ++row)
          if (mask[row])
            CHECK(std::memcmp(masked.captured.data() + at++ * d, plain.captured.data() + row * d, d * 4) ==
                  0);
        CHECK_EQ(masked.captured_rows, at);
        for (SteerOperation operation :
             {SteerOperation::add, SteerOperation::ablate, SteerOperation::clamp, SteerOperation::project}) {
          for (SteeredTokens tokens : {SteeredTokens::all, SteeredTokens::after_first, SteeredTokens::prompt,
                                       SteeredTokens::answer, SteeredTokens::masked}) {
            Intervention change;
            change.hook = hook;
            change.operation = operation;
            change.tokens = tokens;
            change.vectors = v.data();
            change.amount = 1.5f;
            change.centre = c.data();
            change.mask = mask.data();
            const auto steered = capture(hook, {change}, nullptr);
            std::size_t row = 0;
            for (std::size_t s = 0; s < kPrompts.size(); ++s) {
              for (std::size_t t = 0; t < kPrompts[s]; ++t, ++row) {
                const bool in_prompt = t < batch.prompt_lengths[s];
                const bool touched = tokens == SteeredTokens::all ||
                                     (tokens == SteeredTokens::after_first && t > 0) ||
                                     (tokens == SteeredTokens::prompt && in_prompt) ||
                                     (tokens == SteeredTokens::answer && !in_prompt) ||
                                     (tokens == SteeredTokens::masked && mask[row]);
                const float* x = plain.captured.data() + row * d;
                double along = 0, worst = 0;
                for (std::size_t i = 0; i < d; ++i) along += (double(x[i]) - c[i]) * v[i];
                for (std::size_t i = 0; i < d; ++i) {
                  double wanted = x[i];
                  if (touched && operation == SteerOperation::add) wanted += 1.5 * v[i];
                  if (touched && operation == SteerOperation::ablate) wanted -= along * v[i];
                  if (touched && operation == SteerOperation::clamp) wanted += (1.5 - along) * v[i];
                  if (touched && operation == SteerOperation::project) wanted = c[i] + along * v[i];
                  worst = std::max(worst, std::fabs(wanted - steered.captured[row * d + i]));
                }
                CHECK_CLOSE(worst, 0, 1e-5);
              }
            }
          }
        }
      }
    }
  }
}

TEST(capture_is_the_same_for_any_number_of_threads_and_neighbours) {
  const auto model = small_model(Family::llama, 35);
  std::vector<std::size_t> lengths;
  for (std::size_t i = 0; i < 120; ++i) lengths.push_back(1 + i % 24);
  const auto batch = random_batch(lengths, model->config.vocabulary, 36);
  ForwardRequest request;
  request.batch = batch.view();
  request.capture = request.log_probs = request.last_logits = true;
  request.hook = {HookPoint::post, 1};
  set_thread_count(1);
  const auto reference = forward(*model, request);
  for (int threads : {2, 5}) {
    set_thread_count(threads);
    const auto again = forward(*model, request);
    CHECK(std::memcmp(again.captured.data(), reference.captured.data(), again.captured.size() * 4) == 0);
    CHECK(std::memcmp(again.log_probs.data(), reference.log_probs.data(), again.log_probs.size() * 4) == 0);
    CHECK(std::memcmp(again.last_logits.data(), reference.last_logits.data(), again.last_logits.size() * 4) ==
          0);
  }
  set_thread_count(2);
  // One sequence alone.
  const std::size_t s = 47, d = model->config.width;
  const std::uint32_t offsets[2] = {0, batch.offsets[s + 1] - batch.offsets[s]};
  request.batch.tokens = batch.tokens.data() + batch.offsets[s];
  request.batch.offsets = offsets;
  request.batch.sequences = 1;
  const auto alone = forward(*model, request);
  CHECK(std::memcmp(alone.captured.data(), reference.captured.data() + batch.offsets[s] * d,
                    alone.captured.size() * 4) == 0);
  CHECK(std::memcmp(alone.log_probs.data(), reference.log_probs.data() + batch.offsets[s], offsets[1] * 4) ==
        0);
}

TEST(a_large_model_samples_the_same_for_any_number_of_threads) {
  TransformerConfig config = small_config(Family::gpt2);
  config.width = 512;
  config.hidden = 2048;
  config.heads = config.kv_heads = 8;
  config.head_dim = 64;
  config.vocabulary = 300;
  const auto model = std::make_shared<Transformer>(config);
  CHECK(!model->small());
  model->initialise(1);
  const auto prompts = random_batch({3, 9, 1}, config.vocabulary, 37);
  const auto rows = every(3, 2);
  auto request = request_of(prompts, rows);
  request.max_new_tokens = 4;
  set_thread_count(1);
  const auto reference = sample(*model, request);
  set_thread_count(3);
  request.batch_rows = 2;
  CHECK(same(sample(*model, request), reference));
  set_thread_count(2);
}
