// Gradients against finite differences, adapters against full gradients, interventions in training.
// Parity with torch, parameter by parameter, is in test/models/parity.test.ts.
#include "native/transformer/backward.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "native/core/thread_pool.h"
#include "native/transformer/gradient.h"
#include "native/transformer/head.h"
#include "native/transformer/inference.h"
#include "native/transformer/trainer.h"
#include "test/native/check.h"
#include "test/native/transformer/models.h"

using namespace personascope;
using namespace personascope::test;

namespace {

const std::vector<std::size_t> kLengths = {5, 1, 9, 3, 12};

std::vector<Intervention> all_operations(const std::vector<float>& unit,
                                         const std::vector<float>& per_sequence,
                                         const std::vector<float>& centre,
                                         const std::vector<float>& amounts) {
  std::vector<Intervention> list(4);
  list[0].hook = {HookPoint::mid, 1};
  list[0].vectors = per_sequence.data();
  list[0].per_sequence = true;
  list[0].amounts = amounts.data();
  list[1].hook = {HookPoint::mid, 1};
  list[1].operation = SteerOperation::ablate;
  list[1].tokens = SteeredTokens::after_first;
  list[1].vectors = unit.data();
  list[1].centre = centre.data();
  list[2].hook = {HookPoint::post, 0};
  list[2].operation = SteerOperation::clamp;
  list[2].vectors = unit.data();
  list[2].amount = 0.7f;
  list[2].tokens = SteeredTokens::answer;
  list[3].hook = {HookPoint::pre, 2};
  list[3].operation = SteerOperation::project;
  list[3].tokens = SteeredTokens::prompt;
  list[3].vectors = unit.data();
  list[3].centre = centre.data();
  return list;
}

struct Steering {
  std::vector<float> unit, per_sequence, centre, amounts;
  std::vector<Intervention> list;
  Steering(std::size_t width, std::size_t sequences) {
    const Philox random(77, 0);
    double squares = 0;
    for (std::size_t i = 0; i < width; ++i) {
      unit.push_back(static_cast<float>(random.gaussian(i)));
      squares += unit[i] * unit[i];
      centre.push_back(static_cast<float>(0.1 * random.gaussian(1000 + i)));
    }
    for (float& value : unit) value /= static_cast<float>(std::sqrt(squares));
    for (std::size_t i = 0; i < width * sequences; ++i)
      per_sequence.push_back(static_cast<float>(random.gaussian(2000 + i)));
    for (std::size_t s = 0; s < sequences; ++s) amounts.push_back(0.3f * static_cast<float>(s));
    list = all_operations(unit, per_sequence, centre, amounts);
  }
};

// The loss in fp64 from log-probabilities.
double loss_of(const Transformer& model, const OwnedBatch& batch,
               const std::vector<Intervention>& interventions) {
  ForwardRequest request;
  request.batch = batch.view();
  request.interventions = interventions;
  request.log_probs = true;
  const auto result = forward(model, request);
  double loss = 0, weight = 0;
  for (std::size_t s = 0; s + 1 < batch.offsets.size(); ++s)
    for (std::size_t row = batch.offsets[s]; row + 1 < batch.offsets[s + 1]; ++row) {
      loss -= static_cast<double>(batch.weights[row]) * result.log_probs[row];
      weight += std::fabs(batch.weights[row]);
    }
  return loss / weight;
}

// Moves `values` along a random direction and compares the change of the loss with the gradient's promise.
void check_direction(const char* what, Transformer& model, const OwnedBatch& batch,
                     const std::vector<Intervention>& interventions, float* values, const float* gradient,
                     std::size_t size, std::uint64_t seed) {
  const Philox random(seed, 5);
  std::vector<float> saved(values, values + size), direction(size);
  double promised = 0, squares = 0;
  for (std::size_t i = 0; i < size; ++i) {
    direction[i] = static_cast<float>(random.gaussian(i));
    squares += static_cast<double>(direction[i]) * direction[i];
  }
  const double length = std::sqrt(squares), step = 4e-3;
  for (std::size_t i = 0; i < size; ++i) promised += direction[i] / length * static_cast<double>(gradient[i]);
  double loss[2];
  for (int side = 0; side < 2; ++side) {
    for (std::size_t i = 0; i < size; ++i)
      values[i] = saved[i] + static_cast<float>((side ? -step : step) * direction[i] / length);
    model.changed();
    loss[side] = loss_of(model, batch, interventions);
  }
  std::memcpy(values, saved.data(), size * sizeof(float));
  model.changed();
  const double found = (loss[0] - loss[1]) / (2 * step);
  if (std::fabs(found - promised) > 2e-4 + 5e-3 * std::fabs(promised)) std::printf("  in %s:\n", what);
  CHECK_CLOSE(found, promised, 2e-4 + 5e-3 * std::fabs(promised));
}

StepRequest request_of(const OwnedBatch& batch, const std::vector<Intervention>& interventions) {
  StepRequest request;
  request.batch = batch.view();
  request.weights = batch.weights.data();
  request.interventions = interventions;
  request.learning_rate = 0.01;
  return request;
}

}  // namespace

