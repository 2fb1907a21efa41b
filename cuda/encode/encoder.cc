#include "cuda/encode/encoder.h"

#include <algorithm>
#include <string>

namespace personascope {

using namespace cuda;

namespace {

// Tokens from which on Hopper's large tiles are worth it.
constexpr std::uint32_t kWideTokens = 128;
constexpr std::uint64_t kWorkspace = std::uint64_t{384} << 20;
constexpr std::uint32_t kLeastCapacity = 2048, kMostCapacity = 8192;
constexpr std::uint64_t kMostCodes = std::uint64_t{1} << 20;
// Before the last waves the k likeliest are rescored, so that the long ones run against exact thresholds. It
// costs k rows a token each time.
constexpr std::uint64_t kSharpenShare = 64;  // from 1/64 of the latents on

std::uint32_t power_of_two(std::uint64_t least) {
  std::uint32_t value = 1;
  while (value < least) value *= 2;
  return value;
}

void check(const DeviceCheck& check) {
  if (check.call && check.call(check.context) != 0) fail(ErrorCode::aborted, "encoding was aborted");
}

}  // namespace

DeviceEncoder::DeviceEncoder(const DeviceEncoderArgs& args)
    : device_(args.device),
      workspace_bytes_(args.workspace_bytes ? args.workspace_bytes : kWorkspace),
      weights_(args) {
  hopper_ = runs_hopper_kernels(device_);
  apart_ = weights_.selection.scale && !weights_.selection.scaled_codes &&
           weights_.selection.rule != SelectionRule::gated;
  status_.reserve(1, "a status");
  status_here_.reserve(1, "a status");
  findings_.reserve(1, "findings");
}

DeviceEncoderInfo DeviceEncoder::info() const {
  DeviceEncoderInfo info = {};
  info.streamed = weights_.streamed() ? 1 : 0;
  info.weight_bytes = weights_.bytes();
  info.workspace_bytes = x_.bytes() + rows_.bytes() + upper_.bytes() + lower_.bytes() + value_.bytes() +
                         threshold_.bytes() + screen_rows_.bytes() + bounds_.bytes() + index_.bytes() +
                         count_.bytes() + kept_.bytes() + code_latents_.bytes() + code_values_.bytes() +
                         code_counts_.bytes() + keys_.bytes();
  return info;
}

Lists DeviceEncoder::lists() const {
  return {upper_.data(),     lower_.data(), apart_ ? value_.data() : upper_.data(),
          index_.data(),     count_.data(), kept_.data(),
          threshold_.data(), capacity_};
}

void DeviceEncoder::plan(const DeviceEncodeArgs& args) {
  const Selection& selection = weights_.selection;
  if (selection.bounded()) {
    require(args.k >= 1 && args.k <= std::min(weights_.latents, kMostCodes), ErrorCode::invalid_argument,
            "encode: k is " + std::to_string(args.k) + ", expected 1 to " +
                std::to_string(std::min(weights_.latents, kMostCodes)));
    require(selection.rule != SelectionRule::groupmax || weights_.latents % args.k == 0,
            ErrorCode::invalid_argument,
            "encode: " + std::to_string(weights_.latents) + " latents do not make " + std::to_string(args.k) +
                " equal groups");
  }
  require(args.stride >= weights_.width, ErrorCode::invalid_argument,
          "encode: rows of " + std::to_string(args.stride) + " values, expected at least " +
              std::to_string(weights_.width));
  k_ = selection.rule == SelectionRule::topk       ? static_cast<std::uint32_t>(args.k)
       : selection.rule == SelectionRule::groupmax ? 1
                                                   : 0;
  // Lists hold at least four times what they keep; longer ones make for longer waves.
  const std::uint32_t least = power_of_two(std::max<std::uint64_t>(4ull * k_, 256));
  const std::uint32_t wanted = std::clamp(power_of_two(128ull * k_), kLeastCapacity, kMostCapacity);
  capacity_ = std::max(least, wanted);
  const std::uint64_t entry = apart_ ? 16 : 12;
  const std::uint64_t row = padded_width(weights_.width) * 4 + weights_.screen_stride;
  const auto token_bytes = [&] {
    return row + (args.place == Place::host ? weights_.width * 4 : 0) + capacity_ * entry +
           (k_ ? args.k : capacity_) * 24;
  };
  const std::uint64_t tokens = std::max<std::uint64_t>(args.tokens, 1);
  while (capacity_ > least && token_bytes() * std::min<std::uint64_t>(tokens, 1024) > workspace_bytes_)
    capacity_ /= 2;
  const std::uint64_t fit = std::max<std::uint64_t>(1, workspace_bytes_ / token_bytes());
  // Batches of about equal size: a small last one would read all weights for little.
  const std::uint64_t most =
      std::min<std::uint64_t>(fit >= kTokenUnit ? fit / kTokenUnit * kTokenUnit : fit, 16384);
  const std::uint64_t batches = (tokens + most - 1) / most;
  batch_ =
      static_cast<std::uint32_t>(std::min(most, padded_to((tokens + batches - 1) / batches, kTokenUnit)));
  batch_ = static_cast<std::uint32_t>(std::min<std::uint64_t>(batch_, tokens));
  pitch_ = k_ ? static_cast<std::uint32_t>(args.k) : capacity_;
}

void DeviceEncoder::reserve(std::uint32_t tokens) {
  const std::size_t padded = padded_to(tokens, kTokenUnit);
  const std::size_t entries = static_cast<std::size_t>(tokens) * capacity_;
  rows_.reserve(tokens * padded_width(weights_.width), "centred tokens");
  screen_rows_.reserve(padded * weights_.screen_stride, "rounded tokens");
  bounds_.reserve(padded, "tokens' bounds");
  threshold_.reserve(padded, "thresholds");
  count_.reserve(tokens, "candidate counts");
  kept_.reserve(tokens, "candidate counts");
  upper_.reserve(entries, "candidates");
  lower_.reserve(entries, "candidates");
  index_.reserve(entries, "candidates");
  if (apart_) value_.reserve(entries, "candidates");
  code_counts_.reserve(tokens, "code counts");
  code_latents_.reserve(static_cast<std::size_t>(tokens) * pitch_, "codes");
  code_values_.reserve(static_cast<std::size_t>(tokens) * pitch_, "codes");
}

void DeviceEncoder::load(const DeviceEncodeArgs& args, std::uint64_t first, std::uint32_t tokens) {
  const Findings none = {kNowhere, kNowhere, 0};
  check_cuda(cudaMemcpyAsync(findings_.data(), &none, sizeof none, cudaMemcpyHostToDevice, stream_),
             "findings");
  PrepareTokensArgs prepare = {};
  prepare.x = args.x + first * args.stride;
  prepare.stride = args.stride;
  if (args.place == Place::host) {
    x_.reserve(static_cast<std::size_t>(tokens) * weights_.width, "activations");
    check_cuda(cudaMemcpy2DAsync(x_.data(), weights_.width * 4, prepare.x, args.stride * 4,
                                 weights_.width * 4, tokens, cudaMemcpyHostToDevice, stream_),
               "copying activations");
    prepare.x = x_.data();
    prepare.stride = weights_.width;
  }
  prepare.width = weights_.width;
  prepare.tokens = tokens;
  prepare.padded = static_cast<std::uint32_t>(padded_to(tokens, kTokenUnit));
  prepare.centre = weights_.centre;
  prepare.mean = weights_.mean;
  prepare.precision = weights_.precision;
  prepare.largest_norm = weights_.largest_norm;
  prepare.largest_bias = weights_.largest_bias;
  prepare.rows = rows_.data();
  prepare.screen_rows = screen_rows_.data();
  prepare.bounds = bounds_.data();
  prepare.findings = findings_.data();
  prepare_tokens(prepare, stream_);
  check_finite(args, first);
}

void DeviceEncoder::check_finite(const DeviceEncodeArgs& args, std::uint64_t first) {
  Findings found;
  copy_bytes(&found, findings_.data(), sizeof found, stream_, "findings");
  if (found.non_finite != kNowhere)
    fail(ErrorCode::non_finite,
         "activations: NaN or infinity at token " +
             std::to_string(args.first_token + first + found.non_finite / weights_.width) + ", dimension " +
             std::to_string(found.non_finite % weights_.width));
  if (found.overflow != kNowhere)
    fail(ErrorCode::non_finite, "activations: token " +
                                    std::to_string(args.first_token + first + found.overflow) +
                                    " is so long that its products with encoder rows of length up to " +
                                    std::to_string(weights_.largest_norm) + " overflow fp32");
}

DeviceKernel DeviceEncoder::kernel_for(const DeviceEncodeArgs& args, std::uint32_t tokens) const {
  switch (args.kernel) {
    case DeviceKernel::automatic:
      break;
    case DeviceKernel::narrow:
      require(tokens <= kNarrowTokens, ErrorCode::invalid_argument,
              "encode: the narrow kernel takes at most " + std::to_string(kNarrowTokens) + " tokens, not " +
                  std::to_string(tokens));
      return DeviceKernel::narrow;
    case DeviceKernel::hopper:
    case DeviceKernel::hopper_pair:
      require(hopper_, ErrorCode::invalid_argument, "encode: this device has no Hopper kernels");
      return args.kernel;
    default:
      return DeviceKernel::portable;
  }
  if (tokens <= kNarrowTokens) return DeviceKernel::narrow;
  return hopper_ && tokens > kWideTokens ? DeviceKernel::hopper_pair : DeviceKernel::portable;
}

void DeviceEncoder::screen(const DeviceEncodeArgs& args, const WeightTile& tile, std::uint64_t begin,
                           std::uint64_t end, std::uint32_t tokens) {
  ScreenArgs screen = {};
  screen.precision = weights_.precision;
  screen.rows = tile.screen + (begin - tile.first) * weights_.screen_stride;
  screen.row_stride = weights_.screen_stride;
  screen.bounds = weights_.bounds;
  screen.first = static_cast<std::uint32_t>(begin);
  screen.count = static_cast<std::uint32_t>(end - begin);
  screen.token_rows = screen_rows_.data();
  screen.row_bytes = weights_.screen_stride;
  screen.tokens = tokens;
  screen.token_bounds = bounds_.data();
  screen.lists = lists();
  switch (const DeviceKernel kernel = kernel_for(args, tokens)) {
    case DeviceKernel::narrow:
      screen_narrow(screen, stream_);
      return;
    case DeviceKernel::hopper:
    case DeviceKernel::hopper_pair:
      if (map_of_ != tile.screen || map_of_tokens_ != screen_rows_.data() ||
          map_tokens_ != screen_rows_.size()) {
        // The map of tokens covers as many rows as the buffer has, of which the batch fills the first.
        maps_ = make_hopper_maps(tile.screen, tile.map_latents, screen_rows_.data(),
                                 static_cast<std::uint32_t>(screen_rows_.size() / weights_.screen_stride),
                                 weights_.screen_stride);
        map_of_ = tile.screen;
        map_of_tokens_ = screen_rows_.data();
        map_tokens_ = screen_rows_.size();
      }
      screen_hopper(screen, maps_, static_cast<std::uint32_t>(begin - tile.first),
                    kernel == DeviceKernel::hopper_pair, stream_);
      return;
    default:
      screen_portable(screen, stream_);
  }
}

Status DeviceEncoder::read_status() {
  check_cuda(
      cudaMemcpyAsync(status_here_.data(), status_.data(), sizeof(Status), cudaMemcpyDeviceToHost, stream_),
      "reading a status");
  stream_.wait();
  return *status_here_.data();
}

void DeviceEncoder::empty_into_store(std::uint32_t tokens, std::uint32_t most_codes) {
  if (most_codes > pitch_) {
    const std::uint32_t pitch = power_of_two(most_codes);
    Buffer<std::uint32_t> latents(static_cast<std::size_t>(tokens) * pitch, "codes");
    Buffer<float> values(static_cast<std::size_t>(tokens) * pitch, "codes");
    for (auto [to, from] : {std::pair<void*, const void*>{latents.data(), code_latents_.data()},
                            std::pair<void*, const void*>{values.data(), code_values_.data()}})
      check_cuda(cudaMemcpy2DAsync(to, pitch * 4ull, from, pitch_ * 4ull, pitch_ * 4ull, tokens,
                                   cudaMemcpyDeviceToDevice, stream_),
                 "moving codes");
    stream_.wait();
    code_latents_ = std::move(latents);
    code_values_ = std::move(values);
    pitch_ = pitch;
  }
  emit(lists(), {code_latents_.data(), code_values_.data(), code_counts_.data(), pitch_}, tokens, stream_);
}

void DeviceEncoder::run_segment(const DeviceEncodeArgs& args, std::uint64_t begin, std::uint64_t end,
                                std::uint32_t tokens, DeviceEncodeCount& count) {
  const std::uint64_t tile_latents = weights_.tile_latents();
  // A quantity of 0 is no code of topk; but a bound of 0 may stand for one of the other rules.
  const float threshold = weights_.selection.bounded() ? kLeastPositive : 0.0f;
  start_lists(lists(), tokens, static_cast<std::uint32_t>(padded_to(tokens, kTokenUnit)), threshold, stream_);
  WavePlan plan(begin, end, capacity_, tile_latents);
  while (!plan.done()) {
    check(args.check);
    const std::uint64_t from = plan.begin(), to = plan.end();
    const WeightTile& tile = weights_.tile_of(from, stream_);
    SettleArgs settling = {};
    settling.lists = lists();
    settling.tokens = tokens;
    settling.k = k_;
    settling.rows = tile.rows;
    settling.dtype = weights_.dtype;
    settling.row_stride = weights_.row_stride;
    settling.width = weights_.width;
    settling.first = static_cast<std::uint32_t>(tile.first);
    settling.token_rows = rows_.data();
    settling.bias = weights_.bias;
    settling.selection = weights_.selection;
    settling.code_counts = code_counts_.data();
    settling.status = status_.data();
    // Where rows go away with their tile, nothing stays open; and at the end nothing may.
    settling.mode = to == end || k_ == 0 || weights_.streamed()   ? SettleMode::resolve
                    : (to - begin) * kSharpenShare >= end - begin ? SettleMode::sharpen
                                                                  : SettleMode::trim;
    screen(args, tile, from, to, tokens);
    check_cuda(cudaMemsetAsync(status_.data(), 0, sizeof(Status), stream_), "clearing a status");
    inspect(settling, stream_);
    if (tile_latents) weights_.expect((from / tile_latents + 1) * tile_latents, stream_);
    ++count.waves;
    const Status seen = read_status();
    if (seen.overflowed) {
      give_back(settling, stream_);
      plan.overflowed();
      ++count.repeated;
      continue;
    }
    settle(settling, stream_);
    const Status after = read_status();
    count.screened += after.screened;
    count.rescored += after.rescored;
    if (k_ == 0 || to == end) empty_into_store(tokens, after.codes);
    plan.settled(seen.fresh, k_ == 0 ? 0 : after.held);
  }
}

void DeviceEncoder::run(const DeviceEncodeArgs& args, std::uint32_t tokens, DeviceEncodeCount& count) {
  check_cuda(cudaMemsetAsync(code_counts_.data(), 0, tokens * sizeof(std::uint32_t), stream_),
             "clearing code counts");
  if (weights_.selection.rule != SelectionRule::groupmax) {
    run_segment(args, 0, weights_.latents, tokens, count);
    return;
  }
  const std::uint64_t group = weights_.latents / args.k;
  for (std::uint64_t begin = 0; begin < weights_.latents; begin += group)
    run_segment(args, begin, begin + group, tokens, count);
}

std::unique_ptr<DeviceCodes> DeviceEncoder::encode(const DeviceEncodeArgs& args, DeviceEncodeCount& count) {
  plan(args);
  struct Piece {
    std::uint64_t first, pairs;
    std::uint32_t tokens;
    Buffer<std::uint64_t> offsets;
    Buffer<std::uint32_t> indices;
    Buffer<float> values;
  };
  std::vector<Piece> pieces;
  std::uint64_t pairs = 0;
  for (std::uint64_t first = 0; first < args.tokens; first += batch_) {
    const auto tokens = static_cast<std::uint32_t>(std::min<std::uint64_t>(batch_, args.tokens - first));
    reserve(std::min<std::uint64_t>(batch_, args.tokens));
    load(args, first, tokens);
    run(args, tokens, count);
    Piece piece = {first, 0, tokens, {}, {}, {}};
    piece.offsets.reserve(tokens + 1, "codes");
    make_offsets(code_counts_.data(), tokens, piece.offsets.data(), stream_);
    copy_bytes(&piece.pairs, piece.offsets.data() + tokens, sizeof piece.pairs, stream_, "codes");
    piece.indices.reserve(piece.pairs, "codes");
    piece.values.reserve(piece.pairs, "codes");
    const std::uint32_t key_pitch = power_of_two(pitch_);
    keys_.reserve(static_cast<std::size_t>(tokens) * key_pitch, "codes");
    pack_codes({code_latents_.data(), code_values_.data(), code_counts_.data(), pitch_}, tokens,
               piece.offsets.data(), keys_.data(), key_pitch, piece.indices.data(), piece.values.data(),
               stream_);
    stream_.wait();
    pairs += piece.pairs;
    pieces.push_back(std::move(piece));
  }
  auto codes = std::make_unique<DeviceCodes>();
  codes->device = device_;
  codes->tokens = args.tokens;
  codes->pairs = pairs;
  if (pieces.size() == 1) {
    codes->offsets = std::move(pieces[0].offsets);
    codes->indices = std::move(pieces[0].indices);
    codes->values = std::move(pieces[0].values);
    return codes;
  }
  codes->offsets.reserve(args.tokens + 1, "codes");
  codes->indices.reserve(pairs, "codes");
  codes->values.reserve(pairs, "codes");
  std::vector<std::uint64_t> offsets(1, 0), part;
  std::uint64_t at = 0;
  for (const Piece& piece : pieces) {
    copy_bytes(codes->indices.data() + at, piece.indices.data(), piece.pairs * 4, stream_, "codes");
    copy_bytes(codes->values.data() + at, piece.values.data(), piece.pairs * 4, stream_, "codes");
    part.resize(piece.tokens + 1);
    copy_bytes(part.data(), piece.offsets.data(), part.size() * 8, stream_, "codes");
    for (std::uint32_t t = 1; t <= piece.tokens; ++t) offsets.push_back(at + part[t]);
    at += piece.pairs;
  }
  copy_bytes(codes->offsets.data(), offsets.data(), offsets.size() * 8, stream_, "codes");
  return codes;
}

void DeviceEncoder::pre_activations(const DeviceEncodeArgs& args, const std::uint32_t* chosen,
                                    std::uint64_t count, float* out) {
  for (std::uint64_t i = 0; i < count; ++i)
    require(chosen[i] < weights_.latents, ErrorCode::invalid_argument,
            "latent " + std::to_string(chosen[i]) + ": the encoder has " + std::to_string(weights_.latents));
  require(!weights_.streamed(), ErrorCode::invalid_argument,
          "pre-activations on the device need resident weights; ask the host's encoder");
  if (count == 0 || args.tokens == 0) return;
  DeviceEncodeArgs given = args;
  given.k = 1;
  plan(given);
  reserve(batch_);
  Buffer<std::uint32_t> latents;
  upload(latents, chosen, count, stream_, "chosen latents");
  // Pieces of at most a million products.
  const auto step =
      static_cast<std::uint32_t>(std::clamp<std::uint64_t>((std::uint64_t{1} << 20) / count, 1, batch_));
  Buffer<float> results(step * count, "pre-activations");
  for (std::uint64_t first = 0; first < args.tokens; first += step) {
    const auto tokens = static_cast<std::uint32_t>(std::min<std::uint64_t>(step, args.tokens - first));
    load(args, first, tokens);
    products(
        {weights_.tile_of(0, stream_).rows, weights_.dtype, weights_.row_stride, weights_.width, rows_.data(),
         tokens, latents.data(), weights_.bias, static_cast<std::uint32_t>(count), results.data()},
        stream_);
    copy_bytes(out + first * count, results.data(), tokens * count * sizeof(float), stream_,
               "pre-activations");
  }
}

}  // namespace personascope
