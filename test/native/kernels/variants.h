// Helpers for tests of kernels: run a body for every ISA that this CPU has and for several thread counts, and
// reproducible random values.
#pragma once
#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "native/core/isa.h"
#include "native/core/random.h"
#include "native/core/thread_pool.h"

namespace check {

// Calls body(isa) with each usable variant in force; the ISA before is restored.
inline void each_isa(const std::function<void(personascope::Isa)>& body) {
  const personascope::Isa before = personascope::active_isa();
  for (personascope::Isa isa : personascope::kAllIsas) {
    if (!personascope::cpu_has(isa)) {
      std::printf("  this CPU has no %s: not tested\n", personascope::isa_name(isa));
      continue;
    }
    personascope::set_isa(isa);
    body(isa);
  }
  personascope::set_isa(before);
}

// Runs body() with 1, 2, 3 and 5 threads; it returns all of its output, which must be the same bits each
// time. Gives back the output.
inline std::vector<float> each_thread_count(const std::function<std::vector<float>()>& body, bool& same) {
  const int before = personascope::thread_count();
  std::vector<float> first;
  same = true;
  for (int threads : {1, 2, 3, 5}) {
    personascope::set_thread_count(threads);
    const std::vector<float> found = body();
    if (threads == 1)
      first = found;
    else if (found.size() != first.size() ||
             (!found.empty() && std::memcmp(found.data(), first.data(), found.size() * sizeof(float)) != 0))
      same = false;
  }
  personascope::set_thread_count(before);
  return first;
}

// Standard normal values times `scale`.
inline std::vector<float> normal(std::size_t count, std::uint64_t seed, double scale = 1) {
  const personascope::Philox random(seed, 0x7e57);
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>(scale * random.gaussian(i));
  return values;
}

}  // namespace check