TEST(gradients_agree_with_finite_differences_under_interventions) {
  for (Family family : {Family::gpt2, Family::llama}) {
    const auto model = small_model(family, 3);
    auto batch = random_batch(kLengths, model->config.vocabulary, 4);
    batch.prompt_lengths = {2, 1, 9, 0, 6};
    const Steering steering(model->config.width, kLengths.size());
    for (const auto& interventions : {std::vector<Intervention>{}, steering.list}) {
      Trainer trainer(model, {});
      const auto result = trainer.accumulate(request_of(batch, interventions));
      CHECK_CLOSE(result.loss, loss_of(*model, batch, interventions), 1e-5);
      for (std::size_t p = 0; p < model->layout.parameters.size(); ++p) {
        const auto& info = model->layout.parameters[p];
        check_direction(info.name.c_str(), *model, batch, interventions, model->parameter(p),
                        trainer.gradient(info.name), info.size, p);
      }
    }
  }
}

TEST(gradient_at_a_hook_is_that_of_adding_there) {
  for (Family family : {Family::gpt2, Family::llama}) {
    const auto model = small_model(family, 5);
    auto batch = random_batch(kLengths, model->config.vocabulary, 6);
    batch.prompt_lengths = {2, 1, 9, 0, 6};
    const Steering steering(model->config.width, kLengths.size());
    const std::size_t d = model->config.width;
    for (Hook hook : {Hook{HookPoint::pre, 0}, Hook{HookPoint::mid, 1}, Hook{HookPoint::post, 1},
                      Hook{HookPoint::pre, 2}, Hook{HookPoint::post, 2}}) {
      GradientRequest request;
      request.batch = batch.view();
      request.interventions = steering.list;
      request.weights = batch.weights.data();
      request.hook = hook;
      const auto result = gradient_at(*model, request);
      CHECK_EQ(result.rows, batch.tokens.size());
      // A small random vector per token, added after the hook's other interventions.
      const Philox random(8, 1);
      double weight = 0, promised = 0;
      for (std::size_t s = 0; s + 1 < batch.offsets.size(); ++s)
        for (std::size_t row = batch.offsets[s]; row + 1 < batch.offsets[s + 1]; ++row)
          weight += std::fabs(batch.weights[row]);
      std::vector<std::vector<float>> vectors;
      std::vector<std::vector<std::uint8_t>> masks;
      for (std::size_t row = 0; row < batch.tokens.size(); ++row) {
        auto& vector = vectors.emplace_back(d);
        for (std::size_t i = 0; i < d; ++i) {
          vector[i] =
              static_cast<float>(random.gaussian(row * d + i) / std::sqrt(double(d * batch.tokens.size())));
          promised += vector[i] * static_cast<double>(result.gradient[row * d + i]) / weight;
        }
        masks.emplace_back(batch.tokens.size(), 0)[row] = 1;
      }
      double loss[2];
      const float step = 4e-3f;
      for (int side = 0; side < 2; ++side) {
        auto interventions = steering.list;
        for (std::size_t row = 0; row < batch.tokens.size(); ++row) {
          Intervention change;
          change.hook = hook;
          change.tokens = SteeredTokens::masked;
          change.vectors = vectors[row].data();
          change.mask = masks[row].data();
          change.amount = side ? -step : step;
          interventions.push_back(change);
        }
        loss[side] = loss_of(*model, batch, interventions);
      }
      CHECK_CLOSE((loss[0] - loss[1]) / (2 * step), promised, 2e-4 + 5e-3 * std::fabs(promised));
    }
  }
}

