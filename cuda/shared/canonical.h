// The canonical product (native/kernels/encode/encode.h) by eight lanes: lane o keeps the sums 8 o ... 8 o +
// 7 of the 64, so that every 64 elements of a row are eight loads of sixteen or thirty-two bytes side by
// side.
#pragma once
#include <cmath>

#include "native/core/host_device.h"

namespace personascope::cuda {

constexpr int kCanonicalLanes = 8;  // an octet
constexpr int kLaneSums = 8;

struct CanonicalLane {
  float sums[kLaneSums] = {};

  // Elements 64 b + 8 o + i of the row and of the token, for b = 0, 1, 2, ... in that order.
  PERSONASCOPE_HOST_DEVICE void add(const float (&row)[kLaneSums], const float* token) {
    for (int i = 0; i < kLaneSums; ++i) sums[i] = fmaf(row[i], token[i], sums[i]);
  }
  // The sums of the lane 4, then 2, then 1 away (exclusive or): steps + 32, + 16, + 8 of the tree. Both lanes
  // add, which gives both the same bits.
  PERSONASCOPE_HOST_DEVICE void merge(const float (&other)[kLaneSums]) {
    for (int i = 0; i < kLaneSums; ++i) sums[i] += other[i];
  }
  // Steps + 4, + 2, + 1.
  PERSONASCOPE_HOST_DEVICE float total() const {
    float tree[4];
    for (int i = 0; i < 4; ++i) tree[i] = sums[i] + sums[i + 4];
    return (tree[0] + tree[2]) + (tree[1] + tree[3]);
  }
};

}  // namespace personascope::cuda
