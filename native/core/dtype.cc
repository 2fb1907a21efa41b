#include "native/core/dtype.h"

#include "native/core/error.h"

namespace personascope {

namespace {

struct Row {
  Dtype dtype;
  const char* name;
  std::size_t size;
};
constexpr Row kRows[] = {
    {Dtype::f64, "F64", 8},   {Dtype::f32, "F32", 4},         {Dtype::f16, "F16", 2},
    {Dtype::bf16, "BF16", 2}, {Dtype::f8_e4m3, "F8_E4M3", 1}, {Dtype::f8_e5m2, "F8_E5M2", 1},
    {Dtype::i64, "I64", 8},   {Dtype::i32, "I32", 4},         {Dtype::i16, "I16", 2},
    {Dtype::i8, "I8", 1},     {Dtype::u64, "U64", 8},         {Dtype::u32, "U32", 4},
    {Dtype::u16, "U16", 2},   {Dtype::u8, "U8", 1},           {Dtype::boolean, "BOOL", 1},
};

const Row& row_of(Dtype dtype) {
  for (const Row& row : kRows)
    if (row.dtype == dtype) return row;
  fail(ErrorCode::internal, "a dtype without a row");
}

}  // namespace

const char* dtype_name(Dtype dtype) {
  return row_of(dtype).name;
}

std::size_t dtype_size(Dtype dtype) {
  return row_of(dtype).size;
}

std::optional<Dtype> dtype_named(std::string_view name) {
  for (const Row& row : kRows)
    if (name == row.name) return row.dtype;
  return std::nullopt;
}

}  // namespace personascope
