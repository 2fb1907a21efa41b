// Checked conversions between JavaScript values and plain memory. Every refusal names the argument, what was
// found and what was expected.
#pragma once
#include <napi.h>

#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "native/core/aligned.h"
#include "native/core/error.h"

namespace personascope::addon {

template <class T>
struct Span {
  T* data = nullptr;
  std::size_t size = 0;
};

template <class T>
struct ElementType;
template <>
struct ElementType<float> {
  static constexpr napi_typedarray_type type = napi_float32_array;
  static constexpr const char* name = "Float32Array";
};
template <>
struct ElementType<double> {
  static constexpr napi_typedarray_type type = napi_float64_array;
  static constexpr const char* name = "Float64Array";
};
template <>
struct ElementType<std::uint32_t> {
  static constexpr napi_typedarray_type type = napi_uint32_array;
  static constexpr const char* name = "Uint32Array";
};
template <>
struct ElementType<std::int32_t> {
  static constexpr napi_typedarray_type type = napi_int32_array;
  static constexpr const char* name = "Int32Array";
};
template <>
struct ElementType<std::uint16_t> {
  static constexpr napi_typedarray_type type = napi_uint16_array;
  static constexpr const char* name = "Uint16Array";
};
template <>
struct ElementType<std::uint8_t> {
  static constexpr napi_typedarray_type type = napi_uint8_array;
  static constexpr const char* name = "Uint8Array";
};
template <>
struct ElementType<std::uint64_t> {
  static constexpr napi_typedarray_type type = napi_biguint64_array;
  static constexpr const char* name = "BigUint64Array";
};

// The memory of a typed array, zero-copy. napi's As<>() does not check the element type: this does.
template <class T>
Span<T> typed_array(const Napi::Value& value, const char* argument) {
  using Element = ElementType<T>;
  require(value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == Element::type,
          ErrorCode::invalid_argument, std::string(argument) + ": expected a " + Element::name);
  const auto array = value.As<Napi::TypedArray>();
  const std::size_t size = array.ElementLength();
  void* data = nullptr;
  napi_get_typedarray_info(value.Env(), value, nullptr, nullptr, &data, nullptr, nullptr);
  return {static_cast<T*>(data), size};
}

template <class T>
Span<T> typed_array(const Napi::Value& value, const char* argument, std::size_t expected) {
  const auto span = typed_array<T>(value, argument);
  require(span.size == expected, ErrorCode::invalid_argument,
          std::string(argument) + ": found " + std::to_string(span.size) + " values, expected " +
              std::to_string(expected));
  return span;
}

// Undefined and null give an empty span.
template <class T>
Span<T> optional_typed_array(const Napi::Value& value, const char* argument, std::size_t expected) {
  if (value.IsUndefined() || value.IsNull()) return {};
  return typed_array<T>(value, argument, expected);
}

inline double number(const Napi::Value& value, const char* argument) {
  require(value.IsNumber() && std::isfinite(value.As<Napi::Number>().DoubleValue()),
          ErrorCode::invalid_argument, std::string(argument) + ": expected a finite number");
  return value.As<Napi::Number>().DoubleValue();
}

// A whole number in [low, high], exactly representable.
inline std::uint64_t whole_number(const Napi::Value& value, const char* argument, std::uint64_t low,
                                  std::uint64_t high) {
  const double found = number(value, argument);
  require(
      found == std::floor(found) && found >= static_cast<double>(low) && found <= static_cast<double>(high),
      ErrorCode::invalid_argument,
      std::string(argument) + ": found " + std::to_string(found) + ", expected a whole number from " +
          std::to_string(low) + " to " + std::to_string(high));
  return static_cast<std::uint64_t>(found);
}

inline std::string text(const Napi::Value& value, const char* argument) {
  require(value.IsString(), ErrorCode::invalid_argument, std::string(argument) + ": expected a string");
  return value.As<Napi::String>().Utf8Value();
}

inline Napi::Object object(const Napi::Value& value, const char* argument) {
  require(value.IsObject(), ErrorCode::invalid_argument, std::string(argument) + ": expected an object");
  return value.As<Napi::Object>();
}

constexpr std::uint64_t kLargest = std::uint64_t{1} << 53;

// A short list of whole numbers: a shape, axes.
template <class T>
std::vector<T> numbers(const Napi::Value& value, const char* argument) {
  require(value.IsArray(), ErrorCode::invalid_argument,
          std::string(argument) + ": expected a list of numbers");
  const auto list = value.As<Napi::Array>();
  require(list.Length() <= 32, ErrorCode::invalid_argument, std::string(argument) + ": more than 32 numbers");
  std::vector<T> made(list.Length());
  for (std::uint32_t i = 0; i < list.Length(); ++i)
    made[i] = static_cast<T>(whole_number(list.Get(i), argument, 0, kLargest));
  return made;
}

template <class T>
Napi::Value list_of(Napi::Env env, const std::vector<T>& values) {
  auto list = Napi::Array::New(env, values.size());
  for (std::uint32_t i = 0; i < values.size(); ++i) list.Set(i, static_cast<double>(values[i]));
  return list;
}

// Moves a container's memory to JavaScript without a copy: `owner` lives as long as the typed array.
template <class T, class Owner>
Napi::Value external_array(Napi::Env env, std::shared_ptr<Owner> owner, T* data, std::size_t size) {
  if (size == 0) {
    napi_value empty_buffer, empty;
    napi_create_arraybuffer(env, 0, nullptr, &empty_buffer);
    napi_create_typedarray(env, ElementType<T>::type, 0, empty_buffer, 0, &empty);
    return Napi::Value(env, empty);
  }
  auto* held = new std::shared_ptr<Owner>(std::move(owner));
  auto buffer = Napi::ArrayBuffer::New(
      env, const_cast<std::remove_const_t<T>*>(data), size * sizeof(T),
      [](Napi::Env, void*, std::shared_ptr<Owner>* released) { delete released; }, held);
  napi_value array;
  napi_create_typedarray(env, ElementType<std::remove_const_t<T>>::type, size, buffer, 0, &array);
  return Napi::Value(env, array);
}

template <class T>
Napi::Value to_typed_array(Napi::Env env, std::vector<T>&& values) {
  auto owner = std::make_shared<std::vector<T>>(std::move(values));
  return external_array<T>(env, owner, owner->data(), owner->size());
}

template <class T>
Napi::Value to_typed_array(Napi::Env env, AlignedBuffer<T>&& values) {
  auto owner = std::make_shared<AlignedBuffer<T>>(std::move(values));
  return external_array<T>(env, owner, owner->data(), owner->size());
}

}  // namespace personascope::addon
