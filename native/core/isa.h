// Instruction sets a kernel may be written for, and the one in force.
//
// Every kernel has a row `Variants<Fn>` with one entry an ISA. The plain reference is always there. The ISA
// in force is the best that the CPU has, unless PERSONASCOPE_ISA=reference|avx2|avx512 or set_isa() says
// otherwise; asking for one that the CPU lacks is an error, never a crash.
#pragma once
#include <array>
#include <string>

#include "native/core/error.h"

namespace personascope {

enum class Isa : int { reference = 0, avx2 = 1, avx512 = 2 };
constexpr std::array<Isa, 3> kAllIsas = {Isa::reference, Isa::avx2, Isa::avx512};

const char* isa_name(Isa isa);
Isa parse_isa(const std::string& name);  // throws invalid_argument
bool cpu_has(Isa isa);                   // avx2 means AVX2+FMA+F16C; avx512 means F+BW+VL+DQ
Isa active_isa();
void set_isa(Isa isa);  // for tests and the API's override; throws if the CPU lacks it

// CPU features worth telling a user, e.g. "avx512f avx512_vnni".
std::string cpu_features();
std::string cpu_model();

template <class Fn>
struct Variants {
  Fn reference;
  Fn avx2;
  Fn avx512;
  Fn at(Isa isa) const { return isa == Isa::avx512 ? avx512 : isa == Isa::avx2 ? avx2 : reference; }
  Fn active() const { return at(active_isa()); }
};

}  // namespace personascope
