// Adds codes to the records of their latents: sums, active counts and maxima. All steps are whole numbers'
// (latent_record.h), so every ISA leaves the same bits.
//
// Records lie at random places in memory: those of codes to come are fetched while others are added.
#pragma once
#include <cstddef>
#include <cstdint>

#include "native/core/isa.h"
#include "native/kernels/latent_stats/latent_record.h"

namespace personascope {

// Codes between asking for a record, into the L2 cache and then into the L1, and adding to it: as many lines
// on their way as memory takes.
constexpr std::size_t kRecordsAhead = 128, kRecordsNear = 16;

struct AccumulateArgs {
  LatentRecord* records = nullptr;
  const std::uint32_t* latents = nullptr;  // [count]
  const float* values = nullptr;           // [count], each of them LatentTotals::fits
  std::size_t count = 0;
};

// Asks for what code i will want later on.
// Inlined by force: GCC 12 takes a function that only prefetches for one without effect, and drops the call.
__attribute__((always_inline)) inline void ask_ahead(const AccumulateArgs& args, std::size_t i) {
  if (i + kRecordsAhead < args.count)
    __builtin_prefetch(args.records + args.latents[i + kRecordsAhead], 0, 2);
  if (i + kRecordsNear < args.count) __builtin_prefetch(args.records + args.latents[i + kRecordsNear], 0, 3);
}

using AccumulateKernel = void (*)(const AccumulateArgs& args);
const Variants<AccumulateKernel>& accumulate_variants();

void accumulate_reference(const AccumulateArgs& args);
void accumulate_avx2(const AccumulateArgs& args);
void accumulate_avx512(const AccumulateArgs& args);

}  // namespace personascope
