// Sae and SaeTrainer for JavaScript.
#include "native/addon/sae.h"

#include <algorithm>
#include <atomic>
#include <string>

#include "native/addon/job.h"
#include "native/addon/latent_stats.h"
#include "native/addon/modules.h"
#include "native/sae/trainer.h"

namespace personascope::addon {

namespace {

// The constructor of each environment (the main thread and each worker has its own). An environment lives in
// one thread, and frees what it holds when it ends.
thread_local Napi::FunctionReference* t_constructor = nullptr;

SaeConfig sae_config(const Napi::Value& value) {
  const auto config = object(value, "config");
  SaeConfig made;
  made.latents = whole_number(config.Get("latents"), "latents", 1, 0xFFFFFFFFull);
  made.width = whole_number(config.Get("width"), "dModel", 1, 1 << 20);
  made.k = whole_number(config.Get("k"), "k", 1, made.latents);
  made.subtract_decoder_bias = config.Get("subtractDecoderBias").ToBoolean();
  return made;
}

TokenProgress report_to(JobContext& job, std::size_t total) {
  return [&job, total](std::size_t done) {
    job.progress(static_cast<double>(done), static_cast<double>(total));
  };
}

}  // namespace

std::size_t whole_rows(const Span<float>& values, std::size_t width, const char* argument) {
  require(values.size % width == 0, ErrorCode::invalid_argument,
          std::string(argument) + ": found " + std::to_string(values.size) +
              " values, expected a multiple of dModel " + std::to_string(width));
  return values.size / width;
}

CodesView codes_view(const Napi::Value& value, const char* argument) {
  const auto codes = object(value, argument);
  const auto offsets = typed_array<std::uint32_t>(codes.Get("offsets"), "offsets");
  require(offsets.size >= 1 && offsets.data[0] == 0, ErrorCode::invalid_argument,
          std::string(argument) + ": offsets must begin with 0");
  for (std::size_t i = 1; i < offsets.size; ++i)
    require(offsets.data[i] >= offsets.data[i - 1], ErrorCode::invalid_argument,
            std::string(argument) + ": offsets fall at row " + std::to_string(i - 1));
  const std::size_t pairs = offsets.data[offsets.size - 1];
  const auto indices = typed_array<std::uint32_t>(codes.Get("indices"), "indices", pairs);
  const auto values = typed_array<float>(codes.Get("values"), "values", pairs);
  return {offsets.size - 1, indices.data, values.data, offsets.data, 0, nullptr};
}

Napi::Function SaeClass::define(Napi::Env env) {
  return DefineClass(
      env, "Sae",
      {InstanceMethod("encode", &SaeClass::encode), InstanceMethod("encodeInto", &SaeClass::encode_into),
       InstanceMethod("decode", &SaeClass::decode),
       InstanceMethod("preActivations", &SaeClass::pre_activations),
       InstanceMethod("decoderVector", &SaeClass::decoder_vector),
       InstanceMethod("encoderVector", &SaeClass::encoder_vector),
       InstanceMethod("encoderColumns", &SaeClass::encoder_columns),
       InstanceMethod("decoderRows", &SaeClass::decoder_rows),
       InstanceMethod("encoderBias", &SaeClass::encoder_bias),
       InstanceMethod("decoderBias", &SaeClass::decoder_bias)});
}

Napi::Object SaeClass::wrap(Napi::Env env, std::shared_ptr<const Sae> sae) {
  return t_constructor->New({Napi::External<std::shared_ptr<const Sae>>::New(env, &sae)});
}

void SaeClass::set(Napi::Env env, std::shared_ptr<const Sae> sae) {
  sae_ = std::move(sae);
  accounted_ = static_cast<std::int64_t>(sae_->bytes());
  Napi::MemoryManagement::AdjustExternalMemory(env, accounted_);
}

void SaeClass::Finalize(Napi::Env env) {
  Napi::MemoryManagement::AdjustExternalMemory(env, -accounted_);
}

SaeClass::SaeClass(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  guarded(info.Env(), [&] {
    if (info[0].IsExternal()) {
      set(info.Env(), *info[0].As<Napi::External<std::shared_ptr<const Sae>>>().Data());
      return;
    }
    const SaeConfig config = sae_config(info[0]);
    const std::size_t matrix = config.latents * config.width;
    const auto w_enc = typed_array<float>(info[1], "W_enc", matrix);
    const auto layout = static_cast<EncoderLayout>(whole_number(info[2], "layout", 0, 1));
    const auto w_dec = typed_array<float>(info[3], "W_dec", matrix);
    const auto b_enc = typed_array<float>(info[4], "b_enc", config.latents);
    const auto b_dec = typed_array<float>(info[5], "b_dec", config.width);
    set(info.Env(),
        std::make_shared<const Sae>(config, w_enc.data, layout, w_dec.data, b_enc.data, b_dec.data));
  });
}

// encode(values, options): {indices, values, offsets}
Napi::Value SaeClass::encode(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const auto values = typed_array<float>(info[0], "values");
    const std::size_t width = sae_->config().width, rows = whole_rows(values, width, "values");
    return start_job(
        env, info[1], {info.This(), info[0]}, [sae = sae_, values, rows, width](JobContext& job) -> Finish {
          auto codes = std::make_shared<SparseCodes>(
              sae->encode(values.data, rows, width, report_to(job, rows), [&job] { job.check(); }));
          return [codes](Napi::Env end) -> Napi::Value {
            auto result = Napi::Object::New(end);
            result.Set("indices", to_typed_array(end, std::move(codes->indices)));
            result.Set("values", to_typed_array(end, std::move(codes->values)));
            result.Set("offsets", to_typed_array(end, std::move(codes->offsets)));
            return result;
          };
        });
  });
}

