// Sae and SaeTrainer for JavaScript.
#include "native/addon/sae.h"

#include <algorithm>
#include <atomic>
#include <string>
#include <vector>

#include "native/addon/constructor.h"
#include "native/addon/latent_stats.h"
#include "native/addon/modules.h"
#include "native/addon/tensor.h"
#include "native/sae/trainer.h"

namespace personascope::addon {

namespace {

// A matrix: a view of a file, or the caller's array [rows, columns], which the SAE copies.
Tensor matrix(const Napi::Value& value, const char* name, std::size_t rows, std::size_t columns) {
  if (!value.IsTypedArray()) {
    Tensor tensor = TensorClass::of(value, name);
    tensor.name = name + (" of " + tensor.name);
    return tensor;
  }
  const auto values = typed_array<float>(value, name, rows * columns);
  Tensor tensor;
  tensor.name = name;
  tensor.shape = {rows, columns};
  tensor.strides = contiguous_strides(tensor.shape);
  tensor.data = reinterpret_cast<const std::uint8_t*>(values.data);
  return tensor;
}

std::vector<float> floats(const Napi::Object& given, const char* name, std::size_t size) {
  const auto values = optional_typed_array<float>(given.Get(name), name, size);
  return {values.data, values.data + values.size};
}

constexpr std::size_t kMostWidth = std::size_t{1} << 20;

SaeSpec sae_spec(const Napi::Value& value) {
  const auto given = object(value, "spec");
  SaeSpec spec;
  const std::size_t n = spec.latents = whole_number(given.Get("latents"), "latents", 1, 0xFFFFFFFFull);
  const std::size_t d = spec.width = whole_number(given.Get("width"), "dModel", 1, kMostWidth);
  const std::size_t out = spec.out_width = whole_number(given.Get("outWidth"), "dOut", 1, kMostWidth);
  spec.rule = static_cast<SelectionRule>(whole_number(given.Get("rule"), "rule", 0, 3));
  if (spec.rule == SelectionRule::topk || spec.rule == SelectionRule::groupmax)
    spec.k = whole_number(given.Get("k"), "k", 1, n);
  spec.precision = precision_of(given.Get("precision"));
  if (!given.Get("device").IsUndefined())
    spec.device = sae_device(text(given.Get("device"), "device"), spec.precision);
  if (!given.Get("cache").IsUndefined()) {
    spec.cache = text(given.Get("cache"), "cache");
    spec.cache_identity = text(given.Get("cacheIdentity"), "cacheIdentity");
  }
  spec.input_norm = static_cast<InputNorm>(whole_number(given.Get("inputNorm"), "inputNorm", 0, 2));
  spec.transcoder = given.Get("transcoder").ToBoolean();
  spec.subtract_decoder_bias = given.Get("subtractDecoderBias").ToBoolean();
  spec.scaled_codes = given.Get("scaledCodes").ToBoolean();
  spec.w_enc = matrix(given.Get("wEnc"), "W_enc", n, d);
  spec.w_dec = matrix(given.Get("wDec"), "W_dec", n, out);
  if (!given.Get("wSkip").IsUndefined()) spec.w_skip = matrix(given.Get("wSkip"), "W_skip", out, d);
  spec.b_enc = floats(given, "bEnc", n);
  spec.b_dec = floats(given, "bDec", out);
  spec.mean = floats(given, "mean", d);
  spec.scale = floats(given, "scale", d);
  if (spec.rule == SelectionRule::threshold) {
    const auto threshold = typed_array<float>(given.Get("threshold"), "threshold");
    spec.threshold.assign(threshold.data, threshold.data + threshold.size);
  }
  spec.gate_bias = floats(given, "gateBias", n);
  spec.magnitude_scale = floats(given, "magnitudeScale", n);
  spec.magnitude_bias = floats(given, "magnitudeBias", n);
  spec.selection_scale = floats(given, "selectionScale", n);
  if (!given.Get("decoderJoined").IsUndefined())
    spec.decoder_scale = {number(given.Get("decoderJoined"), "selectionScale.joined"),
                          number(given.Get("decoderAdded"), "selectionScale.added")};
  if (!given.Get("layerThresholds").IsUndefined()) {
    const auto thresholds = typed_array<float>(given.Get("layerThresholds"), "layerThresholds");
    spec.layer_gates.thresholds.assign(thresholds.data, thresholds.data + thresholds.size);
    spec.layer_gates.norms = floats(given, "layerNorms", thresholds.size * n);
  }
  return spec;
}

TokenProgress report_to(JobContext& job, std::size_t total) {
  return [&job, total](std::size_t done) {
    job.progress(static_cast<double>(done), static_cast<double>(total));
  };
}

}  // namespace

std::optional<Precision> precision_of(const Napi::Value& value) {
  if (value.IsUndefined() || value.IsNull()) return std::nullopt;
  return static_cast<Precision>(whole_number(value, "precision", 0, 2));
}

Napi::Object to_object(Napi::Env env, const EncodeReport& report) {
  auto result = Napi::Object::New(env);
  result.Set("precision", precision_name(report.precision));
  result.Set("tokens", static_cast<double>(report.tokens));
  result.Set("screened", static_cast<double>(report.count.screened));
  result.Set("rescored", static_cast<double>(report.count.rescored));
  return result;
}

Napi::Object to_object(Napi::Env env, SparseCodes&& codes) {
  auto result = Napi::Object::New(env);
  result.Set("report", to_object(env, codes.report));
  result.Set("indices", to_typed_array(env, std::move(codes.indices)));
  result.Set("values", to_typed_array(env, std::move(codes.values)));
  result.Set("offsets", to_typed_array(env, std::move(codes.offsets)));
  if (!codes.input_scale.empty()) {
    result.Set("inputMean", to_typed_array(env, std::move(codes.input_mean)));
    result.Set("inputScale", to_typed_array(env, std::move(codes.input_scale)));
  }
  return result;
}

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
      {InstanceMethod("device", &SaeClass::device), InstanceMethod("encode", &SaeClass::encode),
       InstanceMethod("encodeInto", &SaeClass::encode_into), InstanceMethod("prepare", &SaeClass::prepare),
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
  return Constructor<SaeClass>::wrap(env, std::move(sae));
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
    if (info[0].IsExternal())
      set(info.Env(), *info[0].As<Napi::External<std::shared_ptr<const Sae>>>().Data());
    else
      set(info.Env(), std::make_shared<const Sae>(sae_spec(info[0])));
    info.This().As<Napi::Object>().TypeTag(&kTag);
  });
}

