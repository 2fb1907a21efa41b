// Trainer for JavaScript; lib/finetuning/trainer.ts explains the arguments.
#include <napi.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "native/addon/convert.h"
#include "native/addon/job.h"
#include "native/addon/modules.h"
#include "native/addon/transformer_arguments.h"
#include "native/transformer/trainer.h"

namespace personascope::addon {
namespace {

class TrainerClass : public Napi::ObjectWrap<TrainerClass> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(
        env, "Trainer",
        {InstanceMethod("step", &TrainerClass::step), InstanceMethod("steps", &TrainerClass::steps),
         InstanceMethod("setSteps", &TrainerClass::set_steps),
         InstanceMethod("noiseScales", &TrainerClass::noise_scales),
         InstanceMethod("setNoiseScales", &TrainerClass::set_noise_scales),
         InstanceMethod("trainedValues", &TrainerClass::trained_values),
         InstanceMethod("moments", &TrainerClass::moments),
         InstanceMethod("gradient", &TrainerClass::gradient)});
  }

  // new Trainer(model, {trainable, beta1, beta2, eps, weightDecay, decayAll, clip, seed, noiseHooks,
  // noiseStrength})
  explicit TrainerClass(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    guarded(info.Env(), [&] {
      const auto from = object(info[1], "options");
      TrainerConfig config;
      config.trainable = texts(from.Get("trainable"), "trainable");
      config.beta1 = number(from.Get("beta1"), "beta1");
      config.beta2 = number(from.Get("beta2"), "beta2");
      config.eps = number(from.Get("eps"), "eps");
      config.weight_decay = number(from.Get("weightDecay"), "weightDecay");
      config.decay_all = flag(from, "decayAll");
      config.clip = number(from.Get("clip"), "clip");
      config.seed = whole_number(from.Get("seed"), "seed", 0, (std::uint64_t{1} << 53) - 1);
      const Napi::Value hooks = from.Get("noiseHooks");
      require(hooks.IsArray(), ErrorCode::invalid_argument, "noiseHooks: expected an array");
      for (std::uint32_t i = 0; i < hooks.As<Napi::Array>().Length(); ++i)
        config.noise_hooks.push_back(read_hook(hooks.As<Napi::Array>().Get(i), "noise hook"));
      config.noise_strength = number(from.Get("noiseStrength"), "noiseStrength");
      trainer_ = std::make_shared<Trainer>(unwrap_transformer(info[0]), config);
    });
  }

 private:
  // step({tokens, offsets, promptLengths?, interventions?, weights, normaliser, learningRate, update},
  // options): Promise<{loss, gradientNorm, targets}>; update false computes gradients only.
  Napi::Value step(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const auto from = object(info[0], "request");
      StepRequest request;
      request.batch = read_batch(from);
      request.interventions =
          read_interventions(from.Get("interventions"), trainer_->model()->config, request.batch);
      request.weights = typed_array<float>(from.Get("weights"), "weights", request.batch.rows()).data;
      request.normaliser = number(from.Get("normaliser"), "normaliser");
      request.learning_rate = number(from.Get("learningRate"), "learningRate");
      const bool update = flag(from, "update");
      return start_job(info.Env(), info[1], {info.This(), info[0]},
                       [trainer = trainer_, request, update](JobContext& job) mutable -> Finish {
                         request.check = [&job] { job.check(); };
                         const StepResult result =
                             update ? trainer->step(request) : trainer->accumulate(request);
                         return [result](Napi::Env env) -> Napi::Value {
                           auto made = Napi::Object::New(env);
                           made.Set("loss", result.loss);
                           made.Set("gradientNorm", result.gradient_norm);
                           made.Set("targets", static_cast<double>(result.targets));
                           return made;
                         };
                       });
    });
  }

  Napi::Value steps(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), static_cast<double>(trainer_->steps()));
  }

  Napi::Value set_steps(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      trainer_->set_steps(
          static_cast<std::int64_t>(whole_number(info[0], "steps", 0, std::uint64_t{1} << 40)));
      return info.Env().Undefined();
    });
  }

  Napi::Value noise_scales(const Napi::CallbackInfo& info) {
    return to_typed_array(info.Env(), std::vector<double>(trainer_->noise_scales()));
  }

  Napi::Value set_noise_scales(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const auto scales = typed_array<double>(info[0], "scales");
      trainer_->set_noise_scales({scales.data, scales.data + scales.size});
      return info.Env().Undefined();
    });
  }

  Napi::Value trained_values(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), static_cast<double>(trainer_->trained_values()));
  }

  // [{name, shape, first, second}]: live views of AdamW's moments.
  Napi::Value moments(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const auto views = trainer_->moments();
    auto list = Napi::Array::New(env, views.size());
    for (std::uint32_t i = 0; i < list.Length(); ++i) {
      Napi::HandleScope scope(env);
      const auto& info_of = *views[i].parameter;
      auto entry = Napi::Object::New(env);
      entry.Set("name", info_of.name);
      entry.Set("shape", shape_array(env, info_of));
      entry.Set("first", external_array<float>(env, trainer_, views[i].first, info_of.size));
      entry.Set("second", external_array<float>(env, trainer_, views[i].second, info_of.size));
      list.Set(i, entry);
    }
    return list;
  }

  // gradient(name): a copy of the last step's gradient, or undefined if the parameter is frozen.
  Napi::Value gradient(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const std::string name = text(info[0], "name");
      const float* values = trainer_->gradient(name);
      if (!values) return info.Env().Undefined();
      for (const auto& view : trainer_->moments())
        if (view.parameter->name == name)
          return to_typed_array(info.Env(), std::vector<float>(values, values + view.parameter->size));
      return info.Env().Undefined();
    });
  }

  std::shared_ptr<Trainer> trainer_;
};

}  // namespace

void initialise_trainer(Napi::Env env, Napi::Object exports) {
  exports.Set("Trainer", TrainerClass::define(env));
}

}  // namespace personascope::addon
