// A matrix of weights as rows that kernels read: where it lies if its rows are contiguous, else copied once.
#pragma once
#include <cstddef>
#include <functional>
#include <mutex>

#include "native/core/aligned.h"
#include "native/core/row_view.h"
#include "native/core/tensor.h"

namespace personascope {

class WeightRows {
 public:
  // `source` is a matrix; one without an owner is copied at once.
  explicit WeightRows(Tensor source);

  // The rows; the first call may copy (a matrix stored the other way round, or of F64). `check` may throw.
  const RowView& view(const std::function<void()>& check = {}) const;
  // out [columns] = one row in fp32; copies nothing else. Throws non_finite.
  void read(std::size_t row, float* out) const;
  std::size_t rows() const { return source_.shape[0]; }
  std::size_t columns() const { return source_.shape[1]; }
  const Tensor& source() const { return source_; }
  // Memory of its own, bytes.
  std::size_t bytes() const { return copy_.size(); }

 private:
  void copy(const std::function<void()>& check) const;

  Tensor source_;
  mutable std::mutex mutex_;
  mutable RowView view_;
  mutable AlignedBuffer<std::uint8_t> copy_;
};

}  // namespace personascope