const std::shared_ptr<const Sae>& SaeClass::of(const Napi::Value& value, const char* argument) {
  return unwrapped<SaeClass>(value, argument)->sae_;
}

// device(): 'cpu' or 'cuda:N'
Napi::Value SaeClass::device(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), device_name(sae_->device()));
}

EncodeOptions SaeClass::encode_options(const std::optional<Precision>& precision, JobContext& job,
                                       std::size_t rows) {
  EncodeOptions options;
  options.precision = precision;
  options.progress = report_to(job, rows);
  options.check = [&job] { job.check(); };
  return options;
}

// What a job over so many rows takes at the most, the first reading of the weights included: a first call may
// copy them or wait for the disk.
double SaeClass::operations(std::size_t rows) const {
  const SaeSpec& spec = sae_->spec();
  const std::size_t widest = std::max(spec.width, spec.out_width);
  return static_cast<double>(rows + 1) * static_cast<double>(spec.latents) * static_cast<double>(widest);
}

// encode(values, precision | undefined, options): {indices, values, offsets, inputMean?, inputScale?, report}
Napi::Value SaeClass::encode(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const auto values = typed_array<float>(info[0], "values");
    const auto precision = precision_of(info[1]);
    const std::size_t width = sae_->spec().width, rows = whole_rows(values, width, "values");
    return start_job(
        env, info[2], {info.This(), info[0]},
        [sae = sae_, values, rows, width, precision](JobContext& job) -> Finish {
          auto codes = std::make_shared<SparseCodes>(
              sae->encode(values.data, rows, width, encode_options(precision, job, rows)));
          return [codes](Napi::Env end) -> Napi::Value { return to_object(end, std::move(*codes)); };
        },
        operations(rows));
  });
}

// encodeInto(stats, values, groups | undefined, ids | undefined, options): report
Napi::Value SaeClass::encode_into(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    auto held = std::make_shared<HeldStats>(LatentStatsClass::of(info[0], "stats"));
    const auto values = typed_array<float>(info[1], "values");
    const std::size_t width = sae_->spec().width, rows = whole_rows(values, width, "values");
    const auto groups = optional_typed_array<std::uint32_t>(info[2], "groups", rows);
    const auto ids = optional_typed_array<double>(info[3], "ids", rows);
    return start_job(env, info[4], {info.This(), info[0], info[1], info[2], info[3]},
                     [sae = sae_, held, values, rows, width, groups, ids](JobContext& job) -> Finish {
                       const EncodeReport report =
                           sae->encode_into(held->stats(), values.data, rows, width, groups.data, ids.data,
                                            encode_options({}, job, rows));
                       return [report](Napi::Env end) -> Napi::Value { return to_object(end, report); };
                     });
  });
}

// prepare(precision | undefined, calibration | undefined, options)
Napi::Value SaeClass::prepare(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const auto precision = precision_of(info[0]);
    Span<float> calibration;
    if (!info[1].IsUndefined()) calibration = typed_array<float>(info[1], "calibration");
    const std::size_t rows = whole_rows(calibration, sae_->spec().width, "calibration");
    return start_job(env, info[2], {info.This(), info[1]},
                     [sae = sae_, precision, calibration, rows](JobContext& job) -> Finish {
                       ScreenHooks hooks;
                       hooks.check = [&job] { job.check(); };
                       hooks.progress = report_to(job, sae->spec().latents);
                       sae->prepare(precision, calibration.data, rows, hooks);
                       return [](Napi::Env end) -> Napi::Value { return end.Undefined(); };
                     });
  });
}

