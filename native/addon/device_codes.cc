// Codes and latent statistics that stay on a device, for JavaScript.
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "native/addon/constructor.h"
#include "native/addon/device_tensor.h"
#include "native/addon/job.h"
#include "native/addon/latent_stats.h"
#include "native/addon/modules.h"
#include "native/addon/sae.h"
#include "native/sae/device_stats.h"
#include "native/sae/sparse_codes.h"

namespace personascope::addon {
namespace {

using SharedCodes = std::shared_ptr<const DeviceSparseCodes>;
using SharedDeviceStats = std::shared_ptr<DeviceLatentStats>;

// What both classes share: an object of the core that free() lets go; jobs at work keep it until they end.
template <class Class, class Held>
class Holder : public Napi::ObjectWrap<Class> {
 public:
  explicit Holder(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Class>(info) {
    guarded(info.Env(), [&] {
      require(info[0].IsExternal(), ErrorCode::invalid_argument,
              std::string(Class::kWhat) + " is made by the core");
      held_ = *info[0].As<Napi::External<Held>>().Data();
      info.This().As<Napi::Object>().TypeTag(&Class::kTag);
    });
  }
  // Throws invalid_argument for anything else, and once freed.
  static const Held& of(const Napi::Value& value, const char* argument) {
    const Class* self = unwrapped<Class>(value, argument);
    require(self->held_ != nullptr, ErrorCode::invalid_argument,
            std::string(argument) + ": " + Class::kWhat + " was freed");
    return self->held_;
  }

 protected:
  const Held& held() const {
    require(held_ != nullptr, ErrorCode::invalid_argument, std::string(Class::kWhat) + " was freed");
    return held_;
  }
  Napi::Value free(const Napi::CallbackInfo& info) {
    held_.reset();
    return info.Env().Undefined();
  }

 private:
  Held held_;
};

class DeviceCodesClass : public Holder<DeviceCodesClass, SharedCodes> {
 public:
  static constexpr napi_type_tag kTag = {0x70657273'6f6e6173, 0x64657643'6f646501};
  static constexpr const char* kWhat = "DeviceCodes";
  using Holder::Holder;
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "NativeDeviceCodes",
                       {InstanceMethod("about", &DeviceCodesClass::about),
                        InstanceMethod("download", &DeviceCodesClass::download),
                        InstanceMethod("free", &DeviceCodesClass::free)});
  }

 private:
  // about(): {rows, pairs, latents, device, report}
  Napi::Value about(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const DeviceSparseCodes& codes = *held();
      auto result = Napi::Object::New(info.Env());
      result.Set("rows", static_cast<double>(codes.tokens()));
      result.Set("pairs", static_cast<double>(codes.pairs()));
      result.Set("latents", static_cast<double>(codes.latents()));
      result.Set("device", device_name(codes.device()));
      result.Set("report", to_object(info.Env(), codes.report()));
      return result;
    });
  }

  // download(options): {indices, values, offsets, inputMean?, inputScale?, report}
  Napi::Value download(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      return start_job(env, info[0], {}, [codes = held()](JobContext& job) -> Finish {
        job.check();
        auto here = std::make_shared<SparseCodes>(codes->download());
        return [here](Napi::Env end) -> Napi::Value { return to_object(end, std::move(*here)); };
      });
    });
  }
};

EncodeOptions options_of(const std::optional<Precision>& precision, JobContext& job, std::size_t rows) {
  EncodeOptions options;
  options.precision = precision;
  options.check = [&job] { job.check(); };
  options.progress = [&job, rows](std::size_t done) {
    job.progress(static_cast<double>(done), static_cast<double>(rows));
  };
  return options;
}

// encodeKept(sae, values: Float32Array | DeviceTensor, precision | undefined, options): DeviceCodes
Napi::Value encode_kept(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const auto sae = SaeClass::of(info[0], "sae");
    const DeviceTensor x = activations(info[1], sae->spec().width, "values");
    const auto precision = precision_of(info[2]);
    return start_job(env, info[3], {info[1]}, [sae, x, precision](JobContext& job) -> Finish {
      job.check();
      const std::size_t rows = rows_of(x, "values").rows;
      SharedCodes codes =
          std::make_shared<const DeviceSparseCodes>(sae->encode_kept(x, options_of(precision, job, rows)));
      return
          [codes](Napi::Env end) -> Napi::Value { return Constructor<DeviceCodesClass>::wrap(end, codes); };
    });
  });
}

