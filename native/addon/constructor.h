// The constructors of our classes, one an environment: the main thread and each worker has its own. An
// environment lives in one thread, and frees what it holds when it ends.
#pragma once
#include <napi.h>

#include <string>
#include <utility>

#include "native/core/error.h"

namespace personascope::addon {

template <class Class>
class Constructor {
 public:
  // Remembers what Class::define() made.
  static Napi::Function keep(Napi::Env env, const Napi::Function& constructor) {
    t_kept = new Napi::FunctionReference(Napi::Persistent(constructor));
    env.AddCleanupHook([] {
      delete t_kept;
      t_kept = nullptr;
    });
    return constructor;
  }
  // A new object that the core made: its constructor gets `content` as an External, and copies or moves it.
  template <class Content>
  static Napi::Object wrap(Napi::Env env, Content content) {
    return t_kept->New({Napi::External<Content>::New(env, &content)});
  }

 private:
  static thread_local inline Napi::FunctionReference* t_kept = nullptr;
};

// The object behind a JavaScript value. Class::kTag marks ours, so that a foreign one is refused instead of
// misread; Class::kWhat names it in the message.
template <class Class>
Class* unwrapped(const Napi::Value& value, const char* argument) {
  require(value.IsObject() && value.As<Napi::Object>().CheckTypeTag(&Class::kTag),
          ErrorCode::invalid_argument, std::string(argument) + ": expected " + Class::kWhat);
  return Class::Unwrap(value.As<Napi::Object>());
}

}  // namespace personascope::addon
