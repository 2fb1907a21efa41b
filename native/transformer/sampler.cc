#include "native/transformer/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "native/core/random.h"
#include "native/core/thread_pool.h"
#include "native/kernels/attention/attention.h"
#include "native/kernels/embedding/embedding.h"
#include "native/transformer/head.h"
#include "native/transformer/pass.h"

namespace personascope {

namespace {

// Decodes rows [first, last) of a request together: prompts once each, then a token a step for the rows left.
class Decoder {
 public:
  Decoder(const Transformer& model, const SampleRequest& request, SampleResult& result, Workspace& workspace)
      : model_(model), request_(request), result_(result), workspace_(workspace) {}

  void run(std::size_t first, std::size_t last) {
    const std::size_t vocabulary = model_.config.vocabulary;
    prefill(first, last);
    while (!active_.empty()) {
      if (request_.tick) request_.tick(0);
      choose(vocabulary);
      if (active_.empty()) break;
      decode();
    }
    if (request_.tick) request_.tick(last - first);
  }

 private:
  struct Active {
    std::size_t row, slot, length;  // length: tokens in the cache
    std::int32_t token;             // to be fed next
  };

  // Of each layer first the keys of all slots, in panels of 16 and so in the order in which attention reads
  // them (attention.h, k_panels), then the values, row by row.
  std::size_t head_floats() const { return (capacity_ + 15) / 16 * 16 * model_.config.head_dim; }
  std::size_t key_floats() const { return head_floats() * model_.config.kv_heads; }
  std::size_t value_floats() const { return capacity_ * model_.config.kv_width(); }
  std::size_t layer_floats() const { return slots_ * (key_floats() + value_floats()); }
  float* keys(std::size_t layer) { return workspace_.cache.data() + layer * layer_floats(); }
  float* values(std::size_t layer) { return keys(layer) + slots_ * key_floats(); }

  // Puts a token's keys, and its values that lie behind them, into the cache.
  void store(std::size_t layer, std::size_t slot, std::size_t t, const float* from) {
    const std::size_t d = model_.config.head_dim, width = model_.config.kv_width();
    for (std::size_t h = 0; h < model_.config.kv_heads; ++h) {
      float* key = keys(layer) + slot * key_floats() + h * head_floats() + panel_key_offset(d, t);
      for (std::size_t i = 0; i < d; ++i) key[16 * i] = from[h * d + i];
    }
    std::memcpy(values(layer) + slot * value_floats() + t * width, from + width, width * sizeof(float));
  }

  // Runs each prompt of the rows once and gives every row a copy of its keys and values, and its logits.
  void prefill(std::size_t first, std::size_t last) {
    const auto& config = model_.config;
    const std::size_t q = config.query_width(), wide = config.qkv_width();
    // Prompts of these rows, in order of first use.
    std::vector<std::uint32_t> prompts;
    std::vector<std::size_t> place(request_.prompts.sequences, kNone);
    std::size_t longest = 0;
    for (std::size_t r = first; r < last; ++r) {
      const std::uint32_t prompt = request_.row_prompt[r];
      if (place[prompt] != kNone) continue;
      place[prompt] = prompts.size();
      prompts.push_back(prompt);
      longest = std::max(longest, request_.prompts.length(prompt));
    }
    capacity_ = std::min(config.positions, longest + request_.max_new_tokens);
    slots_ = last - first;
    workspace_.cache.need(config.layers * layer_floats());
    workspace_.row_logits.need(slots_ * config.vocabulary);
    // The prompts as a batch of their own; per-sequence vectors are found by the prompt's index.
    std::vector<std::int32_t> tokens;
    std::vector<std::uint32_t> offsets = {0};
    for (std::uint32_t prompt : prompts) {
      const std::int32_t* begin = request_.prompts.tokens + request_.prompts.offsets[prompt];
      tokens.insert(tokens.end(), begin, begin + request_.prompts.length(prompt));
      offsets.push_back(static_cast<std::uint32_t>(tokens.size()));
    }
    Batch batch;
    batch.tokens = tokens.data();
    batch.offsets = offsets.data();
    batch.sequences = prompts.size();
    auto interventions = request_.interventions;
    std::vector<std::vector<float>> owned;
    for (auto& change : interventions) {
      if (change.per_sequence) {
        auto& vectors = owned.emplace_back();
        for (std::uint32_t prompt : prompts) {
          const float* v = change.vectors + prompt * config.width;
          vectors.insert(vectors.end(), v, v + config.width);
        }
        change.vectors = vectors.data();
      }
      if (change.amounts) {  // one a vector
        auto& amounts = owned.emplace_back();
        for (std::uint32_t prompt : prompts) amounts.push_back(change.amounts[prompt]);
        change.amounts = amounts.data();
      }
    }
    std::vector<std::vector<std::size_t>> users(prompts.size());
    for (std::size_t r = first; r < last; ++r) users[place[request_.row_prompt[r]]].push_back(r - first);
    Pass pass(model_, workspace_, batch, 0, prompts.size(), interventions, nullptr, false);
    pass.on_block = [&](std::size_t layer, const BlockState& state) {
      for (std::size_t p = 0; p < prompts.size(); ++p) {
        for (std::size_t t = 0; t < batch.length(p); ++t) {
          const float* from = state.qkv + (batch.offsets[p] + t) * wide + q;
          for (std::size_t slot : users[p]) store(layer, slot, t, from);
        }
      }
    };
    const float* x = pass.forward(2 * config.layers);
    std::uint32_t* selected = workspace_.selected.need(prompts.size());
    for (std::size_t p = 0; p < prompts.size(); ++p) selected[p] = offsets[p + 1] - 1;
    final_norm(model_, workspace_, x, selected, prompts.size());
    float* prompt_logits = workspace_.logits.need(prompts.size() * config.vocabulary);
    unembed(model_, workspace_.normed.data(), prompts.size(), prompt_logits);
    active_.clear();
    for (std::size_t r = first; r < last; ++r) {
      const std::size_t p = place[request_.row_prompt[r]], slot = r - first;
      std::memcpy(workspace_.row_logits.data() + slot * config.vocabulary,
                  prompt_logits + p * config.vocabulary, config.vocabulary * sizeof(float));
      active_.push_back({r, slot, batch.length(p), 0});
    }
  }

