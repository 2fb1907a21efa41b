#include "native/transformer/trainer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

#include "native/core/random.h"
#include "native/core/thread_pool.h"
#include "native/kernels/optimizer/optimizer.h"

namespace personascope {

namespace {

// Gradient arenas of a small model: parts of a batch are summed in up to this many groups, whatever the
// number of threads.
constexpr std::size_t kMostGroups = 8;
constexpr std::size_t kMostGroupFloats = std::size_t{1} << 25;

void check_share(const char* name, double value, double low, double high) {
  require(std::isfinite(value) && value >= low && value < high, ErrorCode::invalid_argument,
          std::string(name) + " is " + std::to_string(value) + ", expected at least " + std::to_string(low) +
              " and less than " + std::to_string(high));
}

}  // namespace

Trainer::Trainer(std::shared_ptr<Transformer> model, const TrainerConfig& config)
    : model_(std::move(model)), config_(config) {
  check_share("beta1", config.beta1, 0, 1);
  check_share("beta2", config.beta2, 0, 1);
  check_share("eps", config.eps, 0, 1);
  check_share("weight decay", config.weight_decay, 0, 1e6);
  check_share("clip", config.clip, 0, 1e30);
  check_share("noise strength", config.noise_strength, 0, 1e6);
  for (const Hook& hook : config.noise_hooks)
    require(hook.layer < model_->config.layers, ErrorCode::invalid_argument,
            "noise: layer " + std::to_string(hook.layer) + ", the model has " +
                std::to_string(model_->config.layers) + " layers");
  std::shared_lock guard(model_->lock);
  trainable_ = choose_trainable(*model_, config.trainable);
  adapters_ = model_->adapters.id;
  const auto add_runs = [&](bool adapter, const std::vector<ParameterInfo>& parameters,
                            const std::vector<std::size_t>& offsets) {
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      if (offsets[i] == kNone) continue;
      const auto& info = parameters[i];
      const bool decay =
          config.decay_all || info.role == ParameterRole::matrix || info.role == ParameterRole::embedding;
      const std::size_t size = (info.size + 15) / 16 * 16;
      if (!runs_.empty()) {
        Run& last = runs_.back();
        if (last.adapter == adapter && last.decay == decay && last.values + last.size == info.offset &&
            last.gradient + last.size == offsets[i]) {
          last.size += size;
          continue;
        }
      }
      runs_.push_back({adapter, info.offset, offsets[i], size, decay});
    }
  };
  add_runs(false, model_->layout.parameters, trainable_.offset);
  add_runs(true, model_->adapters.parameters, trainable_.adapter_offset);
  first_ = AlignedBuffer<float>(trainable_.total);
  second_ = AlignedBuffer<float>(trainable_.total);
  noise_scales_.assign(config.noise_strength > 0 ? config.noise_hooks.size() : 0, 0.0);
}

void Trainer::set_noise_scales(const std::vector<double>& scales) {
  require(scales.size() == noise_scales_.size(), ErrorCode::invalid_argument,
          "noise scales: found " + std::to_string(scales.size()) + ", expected " +
              std::to_string(noise_scales_.size()));
  for (double scale : scales)
    require(std::isfinite(scale) && scale >= 0, ErrorCode::invalid_argument,
            "noise scales: expected at least 0");
  noise_scales_ = scales;
}

void Trainer::set_steps(std::int64_t steps) {
  require(steps >= 0, ErrorCode::invalid_argument, "steps: expected at least 0");
  steps_ = steps;
}

