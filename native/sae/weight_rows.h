// A matrix of weights as rows that kernels read: where it lies if its rows are contiguous, else copied once.
#pragma once
#include <cstddef>
#include <functional>
#include <memory>
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
  // Whether view() has to copy.
  bool must_copy() const;
  // Where the rows are copied to instead of memory of its own: room for rows() x copy_stride() bytes, kept by
  // `owner`. If `filled`, they are there already. Before the first view().
  void use(std::shared_ptr<void> owner, std::uint8_t* room, bool filled,
           const std::function<void()>& check = {}) const;
  std::size_t copy_stride() const;
  // out [columns] = one row in fp32; copies nothing else. Throws non_finite.
  void read(std::size_t row, float* out) const;
  std::size_t rows() const { return source_.shape[0]; }
  std::size_t columns() const { return source_.shape[1]; }
  const Tensor& source() const { return source_; }
  // Memory of its own, bytes.
  std::size_t bytes() const { return copy_.size(); }

 private:
  // The rows at `to`, after writing them there if `write`.
  RowView copied(std::uint8_t* to, bool write, const std::function<void()>& check) const;

  Tensor source_;
  mutable std::mutex mutex_;
  mutable RowView view_;
  mutable AlignedBuffer<std::uint8_t> copy_;
  mutable std::shared_ptr<void> room_;
};

}  // namespace personascope
