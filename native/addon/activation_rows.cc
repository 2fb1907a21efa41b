// Rows of a store of activations, read off the event loop.
#include <napi.h>

#include <algorithm>
#include <string>

#include "native/activations/rows.h"
#include "native/addon/convert.h"
#include "native/addon/job.h"
#include "native/addon/modules.h"
#include "native/addon/tensor.h"

namespace personascope::addon {
namespace {

// readRows(activations: NativeTensor [rows, width], rows: Uint32Array, places: Uint32Array, out: Float32Array
// [n, width], after: 'keep' | 'unmap' | 'evict', options): writes row rows[i] to row places[i] of `out`.
// Unless 'keep', the tensor lies in a mapped file and is read from front to back: the rows that follow are
// fetched ahead, these are released.
Napi::Value read_rows_of(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const Tensor tensor = TensorClass::of(info[0], "activations");
    require(tensor.shape.size() == 2, ErrorCode::invalid_argument,
            tensor.name + ": has shape " + shape_text(tensor.shape) + ", expected [rows, width]");
    const auto rows = typed_array<std::uint32_t>(info[1], "rows");
    const auto places = typed_array<std::uint32_t>(info[2], "places", rows.size);
    const auto out = typed_array<float>(info[3], "out");
    const std::uint64_t width = tensor.shape[1];
    for (std::size_t i = 0; i < rows.size; ++i) {
      require(
          rows.data[i] < tensor.shape[0], ErrorCode::invalid_argument,
          tensor.name + ": row " + std::to_string(rows.data[i]) + " of " + std::to_string(tensor.shape[0]));
      require(width > 0 && places.data[i] < out.size / width, ErrorCode::invalid_argument,
              "places: row " + std::to_string(places.data[i]) + " of " +
                  std::to_string(width ? out.size / width : 0));
    }
    const std::string after = text(info[4], "after");
    require(after == "keep" || after == "unmap" || after == "evict", ErrorCode::invalid_argument,
            "after: found '" + after + "', expected 'keep', 'unmap' or 'evict'");
    const bool keep = after == "keep";
    const Release how = after == "evict" ? Release::evict : Release::unmap;
    return start_job(env, info[5], {info[1], info[2], info[3]},
                     [tensor, rows, places, out, width, keep, how](JobContext& job) -> Finish {
                       for (std::size_t i = 0; i < rows.size;) {
                         job.check();
                         // Neighbours that stay neighbours go at once.
                         std::size_t run = 1;
                         while (i + run < rows.size && rows.data[i + run] == rows.data[i] + run &&
                                places.data[i + run] == places.data[i] + run)
                           ++run;
                         read_rows(tensor, rows.data[i], run, out.data + places.data[i] * width);
                         i += run;
                       }
                       if (!keep && rows.size > 0) {
                         const auto [first, last] = std::minmax_element(rows.data, rows.data + rows.size);
                         const std::uint64_t next = std::uint64_t{*last} + 1, count = next - *first;
                         prefetch_rows(tensor, next, std::min(count, tensor.shape[0] - next));
                         release_rows(tensor, *first, count, how);
                       }
                       return [](Napi::Env end) -> Napi::Value { return end.Undefined(); };
                     });
  });
}

// rowsInMemory(activations: NativeTensor of a mapped file): whether most of them are
Napi::Value are_rows_in_memory(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return Napi::Boolean::New(info.Env(), rows_in_memory(TensorClass::of(info[0], "activations")));
  });
}

}  // namespace

void initialise_activation_rows(Napi::Env env, Napi::Object exports) {
  exports.Set("readRows", Napi::Function::New(env, read_rows_of));
  exports.Set("rowsInMemory", Napi::Function::New(env, are_rows_in_memory));
}

}  // namespace personascope::addon