// uploadCodes({indices, values, offsets, inputMean?, inputScale?}, latents, device, options): DeviceCodes
Napi::Value upload_codes_to(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const CodesView view = codes_view(info[0], "codes");
    const auto given = info[0].As<Napi::Object>();
    const auto mean = optional_typed_array<float>(given.Get("inputMean"), "inputMean", view.tokens);
    const auto scale = optional_typed_array<float>(given.Get("inputScale"), "inputScale", view.tokens);
    const std::size_t latents = whole_number(info[1], "latents", 1, 0xFFFFFFFFull);
    const DeviceChoice device = choose_device(text(info[2], "device"));
    return start_job(env, info[3],
                     {given.Get("indices"), given.Get("values"), given.Get("offsets"), given.Get("inputMean"),
                      given.Get("inputScale")},
                     [view, mean, scale, latents, device](JobContext& job) -> Finish {
                       job.check();
                       const std::size_t pairs = view.offsets[view.tokens];
                       SparseCodes copy;
                       copy.tokens = view.tokens;
                       copy.latents = latents;
                       copy.indices.assign(view.indices, view.indices + pairs);
                       copy.values.assign(view.values, view.values + pairs);
                       copy.offsets.assign(view.offsets, view.offsets + view.tokens + 1);
                       copy.input_mean.assign(mean.data, mean.data + mean.size);
                       copy.input_scale.assign(scale.data, scale.data + scale.size);
                       copy.report.tokens = view.tokens;
                       SharedCodes codes = std::make_shared<const DeviceSparseCodes>(device, std::move(copy));
                       return [codes](Napi::Env end) -> Napi::Value {
                         return Constructor<DeviceCodesClass>::wrap(end, codes);
                       };
                     });
  });
}

// decodeKept(sae, codes: DeviceCodes, input: Float32Array | DeviceTensor | undefined, keep, options):
// Float32Array [rows, outWidth], or with `keep` a DeviceTensor on the SAE's device
Napi::Value decode_kept(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const auto sae = SaeClass::of(info[0], "sae");
    const SharedCodes codes = DeviceCodesClass::of(info[1], "codes");
    std::optional<DeviceTensor> input;
    if (!info[2].IsUndefined()) input = activations(info[2], sae->spec().width, "input");
    const bool keep = info[3].ToBoolean();
    return start_job(env, info[4], {info[2]}, [sae, codes, input, keep](JobContext& job) -> Finish {
      job.check();
      const std::uint64_t rows = codes->tokens(), width = sae->spec().out_width;
      if (keep) {
        const DeviceTensor out =
            make_device_tensor(sae->device(), Dtype::f32, {rows, width}, "reconstructions");
        sae->decode(*codes, input ? &*input : nullptr, out);
        return [out](Napi::Env end) -> Napi::Value { return DeviceTensorClass::wrap(end, out); };
      }
      auto values = std::make_shared<AlignedBuffer<float>>(rows * width);
      sae->decode(*codes, input ? &*input : nullptr, host_rows(values->data(), rows, width, width));
      return [values](Napi::Env end) { return to_typed_array(end, std::move(*values)); };
    });
  });
}

class DeviceStatsClass : public Holder<DeviceStatsClass, SharedDeviceStats> {
 public:
  static constexpr napi_type_tag kTag = {0x70657273'6f6e6173, 0x64657653'74617401};
  static constexpr const char* kWhat = "DeviceStats";
  using Holder::Holder;
  static Napi::Function define(Napi::Env env) {
    return DefineClass(
        env, "NativeDeviceStats",
        {InstanceMethod("rows", &DeviceStatsClass::rows), InstanceMethod("device", &DeviceStatsClass::device),
         InstanceMethod("encode", &DeviceStatsClass::encode), InstanceMethod("add", &DeviceStatsClass::add),
         InstanceMethod("readInto", &DeviceStatsClass::read_into),
         InstanceMethod("difference", &DeviceStatsClass::difference),
         InstanceMethod("free", &DeviceStatsClass::free)});
  }

