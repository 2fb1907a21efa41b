// What the classes of the language model take from JavaScript, checked.
#pragma once
#include <napi.h>

#include <memory>
#include <string>
#include <vector>

#include "native/addon/convert.h"
#include "native/transformer/batch.h"
#include "native/transformer/interventions.h"
#include "native/transformer/model.h"

namespace personascope::addon {

using ModelPointer = std::shared_ptr<Transformer>;

// The model behind a JavaScript Transformer; invalid_argument for anything else.
ModelPointer unwrap_transformer(const Napi::Value& value);

inline std::size_t size_of(const Napi::Object& from, const char* name,
                           std::uint64_t high = std::uint64_t{1} << 40) {
  return whole_number(from.Get(name), name, 0, high);
}

inline bool flag(const Napi::Object& from, const char* name) {
  const Napi::Value value = from.Get(name);
  require(value.IsBoolean(), ErrorCode::invalid_argument, std::string(name) + ": expected a boolean");
  return value.As<Napi::Boolean>().Value();
}

inline std::vector<std::string> texts(const Napi::Value& value, const char* name) {
  require(value.IsArray(), ErrorCode::invalid_argument, std::string(name) + ": expected an array of strings");
  const auto array = value.As<Napi::Array>();
  std::vector<std::string> list;
  for (std::uint32_t i = 0; i < array.Length(); ++i) list.push_back(text(array.Get(i), name));
  return list;
}

// {tokens: Int32Array, offsets: Uint32Array, promptLengths?: Uint32Array}
inline Batch read_batch(const Napi::Object& from) {
  const auto tokens = typed_array<std::int32_t>(from.Get("tokens"), "tokens");
  const auto offsets = typed_array<std::uint32_t>(from.Get("offsets"), "offsets");
  require(offsets.size >= 1 && offsets.data[0] == 0 && offsets.data[offsets.size - 1] == tokens.size,
          ErrorCode::invalid_argument, "offsets: expected to begin with 0 and end with the number of tokens");
  for (std::size_t i = 1; i < offsets.size; ++i)
    require(offsets.data[i - 1] <= offsets.data[i] && offsets.data[i] <= tokens.size,
            ErrorCode::invalid_argument, "offsets: expected to increase");
  Batch batch;
  batch.tokens = tokens.data;
  batch.offsets = offsets.data;
  batch.sequences = offsets.size - 1;
  batch.prompt_lengths =
      optional_typed_array<std::uint32_t>(from.Get("promptLengths"), "promptLengths", batch.sequences).data;
  return batch;
}

inline Hook read_hook(const Napi::Value& value, const char* name) {
  const auto from = object(value, name);
  Hook hook;
  hook.point = static_cast<HookPoint>(size_of(from, "point", 2));
  hook.layer = size_of(from, "layer", 1 << 20);
  return hook;
}

inline std::vector<Intervention> read_interventions(const Napi::Value& value, const TransformerConfig& config,
                                                    const Batch& batch) {
  std::vector<Intervention> list;
  if (value.IsUndefined()) return list;
  require(value.IsArray(), ErrorCode::invalid_argument, "interventions: expected an array");
  const auto array = value.As<Napi::Array>();
  for (std::uint32_t i = 0; i < array.Length(); ++i) {
    const auto from = object(array.Get(i), "intervention");
    Intervention change;
    change.hook = read_hook(from.Get("hook"), "hook");
    change.operation = static_cast<SteerOperation>(size_of(from, "operation", 3));
    change.tokens = static_cast<SteeredTokens>(size_of(from, "tokens", 4));
    change.per_sequence = flag(from, "perSequence");
    change.vectors = typed_array<float>(from.Get("vectors"), "vectors",
                                        (change.per_sequence ? batch.sequences : 1) * config.width)
                         .data;
    change.amount = static_cast<float>(number(from.Get("amount"), "amount"));
    change.amounts = optional_typed_array<float>(from.Get("amounts"), "amounts", batch.sequences).data;
    change.centre = optional_typed_array<float>(from.Get("centre"), "centre", config.width).data;
    change.mask = optional_typed_array<std::uint8_t>(from.Get("mask"), "mask", batch.rows()).data;
    require(change.tokens != SteeredTokens::masked || change.mask, ErrorCode::invalid_argument,
            "intervention " + std::to_string(i) + ": no mask");
    list.push_back(change);
  }
  return list;
}

inline Napi::Array shape_array(Napi::Env env, const ParameterInfo& info) {
  auto shape = Napi::Array::New(env, info.shape.size());
  for (std::uint32_t i = 0; i < shape.Length(); ++i) shape.Set(i, static_cast<double>(info.shape[i]));
  return shape;
}

}  // namespace personascope::addon
