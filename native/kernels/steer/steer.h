// Steering: changes rows of activations in place along given vectors. For each row x (c: centre or 0; v_j:
// the vectors of the row's group; a_j = (x - c) . v_j, all taken before the change):
//
//   add      x += sum_j amount_j v_j                 any vectors
//   ablate   x -= sum_j a_j v_j                      v_j orthonormal
//   clamp    x += sum_j (min(max(a_j, low_j), high_j) - a_j) v_j      orthonormal; low = high sets the
//   coefficient project  x  = c + sum_j a_j v_j                  orthonormal
//
// a_j is a canonical product (native/kernels/encode/encode.h) and each change a chain of fused multiply-adds
// over j: the same bits on every ISA and for any number of threads.
#pragma once
#include <cstddef>
#include <cstdint>

#include "native/core/isa.h"

namespace personascope {

enum class SteerKind : int { add = 0, ablate = 1, clamp = 2, project = 3 };

struct SteerArgs {
  SteerKind kind = SteerKind::add;
  float* x = nullptr;  // [rows, stride], the first `width` of each row change
  std::size_t rows = 0, width = 0, stride = 0;
  const std::uint8_t* mask = nullptr;    // [rows], 0: left alone; null: all rows
  const std::uint32_t* group = nullptr;  // [rows], < groups; null: all rows are group 0
  std::size_t groups = 1;
  std::size_t dimensions = 1;      // vectors a group
  const float* vectors = nullptr;  // [groups, dimensions, width]
  const float* amounts = nullptr;  // add: [groups, dimensions]
  const float* low = nullptr;      // clamp: [groups, dimensions]
  const float* high = nullptr;
  const float* centre = nullptr;  // [width] or null
};

constexpr std::size_t kMostSteerDimensions = 64;

// Throws invalid_argument (sizes, groups, low > high, vectors that are not orthonormal within 1e-3) and
// non_finite (vectors, amounts, bounds, centre). Rows are not looked at.
void steer(const SteerArgs& args);
// What steer() refuses, alone.
void check_steer(const SteerArgs& args);

// Rows [begin, end) on one thread.
using SteerKernel = void (*)(const SteerArgs& args, std::size_t begin, std::size_t end);
const Variants<SteerKernel>& steer_variants();

}  // namespace personascope
