// What each file of the addon registers; called once per environment by addon.cc.
#pragma once
#include <napi.h>

namespace personascope::addon {

void initialise_activation_rows(Napi::Env env, Napi::Object exports);
void initialise_device_codes(Napi::Env env, Napi::Object exports);
void initialise_device_tensor(Napi::Env env, Napi::Object exports);
void initialise_latent_stats(Napi::Env env, Napi::Object exports);
void initialise_sae(Napi::Env env, Napi::Object exports);
void initialise_rows(Napi::Env env, Napi::Object exports);
void initialise_safetensors(Napi::Env env, Napi::Object exports);
void initialise_tensor(Napi::Env env, Napi::Object exports);
void initialise_tensor_file(Napi::Env env, Napi::Object exports);
void initialise_transformer(Napi::Env env, Napi::Object exports);
void initialise_trainer(Napi::Env env, Napi::Object exports);

}  // namespace personascope::addon
