#include "native/transformer/checkpoint.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <mutex>
#include <utility>

#include "native/core/thread_pool.h"
#include "native/io/safetensors.h"

namespace personascope {

namespace {

std::vector<std::uint64_t> wide(const std::vector<std::size_t>& shape) {
  return {shape.begin(), shape.end()};
}

void read_checked(const SafetensorsFile& file, const TensorInfo& tensor, float* out) {
  constexpr std::size_t kBlock = std::size_t{1} << 16;
  parallel_for(tensor.elements, kBlock, [&](std::size_t begin, std::size_t end) {
    file.read_f32(tensor, out + begin, begin, end - begin);
    for (std::size_t i = begin; i < end; ++i)
      require(std::isfinite(out[i]), ErrorCode::non_finite,
              file.path() + ": tensor '" + tensor.name + "', value " + std::to_string(i) + ", is not finite");
  });
}

void check_shape(const SafetensorsFile& file, const TensorInfo& tensor, const ParameterInfo& info) {
  require(tensor.shape == wide(info.shape), ErrorCode::format,
          file.path() + ": tensor '" + tensor.name + "' has shape " + shape_text(tensor.shape) +
              ", config.json asks for " + shape_text(wide(info.shape)));
}

// Buffers that transformers once saved with the weights and that hold no parameters.
bool is_buffer(const std::string& name) {
  return name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias") ||
         name.ends_with(".rotary_emb.inv_freq");
}

std::string prefix_of(const Transformer& model) {
  return model.config.family == Family::gpt2 ? "transformer." : "model.";
}

}  // namespace

void load_weights(Transformer& model, const std::vector<std::string>& files,
                  const std::function<void(std::size_t, std::size_t)>& progress) {
  std::unique_lock guard(model.lock);
  std::vector<std::string> found(model.layout.parameters.size());  // the file that held it
  const std::string prefix = prefix_of(model);
  std::size_t done = 0;
  for (const std::string& path : files) {
    const SafetensorsFile file(path);
    for (const TensorInfo& tensor : file.tensors()) {
      std::size_t index = model.layout.find(tensor.name);
      if (index == kNone) index = model.layout.find(prefix + tensor.name);
      if (index == kNone && is_buffer(tensor.name)) continue;
      if (index == kNone && model.config.tied && tensor.name == "lm_head.weight") {
        // A tied unembedding saved twice: it has to be the same matrix.
        index = model.layout.token_embedding;
        check_shape(file, tensor, model.layout.parameters[index]);
        const TensorInfo* embedding = file.find(model.layout.parameters[index].name);
        if (!embedding) embedding = file.find(model.layout.parameters[index].name.substr(prefix.size()));
        require(embedding && embedding->dtype == tensor.dtype &&
                    std::memcmp(file.bytes(*embedding), file.bytes(tensor), tensor.end - tensor.begin) == 0,
                ErrorCode::format,
                path +
                    ": 'lm_head.weight' differs from the token embedding, yet config.json says "
                    "tie_word_embeddings");
        continue;
      }
      require(index != kNone, ErrorCode::format,
              path + ": tensor '" + tensor.name + "' " + shape_text(tensor.shape) +
                  " has no place in the model that config.json describes");
      const ParameterInfo& info = model.layout.parameters[index];
      require(found[index].empty(), ErrorCode::format,
              path + ": tensor '" + tensor.name + "' was already in " + found[index]);
      check_shape(file, tensor, info);
      read_checked(file, tensor, model.parameter(index));
      found[index] = path;
      done += info.size;
      if (progress) progress(done, model.layout.count);
    }
  }
  for (std::size_t i = 0; i < found.size(); ++i)
    require(!found[i].empty(), ErrorCode::format,
            (files.empty() ? std::string("no file")
                           : files.front() + (files.size() > 1 ? " and its shards" : "")) +
                ": tensor '" + model.layout.parameters[i].name + "' " +
                shape_text(wide(model.layout.parameters[i].shape)) + " is missing");
  model.changed();
}

void load_adapters(Transformer& model, const std::string& path) {
  std::unique_lock guard(model.lock);
  AdapterSet& set = model.adapters;
  const SafetensorsFile file(path);
  std::vector<bool> found(set.parameters.size(), false);
  for (const TensorInfo& tensor : file.tensors()) {
    const auto place = std::find_if(set.parameters.begin(), set.parameters.end(),
                                    [&](const ParameterInfo& info) { return info.name == tensor.name; });
    require(place != set.parameters.end(), ErrorCode::format,
            path + ": tensor '" + tensor.name +
                "' has no place among the adapters that adapter_config.json describes");
    check_shape(file, tensor, *place);
    read_checked(file, tensor, set.values.data() + place->offset);
    found[static_cast<std::size_t>(place - set.parameters.begin())] = true;
  }
  for (std::size_t i = 0; i < found.size(); ++i)
    require(found[i], ErrorCode::format, path + ": tensor '" + set.parameters[i].name + "' is missing");
}

}  // namespace personascope