  // Draws a token for every active row; rows that end leave.
  void choose(std::size_t vocabulary) {
    std::size_t kept = 0;
    for (std::size_t i = 0; i < active_.size(); ++i) {
      Active row = active_[i];
      std::uint32_t& length = result_.lengths[row.row];
      if (length == request_.max_new_tokens) continue;
      const Philox random(request_.seed, request_.row_stream[row.row]);
      const Drawn drawn =
          draw(workspace_.row_logits.data() + i * vocabulary, vocabulary, request_.temperature,
               request_.top_p, request_.top_k, random.uniform(length), order_, weights_);
      const std::size_t at = row.row * result_.stride + length;
      result_.tokens[at] = drawn.token;
      result_.log_probs[at] = drawn.log_prob;
      if (std::find(request_.stop.begin(), request_.stop.end(), drawn.token) != request_.stop.end()) {
        result_.stopped[row.row] = 1;
        continue;
      }
      ++length;
      if (length == request_.max_new_tokens || row.length == capacity_) continue;
      row.token = drawn.token;
      active_[kept++] = row;
    }
    active_.resize(kept);
  }

  // One token more for every active row: its keys and values join the cache, its logits come out.
  void decode() {
    const auto& config = model_.config;
    const std::size_t n = active_.size(), d = config.width, q = config.query_width(),
                      wide = config.qkv_width();
    reserve_states(model_, workspace_, 1, n, false);
    BlockState& state = workspace_.states[0];
    tokens_.resize(n);
    positions_.resize(n);
    lengths_.resize(n);
    slots_of_.resize(n);
    sequence_.resize(n);
    in_prompt_.assign(n, 0);
    for (std::size_t i = 0; i < n; ++i) {
      tokens_[i] = active_[i].token;
      positions_[i] = static_cast<std::int32_t>(active_[i].length);
      lengths_[i] = static_cast<std::int32_t>(active_[i].length + 1);
      slots_of_[i] = static_cast<std::int32_t>(active_[i].slot);
      sequence_[i] = request_.row_prompt[active_[i].row];
      ++active_[i].length;
    }
    RowMap map;
    map.rows = n;
    map.sequence = sequence_.data();
    map.sequences = request_.prompts.sequences;
    map.position = positions_.data();
    map.in_prompt = in_prompt_.data();
    float* x = state.input;
    EmbeddingArgs embedding;
    embedding.tokens = n;
    embedding.width = d;
    embedding.ids = tokens_.data();
    embedding.table = model_.parameter(model_.layout.token_embedding);
    embedding.vocabulary = config.vocabulary;
    if (config.family == Family::gpt2) {
      embedding.positions = positions_.data();
      embedding.position_table = model_.parameter(model_.layout.position_embedding);
      embedding.max_positions = config.positions;
    }
    embedding.y = x;
    embedding_forward(embedding);
    intervene(request_.interventions, {HookPoint::pre, 0}, map, d, x);
    for (std::size_t l = 0; l < config.layers; ++l) {
      project_qkv(model_, l, state, n, x, positions_.data());
      for (std::size_t i = 0; i < n; ++i)
        store(l, active_[i].slot, static_cast<std::size_t>(positions_[i]), state.qkv + i * wide + q);
      AttentionArgs args;
      args.shape.batch = n;
      args.shape.heads = config.heads;
      args.shape.kv_heads = config.kv_heads;
      args.shape.head_dim = config.head_dim;
      args.shape.q_len = 1;
      args.shape.k_len = capacity_;
      args.shape.k_lengths = lengths_.data();
      args.shape.q_offsets = positions_.data();
      args.shape.kv_rows = slots_of_.data();
      args.shape.scale = 1.0f / std::sqrt(static_cast<float>(config.head_dim));
      args.q = state.qkv;
      args.q_strides = {wide, wide, config.head_dim};
      args.k = keys(l);
      args.k_panels = true;
      args.k_strides = {key_floats(), 0, head_floats()};
      args.v = values(l);
      args.v_strides = {value_floats(), config.kv_width(), config.head_dim};
      args.out = state.attended;
      args.out_strides = {q, q, config.head_dim};
      attention_forward(args);
      project_out(model_, l, state, n, x);
      intervene(request_.interventions, {HookPoint::mid, l}, map, d, x);
      feed_forward(model_, l, state, n, x, x);
      intervene(request_.interventions, {HookPoint::post, l}, map, d, x);
      if (l + 1 < config.layers) intervene(request_.interventions, {HookPoint::pre, l + 1}, map, d, x);
    }
    std::uint32_t* selected = workspace_.selected.need(n);
    for (std::size_t i = 0; i < n; ++i) selected[i] = static_cast<std::uint32_t>(i);
    final_norm(model_, workspace_, x, selected, n);
    unembed(model_, workspace_.normed.data(), n, workspace_.row_logits.data());
  }

