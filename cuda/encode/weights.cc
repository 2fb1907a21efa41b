#include "cuda/encode/weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

namespace personascope::cuda {

namespace {

constexpr std::uint64_t kTileBytes = std::uint64_t{64} << 20;  // of rows, streamed
constexpr std::uint64_t kStagingBytes = std::uint64_t{64} << 20;
constexpr std::size_t kSlots = 2;
constexpr std::uint64_t kLeastTile = 256;  // rows

std::string mebibytes(std::uint64_t bytes) {
  return std::to_string((bytes + (std::uint64_t{1} << 20) - 1) >> 20) + " MiB";
}

std::size_t element_bytes(Dtype dtype) {
  return dtype == Dtype::f32 ? 4 : 2;
}

Findings no_findings() {
  return {kNowhere, kNowhere, 0};
}

}  // namespace

DeviceWeights::DeviceWeights(const DeviceEncoderArgs& args) {
  source_ = args.rows;
  latents = source_.rows;
  width = source_.width;
  dtype = source_.dtype;
  precision = args.precision;
  row_stride = padded_width(width) * element_bytes(dtype);
  screen_stride = screen_bytes(precision, width);
  separate_screen_ = precision == DevicePrecision::int8 || dtype != Dtype::bf16;
  load_arrays(args);
  plan(args);
  const Findings none = no_findings();
  upload(findings_, &none, 1, copies_, "findings");

  if (streamed_) {
    // One pass over the rows: bounds of all latents. It also shows that streaming works before anybody waits.
    slots_ = std::vector<Slot>(kSlots);
    for (Slot& slot : slots_) {
      slot.rows.reserve(tile_ * row_stride, "a tile of W_enc");
      if (separate_screen_)
        slot.screen.reserve(tile_ * screen_stride, "a tile of the screen's copy of W_enc");
      slot.staging.reserve(tile_ * row_stride, "a tile of W_enc");
    }
    for (std::uint64_t first = 0; first < latents; first += tile_) {
      if (args.check.call && args.check.call(args.check.context) != 0)
        fail(ErrorCode::aborted, "loading weights was aborted");
      tile_of(first, copies_);
    }
    copies_.wait();
  } else {
    if (!in_place_) rows_.reserve(latents * row_stride, "W_enc");
    if (separate_screen_) screen_.reserve(latents * screen_stride, "the screen's copy of W_enc");
    const auto* rows = in_place_ ? static_cast<const std::uint8_t*>(source_.data) : rows_.data();
    whole_ = {0, latents, rows, separate_screen_ ? screen_.data() : rows, latents};
    PinnedBuffer<std::uint8_t> staging[2];
    const std::uint64_t step = std::clamp<std::uint64_t>(kStagingBytes / row_stride, 1, latents);
    Event done[2];
    for (std::uint64_t first = 0, turn = 0; first < latents; first += step, ++turn) {
      if (args.check.call && args.check.call(args.check.context) != 0)
        fail(ErrorCode::aborted, "loading weights was aborted");
      const std::uint64_t count = std::min(step, latents - first);
      auto& buffer = staging[turn % 2];
      if (source_.place == Place::host) buffer.reserve(step * row_stride, "W_enc");
      if (turn >= 2) done[turn % 2].wait();
      if (!in_place_) copy_rows(first, count, rows_.data() + first * row_stride, buffer.data(), copies_);
      done[turn % 2].record(copies_);
      prepare({first, count, rows + first * row_stride, nullptr, 0},
              separate_screen_ ? screen_.data() + first * screen_stride : nullptr, copies_);
    }
    copies_.wait();
  }
  read_findings();
}

void DeviceWeights::load_arrays(const DeviceEncoderArgs& args) {
  const Selection& given = *args.selection;
  struct Array {
    const float* from;
    std::size_t size;
    const float** to;
  };
  selection = given;
  std::vector<Array> arrays = {{args.bias, latents, &bias},
                               {args.centre, width, &centre},
                               {args.mean, width, &mean},
                               {given.scale, latents, &selection.scale},
                               {given.threshold, latents, &selection.threshold},
                               {given.gate_bias, latents, &selection.gate_bias},
                               {given.magnitude_scale, latents, &selection.magnitude_scale},
                               {given.magnitude_bias, latents, &selection.magnitude_bias}};
  const auto room = [](std::size_t size) { return padded_to(size, 32); };
  std::size_t total = 5 * room(latents);
  for (const Array& array : arrays) total += array.from ? room(array.size) : 0;
  arrays_.reserve(total, "an encoder's arrays");
  float* at = arrays_.data();
  for (const Array& array : arrays) {
    *array.to = nullptr;
    if (!array.from) continue;
    for (std::size_t i = 0; i < array.size; ++i)
      if (!std::isfinite(array.from[i]))
        fail(ErrorCode::non_finite, "an encoder's array holds NaN or infinity at " + std::to_string(i));
    copy_bytes(at, array.from, array.size * sizeof(float), copies_, "an encoder's arrays");
    *array.to = at;
    at += room(array.size);
  }
  for (float** table :
       {&bounds.scale, &bounds.bias, &bounds.slack_norm, &bounds.slack_error, &bounds.slack_offset}) {
    *table = at;
    at += room(latents);
  }
  for (std::size_t l = 0; l < latents; ++l) {
    const double scale = given.scale ? given.scale[l] : 1;
    require(scale >= 0, ErrorCode::invalid_argument,
            "the selection scale of latent " + std::to_string(l) + " is " + std::to_string(scale) +
                ", expected at least 0");
    largest_bias =
        std::max(largest_bias, std::fabs(static_cast<double>(args.bias[l])) * std::max(1.0, scale));
  }
  if (args.mean) {
    double squares = 0;
    for (std::size_t i = 0; i < width; ++i) squares += static_cast<double>(args.mean[i]) * args.mean[i];
    mean_norm_ = std::sqrt(squares);
  }
  bytes_ = arrays_.bytes();
}

void DeviceWeights::plan(const DeviceEncoderArgs& args) {
  // Rows that lie on the device as the kernels read them are used there.
  in_place_ = source_.place == Place::device && source_.stride == row_stride &&
              width * element_bytes(dtype) == row_stride &&
              reinterpret_cast<std::uintptr_t>(source_.data) % 128 == 0;
  const std::uint64_t a_row = (in_place_ ? 0 : row_stride) + (separate_screen_ ? screen_stride : 0);
  const std::uint64_t workspace = args.workspace_bytes ? args.workspace_bytes : std::uint64_t{384} << 20;
  std::size_t free = 0, total = 0;
  check_cuda(cudaMemGetInfo(&free, &total), "asking for free device memory");
  // What batches need, and some for the runtime.
  const std::uint64_t reserve = workspace + (std::uint64_t{256} << 20);
  std::uint64_t budget = free > reserve ? free - reserve : 0;
  // Narrower tiles would take longer to ask for than to work on.
  const std::uint64_t least = std::min(latents * a_row, kSlots * std::min(latents, kLeastTile) * a_row);
  require(least <= budget, ErrorCode::out_of_memory,
          "W_enc on the device: its rows take " + mebibytes(latents * a_row) + ", tiles of them at least " +
              mebibytes(least) + ", a batch " + mebibytes(reserve) + "; " + mebibytes(free) + " of " +
              mebibytes(total) + " are free");
  if (args.weight_bytes) budget = std::min<std::uint64_t>(budget, args.weight_bytes);
  if (latents * a_row <= budget) {
    bytes_ += latents * a_row;
    return;
  }
  streamed_ = true;
  require(source_.place == Place::host, ErrorCode::out_of_memory,
          "W_enc on the device: its copy takes " + std::to_string(latents * a_row >> 20) + " MiB, " +
              std::to_string(budget >> 20) + " MiB are free");
  tile_ = std::max<std::uint64_t>(1, std::min(kTileBytes, budget / kSlots) / a_row);
  if (tile_ > 256) tile_ = tile_ / 256 * 256;
  tile_ = std::min(tile_, latents);
  bytes_ += kSlots * tile_ * a_row;
}

void DeviceWeights::copy_rows(std::uint64_t first, std::uint64_t count, std::uint8_t* to,
                              std::uint8_t* staging, cudaStream_t stream) {
  const auto* from = static_cast<const std::uint8_t*>(source_.data) + first * source_.stride;
  const std::size_t row = width * element_bytes(dtype);
  if (source_.place == Place::device) {
    check_cuda(cudaMemsetAsync(to, 0, count * row_stride, stream), "clearing rows of W_enc");
    check_cuda(
        cudaMemcpy2DAsync(to, row_stride, from, source_.stride, row, count, cudaMemcpyDeviceToDevice, stream),
        "copying W_enc");
    return;
  }
  for (std::uint64_t i = 0; i < count; ++i) {
    std::memcpy(staging + i * row_stride, from + i * source_.stride, row);
    std::memset(staging + i * row_stride + row, 0, row_stride - row);
  }
  check_cuda(cudaMemcpyAsync(to, staging, count * row_stride, cudaMemcpyHostToDevice, stream),
             "copying W_enc");
}

void DeviceWeights::prepare(const WeightTile& tile, std::uint8_t* screen, cudaStream_t stream) {
  PrepareRowsArgs args = {};
  args.rows = tile.rows;
  args.dtype = dtype;
  args.stride = row_stride;
  args.first = tile.first;
  args.count = tile.count;
  args.width = width;
  args.precision = precision;
  args.bias = bias;
  args.selection = selection;
  args.mean = mean;
  args.mean_norm = mean_norm_;
  args.screen_rows = screen;
  args.screen_stride = screen_stride;
  args.bounds = bounds;
  args.findings = findings_.data();
  prepare_rows(args, stream);
}

void DeviceWeights::read_findings() {
  Findings found;
  copy_bytes(&found, findings_.data(), sizeof found, copies_, "findings");
  if (found.non_finite != kNowhere)
    fail(ErrorCode::non_finite, "W_enc: NaN or infinity in the row of latent " +
                                    std::to_string(found.non_finite / width) + ", dimension " +
                                    std::to_string(found.non_finite % width));
  if (found.overflow != kNowhere)
    fail(ErrorCode::non_finite, "W_enc: the row of latent " + std::to_string(found.overflow) +
                                    " is so long that products overflow fp32");
  float norm;
  std::memcpy(&norm, &found.largest_norm, sizeof norm);
  largest_norm = norm;
}

// The host fills the staging buffer while the device works; the copy and the rounding run on a stream of
// their own.
void DeviceWeights::fill(Slot& slot, std::uint64_t tile) {
  slot.copied.wait();  // the staging buffer is free
  slot.used.wait_in(copies_);
  const std::uint64_t first = tile * tile_, count = std::min(tile_, latents - first);
  copy_rows(first, count, slot.rows.data(), slot.staging.data(), copies_);
  slot.view = {first, count, slot.rows.data(), separate_screen_ ? slot.screen.data() : slot.rows.data(),
               tile_};
  prepare(slot.view, separate_screen_ ? slot.screen.data() : nullptr, copies_);
  slot.copied.record(copies_);
  slot.tile = tile;
}

void DeviceWeights::expect(std::uint64_t latent, cudaStream_t stream) {
  if (!streamed_ || latent >= latents) return;
  const std::uint64_t tile = latent / tile_;
  for (const Slot& slot : slots_)
    if (slot.tile == tile) return;
  Slot& slot = slots_[next_slot_];
  next_slot_ = (next_slot_ + 1) % kSlots;
  // Everything that used this slot has been started on the stream.
  slot.used.record(stream);
  fill(slot, tile);
}

const WeightTile& DeviceWeights::tile_of(std::uint64_t latent, cudaStream_t stream) {
  if (!streamed_) return whole_;
  const std::uint64_t tile = latent / tile_;
  expect(latent, stream);
  for (Slot& slot : slots_)
    if (slot.tile == tile) {
      slot.copied.wait_in(stream);
      return slot.view;
    }
  fail(ErrorCode::internal, "a tile of W_enc is not there");
}

}  // namespace personascope::cuda
