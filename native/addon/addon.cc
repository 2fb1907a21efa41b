// The addon's entry: each class registers itself here. N-API only: check arguments, hand over to the core,
// resolve promises.
#include <napi.h>

#include <string>
#include <vector>

#include "native/addon/convert.h"
#include "native/addon/job.h"
#include "native/addon/modules.h"
#include "native/core/isa.h"
#include "native/core/plugin.h"
#include "native/core/thread_pool.h"

namespace personascope::addon {
namespace {

// Without those that do not answer: the plugin's reason has their error.
std::vector<DeviceInfo> known_devices() {
  try {
    return cuda_devices();
  } catch (const Error&) {
    return {};
  }
}

Napi::Value runtime_info(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    auto result = Napi::Object::New(env);
    result.Set("cpu", cpu_model());
    result.Set("cpuFeatures", cpu_features());
    result.Set("isa", isa_name(active_isa()));
    result.Set("threads", thread_count());
    auto cuda = Napi::Object::New(env);
    cuda.Set("loaded", cuda_plugin_state().loaded);
    cuda.Set("usable", cuda_plugin() != nullptr);
    cuda.Set("reason", cuda_plugin_state().reason);
    auto devices = Napi::Array::New(env);
    for (const DeviceInfo& found : known_devices()) {
      auto device = Napi::Object::New(env);
      device.Set("name", found.name);
      device.Set("computeCapability", std::to_string(found.major) + "." + std::to_string(found.minor));
      device.Set("multiprocessors", found.multiprocessors);
      device.Set("totalBytes", static_cast<double>(found.total_bytes));
      device.Set("freeBytes", static_cast<double>(found.free_bytes));
      device.Set("kernels", found.hopper_kernels ? "hopper" : "portable");
      devices.Set(devices.Length(), device);
    }
    cuda.Set("devices", devices);
    result.Set("cuda", cuda);
    return result;
  });
}

Napi::Value set_threads(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    set_thread_count(static_cast<int>(whole_number(info[0], "threads", 1, 1024)));
    return info.Env().Undefined();
  });
}

Napi::Value choose_isa(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    set_isa(parse_isa(text(info[0], "isa")));
    return info.Env().Undefined();
  });
}

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  initialise_jobs(env);
  exports.Set("runtimeInfo", Napi::Function::New(env, runtime_info));
  exports.Set("setThreads", Napi::Function::New(env, set_threads));
  exports.Set("setIsa", Napi::Function::New(env, choose_isa));
  initialise_tensor(env, exports);
  initialise_tensor_file(env, exports);
  initialise_safetensors(env, exports);
  initialise_sae(env, exports);
  initialise_activation_rows(env, exports);
  initialise_latent_stats(env, exports);
  initialise_device_tensor(env, exports);
  initialise_device_codes(env, exports);
  initialise_rows(env, exports);
  initialise_transformer(env, exports);
  initialise_trainer(env, exports);
  return exports;
}

}  // namespace
}  // namespace personascope::addon

static Napi::Object initialise_addon(Napi::Env env, Napi::Object exports) {
  return personascope::addon::initialise(env, exports);
}
NODE_API_MODULE(personascope, initialise_addon)