 private:
  Napi::Value rows(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      return Napi::Number::New(info.Env(), static_cast<double>(held()->rows()));
    });
  }

  Napi::Value device(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      return Napi::String::New(info.Env(), device_name(held()->device()));
    });
  }

  // encode(sae, values: Float32Array | DeviceTensor, options): report
  Napi::Value encode(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      const auto sae = SaeClass::of(info[0], "sae");
      const DeviceTensor x = activations(info[1], sae->spec().width, "values");
      return start_job(env, info[2], {info[1]}, [stats = held(), sae, x](JobContext& job) -> Finish {
        job.check();
        const std::size_t rows = rows_of(x, "values").rows;
        const EncodeReport report = sae->encode_into(*stats, x, options_of({}, job, rows));
        return [report](Napi::Env end) -> Napi::Value { return to_object(end, report); };
      });
    });
  }

  // add(codes: DeviceCodes, options)
  Napi::Value add(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      const SharedCodes codes = DeviceCodesClass::of(info[0], "codes");
      return start_job(env, info[1], {}, [stats = held(), codes](JobContext& job) -> Finish {
        job.check();
        stats->add(*codes);
        return [](Napi::Env end) -> Napi::Value { return end.Undefined(); };
      });
    });
  }

  // readInto(stats: LatentStats, options)
  Napi::Value read_into(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      auto to = std::make_shared<HeldStats>(LatentStatsClass::of(info[0], "stats"));
      return start_job(env, info[1], {}, [stats = held(), to](JobContext& job) -> Finish {
        job.check();
        stats->read_into(to->stats());
        return [](Napi::Env end) -> Napi::Value { return end.Undefined(); };
      });
    });
  }

  // difference(after: DeviceStats, options): {delta, effectSize}
  Napi::Value difference(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      const SharedDeviceStats after = of(info[0], "after");
      return start_job(env, info[1], {}, [before = held(), after](JobContext& job) -> Finish {
        job.check();
        auto delta = std::make_shared<std::vector<double>>(before->latents());
        auto effect = std::make_shared<std::vector<double>>(before->latents());
        DeviceLatentStats::difference(*before, *after, delta->data(), effect->data());
        return [delta, effect](Napi::Env end) -> Napi::Value {
          auto result = Napi::Object::New(end);
          result.Set("delta", to_typed_array(end, std::move(*delta)));
          result.Set("effectSize", to_typed_array(end, std::move(*effect)));
          return result;
        };
      });
    });
  }
};

// createDeviceStats(latents, device, options): DeviceStats
Napi::Value create_device_stats(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const std::size_t latents = whole_number(info[0], "latents", 1, 0xFFFFFFFFull);
    const DeviceChoice device = choose_device(text(info[1], "device"));
    return start_job(env, info[2], {}, [latents, device](JobContext& job) -> Finish {
      job.check();
      SharedDeviceStats stats = std::make_shared<DeviceLatentStats>(device, latents);
      return
          [stats](Napi::Env end) -> Napi::Value { return Constructor<DeviceStatsClass>::wrap(end, stats); };
    });
  });
}

}  // namespace

void initialise_device_codes(Napi::Env env, Napi::Object exports) {
  Constructor<DeviceCodesClass>::keep(env, DeviceCodesClass::define(env));
  Constructor<DeviceStatsClass>::keep(env, DeviceStatsClass::define(env));
  exports.Set("encodeKept", Napi::Function::New(env, encode_kept));
  exports.Set("uploadCodes", Napi::Function::New(env, upload_codes_to));
  exports.Set("decodeKept", Napi::Function::New(env, decode_kept));
  exports.Set("createDeviceStats", Napi::Function::New(env, create_device_stats));
}

}  // namespace personascope::addon