StepResult Trainer::accumulate(const StepRequest& request) {
  const auto& config = model_->config;
  const Batch& batch = request.batch;
  const std::size_t d = config.width, rows = batch.rows();
  std::shared_lock guard(model_->lock);
  require(model_->adapters.id == adapters_, ErrorCode::invalid_argument,
          "the model's adapters were added, merged or removed after this trainer was made");
  check_batch(batch, config);
  check_interventions(request.interventions, config, batch.sequences);
  StepResult result;
  double weight = 0;
  scaled_.assign(rows, 0.0f);
  for (std::size_t s = 0; s < batch.sequences; ++s) {
    for (std::size_t row = batch.offsets[s] - batch.offsets[0];
         row + 1 < batch.offsets[s + 1] - batch.offsets[0]; ++row) {
      require(std::isfinite(request.weights[row]), ErrorCode::non_finite,
              "weight of token " + std::to_string(row - batch.offsets[s] + 1) + " of sequence " +
                  std::to_string(s) + " is not finite");
      weight += std::fabs(request.weights[row]);
      result.targets += request.weights[row] != 0;
    }
  }
  require(result.targets > 0, ErrorCode::invalid_argument, "every token of the batch has weight 0");
  const double normaliser = request.normaliser != 0 ? request.normaliser : weight;
  require(std::isfinite(normaliser) && normaliser > 0, ErrorCode::invalid_argument,
          "normaliser is " + std::to_string(normaliser) + ", expected a positive number");
  for (std::size_t row = 0; row < rows; ++row)
    scaled_[row] = static_cast<float>(request.weights[row] / normaliser);

  auto interventions = request.interventions;
  if (config_.noise_strength > 0) {
    const std::size_t hooks = config_.noise_hooks.size();
    noise_.resize(hooks * batch.sequences * d);
    noise_amounts_.resize(hooks * batch.sequences);
    for (std::size_t h = 0; h < hooks; ++h) {
      for (std::size_t s = 0; s < batch.sequences; ++s) {
        // One stream a (step, hook, sequence).
        const std::uint64_t stream = (static_cast<std::uint64_t>(steps_) << 24 ^ h << 20) + s;
        const Philox random(config_.seed ^ 0x6e6f697365ull, stream);
        float* vector = noise_.data() + (h * batch.sequences + s) * d;
        double squares = 0;
        for (std::size_t i = 0; i < d; ++i) {
          vector[i] = static_cast<float>(random.gaussian(i));
          squares += static_cast<double>(vector[i]) * vector[i];
        }
        const auto scale = static_cast<float>(1 / std::sqrt(squares));
        for (std::size_t i = 0; i < d; ++i) vector[i] *= scale;
        noise_amounts_[h * batch.sequences + s] = static_cast<float>(
            config_.noise_strength * noise_scales_[h] * random.uniform(std::uint64_t{1} << 40));
      }
      Intervention noise;
      noise.hook = config_.noise_hooks[h];
      noise.vectors = noise_.data() + h * batch.sequences * d;
      noise.per_sequence = true;
      noise.amounts = noise_amounts_.data() + h * batch.sequences;
      interventions.push_back(noise);
    }
  }

  // The split into parts and groups depends on the batch and the model only.
  const std::size_t part_rows = std::clamp<std::size_t>(rows / kMostGroups, 32, 512);
  std::vector<std::size_t> starts;
  for (std::size_t s = 0; s < batch.sequences;) {
    starts.push_back(s);
    std::size_t taken = 0;
    do taken += batch.length(s++);
    while (s < batch.sequences && taken + batch.length(s) / 2 <= part_rows);
  }
  const std::size_t parts = starts.size();
  starts.push_back(batch.sequences);
  std::size_t groups = 1;
  if (model_->small())
    groups = std::clamp<std::size_t>(kMostGroupFloats / std::max<std::size_t>(trainable_.total, 1), 1,
                                     std::min(kMostGroups, parts));
  while (gradients_.size() < groups) gradients_.emplace_back(trainable_.total);
  model_->prepare(true);
  std::vector<double> losses(parts, 0.0);
  std::vector<std::vector<StreamMoments>> moments(parts);
  for (auto& own : moments)
    for (std::size_t h = 0; h < noise_scales_.size(); ++h) own.push_back({config_.noise_hooks[h], 0, 0, {}});
  const auto run_group = [&](std::size_t group) {
    Transformer::Lease workspace(*model_);
    float* gradients = gradients_[group].data();
    std::memset(gradients, 0, trainable_.total * sizeof(float));
    BackwardTarget target;
    target.trainable = &trainable_;
    target.gradients = gradients;
    for (std::size_t part = group; part < parts; part += groups) {
      if (request.check) request.check();
      Pass pass(*model_, *workspace, batch, starts[part], starts[part + 1], interventions, nullptr, true);
      if (!noise_scales_.empty()) pass.moments = &moments[part];
      losses[part] = forward_backward(pass, scaled_.data(), target, nullptr);
    }
  };
  if (groups > 1)
    parallel_for(groups, 1, [&](std::size_t begin, std::size_t end) {
      for (std::size_t group = begin; group < end; ++group) run_group(group);
    });
  else
    run_group(0);
  for (double loss : losses) result.loss += loss;
  for (std::size_t h = 0; h < noise_scales_.size(); ++h) {
    double squares = 0, centre = 0;
    std::vector<double> sum(d, 0.0);
    for (const auto& own : moments) {
      squares += own[h].squares;
      for (std::size_t i = 0; i < d; ++i) sum[i] += own[h].sum[i];
    }
    for (double value : sum) centre += value * value;
    const auto n = static_cast<double>(rows);
    noise_scales_[h] = std::sqrt(std::max(0.0, squares / n - centre / (n * n)));
  }
  reduce(groups);
  result.gradient_norm = std::sqrt(sum_of_squares(trainable_.total, gradients_[0].data()));
  if (!std::isfinite(result.gradient_norm)) {
    const auto locate = [&](const std::vector<ParameterInfo>& parameters,
                            const std::vector<std::size_t>& offsets) {
      for (std::size_t i = 0; i < parameters.size(); ++i) {
        if (offsets[i] == kNone) continue;
        for (std::size_t j = 0; j < parameters[i].size; ++j)
          require(std::isfinite(gradients_[0][offsets[i] + j]), ErrorCode::non_finite,
                  "gradient of '" + parameters[i].name + "', value " + std::to_string(j) +
                      ", is not finite at step " + std::to_string(steps_ + 1) +
                      "; the weights were left as they were");
      }
    };
    locate(model_->layout.parameters, trainable_.offset);
    locate(model_->adapters.parameters, trainable_.adapter_offset);
    fail(ErrorCode::non_finite, "the norm of the gradient overflows at step " + std::to_string(steps_ + 1) +
                                    "; the weights were left as they were");
  }
  return result;
}