// encodeInto(stats, values, groups | undefined, ids | undefined, options)
Napi::Value SaeClass::encode_into(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    auto held = std::make_shared<HeldStats>(LatentStatsClass::of(info[0], "stats"));
    const auto values = typed_array<float>(info[1], "values");
    const std::size_t width = sae_->config().width, rows = whole_rows(values, width, "values");
    const auto groups = optional_typed_array<std::uint32_t>(info[2], "groups", rows);
    const auto ids = optional_typed_array<double>(info[3], "ids", rows);
    return start_job(env, info[4], {info.This(), info[0], info[1], info[2], info[3]},
                     [sae = sae_, held, values, rows, width, groups, ids](JobContext& job) -> Finish {
                       sae->encode_into(held->stats(), values.data, rows, width, groups.data, ids.data,
                                        report_to(job, rows), [&job] { job.check(); });
                       return [](Napi::Env end) -> Napi::Value { return end.Undefined(); };
                     });
  });
}

// decode({indices, values, offsets}, options): Float32Array [rows, width]
Napi::Value SaeClass::decode(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const CodesView codes = codes_view(info[0], "codes");
    const auto given = info[0].As<Napi::Object>();
    return start_job(env, info[1],
                     {info.This(), given.Get("indices"), given.Get("values"), given.Get("offsets")},
                     [sae = sae_, codes](JobContext&) -> Finish {
                       auto out = std::make_shared<AlignedBuffer<float>>(codes.tokens * sae->config().width);
                       sae->decode(codes, out->data());
                       return [out](Napi::Env end) { return to_typed_array(end, std::move(*out)); };
                     });
  });
}

// preActivations(values, latents, options): Float32Array [rows, latents.length]
Napi::Value SaeClass::pre_activations(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const auto values = typed_array<float>(info[0], "values");
    const auto latents = typed_array<std::uint32_t>(info[1], "latents");
    const std::size_t width = sae_->config().width, rows = whole_rows(values, width, "values");
    return start_job(env, info[2], {info.This(), info[0], info[1]},
                     [sae = sae_, values, latents, rows, width](JobContext&) -> Finish {
                       auto out = std::make_shared<AlignedBuffer<float>>(rows * latents.size);
                       sae->pre_activations(values.data, rows, width, latents.data, latents.size,
                                            out->data());
                       return [out](Napi::Env end) { return to_typed_array(end, std::move(*out)); };
                     });
  });
}

