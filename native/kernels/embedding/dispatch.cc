#include <string>
#include <vector>

#include "native/kernels/embedding/variants.h"
#include "native/kernels/parallel.h"

namespace personascope {

namespace {

void check_ids(const char* name, const std::int32_t* ids, std::size_t count, std::size_t limit) {
  for (std::size_t t = 0; t < count; ++t)
    if (ids[t] < 0 || static_cast<std::size_t>(ids[t]) >= limit)
      fail(ErrorCode::invalid_argument, std::string("embedding: ") + name + " " + std::to_string(ids[t]) +
                                            " at token " + std::to_string(t) + ", expected 0 to " +
                                            std::to_string(static_cast<std::ptrdiff_t>(limit) - 1));
}

}  // namespace

const Variants<EmbeddingKernels>& embedding_variants() {
  static const Variants<EmbeddingKernels> variants = {embedding_reference, embedding_avx2, embedding_avx512};
  return variants;
}

void embedding_forward(const EmbeddingArgs& args) {
  check_ids("token id", args.ids, args.tokens, args.vocabulary);
  if (args.position_table) {
    if (!args.positions) fail(ErrorCode::invalid_argument, "embedding: a position table needs positions");
    check_ids("position", args.positions, args.tokens, args.max_positions);
  }
  const auto kernel = embedding_variants().active().forward;
  parallel_rows(args.tokens, args.width,
                [&](std::size_t begin, std::size_t end) { kernel(args, begin, end); });
}

void embedding_backward(const EmbeddingBackwardArgs& args) {
  // Tokens grouped by row with their order kept (a counting sort): a row is summed by one thread, in order of
  // t.
  std::vector<std::size_t> first(args.rows + 1, 0);
  for (std::size_t t = 0; t < args.tokens; ++t) {
    if (args.ids[t] < 0) continue;
    if (static_cast<std::size_t>(args.ids[t]) >= args.rows)
      fail(ErrorCode::invalid_argument, "embedding: id " + std::to_string(args.ids[t]) + " at token " +
                                            std::to_string(t) + ", expected less than " +
                                            std::to_string(args.rows));
    ++first[static_cast<std::size_t>(args.ids[t]) + 1];
  }
  for (std::size_t row = 0; row < args.rows; ++row) first[row + 1] += first[row];
  std::vector<std::size_t> next(first.begin(), first.end() - 1), tokens(first[args.rows]);
  for (std::size_t t = 0; t < args.tokens; ++t)
    if (args.ids[t] >= 0) tokens[next[static_cast<std::size_t>(args.ids[t])]++] = t;

  const auto add = embedding_variants().active().add;
  const std::size_t mean = args.rows ? args.tokens / args.rows + 1 : 1;
  parallel_rows(args.rows, mean * args.width, [&](std::size_t begin, std::size_t end) {
    for (std::size_t row = begin; row < end; ++row)
      for (std::size_t i = first[row]; i < first[row + 1]; ++i)
        add(args.dtable + row * args.width, args.dy + tokens[i] * args.width, args.width);
  });
}

}  // namespace personascope
