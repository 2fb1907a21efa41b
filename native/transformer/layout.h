// Where each parameter lies in the one arena of fp32 values, under the name and in the orientation that
// Hugging Face's checkpoints use, and how the model's linear maps find theirs.
#pragma once
#include <cstddef>
#include <string>
#include <unordered_map>
#include <vector>

#include "native/transformer/config.h"

namespace personascope {

constexpr std::size_t kNone = static_cast<std::size_t>(-1);

enum class ParameterRole : int { matrix, bias, norm, embedding };

struct ParameterInfo {
  std::string name;
  std::vector<std::size_t> shape;
  std::size_t offset = 0, size = 0;  // floats of the arena
  ParameterRole role = ParameterRole::matrix;
  // Height in the network at which its gradient is known: 0 for embeddings, 2l+1 for the attention of layer l
  // with the norm before it, 2l+2 for its feed-forward block, 2 layers + 1 for the final norm and
  // unembedding.
  std::size_t height = 0;
};

// y [rows, out] = x [rows, in] W (+ bias).
struct Linear {
  std::size_t weight = kNone, bias = kNone;  // indices of parameters
  std::size_t in = 0, out = 0;
  bool in_out = false;  // the matrix is stored [in, out] (GPT-2's Conv1D), else [out, in]
  std::size_t column =
      0;                  // first column in the buffer that it shares with its neighbours (q, k, v; gate, up)
  std::size_t index = 0;  // among all linear maps of the model
};

struct BlockLayout {
  std::size_t norm1 = kNone, norm1_bias = kNone, norm2 = kNone, norm2_bias = kNone;
  std::vector<Linear> qkv;  // one fused map (GPT-2) or three
  Linear out;
  std::vector<Linear> up;  // the first map of the feed-forward block: one, or gate and up
  Linear down;
};

class ParameterLayout {
 public:
  explicit ParameterLayout(const TransformerConfig& config);

  std::size_t total = 0;  // floats of the arena, gaps included
  std::size_t count = 0;  // parameters, gaps not included
  std::vector<ParameterInfo> parameters;
  std::size_t token_embedding = kNone, position_embedding = kNone;
  std::size_t unembedding = kNone;  // = token_embedding when tied
  std::size_t final_norm = kNone, final_norm_bias = kNone;
  std::vector<BlockLayout> blocks;
  std::vector<const Linear*> linears() const;

  std::size_t find(const std::string& name) const;  // kNone if there is none

 private:
  std::size_t add(const std::string& name, std::vector<std::size_t> shape, ParameterRole role,
                  std::size_t height);
  Linear linear(const std::string& name, std::size_t in, std::size_t out, bool in_out, bool bias,
                std::size_t height, std::size_t column = 0);
  std::size_t linear_count_ = 0;
  std::unordered_map<std::string, std::size_t> by_name_;
};

// Whether `name` matches `pattern`, in which * stands for any characters; a pattern without * matches names
// that contain it between dots or as a whole ('c_attn' matches 'h.0.attn.c_attn.weight').
bool matches(const std::string& name, const std::string& pattern);

}  // namespace personascope