// With W' = W + s B A: dA = s B^T dW', dB = s dW' A^T (W [out, in]).
TEST(adapter_gradients_follow_from_those_of_the_merged_matrix) {
  for (Family family : {Family::gpt2, Family::llama}) {
    const auto model = small_model(family, 7);
    const auto batch = random_batch(kLengths, model->config.vocabulary, 8);
    const std::size_t rank = 3;
    model->adapters = make_adapters(model->layout, {rank, 5, true, {"*attn*", "*mlp*"}}, 1);
    CHECK_EQ(model->adapters.adapters.size(), model->layout.linears().size());
    const Philox random(4, 4);
    for (std::size_t i = 0; i < model->adapters.values.size(); ++i)
      model->adapters.values[i] = 0.2f * static_cast<float>(random.gaussian(i));
    auto merged = std::shared_ptr<Transformer>(model->clone());
    merge_adapters(merged->layout, merged->adapters, merged->weights.data());
    merged->adapters = AdapterSet();
    merged->changed();
    CHECK_CLOSE(loss_of(*model, batch, {}), loss_of(*merged, batch, {}), 1e-5);
    Trainer low(model, {}), full(merged, {});
    CHECK_EQ(low.trained_values(), [&] {
      std::size_t count = 0;
      for (const auto& info : model->adapters.parameters) count += info.size;
      return count;
    }());
    low.accumulate(request_of(batch, {}));
    full.accumulate(request_of(batch, {}));
    const auto& set = model->adapters;
    for (const auto& adapter : set.adapters) {
      const Linear& linear = *adapter.linear;
      const float* dw = full.gradient(model->layout.parameters[linear.weight].name);
      const auto dw_at = [&](std::size_t o, std::size_t i) {
        return static_cast<double>(linear.in_out ? dw[i * linear.out + o] : dw[o * linear.in + i]);
      };
      const float* a = set.values.data() + set.parameters[adapter.a].offset;
      const float* b = set.values.data() + set.parameters[adapter.b].offset;
      const float* da = low.gradient(set.parameters[adapter.a].name);
      const float* db = low.gradient(set.parameters[adapter.b].name);
      double worst = 0;
      for (std::size_t r = 0; r < rank; ++r) {
        for (std::size_t i = 0; i < linear.in; ++i) {
          double expected = 0;
          for (std::size_t o = 0; o < linear.out; ++o) expected += set.scale * b[o * rank + r] * dw_at(o, i);
          worst = std::max(worst, std::fabs(da[r * linear.in + i] - expected));
        }
        for (std::size_t o = 0; o < linear.out; ++o) {
          double expected = 0;
          for (std::size_t i = 0; i < linear.in; ++i)
            expected += set.scale * a[r * linear.in + i] * dw_at(o, i);
          worst = std::max(worst, std::fabs(db[o * rank + r] - expected));
        }
      }
      CHECK_CLOSE(worst, 0, 2e-5);
    }
  }
}

TEST(fresh_adapters_change_nothing_and_freeze_the_rest) {
  const auto model = small_model(Family::llama, 9);
  const auto batch = random_batch(kLengths, model->config.vocabulary, 10);
  const double before = loss_of(*model, batch, {});
  std::vector<float> weights(model->weights.data(), model->weights.data() + model->weights.size());
  model->adapters = make_adapters(model->layout, {2, 2, false, {"q_proj", "down_proj"}}, 3);
  CHECK_EQ(model->adapters.adapters.size(), std::size_t{6});
  CHECK_EQ(loss_of(*model, batch, {}), before);
  Trainer trainer(model, {});
  for (int step = 0; step < 3; ++step) trainer.step(request_of(batch, {}));
  CHECK(loss_of(*model, batch, {}) < before);
  CHECK(std::memcmp(weights.data(), model->weights.data(), weights.size() * sizeof(float)) == 0);
  CHECK_THROWS(make_adapters(model->layout, {2, 2, false, {"c_attn"}}, 3), ErrorCode::invalid_argument);
  CHECK_THROWS(make_adapters(model->layout, {0, 2, false, {"q_proj"}}, 3), ErrorCode::invalid_argument);
}

