#include "native/core/plugin.h"

#include <dlfcn.h>

#include <charconv>
#include <cstdlib>
#include <filesystem>

#include "native/core/error.h"

namespace personascope {

namespace {

constexpr const char* kLibrary = "libpersonascope_cuda.so";

// The folder of the library or program that holds this code.
std::filesystem::path own_folder() {
  Dl_info info;
  if (!dladdr(reinterpret_cast<const void*>(&own_folder), &info) || !info.dli_fname) return {};
  std::error_code ignored;
  const auto path = std::filesystem::canonical(info.dli_fname, ignored);
  return ignored ? std::filesystem::path{} : path.parent_path();
}

struct Opened {
  const DevicePlugin* plugin = nullptr;
  PluginState state;
};

const Opened& opened() {
  // Kept until the process ends: a device's runtime does not like to be unloaded.
  static const Opened* const result = [] {
    auto* made = new Opened;
    const std::vector<std::string> candidates = cuda_plugin_candidates();
    if (candidates.empty()) {
      made->state.reason = "switched off by PERSONASCOPE_CUDA_PLUGIN";
      return made;
    }
    const char* asked = std::getenv("PERSONASCOPE_CUDA_PLUGIN");
    for (const std::string& path : candidates) {
      std::error_code ignored;
      if (!asked && !std::filesystem::exists(path, ignored)) continue;
      made->plugin = open_cuda_plugin(path, made->state);
      return made;
    }
    made->state.reason = "not built: no " + std::string(kLibrary) +
                         " beside the addon (npm run build:cuda makes it where nvcc is installed)";
    return made;
  }();
  return *result;
}

}  // namespace

std::vector<std::string> cuda_plugin_candidates() {
  if (const char* asked = std::getenv("PERSONASCOPE_CUDA_PLUGIN")) {
    if (!*asked) return {};
    return {asked};
  }
  const std::filesystem::path folder = own_folder();
  std::vector<std::string> candidates;
  // Beside; a build folder's sibling; the addon lies in build/Release.
  for (const char* place : {".", "../build-cuda/cuda", "../../build-cuda/cuda"})
    candidates.push_back((folder / place / kLibrary).lexically_normal().string());
  return candidates;
}

const DevicePlugin* open_cuda_plugin(const std::string& path, PluginState& state) {
  state = {false, path, ""};
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char* why = dlerror();
    state.reason = "cannot be opened: " + std::string(why ? why : path);
    return nullptr;
  }
  using Entry = const DevicePlugin* (*)(std::uint32_t);
  const auto entry = reinterpret_cast<Entry>(dlsym(library, kCudaPluginSymbol));
  const DevicePlugin* plugin = entry ? entry(kDevicePluginVersion) : nullptr;
  if (!plugin || plugin->version != kDevicePluginVersion || plugin->size != sizeof(DevicePlugin)) {
    state.reason = path + (entry ? " is of another version: build it from the same sources as this library"
                                 : " is no plugin: it lacks the symbol " + std::string(kCudaPluginSymbol));
    return nullptr;
  }
  state.loaded = true;
  const int count = plugin->device_count();
  if (count <= 0) {
    state.reason = "no device: " + std::string(plugin->device_reason());
    return nullptr;
  }
  for (int device = 0; device < count; ++device) {
    DeviceInfo info = {};
    if (device) state.reason += "; ";
    state.reason += "cuda:" + std::to_string(device) + " ";
    if (plugin->device_info(device, &info) != 0)
      state.reason += plugin->last_error();
    else
      state.reason += std::string(info.name) + ", " + std::to_string(info.total_bytes >> 30) + " GiB, " +
                      (info.hopper_kernels ? "Hopper kernels" : "portable kernels");
  }
  return plugin;
}

const DevicePlugin* cuda_plugin() {
  return opened().plugin;
}

const PluginState& cuda_plugin_state() {
  return opened().state;
}

DeviceChoice choose_device(const std::string& name) {
  if (name == "cpu") return {};
  if (name == "auto") return {cuda_plugin() != nullptr, 0};
  int index = 0;
  bool sound = name == "cuda";
  if (name.rfind("cuda:", 0) == 0) {
    const char *first = name.data() + 5, *last = name.data() + name.size();
    const auto [end, error] = std::from_chars(first, last, index);
    sound = error == std::errc() && end == last && index >= 0;
  }
  require(sound, ErrorCode::invalid_argument,
          "device '" + name + "', expected 'auto', 'cpu', 'cuda' or 'cuda:' and a number");
  const DevicePlugin* plugin = cuda_plugin();
  require(plugin != nullptr, ErrorCode::not_found,
          "device '" + name + "': the GPU plugin is of no use: " + cuda_plugin_state().reason);
  require(index < plugin->device_count(), ErrorCode::not_found,
          "device '" + name + "' is not there; found: " + cuda_plugin_state().reason);
  return {true, index};
}

std::string device_name(const DeviceChoice& device) {
  return device.cuda ? "cuda:" + std::to_string(device.index) : "cpu";
}

const DevicePlugin& plugin_of(const DeviceChoice& device) {
  const DevicePlugin* plugin = cuda_plugin();
  require(plugin != nullptr && device.cuda && device.index >= 0 && device.index < plugin->device_count(),
          ErrorCode::not_found,
          "device " + device_name(device) + " is no GPU that can be used: " + cuda_plugin_state().reason);
  return *plugin;
}

std::vector<DeviceInfo> cuda_devices() {
  const DevicePlugin* plugin = cuda_plugin();
  std::vector<DeviceInfo> devices(plugin ? static_cast<std::size_t>(plugin->device_count()) : 0);
  for (std::size_t i = 0; i < devices.size(); ++i)
    check_device(*plugin, plugin->device_info(static_cast<std::int32_t>(i), &devices[i]));
  return devices;
}

void check_device(const DevicePlugin& plugin, int status) {
  if (status != 0) throw Error(static_cast<ErrorCode>(status - 1), plugin.last_error());
}

}  // namespace personascope