Napi::Value SaeClass::decoder_vector(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const float* row = sae_->decoder_vector(whole_number(info[0], "latent", 0, sae_->config().latents - 1));
    return to_typed_array(info.Env(), std::vector<float>(row, row + sae_->config().width));
  });
}

Napi::Value SaeClass::encoder_vector(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const float* row = sae_->encoder_vector(whole_number(info[0], "latent", 0, sae_->config().latents - 1));
    return to_typed_array(info.Env(), std::vector<float>(row, row + sae_->config().width));
  });
}

// encoderColumns(begin, end): rows [begin, end) of W_enc as [width, latents], for writing files piece by
// piece.
Napi::Value SaeClass::encoder_columns(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const std::size_t n = sae_->config().latents, end = whole_number(info[1], "end", 0, sae_->config().width);
    const std::size_t begin = whole_number(info[0], "begin", 0, end);
    std::vector<float> out((end - begin) * n);
    for (std::size_t l = 0; l < n; ++l) {
      const float* row = sae_->encoder_vector(l);
      for (std::size_t i = begin; i < end; ++i) out[(i - begin) * n + l] = row[i];
    }
    return to_typed_array(info.Env(), std::move(out));
  });
}

// decoderRows(begin, end): rows [begin, end) of W_dec [latents, width].
Napi::Value SaeClass::decoder_rows(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const std::size_t width = sae_->config().width,
                      end = whole_number(info[1], "end", 0, sae_->config().latents);
    const std::size_t begin = whole_number(info[0], "begin", 0, end);
    std::vector<float> out((end - begin) * width);
    for (std::size_t l = begin; l < end; ++l)
      std::copy_n(sae_->decoder_vector(l), width, out.data() + (l - begin) * width);
    return to_typed_array(info.Env(), std::move(out));
  });
}

Napi::Value SaeClass::encoder_bias(const Napi::CallbackInfo& info) {
  return to_typed_array(
      info.Env(), std::vector<float>(sae_->encoder_bias(), sae_->encoder_bias() + sae_->config().latents));
}

Napi::Value SaeClass::decoder_bias(const Napi::CallbackInfo& info) {
  return to_typed_array(
      info.Env(), std::vector<float>(sae_->decoder_bias(), sae_->decoder_bias() + sae_->config().width));
}