TEST(only_chosen_parameters_train_and_their_gradients_are_the_same) {
  for (Family family : {Family::gpt2, Family::llama}) {
    const auto model = small_model(family, 11);
    const auto batch = random_batch(kLengths, model->config.vocabulary, 12);
    Trainer all(model, {});
    all.accumulate(request_of(batch, {}));
    for (std::size_t p = 0; p < model->layout.parameters.size(); ++p) {
      const auto& info = model->layout.parameters[p];
      TrainerConfig config;
      config.trainable = {info.name};
      Trainer one(model, config);
      CHECK_EQ(one.trained_values(), info.size);
      one.accumulate(request_of(batch, {}));
      CHECK(std::memcmp(one.gradient(info.name), all.gradient(info.name), info.size * sizeof(float)) == 0);
      for (const auto& other : model->layout.parameters)
        if (other.name != info.name) CHECK(one.gradient(other.name) == nullptr);
    }
    TrainerConfig nothing;
    nothing.trainable = {"*no such*"};
    CHECK_THROWS(Trainer(model, nothing), ErrorCode::invalid_argument);
  }
}

TEST(training_is_the_same_for_any_number_of_threads) {
  std::vector<std::vector<float>> results;
  for (int threads : {1, 2, 5}) {
    set_thread_count(threads);
    const auto model = small_model(Family::gpt2, 13);
    const auto batch = random_batch(std::vector<std::size_t>(40, 17), model->config.vocabulary, 14);
    TrainerConfig config;
    config.weight_decay = 0.1;
    config.clip = 0.5;
    config.noise_hooks = {{HookPoint::mid, 1}, {HookPoint::pre, 0}};
    config.noise_strength = 0.3;
    Trainer trainer(model, config);
    for (int step = 0; step < 3; ++step) trainer.step(request_of(batch, {}));
    CHECK(trainer.noise_scales()[0] > 0);
    results.emplace_back(model->weights.data(), model->weights.data() + model->weights.size());
  }
  for (const auto& other : results)
    CHECK(std::memcmp(other.data(), results[0].data(), other.size() * sizeof(float)) == 0);
  set_thread_count(2);
}

TEST(noise_depends_on_seed_and_step_and_is_off_at_the_first_step) {
  const auto batch = random_batch(kLengths, 37, 16);
  const auto losses = [&](std::uint64_t seed, double strength) {
    const auto model = small_model(Family::gpt2, 15);
    TrainerConfig config;
    config.noise_hooks = {{HookPoint::post, 0}};
    config.noise_strength = strength;
    config.seed = seed;
    Trainer trainer(model, config);
    auto request = request_of(batch, {});
    request.learning_rate = 0;
    std::vector<double> list;
    for (int step = 0; step < 3; ++step) list.push_back(trainer.step(request).loss);
    return list;
  };
  const auto quiet = losses(1, 0), one = losses(1, 0.5), again = losses(1, 0.5), two = losses(2, 0.5);
  CHECK(quiet[0] == quiet[1] && quiet[1] == quiet[2]);
  CHECK(one == again);
  CHECK_EQ(one[0], quiet[0]);
  CHECK(one[1] != quiet[1] && one[2] != one[1] && two[1] != one[1]);
}

TEST(bad_steps_are_refused_and_leave_the_weights) {
  const auto model = small_model(Family::gpt2, 17);
  auto batch = random_batch(kLengths, model->config.vocabulary, 18);
  Trainer trainer(model, {});
  std::vector<float> weights(model->weights.data(), model->weights.data() + model->weights.size());
  auto request = request_of(batch, {});
  request.learning_rate = std::nan("");
  CHECK_THROWS(trainer.step(request), ErrorCode::invalid_argument);
  request.learning_rate = 0.1;
  const float weight = batch.weights[1];
  batch.weights[1] = std::nanf("");
  CHECK_THROWS(trainer.step(request), ErrorCode::non_finite);
  batch.weights[1] = weight;
  batch.tokens[3] = 37;
  CHECK_THROWS(trainer.step(request), ErrorCode::invalid_argument);
  batch.tokens[3] = 0;
  std::vector<float> none(batch.weights.size(), 0.0f);
  request.weights = none.data();
  CHECK_THROWS(trainer.step(request), ErrorCode::invalid_argument);
  request.weights = batch.weights.data();
  request.check = [] { fail(ErrorCode::aborted, "stop"); };
  CHECK_THROWS(trainer.step(request), ErrorCode::aborted);
  CHECK(std::memcmp(weights.data(), model->weights.data(), weights.size() * sizeof(float)) == 0);
  CHECK_EQ(trainer.steps(), std::int64_t{0});
  // Weights that overflow the loss are named, not trained on.
  model->parameter(0)[0] = INFINITY;
  request.check = nullptr;
  CHECK_THROWS(trainer.step(request), ErrorCode::non_finite);
}

