#include "native/transformer/trainable.h"

#include <algorithm>

namespace personascope {

TrainableSet choose_trainable(const Transformer& model, const std::vector<std::string>& patterns) {
  TrainableSet set;
  std::vector<bool> used(patterns.size(), false);
  const auto choose = [&](const std::vector<ParameterInfo>& parameters, bool by_default,
                          std::vector<std::size_t>& offsets) {
    offsets.assign(parameters.size(), kNone);
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      bool wanted = by_default;
      for (std::size_t p = 0; p < patterns.size(); ++p)
        if (matches(parameters[i].name, patterns[p])) wanted = used[p] = true;
      if (!wanted) continue;
      offsets[i] = set.total;
      set.total += (parameters[i].size + 15) / 16 * 16;
      set.count += parameters[i].size;
      set.lowest = std::min(set.lowest, parameters[i].height);
    }
  };
  choose(model.layout.parameters, patterns.empty() && model.adapters.empty(), set.offset);
  choose(model.adapters.parameters, true, set.adapter_offset);
  for (std::size_t p = 0; p < patterns.size(); ++p)
    require(used[p], ErrorCode::invalid_argument,
            "trainable: '" + patterns[p] + "' matches no parameter, expected a name such as '" +
                model.layout.parameters[model.layout.blocks[0].out.weight].name +
                "' or a pattern such as '*.norm*'");
  return set;
}

}  // namespace personascope
