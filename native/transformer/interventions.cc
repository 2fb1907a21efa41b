#include "native/transformer/interventions.h"

#include <cmath>
#include <string>

#include "native/core/error.h"
#include "native/kernels/parallel.h"
#include "native/kernels/steer/steer.h"

namespace personascope {

namespace {

// The rows that a change touches: a mask [rows], or null where it touches all of them.
const std::uint8_t* touched_rows(const Intervention& change, const RowMap& map) {
  switch (change.tokens) {
    case SteeredTokens::all:
      return nullptr;
    case SteeredTokens::prompt:
      return map.in_prompt;
    case SteeredTokens::masked:
      return change.mask + map.first_row;
    case SteeredTokens::after_first:
    case SteeredTokens::answer:
      break;
  }
  thread_local std::vector<std::uint8_t> rows;
  rows.resize(map.rows);
  const bool after_first = change.tokens == SteeredTokens::after_first;
  for (std::size_t row = 0; row < map.rows; ++row)
    rows[row] = after_first ? map.position[row] > 0 : map.in_prompt[row] == 0;
  return rows.data();
}

void apply(SteerKind kind, const Intervention& change, const float* centre, const RowMap& map,
           std::size_t width, float* x) {
  SteerArgs args;
  args.kind = kind;
  args.x = x;
  args.rows = map.rows;
  args.width = args.stride = width;
  args.mask = touched_rows(change, map);
  args.vectors = change.vectors;
  args.centre = centre;
  thread_local std::vector<float> amounts;
  if (change.per_sequence) {
    args.group = map.sequence;
    args.groups = map.sequences;
    if (!change.amounts) amounts.assign(map.sequences, change.amount);
  }
  const float* amount = change.amounts        ? change.amounts
                        : change.per_sequence ? amounts.data()
                                              : &change.amount;
  args.amounts = args.low = args.high = amount;
  // Vectors and amounts were checked once for the whole call (check_interventions), so the kernel is called
  // as is.
  const SteerKernel kernel = steer_variants().active();
  parallel_rows(map.rows, 4 * width, [&](std::size_t begin, std::size_t end) { kernel(args, begin, end); });
}

bool same_hook(const Hook& a, const Hook& b) {
  return a.point == b.point && a.layer == b.layer;
}

}  // namespace

void check_interventions(const std::vector<Intervention>& interventions, const TransformerConfig& config,
                         std::size_t sequences) {
  for (std::size_t i = 0; i < interventions.size(); ++i) {
    const auto& change = interventions[i];
    const std::string name = "intervention " + std::to_string(i);
    require(change.hook.layer < config.layers, ErrorCode::invalid_argument,
            name + ": layer " + std::to_string(change.hook.layer) + ", the model has " +
                std::to_string(config.layers) + " layers");
    require(!change.amounts || change.per_sequence, ErrorCode::invalid_argument,
            name + ": amounts per sequence need vectors per sequence");
    const std::size_t vectors = change.per_sequence ? sequences : 1;
    for (std::size_t v = 0; v < vectors; ++v) {
      double norm = 0;
      for (std::size_t j = 0; j < config.width; ++j) {
        const float value = change.vectors[v * config.width + j];
        require(std::isfinite(value), ErrorCode::non_finite,
                name + ": value " + std::to_string(j) + " of its vector is not finite");
        norm += static_cast<double>(value) * value;
      }
      require(change.operation == SteerOperation::add || std::fabs(norm - 1) < 1e-3,
              ErrorCode::invalid_argument,
              name + ": its vector has length " + std::to_string(std::sqrt(norm)) + ", expected 1");
    }
    if (change.amounts) {
      for (std::size_t s = 0; s < sequences; ++s)
        require(std::isfinite(change.amounts[s]), ErrorCode::non_finite, name + ": an amount is not finite");
    } else {
      require(std::isfinite(change.amount), ErrorCode::non_finite, name + ": its amount is not finite");
    }
    if (change.centre)
      for (std::size_t j = 0; j < config.width; ++j)
        require(std::isfinite(change.centre[j]), ErrorCode::non_finite,
                name + ": value " + std::to_string(j) + " of its centre is not finite");
  }
}

void intervene(const std::vector<Intervention>& interventions, Hook hook, const RowMap& map,
               std::size_t width, float* x) {
  for (const auto& change : interventions) {
    if (!same_hook(change.hook, hook)) continue;
    constexpr SteerKind kinds[] = {SteerKind::add, SteerKind::ablate, SteerKind::clamp, SteerKind::project};
    apply(kinds[static_cast<int>(change.operation)], change, change.centre, map, width, x);
  }
}

void intervene_backward(const std::vector<Intervention>& interventions, Hook hook, const RowMap& map,
                        std::size_t width, float* dx) {
  for (auto change = interventions.rbegin(); change != interventions.rend(); ++change) {
    if (!same_hook(change->hook, hook) || change->operation == SteerOperation::add) continue;
    // Ablating and clamping take away what lies along the vector, projecting keeps only that.
    const bool project = change->operation == SteerOperation::project;
    apply(project ? SteerKind::project : SteerKind::ablate, *change, nullptr, map, width, dx);
  }
}

}  // namespace personascope
