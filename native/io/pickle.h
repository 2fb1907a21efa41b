// Reads Python pickles (PEP 3154; the opcodes that torch.save writes, protocols 2 to 5) as inert data.
// Nothing is imported, constructed or called: a global is only its name, a call only the name and its
// arguments, and both are refused unless the caller allows the name. Memo, stack and values are bounded by
// the size of the input; nothing recurses.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace personascope {

struct PickleValue {
  // call: text is the name, items the arguments. persistent: items[0] is the identifier. dict: items are key,
  // value, key, value, ... big: an integer beyond 64 bits.
  enum class Kind { none, boolean, integer, big, real, text, list, tuple, dict, global, call, persistent };
  Kind kind = Kind::none;
  std::int64_t integer = 0;  // booleans too
  double real = 0;
  std::string text;  // of a global or call: "module.name"
  std::vector<std::uint32_t> items;
};

// Values refer to each other by index; containers may be shared and may even contain themselves.
struct Pickle {
  std::vector<PickleValue> values;
  std::uint32_t root = 0;
  const PickleValue& operator[](std::uint32_t index) const { return values[index]; }
};

// `allowed(name)` says whether the global "module.name" may stand in the pickle. collections.OrderedDict,
// called without arguments, makes a dict. `where` begins messages. Throws format. Safe for arbitrary input.
Pickle parse_pickle(const std::uint8_t* bytes, std::size_t size, const std::string& where,
                    const std::function<bool(const std::string&)>& allowed);

}  // namespace personascope