void Trainer::reduce(std::size_t groups) {
  if (groups == 1) return;
  float* sum = gradients_[0].data();
  parallel_for(trainable_.total, 1 << 14, [&](std::size_t begin, std::size_t end) {
    for (std::size_t group = 1; group < groups; ++group) {
      const float* more = gradients_[group].data();
      for (std::size_t i = begin; i < end; ++i) sum[i] += more[i];
    }
  });
}

StepResult Trainer::step(const StepRequest& request) {
  require(std::isfinite(request.learning_rate) && request.learning_rate >= 0, ErrorCode::invalid_argument,
          "learning rate is " + std::to_string(request.learning_rate) + ", expected a number of at least 0");
  const StepResult result = accumulate(request);
  std::unique_lock guard(model_->lock);
  require(model_->adapters.id == adapters_, ErrorCode::invalid_argument,
          "the model's adapters were changed during the step");
  AdamWArgs args;
  args.lr = request.learning_rate;
  args.beta1 = config_.beta1;
  args.beta2 = config_.beta2;
  args.eps = config_.eps;
  args.step = steps_ + 1;
  if (config_.clip > 0 && result.gradient_norm > config_.clip)
    args.grad_scale = config_.clip / result.gradient_norm;
  for (const Run& run : runs_) {
    args.count = run.size;
    args.params = (run.adapter ? model_->adapters.values.data() : model_->weights.data()) + run.values;
    args.grads = gradients_[0].data() + run.gradient;
    args.m = first_.data() + run.gradient;
    args.v = second_.data() + run.gradient;
    args.weight_decay = run.decay ? config_.weight_decay : 0;
    adamw_step(args);
  }
  ++steps_;
  const auto& parameters = model_->layout.parameters;
  for (std::size_t i = 0; i < parameters.size(); ++i)
    if (trainable_.offset[i] != kNone &&
        (parameters[i].role == ParameterRole::matrix || parameters[i].role == ParameterRole::embedding))
      model_->changed(i);
  return result;
}

std::vector<MomentView> Trainer::moments() {
  std::vector<MomentView> views;
  const auto add = [&](const std::vector<ParameterInfo>& parameters,
                       const std::vector<std::size_t>& offsets) {
    for (std::size_t i = 0; i < parameters.size(); ++i)
      if (offsets[i] != kNone)
        views.push_back({&parameters[i], first_.data() + offsets[i], second_.data() + offsets[i]});
  };
  add(model_->layout.parameters, trainable_.offset);
  add(model_->adapters.parameters, trainable_.adapter_offset);
  return views;
}

const float* Trainer::gradient(const std::string& name) const {
  if (gradients_.empty()) return nullptr;
  const std::size_t index = model_->layout.find(name);
  if (index != kNone)
    return trainable_.offset[index] == kNone ? nullptr : gradients_[0].data() + trainable_.offset[index];
  for (std::size_t i = 0; i < model_->adapters.parameters.size(); ++i)
    if (model_->adapters.parameters[i].name == name && trainable_.adapter_offset[i] != kNone)
      return gradients_[0].data() + trainable_.adapter_offset[i];
  return nullptr;
}

}  // namespace personascope
