#include "native/core/plugin.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "native/sae/device_sae.h"
#include "test/native/check.h"

using namespace personascope;

TEST(names_of_devices) {
  CHECK(!choose_device("cpu").cuda);
  for (const char* name : {"", "gpu", "CUDA", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", "cuda:99999999999"})
    CHECK_THROWS(choose_device(name), ErrorCode::invalid_argument);
}

// With and without a GPU: 'cuda' is a device or an error that says why not, 'auto' always is one of the two.
TEST(a_device_or_a_reason) {
  const bool usable = cuda_plugin() != nullptr;
  CHECK(!cuda_plugin_state().reason.empty());
  CHECK(choose_device("auto").cuda == usable);
  if (!usable) CHECK_THROWS(DeviceSae({true, 0}), ErrorCode::not_found);
  if (usable) {
    CHECK_EQ(choose_device("cuda").index, 0);
    CHECK_THROWS(choose_device("cuda:4096"), ErrorCode::not_found);
    return;
  }
  try {
    choose_device("cuda");
    CHECK(false);
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::not_found);
    CHECK(std::string(error.what()).find(cuda_plugin_state().reason) != std::string::npos);
  }
}

TEST(a_library_that_is_no_plugin) {
  PluginState state;
  CHECK(open_cuda_plugin("/nowhere/libpersonascope_cuda.so", state) == nullptr);
  CHECK(!state.loaded);
  CHECK(state.reason.find("/nowhere/libpersonascope_cuda.so") != std::string::npos);

  const auto file = std::filesystem::temp_directory_path() / "personascope-no-plugin.so";
  std::ofstream(file) << "no ELF";
  CHECK(open_cuda_plugin(file.string(), state) == nullptr);
  CHECK(!state.loaded && !state.reason.empty());
  std::filesystem::remove(file);

  CHECK(open_cuda_plugin("libm.so.6", state) == nullptr);
  CHECK(state.reason.find("personascope_cuda_plugin") != std::string::npos);
}

TEST(where_it_is_looked_for) {
  const char* before = std::getenv("PERSONASCOPE_CUDA_PLUGIN");
  const std::string kept = before ? before : "";
  setenv("PERSONASCOPE_CUDA_PLUGIN", "/somewhere/else.so", 1);
  CHECK_EQ(cuda_plugin_candidates().size(), 1u);
  CHECK(cuda_plugin_candidates()[0] == "/somewhere/else.so");
  setenv("PERSONASCOPE_CUDA_PLUGIN", "", 1);
  CHECK(cuda_plugin_candidates().empty());
  unsetenv("PERSONASCOPE_CUDA_PLUGIN");
  const auto candidates = cuda_plugin_candidates();
  CHECK(candidates.size() >= 2);
  for (const std::string& path : candidates) CHECK(std::filesystem::path(path).is_absolute());
  if (before) setenv("PERSONASCOPE_CUDA_PLUGIN", kept.c_str(), 1);
}