  const Transformer& model_;
  const SampleRequest& request_;
  SampleResult& result_;
  Workspace& workspace_;
  std::size_t slots_ = 0, capacity_ = 0;
  std::vector<Active> active_;
  std::vector<std::int32_t> tokens_, positions_, lengths_, slots_of_;
  std::vector<std::uint32_t> sequence_, order_;
  std::vector<std::uint8_t> in_prompt_;
  std::vector<float> weights_;
};

}  // namespace

SampleResult sample(const Transformer& model, const SampleRequest& request) {
  std::shared_lock guard(model.lock);
  check_batch(request.prompts, model.config);
  check_interventions(request.interventions, model.config, request.prompts.sequences);
  for (const auto& change : request.interventions)
    require(change.tokens != SteeredTokens::masked, ErrorCode::invalid_argument,
            "sampling takes no interventions with masks");
  require(std::isfinite(request.temperature) && request.temperature >= 0, ErrorCode::invalid_argument,
          "temperature is " + std::to_string(request.temperature) + ", expected at least 0");
  require(request.top_p > 0 && request.top_p <= 1, ErrorCode::invalid_argument,
          "topP is " + std::to_string(request.top_p) + ", expected more than 0 and at most 1");
  require(request.batch_rows > 0, ErrorCode::invalid_argument, "batch size: expected at least 1");
  for (std::int32_t token : request.stop)
    require(token >= 0 && static_cast<std::size_t>(token) < model.config.vocabulary,
            ErrorCode::invalid_argument,
            "stop token " + std::to_string(token) + ", the vocabulary has " +
                std::to_string(model.config.vocabulary));
  for (std::size_t r = 0; r < request.rows; ++r)
    require(request.row_prompt[r] < request.prompts.sequences, ErrorCode::invalid_argument,
            "row " + std::to_string(r) + " wants prompt " + std::to_string(request.row_prompt[r]) + " of " +
                std::to_string(request.prompts.sequences));
  model.prepare(false);
  SampleResult result;
  std::size_t shortest = model.config.positions;
  for (std::size_t p = 0; p < request.prompts.sequences; ++p)
    shortest = std::min(shortest, request.prompts.length(p));
  // An answer is at most as long as the positions left, and one token that is drawn but never fed back.
  result.stride = std::min(request.max_new_tokens, model.config.positions - shortest + 1) + 1;
  result.tokens.assign(request.rows * result.stride, 0);
  result.log_probs.assign(request.rows * result.stride, 0.0f);
  result.lengths.assign(request.rows, 0);
  result.stopped.assign(request.rows, 0);
  if (request.max_new_tokens == 0 || request.rows == 0) return result;
  // Side by side, each thread decodes its share of a batch, if that fills the matrix kernels. No answer
  // depends on it.
  std::size_t together = std::min(request.batch_rows, request.rows);
  if (model.small()) {
    const auto threads = static_cast<std::size_t>(thread_count());
    together = std::min(together, std::max<std::size_t>(16, (together + threads - 1) / threads));
  }
  const std::size_t groups = (request.rows + together - 1) / together;
  const auto run = [&](std::size_t begin, std::size_t end) {
    for (std::size_t group = begin; group < end; ++group) {
      Transformer::Lease workspace(model);
      Decoder decoder(model, request, result, *workspace);
      decoder.run(group * together, std::min(request.rows, (group + 1) * together));
    }
  };
  if (model.small() && groups > 1)
    parallel_for(groups, 1, run);
  else
    run(0, groups);
  return result;
}

}  // namespace personascope