TEST(a_trainer_does_not_outlive_the_adapters_it_was_made_for) {
  const auto model = small_model(Family::gpt2, 19);
  const auto batch = random_batch(kLengths, model->config.vocabulary, 20);
  model->adapters = make_adapters(model->layout, {2, 2, false, {"c_fc"}}, 3);
  Trainer trainer(model, {});
  trainer.step(request_of(batch, {}));
  model->adapters = make_adapters(model->layout, {2, 2, false, {"c_fc"}}, 3);
  CHECK_THROWS(trainer.step(request_of(batch, {})), ErrorCode::invalid_argument);
}

// Models too large for packed copies, and those whose passes run one after the other, compute the same bits.
TEST(packed_copies_change_no_bit) {
  for (Family family : {Family::gpt2, Family::llama}) {
    std::vector<std::vector<float>> results;
    for (bool packed : {true, false}) {
      const auto model = small_model(family, 21);
      model->keeps_packed = packed;
      const auto batch = random_batch(kLengths, model->config.vocabulary, 22);
      Trainer trainer(model, {});
      for (int step = 0; step < 2; ++step) trainer.step(request_of(batch, {}));
      results.emplace_back(model->weights.data(), model->weights.data() + model->weights.size());
    }
    CHECK(std::memcmp(results[0].data(), results[1].data(), results[0].size() * sizeof(float)) == 0);
  }
}

TEST(a_large_model_trains_the_same_for_any_number_of_threads) {
  TransformerConfig config = small_config(Family::llama);
  config.width = 512;
  config.hidden = 1536;
  config.heads = 8;
  config.kv_heads = 2;
  config.head_dim = 64;
  config.layers = 3;
  config.vocabulary = 300;
  config.initial_std = 0.02f;
  std::vector<std::vector<float>> results;
  for (int threads : {1, 3}) {
    set_thread_count(threads);
    const auto model = std::make_shared<Transformer>(config);
    CHECK(!model->small());
    model->initialise(1);
    const auto batch = random_batch({7, 20, 1, 13}, config.vocabulary, 23);
    const double before = loss_of(*model, batch, {});
    Trainer trainer(model, {});
    auto request = request_of(batch, {});
    request.learning_rate = 1e-4;
    for (int step = 0; step < 2; ++step) trainer.step(request);
    CHECK(loss_of(*model, batch, {}) < before);
    results.emplace_back(model->weights.data(), model->weights.data() + model->weights.size());
  }
  set_thread_count(2);
  CHECK(std::memcmp(results[0].data(), results[1].data(), results[0].size() * sizeof(float)) == 0);
}

// A vocabulary so large that the logits of one sequence already come in several chunks.
TEST(chunks_of_logits_change_nothing) {
  TransformerConfig config = small_config(Family::gpt2);
  config.vocabulary = 9000;
  config.positions = 120;
  config.initial_std = 0.1f;
  const auto model = std::make_shared<Transformer>(config);
  model->initialise(1);
  CHECK(logit_chunk(*model) < 40);
  const auto batch = random_batch({110, 3, 90}, config.vocabulary, 24);
  check_direction(
      "wte", *model, batch, {}, model->parameter(0),
      [&] {
        static std::vector<float> gradient;
        Trainer trainer(model, {});
        trainer.accumulate(request_of(batch, {}));
        const float* found = trainer.gradient(model->layout.parameters[0].name);
        gradient.assign(found, found + model->layout.parameters[0].size);
        return gradient.data();
      }(),
      model->layout.parameters[0].size, 1);
  ForwardRequest request;
  request.batch = batch.view();
  request.log_probs = true;
  const auto whole = forward(*model, request);
  for (std::size_t s = 0; s < 3; ++s) {
    const std::uint32_t begin = batch.offsets[s], offsets[2] = {0, batch.offsets[s + 1] - begin};
    request.batch.tokens = batch.tokens.data() + begin;
    request.batch.offsets = offsets;
    request.batch.sequences = 1;
    const auto alone = forward(*model, request);
    CHECK(std::memcmp(alone.log_probs.data(), whole.log_probs.data() + begin, offsets[1] * sizeof(float)) ==
          0);
  }
}
