// Plugins: shared libraries opened at run time, each one versioned struct of functions. One that is absent or
// finds no device is normal; why is kept for `info`.
#pragma once
#include <string>
#include <vector>

#include "native/core/device_api.h"

namespace personascope {

struct PluginState {
  bool loaded = false;
  std::string path;    // of the library, if it was loaded
  std::string reason;  // what it offers, or why it is of no use
};

// The GPU plugin, opened at the first call: PERSONASCOPE_CUDA_PLUGIN if that is set (the library, or empty
// for none), else libpersonascope_cuda.so beside this library, else in build-cuda beside its build folder.
// Null unless it was loaded and finds a device.
const DevicePlugin* cuda_plugin();
const PluginState& cuda_plugin_state();

// Where the library is looked for, in order.
std::vector<std::string> cuda_plugin_candidates();
// Opens one candidate; the state says how it went. For tests; the process keeps what it opened.
const DevicePlugin* open_cuda_plugin(const std::string& path, PluginState& state);

// Where something is to be computed.
struct DeviceChoice {
  bool cuda = false;
  int index = 0;  // of a GPU; else 0
  bool operator==(const DeviceChoice&) const = default;
};
// 'cpu', 'cuda', 'cuda:N', or 'auto': the first GPU, else the CPU. Throws invalid_argument for another
// spelling, not_found where there is no such device: the message says why.
DeviceChoice choose_device(const std::string& name);
// As choose_device() spells it: 'cpu' or 'cuda:N'.
std::string device_name(const DeviceChoice& device);

// The plugin behind a GPU. Throws not_found where there is no such device: the message says why.
const DevicePlugin& plugin_of(const DeviceChoice& device);
// Every GPU that can be used, by number; empty where there is none. Throws what a device answers.
std::vector<DeviceInfo> cuda_devices();
// Throws what a plugin's function returned.
void check_device(const DevicePlugin& plugin, int status);

}  // namespace personascope
