// Arbitrary bytes as a pickle: refused, or values that refer to each other, and no global that was not
// allowed.
#include "native/io/pickle.h"

#include <cstdlib>

#include "native/core/error.h"

using namespace personascope;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  try {
    const auto allowed = [](const std::string& name) { return name == "torch.Size"; };
    const Pickle pickle = parse_pickle(bytes, size, "fuzz", allowed);
    if (pickle.root >= pickle.values.size()) std::abort();
    for (const PickleValue& value : pickle.values) {
      for (const std::uint32_t item : value.items)
        if (item >= pickle.values.size()) std::abort();
      const bool named = value.kind == PickleValue::Kind::global || value.kind == PickleValue::Kind::call;
      if (named && value.text != "torch.Size" && value.text != "collections.OrderedDict") std::abort();
    }
  } catch (const Error& error) {
    if (error.code() != ErrorCode::format) std::abort();
  }
  return 0;
}
