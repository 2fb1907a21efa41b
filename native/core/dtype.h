// Element types of tensors in files.
#pragma once
#include <cstddef>
#include <optional>
#include <string_view>

namespace personascope {

enum class Dtype { f64, f32, f16, bf16, f8_e4m3, f8_e5m2, i64, i32, i16, i8, u64, u32, u16, u8, boolean };

// The spelling of safetensors, e.g. "BF16".
const char* dtype_name(Dtype dtype);
// Bytes of one element.
std::size_t dtype_size(Dtype dtype);
// The dtype of that spelling, if there is one.
std::optional<Dtype> dtype_named(std::string_view name);

}  // namespace personascope
