// One run of part of a batch (some of its sequences) through the blocks, forward, with interventions and
// capture.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "native/transformer/batch.h"
#include "native/transformer/block.h"
#include "native/transformer/interventions.h"
#include "native/transformer/model.h"
#include "native/transformer/workspace.h"

namespace personascope {

// Rows of the residual stream at a hook, after its interventions, or of a gradient there.
struct Capture {
  Hook hook;
  const std::uint8_t* mask = nullptr;         // [rows of the batch]; null: every row
  const std::size_t* first_output = nullptr;  // [sequences], where the first wanted row of a sequence goes
  float* out = nullptr;                       // [wanted rows, d]
};

// Sums over the rows of the residual stream at a hook, before its interventions.
struct StreamMoments {
  Hook hook;
  std::size_t rows = 0;
  double squares = 0;       // of all values
  std::vector<double> sum;  // [d]
};

struct Pass {
  const Transformer& model;
  Workspace& workspace;
  const Batch& batch;
  std::size_t first = 0, last = 0;  // sequences [first, last)
  const std::vector<Intervention>& interventions;
  const Capture* capture = nullptr;
  bool keep = false;                              // keep every block's state for the backward pass
  std::vector<StreamMoments>* moments = nullptr;  // of the hooks named there; added to
  std::size_t rows = 0;
  RowMap map;
  // Called after the attention of each block, while its queries, keys and values are at hand.
  std::function<void(std::size_t layer, const BlockState& state)> on_block;

  Pass(const Transformer& model, Workspace& workspace, const Batch& batch, std::size_t first,
       std::size_t last, const std::vector<Intervention>& interventions, const Capture* capture, bool keep);

  // Runs the embedding and the blocks up to the hook of `height` (2 layers = all) and returns the residual
  // stream there [rows, d].
  float* forward(std::size_t height);

  // Interventions, then capture, at a hook.
  void at_hook(Hook hook, float* x) const;
};

// Runs body(first, last) over parts of a batch's sequences, side by side where the model is small.
// `part_rows` is about how many rows a part should have.
void for_parts(const Transformer& model, const Batch& batch, std::size_t part_rows,
               const std::function<void(std::size_t first, std::size_t last)>& body);

// Throws non_finite, naming sequence and position, unless all of x [rows, d] is finite.
void check_finite(const Pass& pass, const float* x, std::size_t width, const char* what);

}  // namespace personascope