// decode({indices, values, offsets, inputMean?, inputScale?}, inputs | undefined, options): Float32Array
// [rows, outWidth]
Napi::Value SaeClass::decode(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const CodesView codes = codes_view(info[0], "codes");
    const auto given = info[0].As<Napi::Object>();
    const std::size_t pairs = codes.offsets[codes.tokens];
    DecodeInputs inputs;
    inputs.input_mean = optional_typed_array<float>(given.Get("inputMean"), "inputMean", codes.tokens).data;
    inputs.input_scale =
        optional_typed_array<float>(given.Get("inputScale"), "inputScale", codes.tokens).data;
    inputs.x = optional_typed_array<float>(info[1], "input", codes.tokens * sae_->spec().width).data;
    return start_job(
        env, info[2],
        {info.This(), given.Get("indices"), given.Get("values"), given.Get("offsets"), given.Get("inputMean"),
         given.Get("inputScale"), info[1]},
        [sae = sae_, codes, inputs](JobContext&) -> Finish {
          auto out = std::make_shared<AlignedBuffer<float>>(codes.tokens * sae->spec().out_width);
          sae->decode(codes, inputs, out->data());
          return [out](Napi::Env end) { return to_typed_array(end, std::move(*out)); };
        },
        operations(codes.tokens + pairs / sae_->spec().latents));
  });
}

// preActivations(values, latents, options): Float32Array [rows, latents.length]
Napi::Value SaeClass::pre_activations(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const auto values = typed_array<float>(info[0], "values");
    const auto latents = typed_array<std::uint32_t>(info[1], "latents");
    const std::size_t width = sae_->spec().width, rows = whole_rows(values, width, "values");
    return start_job(
        env, info[2], {info.This(), info[0], info[1]},
        [sae = sae_, values, latents, rows, width](JobContext&) -> Finish {
          auto out = std::make_shared<AlignedBuffer<float>>(rows * latents.size);
          sae->pre_activations(values.data, rows, width, latents.data, latents.size, out->data());
          return [out](Napi::Env end) { return to_typed_array(end, std::move(*out)); };
        },
        operations(rows + rows * (latents.size / sae_->spec().latents)));
  });
}

Napi::Value SaeClass::decoder_vector(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return to_typed_array(info.Env(),
                          sae_->decoder_vector(whole_number(info[0], "latent", 0, sae_->spec().latents - 1)));
  });
}

Napi::Value SaeClass::encoder_vector(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return to_typed_array(info.Env(),
                          sae_->encoder_vector(whole_number(info[0], "latent", 0, sae_->spec().latents - 1)));
  });
}

namespace {

// Rows [begin, end) of a matrix, for writing files piece by piece.
Napi::Value rows_of(const Napi::CallbackInfo& info, const Tensor& tensor) {
  const std::size_t end = whole_number(info[1], "end", 0, tensor.shape[0]);
  const std::size_t begin = whole_number(info[0], "begin", 0, end);
  const std::size_t width = tensor.shape[0] == 0 ? 0 : tensor.elements() / tensor.shape[0];
  std::vector<float> out((end - begin) * width);
  read_f32(tensor, begin * width, out.size(), out.data());
  return to_typed_array(info.Env(), std::move(out));
}

}  // namespace

// encoderColumns(begin, end): rows [begin, end) of W_enc as [width, latents].
Napi::Value SaeClass::encoder_columns(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return rows_of(info, transposed(sae_->encoder())); });
}

// decoderRows(begin, end): rows [begin, end) of W_dec [latents, outWidth].
Napi::Value SaeClass::decoder_rows(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return rows_of(info, sae_->decoder()); });
}

Napi::Value SaeClass::encoder_bias(const Napi::CallbackInfo& info) {
  return to_typed_array(info.Env(), std::vector<float>(sae_->spec().b_enc));
}

Napi::Value SaeClass::decoder_bias(const Napi::CallbackInfo& info) {
  return to_typed_array(info.Env(), std::vector<float>(sae_->spec().b_dec));
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

// createSae(spec, options): Promise<Sae>; copies off the event loop.
Napi::Value create_sae(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    auto spec = std::make_shared<SaeSpec>(sae_spec(info[0]));
    const auto given = info[0].As<Napi::Object>();
    return start_job(env, info[1], {given.Get("wEnc"), given.Get("wDec"), given.Get("wSkip")},
                     [spec](JobContext& job) -> Finish {
                       job.check();
                       auto sae = std::make_shared<const Sae>(std::move(*spec));
                       return [sae](Napi::Env end) -> Napi::Value { return SaeClass::wrap(end, sae); };
                     });
  });
}

}  // namespace

void initialise_sae(Napi::Env env, Napi::Object exports) {
  exports.Set("Sae", Constructor<SaeClass>::keep(env, SaeClass::define(env)));
  exports.Set("SaeTrainer", SaeTrainerClass::define(env));
  exports.Set("createSae", Napi::Function::New(env, create_sae));
}

}  // namespace personascope::addon
