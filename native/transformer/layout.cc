#include "native/transformer/layout.h"

#include <utility>

namespace personascope {

namespace {
constexpr std::size_t kAlignment = 16;  // floats: a cache line
}

std::size_t ParameterLayout::add(const std::string& name, std::vector<std::size_t> shape, ParameterRole role,
                                 std::size_t height) {
  ParameterInfo info;
  info.name = name;
  info.size = 1;
  for (std::size_t extent : shape) info.size *= extent;
  info.shape = std::move(shape);
  info.offset = total;
  info.role = role;
  info.height = height;
  total += (info.size + kAlignment - 1) / kAlignment * kAlignment;
  count += info.size;
  by_name_.emplace(name, parameters.size());
  parameters.push_back(std::move(info));
  return parameters.size() - 1;
}

Linear ParameterLayout::linear(const std::string& name, std::size_t in, std::size_t out, bool in_out,
                               bool bias, std::size_t height, std::size_t column) {
  Linear made;
  made.in = in;
  made.out = out;
  made.in_out = in_out;
  made.column = column;
  made.index = linear_count_++;
  made.weight = in_out ? add(name + ".weight", {in, out}, ParameterRole::matrix, height)
                       : add(name + ".weight", {out, in}, ParameterRole::matrix, height);
  if (bias) made.bias = add(name + ".bias", {out}, ParameterRole::bias, height);
  return made;
}

ParameterLayout::ParameterLayout(const TransformerConfig& config) {
  const std::size_t d = config.width, ff = config.hidden, q = config.query_width(), kv = config.kv_width();
  const bool gpt2 = config.family == Family::gpt2;
  token_embedding = add(gpt2 ? "transformer.wte.weight" : "model.embed_tokens.weight", {config.vocabulary, d},
                        ParameterRole::embedding, 0);
  if (gpt2)
    position_embedding = add("transformer.wpe.weight", {config.positions, d}, ParameterRole::embedding, 0);
  for (std::size_t l = 0; l < config.layers; ++l) {
    BlockLayout block;
    const std::size_t attention = 2 * l + 1, feed_forward = 2 * l + 2;
    if (gpt2) {
      const std::string base = "transformer.h." + std::to_string(l) + ".";
      block.norm1 = add(base + "ln_1.weight", {d}, ParameterRole::norm, attention);
      block.norm1_bias = add(base + "ln_1.bias", {d}, ParameterRole::norm, attention);
      block.qkv = {linear(base + "attn.c_attn", d, 3 * d, true, config.qkv_bias, attention)};
      block.out = linear(base + "attn.c_proj", d, d, true, config.out_bias, attention);
      block.norm2 = add(base + "ln_2.weight", {d}, ParameterRole::norm, feed_forward);
      block.norm2_bias = add(base + "ln_2.bias", {d}, ParameterRole::norm, feed_forward);
      block.up = {linear(base + "mlp.c_fc", d, ff, true, config.mlp_bias, feed_forward)};
      block.down = linear(base + "mlp.c_proj", ff, d, true, config.mlp_bias, feed_forward);
    } else {
      const std::string base = "model.layers." + std::to_string(l) + ".";
      block.norm1 = add(base + "input_layernorm.weight", {d}, ParameterRole::norm, attention);
      block.qkv.push_back(linear(base + "self_attn.q_proj", d, q, false, config.qkv_bias, attention, 0));
      block.qkv.push_back(linear(base + "self_attn.k_proj", d, kv, false, config.qkv_bias, attention, q));
      block.qkv.push_back(
          linear(base + "self_attn.v_proj", d, kv, false, config.qkv_bias, attention, q + kv));
      block.out = linear(base + "self_attn.o_proj", q, d, false, config.out_bias, attention);
      block.norm2 = add(base + "post_attention_layernorm.weight", {d}, ParameterRole::norm, feed_forward);
      block.up.push_back(linear(base + "mlp.gate_proj", d, ff, false, config.mlp_bias, feed_forward, 0));
      block.up.push_back(linear(base + "mlp.up_proj", d, ff, false, config.mlp_bias, feed_forward, ff));
      block.down = linear(base + "mlp.down_proj", ff, d, false, config.mlp_bias, feed_forward);
    }
    blocks.push_back(std::move(block));
  }
  const std::size_t top = 2 * config.layers + 1;
  final_norm = add(gpt2 ? "transformer.ln_f.weight" : "model.norm.weight", {d}, ParameterRole::norm, top);
  if (gpt2) final_norm_bias = add("transformer.ln_f.bias", {d}, ParameterRole::norm, top);
  unembedding = config.tied ? token_embedding
                            : add("lm_head.weight", {config.vocabulary, d}, ParameterRole::embedding, top);
}

std::vector<const Linear*> ParameterLayout::linears() const {
  std::vector<const Linear*> all(linear_count_);
  const auto note = [&](const Linear& linear) { all[linear.index] = &linear; };
  for (const auto& block : blocks) {
    for (const auto& linear : block.qkv) note(linear);
    note(block.out);
    for (const auto& linear : block.up) note(linear);
    note(block.down);
  }
  return all;
}

std::size_t ParameterLayout::find(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? kNone : found->second;
}

bool matches(const std::string& name, const std::string& pattern) {
  if (pattern.find('*') == std::string::npos) {
    return !pattern.empty() && ("." + name + ".").find("." + pattern + ".") != std::string::npos;
  }
  // Greedy matching with one point to fall back to: linear in practice, no recursion.
  std::size_t n = 0, p = 0, star = kNone, resume = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = n;
    } else if (p < pattern.size() && pattern[p] == name[n]) {
      ++n, ++p;
    } else if (star != kNone) {
      p = star + 1;
      n = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace personascope
