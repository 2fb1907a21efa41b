// TensorFile for JavaScript: tensors and scalars of a safetensors, .npy, .npz or .pt file.
#include "native/io/tensor_file.h"

#include <napi.h>

#include "native/addon/convert.h"
#include "native/addon/job.h"
#include "native/addon/modules.h"
#include "native/addon/tensor.h"

namespace personascope::addon {
namespace {

class TensorFileClass : public Napi::ObjectWrap<TensorFileClass> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "TensorFile",
                       {InstanceMethod("format", &TensorFileClass::format),
                        InstanceMethod("tensors", &TensorFileClass::tensors),
                        InstanceMethod("scalars", &TensorFileClass::scalars),
                        InstanceMethod("packed", &TensorFileClass::packed),
                        InstanceMethod("unpack", &TensorFileClass::unpack),
                        InstanceMethod("verify", &TensorFileClass::verify)});
  }

  explicit TensorFileClass(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    guarded(info.Env(),
            [&] { file_ = std::make_shared<TensorFile>(open_tensor_file(text(info[0], "path"))); });
  }

 private:
  Napi::Value format(const Napi::CallbackInfo& info) {
    return Napi::String::New(info.Env(), tensor_format_name(file_->format));
  }

  // [[name, NativeTensor], ...]
  Napi::Value tensors(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    auto list = Napi::Array::New(env, file_->tensors.size());
    for (std::uint32_t i = 0; i < list.Length(); ++i) {
      Napi::HandleScope scope(env);
      list.Set(i, pair(env, file_->tensors[i].name, TensorClass::wrap(env, file_->tensors[i].tensor)));
    }
    return list;
  }

  // [[name, null | boolean | number | string], ...]; integers that a number cannot hold exactly as strings.
  Napi::Value scalars(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    auto list = Napi::Array::New(env, file_->scalars.size());
    for (std::uint32_t i = 0; i < list.Length(); ++i) {
      Napi::HandleScope scope(env);
      const NamedScalar& scalar = file_->scalars[i];
      list.Set(i, pair(env, scalar.name,
                       std::visit([&](const auto& value) { return to_js(env, value); }, scalar.value)));
    }
    return list;
  }

  // Arrays that are still compressed: [{name, bytes (a copy), size}, ...].
  Napi::Value packed(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      auto list = Napi::Array::New(env, file_->packed.size());
      for (std::uint32_t i = 0; i < list.Length(); ++i) {
        const ZipEntry& entry = file_->packed[i];
        const auto* data = file_->file->data() + entry.begin;
        auto described = Napi::Object::New(env);
        described.Set("name", entry.name);
        described.Set("size", static_cast<double>(entry.size));
        described.Set("bytes", to_typed_array(env, std::vector<std::uint8_t>(data, data + entry.packed)));
        list.Set(i, described);
      }
      return list;
    });
  }

  // unpack(index, content: Uint8Array): adds that array to the tensors.
  Napi::Value unpack(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const auto content = typed_array<std::uint8_t>(info[1], "content");
      file_->unpack(
          whole_number(info[0], "index", 0, 0xffffffff),
          std::make_shared<const std::vector<std::uint8_t>>(content.data, content.data + content.size));
      return info.Env().Undefined();
    });
  }

  // verify(options): rejects unless every stored entry of an archive has its checksum.
  Napi::Value verify(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      return start_job(env, info[0], {}, [file = file_](JobContext& job) -> Finish {
        file->verify([&](std::uint64_t done) {
          job.check();
          job.progress(static_cast<double>(done), static_cast<double>(file->file->size()));
        });
        return [](Napi::Env end) { return end.Undefined(); };
      });
    });
  }

  static Napi::Array pair(Napi::Env env, const std::string& name, Napi::Value value) {
    auto made = Napi::Array::New(env, 2);
    made.Set(0u, Napi::String::New(env, name));
    made.Set(1u, value);
    return made;
  }
  static Napi::Value to_js(Napi::Env env, std::monostate) { return env.Null(); }
  static Napi::Value to_js(Napi::Env env, bool value) { return Napi::Boolean::New(env, value); }
  static Napi::Value to_js(Napi::Env env, double value) { return Napi::Number::New(env, value); }
  static Napi::Value to_js(Napi::Env env, const std::string& value) { return Napi::String::New(env, value); }
  static Napi::Value to_js(Napi::Env env, std::int64_t value) {
    if (value > (std::int64_t{1} << 53) || value < -(std::int64_t{1} << 53))
      return Napi::String::New(env, std::to_string(value));
    return Napi::Number::New(env, static_cast<double>(value));
  }

  std::shared_ptr<TensorFile> file_;
};

}  // namespace

void initialise_tensor_file(Napi::Env env, Napi::Object exports) {
  exports.Set("TensorFile", TensorFileClass::define(env));
}

}  // namespace personascope::addon