namespace {

class SaeTrainerClass : public Napi::ObjectWrap<SaeTrainerClass> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(
        env, "SaeTrainer",
        {InstanceMethod("step", &SaeTrainerClass::step), InstanceMethod("result", &SaeTrainerClass::result)});
  }

  explicit SaeTrainerClass(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    guarded(info.Env(), [&] {
      const auto given = object(info[0], "options");
      SaeTrainerOptions options;
      options.latents = whole_number(given.Get("latents"), "latents", 1, 0xFFFFFFFFull);
      options.width = whole_number(given.Get("width"), "dModel", 1, 1 << 20);
      options.k = whole_number(given.Get("k"), "k", 1, options.latents);
      options.seed = whole_number(given.Get("seed"), "seed", 0, 1ull << 53);
      options.bias_start =
          static_cast<DecoderBiasStart>(whole_number(given.Get("decoderBias"), "decoderBias", 0, 1));
      options.aux_k = whole_number(given.Get("auxK"), "auxK", 0, options.latents);
      options.aux_coefficient = number(given.Get("auxCoefficient"), "auxCoefficient");
      options.dead_after_tokens =
          whole_number(given.Get("deadAfterTokens"), "deadAfterTokens", 0, 1ull << 53);
      options.beta1 = number(given.Get("beta1"), "beta1");
      options.beta2 = number(given.Get("beta2"), "beta2");
      options.epsilon = number(given.Get("epsilon"), "epsilon");
      state_ = std::make_shared<State>(options);
    });
  }

 private:
  struct State {
    explicit State(const SaeTrainerOptions& options) : trainer(options) {}
    SaeTrainer trainer;
    std::atomic<bool> held{false};
  };
  struct Held {
    explicit Held(std::shared_ptr<State> taken) : state(std::move(taken)) {
      require(!state->held.exchange(true), ErrorCode::invalid_argument,
              "the SAE trainer is in a step; wait for its promise");
    }
    ~Held() { state->held = false; }
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;
    std::shared_ptr<State> state;
  };

  // step(values, learningRate, options): report
  Napi::Value step(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      const auto values = typed_array<float>(info[0], "values");
      const double rate = number(info[1], "learningRate");
      const std::size_t width = state_->trainer.options().width, rows = whole_rows(values, width, "values");
      auto held = std::make_shared<Held>(state_);
      return start_job(
          env, info[2], {info.This(), info[0]}, [held, values, rows, width, rate](JobContext& job) -> Finish {
            job.check();
            const SaeStepReport report = held->state->trainer.step(values.data, rows, width, rate);
            return [report](Napi::Env end) -> Napi::Value {
              auto result = Napi::Object::New(end);
              result.Set("step", static_cast<double>(report.step));
              result.Set("tokens", static_cast<double>(report.tokens));
              result.Set("fvu", report.fvu);
              result.Set("auxFvu", report.aux_fvu);
              result.Set("l0", report.l0);
              result.Set("deadShare", report.dead_share);
              return result;
            };
          });
    });
  }

  // result(options): Sae
  Napi::Value result(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      auto held = std::make_shared<Held>(state_);
      return start_job(env, info[0], {info.This()}, [held](JobContext&) -> Finish {
        auto sae = std::shared_ptr<const Sae>(new Sae(held->state->trainer.result()));
        return [sae](Napi::Env end) -> Napi::Value { return SaeClass::wrap(end, sae); };
      });
    });
  }

  std::shared_ptr<State> state_;
};

// createSae(config, wEnc, layout, wDec, bEnc, bDec, options): Promise<Sae>; copies off the event loop.
Napi::Value create_sae(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const SaeConfig config = sae_config(info[0]);
    const std::size_t matrix = config.latents * config.width;
    const auto w_enc = typed_array<float>(info[1], "W_enc", matrix);
    const auto layout = static_cast<EncoderLayout>(whole_number(info[2], "layout", 0, 1));
    const auto w_dec = typed_array<float>(info[3], "W_dec", matrix);
    const auto b_enc = typed_array<float>(info[4], "b_enc", config.latents);
    const auto b_dec = typed_array<float>(info[5], "b_dec", config.width);
    return start_job(env, info[6], {info[1], info[3], info[4], info[5]},
                     [config, w_enc, layout, w_dec, b_enc, b_dec](JobContext& job) -> Finish {
                       job.check();
                       auto sae = std::make_shared<const Sae>(config, w_enc.data, layout, w_dec.data,
                                                              b_enc.data, b_dec.data);
                       return [sae](Napi::Env end) -> Napi::Value { return SaeClass::wrap(end, sae); };
                     });
  });
}

}  // namespace

void initialise_sae(Napi::Env env, Napi::Object exports) {
  const auto constructor = SaeClass::define(env);
  t_constructor = new Napi::FunctionReference(Napi::Persistent(constructor));
  env.AddCleanupHook([] {
    delete t_constructor;
    t_constructor = nullptr;
  });
  exports.Set("Sae", constructor);
  exports.Set("SaeTrainer", SaeTrainerClass::define(env));
  exports.Set("createSae", Napi::Function::New(env, create_sae));
}

}  // namespace personascope::addon
