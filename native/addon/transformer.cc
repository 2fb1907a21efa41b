// Transformer and Trainer for JavaScript. Arguments come from lib/models and lib/finetuning, which explain
// them; here they are checked again, because a wrong size would be a wild read.
#include <napi.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <utility>
#include <vector>

#include "native/addon/convert.h"
#include "native/addon/job.h"
#include "native/addon/modules.h"
#include "native/addon/transformer_arguments.h"
#include "native/transformer/checkpoint.h"
#include "native/transformer/gradient.h"
#include "native/transformer/inference.h"
#include "native/transformer/model.h"
#include "native/transformer/sampler.h"

namespace personascope::addon {
namespace {

constexpr napi_type_tag kTransformerTag = {0x706572736f6e6173, 0x7472616e73666f72};

TransformerConfig read_config(const Napi::Value& value) {
  const auto from = object(value, "config");
  TransformerConfig config;
  config.family = static_cast<Family>(size_of(from, "family", 1));
  config.vocabulary = size_of(from, "vocabulary");
  config.width = size_of(from, "width");
  config.layers = size_of(from, "layers");
  config.heads = size_of(from, "heads");
  config.kv_heads = size_of(from, "kvHeads");
  config.head_dim = size_of(from, "headDim");
  config.hidden = size_of(from, "hidden");
  config.positions = size_of(from, "positions");
  config.norm_eps = static_cast<float>(number(from.Get("normEps"), "normEps"));
  const std::string activation = text(from.Get("activation"), "activation");
  const std::pair<const char*, Activation> known[] = {{"relu", Activation::relu},
                                                      {"gelu_tanh", Activation::gelu_tanh},
                                                      {"gelu", Activation::gelu_erf},
                                                      {"silu", Activation::silu}};
  bool found = false;
  for (const auto& [name, kind] : known)
    if (activation == name) config.activation = kind, found = true;
  require(found, ErrorCode::invalid_argument, "activation '" + activation + "' is not known");
  config.tied = flag(from, "tied");
  config.qkv_bias = flag(from, "qkvBias");
  config.out_bias = flag(from, "outBias");
  config.mlp_bias = flag(from, "mlpBias");
  config.rope_theta = number(from.Get("ropeTheta"), "ropeTheta");
  config.rope_scaling = static_cast<RopeScaling>(size_of(from, "ropeScaling", 2));
  config.rope_factor = number(from.Get("ropeFactor"), "ropeFactor");
  config.rope_low_freq_factor = number(from.Get("ropeLowFreqFactor"), "ropeLowFreqFactor");
  config.rope_high_freq_factor = number(from.Get("ropeHighFreqFactor"), "ropeHighFreqFactor");
  config.rope_original_positions = number(from.Get("ropeOriginalPositions"), "ropeOriginalPositions");
  config.initial_std = static_cast<float>(number(from.Get("initialStd"), "initialStd"));
  return config;
}

// Counts sequences for progress and stops the job between parts; called from several threads.
Tick make_tick(JobContext& job, std::shared_ptr<std::atomic<std::size_t>> done, std::size_t total) {
  auto reporting = std::make_shared<std::mutex>();
  return [&job, done, total, reporting](std::size_t sequences) {
    job.check();
    const std::size_t now = done->fetch_add(sequences) + sequences;
    std::lock_guard guard(*reporting);
    job.progress(static_cast<double>(now), static_cast<double>(total));
  };
}

Napi::Array parameter_list(Napi::Env env, const std::vector<ParameterInfo>& parameters) {
  auto list = Napi::Array::New(env, parameters.size());
  for (std::uint32_t i = 0; i < list.Length(); ++i) {
    Napi::HandleScope scope(env);
    auto entry = Napi::Object::New(env);
    entry.Set("name", parameters[i].name);
    entry.Set("shape", shape_array(env, parameters[i]));
    entry.Set("offset", static_cast<double>(parameters[i].offset));
    entry.Set("size", static_cast<double>(parameters[i].size));
    list.Set(i, entry);
  }
  return list;
}

class TransformerClass : public Napi::ObjectWrap<TransformerClass> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Transformer",
                       {InstanceMethod("initialise", &TransformerClass::initialise),
                        InstanceMethod("load", &TransformerClass::load),
                        InstanceMethod("copyFrom", &TransformerClass::copy_from),
                        InstanceMethod("parameters", &TransformerClass::parameters),
                        InstanceMethod("values", &TransformerClass::values),
                        InstanceMethod("changed", &TransformerClass::changed),
                        InstanceMethod("addAdapters", &TransformerClass::add_adapters),
                        InstanceMethod("removeAdapters", &TransformerClass::remove_adapters),
                        InstanceMethod("mergeAdapters", &TransformerClass::merge),
                        InstanceMethod("loadAdapters", &TransformerClass::load_adapter_file),
                        InstanceMethod("adapterParameters", &TransformerClass::adapter_parameters),
                        InstanceMethod("adapterValues", &TransformerClass::adapter_values),
                        InstanceMethod("forward", &TransformerClass::forward),
                        InstanceMethod("gradientAt", &TransformerClass::gradient_at),
                        InstanceMethod("sample", &TransformerClass::sample)});
  }

  explicit TransformerClass(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    guarded(info.Env(), [&] { model_ = std::make_shared<Transformer>(read_config(info[0])); });
    const auto bytes = static_cast<std::int64_t>(model_->weights.size() * sizeof(float));
    Napi::MemoryManagement::AdjustExternalMemory(info.Env(), bytes);
    accounted_ = bytes;
    info.This().As<Napi::Object>().TypeTag(&kTransformerTag);
  }
  void Finalize(Napi::Env env) override { Napi::MemoryManagement::AdjustExternalMemory(env, -accounted_); }

  const ModelPointer& model() const { return model_; }

 private:
  Napi::Value initialise(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const std::uint64_t seed = whole_number(info[0], "seed", 0, (std::uint64_t{1} << 53) - 1);
      std::unique_lock guard(model_->lock);
      model_->initialise(seed);
      return info.Env().Undefined();
    });
  }

  // load(files: string[], options): Promise<void>
  Napi::Value load(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      auto files = texts(info[0], "files");
      return start_job(info.Env(), info[1], {info.This()},
                       [model = model_, files](JobContext& job) -> Finish {
                         load_weights(*model, files, [&](std::size_t done, std::size_t total) {
                           job.check();
                           job.progress(static_cast<double>(done), static_cast<double>(total));
                         });
                         return [](Napi::Env env) -> Napi::Value { return env.Undefined(); };
                       });
    });
  }

  // copyFrom(other: Transformer): takes over weights and adapters of a model of the same configuration.
  Napi::Value copy_from(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const ModelPointer other = unwrap_transformer(info[0]);
      require(other != model_ && other->weights.size() == model_->weights.size(), ErrorCode::invalid_argument,
              "copyFrom: expected another model of the same shape");
      std::shared_lock reading(other->lock);
      model_ = std::shared_ptr<Transformer>(other->clone());
      return info.Env().Undefined();
    });
  }

  Napi::Value parameters(const Napi::CallbackInfo& info) {
    return parameter_list(info.Env(), model_->layout.parameters);
  }

  // The arena itself: what is written there is the model's, after `changed`.
  Napi::Value values(const Napi::CallbackInfo& info) {
    return external_array<float>(info.Env(), model_, model_->weights.data(), model_->weights.size());
  }

  Napi::Value changed(const Napi::CallbackInfo& info) {
    std::unique_lock guard(model_->lock);
    model_->changed();
    return info.Env().Undefined();
  }

  // addAdapters({rank, alpha, rankStabilised, modules, seed})
  Napi::Value add_adapters(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const auto from = object(info[0], "adapters");
      LoraConfig config;
      config.rank = size_of(from, "rank", 65536);
      config.alpha = number(from.Get("alpha"), "alpha");
      config.rank_stabilised = flag(from, "rankStabilised");
      config.modules = texts(from.Get("modules"), "modules");
      std::unique_lock guard(model_->lock);
      require(model_->adapters.empty(), ErrorCode::invalid_argument,
              "the model has adapters already: merge or remove them first");
      model_->adapters = make_adapters(
          model_->layout, config, whole_number(from.Get("seed"), "seed", 0, (std::uint64_t{1} << 53) - 1));
      return info.Env().Undefined();
    });
  }

  Napi::Value remove_adapters(const Napi::CallbackInfo& info) {
    std::unique_lock guard(model_->lock);
    model_->adapters = AdapterSet();
    return info.Env().Undefined();
  }

  Napi::Value merge(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      return start_job(info.Env(), info[0], {info.This()}, [model = model_](JobContext&) -> Finish {
        std::unique_lock guard(model->lock);
        merge_adapters(model->layout, model->adapters, model->weights.data());
        model->adapters = AdapterSet();
        model->changed();
        return [](Napi::Env env) -> Napi::Value { return env.Undefined(); };
      });
    });
  }

  Napi::Value load_adapter_file(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const std::string file = text(info[0], "file");
      return start_job(info.Env(), info[1], {info.This()}, [model = model_, file](JobContext&) -> Finish {
        load_adapters(*model, file);
        return [](Napi::Env env) -> Napi::Value { return env.Undefined(); };
      });
    });
  }

  Napi::Value adapter_parameters(const Napi::CallbackInfo& info) {
    return parameter_list(info.Env(), model_->adapters.parameters);
  }

  // A copy: the adapters may be replaced.
  Napi::Value adapter_values(const Napi::CallbackInfo& info) {
    std::shared_lock guard(model_->lock);
    const auto& values = model_->adapters.values;
    return to_typed_array(info.Env(), std::vector<float>(values.data(), values.data() + values.size()));
  }

  // forward({tokens, offsets, promptLengths?, interventions?, capture?: {point, layer}, mask?, logProbs,
  // lastLogits}, options): Promise<{captured?, logProbs?, lastLogits?}>
  Napi::Value forward(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const auto from = object(info[0], "request");
      ForwardRequest request;
      request.batch = read_batch(from);
      request.interventions = read_interventions(from.Get("interventions"), model_->config, request.batch);
      if (!from.Get("capture").IsUndefined()) {
        request.capture = true;
        request.hook = read_hook(from.Get("capture"), "capture");
      }
      request.mask = optional_typed_array<std::uint8_t>(from.Get("mask"), "mask", request.batch.rows()).data;
      request.log_probs = flag(from, "logProbs");
      request.last_logits = flag(from, "lastLogits");
      return start_job(info.Env(), info[1], {info.This(), info[0]},
                       [model = model_, request](JobContext& job) mutable -> Finish {
                         request.tick = make_tick(job, std::make_shared<std::atomic<std::size_t>>(0),
                                                  request.batch.sequences);
                         auto result =
                             std::make_shared<ForwardResult>(personascope::forward(*model, request));
                         return [result, request](Napi::Env env) -> Napi::Value {
                           auto made = Napi::Object::New(env);
                           if (request.capture)
                             made.Set("captured", to_typed_array(env, std::move(result->captured)));
                           if (request.log_probs)
                             made.Set("logProbs", to_typed_array(env, std::move(result->log_probs)));
                           if (request.last_logits)
                             made.Set("lastLogits", to_typed_array(env, std::move(result->last_logits)));
                           return made;
                         };
                       });
    });
  }

  // gradientAt({tokens, offsets, promptLengths?, interventions?, weights?, hook, mask?}, options):
  // Promise<{loss, gradient}>
  Napi::Value gradient_at(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const auto from = object(info[0], "request");
      GradientRequest request;
      request.batch = read_batch(from);
      request.interventions = read_interventions(from.Get("interventions"), model_->config, request.batch);
      request.hook = read_hook(from.Get("hook"), "hook");
      request.weights =
          optional_typed_array<float>(from.Get("weights"), "weights", request.batch.rows()).data;
      request.mask = optional_typed_array<std::uint8_t>(from.Get("mask"), "mask", request.batch.rows()).data;
      return start_job(info.Env(), info[1], {info.This(), info[0]},
                       [model = model_, request](JobContext& job) mutable -> Finish {
                         request.tick = make_tick(job, std::make_shared<std::atomic<std::size_t>>(0),
                                                  request.batch.sequences);
                         auto result =
                             std::make_shared<GradientResult>(personascope::gradient_at(*model, request));
                         return [result](Napi::Env env) -> Napi::Value {
                           auto made = Napi::Object::New(env);
                           made.Set("loss", result->loss);
                           made.Set("gradient", to_typed_array(env, std::move(result->gradient)));
                           return made;
                         };
                       });
    });
  }

  // sample({tokens, offsets, interventions?, rowPrompt, rowStream: BigUint64Array, seed, maxNewTokens,
  // temperature, topP, topK, stop: Int32Array, batchRows}, options): Promise<{stride, tokens, logProbs,
  // lengths, stopped}>
  Napi::Value sample(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const auto from = object(info[0], "request");
      SampleRequest request;
      request.prompts = read_batch(from);
      request.interventions = read_interventions(from.Get("interventions"), model_->config, request.prompts);
      const auto row_prompt = typed_array<std::uint32_t>(from.Get("rowPrompt"), "rowPrompt");
      request.rows = row_prompt.size;
      request.row_prompt = row_prompt.data;
      request.row_stream = typed_array<std::uint64_t>(from.Get("rowStream"), "rowStream", request.rows).data;
      request.seed = whole_number(from.Get("seed"), "seed", 0, (std::uint64_t{1} << 53) - 1);
      request.max_new_tokens = size_of(from, "maxNewTokens", std::uint64_t{1} << 24);
      request.temperature = number(from.Get("temperature"), "temperature");
      request.top_p = number(from.Get("topP"), "topP");
      request.top_k = size_of(from, "topK");
      const auto stop = typed_array<std::int32_t>(from.Get("stop"), "stop");
      request.stop.assign(stop.data, stop.data + stop.size);
      request.batch_rows = size_of(from, "batchRows", 1 << 20);
      return start_job(info.Env(), info[1], {info.This(), info[0]},
                       [model = model_, request](JobContext& job) mutable -> Finish {
                         request.tick =
                             make_tick(job, std::make_shared<std::atomic<std::size_t>>(0), request.rows);
                         auto result = std::make_shared<SampleResult>(personascope::sample(*model, request));
                         return [result](Napi::Env env) -> Napi::Value {
                           auto made = Napi::Object::New(env);
                           made.Set("stride", static_cast<double>(result->stride));
                           made.Set("tokens", to_typed_array(env, std::move(result->tokens)));
                           made.Set("logProbs", to_typed_array(env, std::move(result->log_probs)));
                           made.Set("lengths", to_typed_array(env, std::move(result->lengths)));
                           made.Set("stopped", to_typed_array(env, std::move(result->stopped)));
                           return made;
                         };
                       });
    });
  }

  ModelPointer model_;
  std::int64_t accounted_ = 0;
};

}  // namespace

ModelPointer unwrap_transformer(const Napi::Value& value) {
  const auto from = object(value, "model");
  require(from.CheckTypeTag(&kTransformerTag), ErrorCode::invalid_argument, "model: expected a Transformer");
  return Napi::ObjectWrap<TransformerClass>::Unwrap(from)->model();
}

void initialise_transformer(Napi::Env env, Napi::Object exports) {
  exports.Set("Transformer", TransformerClass::define(env));
}

}  // namespace personascope::addon
