#include "native/core/isa.h"

#include <cpuid.h>

#include <atomic>
#include <cstdlib>
#include <fstream>

namespace personascope {

namespace {

// clang's __builtin_cpu_supports does not know F16C: CPUID leaf 1, ECX bit 29.
bool has_f16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

Isa initial_isa() {
  if (const char* wanted = std::getenv("PERSONASCOPE_ISA"); wanted && *wanted) {
    const Isa isa = parse_isa(wanted);
    require(cpu_has(isa), ErrorCode::invalid_argument,
            std::string("PERSONASCOPE_ISA=") + wanted + ": this CPU does not have it");
    return isa;
  }
  return cpu_has(Isa::avx512) ? Isa::avx512 : cpu_has(Isa::avx2) ? Isa::avx2 : Isa::reference;
}

std::atomic<int>& current() {
  static std::atomic<int> isa{static_cast<int>(initial_isa())};
  return isa;
}

}  // namespace

const char* isa_name(Isa isa) {
  return isa == Isa::avx512 ? "avx512" : isa == Isa::avx2 ? "avx2" : "reference";
}

Isa parse_isa(const std::string& name) {
  for (Isa isa : kAllIsas)
    if (name == isa_name(isa)) return isa;
  fail(ErrorCode::invalid_argument, "unknown ISA '" + name + "', expected reference, avx2 or avx512");
}

bool cpu_has(Isa isa) {
  switch (isa) {
    case Isa::reference:
      return true;
    case Isa::avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    case Isa::avx512:
      return cpu_has(Isa::avx2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  }
  return false;
}

Isa active_isa() {
  return static_cast<Isa>(current().load(std::memory_order_relaxed));
}

void set_isa(Isa isa) {
  require(cpu_has(isa), ErrorCode::invalid_argument, std::string("this CPU does not have ") + isa_name(isa));
  current().store(static_cast<int>(isa), std::memory_order_relaxed);
}

std::string cpu_features() {
  std::string names;
  const auto add = [&](bool has, const char* name) {
    if (has) names += (names.empty() ? "" : " ") + std::string(name);
  };
  add(__builtin_cpu_supports("avx2"), "avx2");
  add(__builtin_cpu_supports("fma"), "fma");
  add(has_f16c(), "f16c");
  add(__builtin_cpu_supports("avx512f"), "avx512f");
  add(__builtin_cpu_supports("avx512bw"), "avx512bw");
  add(__builtin_cpu_supports("avx512vl"), "avx512vl");
  add(__builtin_cpu_supports("avx512dq"), "avx512dq");
  add(__builtin_cpu_supports("avx512vnni"), "avx512_vnni");
  add(__builtin_cpu_supports("avx512bf16"), "avx512_bf16");
  return names;
}

std::string cpu_model() {
  static const std::string model = [] {
    std::ifstream info("/proc/cpuinfo");
    for (std::string line; std::getline(info, line);) {
      if (line.rfind("model name", 0) != 0) continue;
      const auto colon = line.find(": ");
      if (colon != std::string::npos) return line.substr(colon + 2);
    }
    return std::string("unknown");
  }();
  return model;
}

}  // namespace personascope
