// What screening needs of an encoder, made in one pass over its weights.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <mutex>
#include <string>

#include "native/core/check_finite.h"
#include "native/core/thread_pool.h"
#include "native/kernels/encode/int8_copy.h"
#include "native/kernels/encode/variants.h"

namespace personascope {

namespace {

constexpr double kUnit = 0x1p-24;        // rounding of fp32
constexpr double kLargestRow = 1e38;     // lengths of rows below this: see the check of tokens in block.cc
constexpr double kUp = 1.00001;          // covers the rounding of the bounds themselves
constexpr double kSubnormal = 0x1p-148;  // twice the least fp32

float up(double bound) {
  return static_cast<float>(bound * kUp);
}

// Rows are taken a block at a time, each a panel of the int8 copy or several.
constexpr std::size_t kBlock = 8 * kPanelLatents;

// What one pass finds of a row.
struct RowFacts {
  double norm = 0;      // |w|
  double residual = 0;  // |w - w^|
  double mean = 0;      // w mean
  double scale = 1;     // of the row as the precision holds it
};

// Fills in the table's entries of latent l.
void bound(const EncoderWeights& encoder, Screen& screen, std::size_t l, const RowFacts& row,
           double mean_norm) {
  const Selection& selection = encoder.selection;
  const bool gated = selection.rule == SelectionRule::gated;
  const double width = static_cast<double>(encoder.width);
  const double bias = gated ? selection.gate_bias[l] : encoder.bias[l];
  const double scale = selection.scale && !gated ? selection.scale[l] : 1;
  const double limit =
      selection.rule == SelectionRule::threshold ? std::max(0.0f, selection.threshold[l]) : 0.0;
  screen.scale[l] = static_cast<float>(row.scale * scale);
  screen.bias[l] = static_cast<float>(scale * (bias + row.mean) - limit);
  // Roundings of the canonical quantity and of `value` that grow with biases; subnormal numbers.
  const double offset = 8 * kUnit * (scale * (std::fabs(bias) + std::fabs(row.mean)) + limit) +
                        scale * width * 0x1p-52 * row.norm * mean_norm +
                        (width + 64) * kSubnormal * std::max(1.0, scale);
  const double rounded = row.norm + row.residual;  // >= |w^|
  if (screen.precision == Precision::fp32) {
    // Screening sums `width` products one after another, the canonical sum width / 64 and 8 more.
    const double roundings = (width * (1 + 1.0 / 64) + 48) * kUnit;
    screen.slack_norm[l] = up(scale * row.norm * roundings);
    screen.slack_error[l] = 0;
    screen.slack_offset[l] = up(offset);
  } else if (screen.precision == Precision::bf16) {
    // Products are exact, their `width` sums round; AVX-512's instruction may round twice as often, and takes
    // subnormal operands and results for zero.
    const double roundings = (2 * width + 16) * kUnit, flushed = 0x1p-120 * width;
    screen.slack_norm[l] = up(scale * (row.residual + flushed + roundings * rounded));
    // The sums are those of the rounded token, which is as long as |x| + |x - x^| at most.
    screen.slack_error[l] = up(scale * (rounded * (1 + roundings) + flushed));
    screen.slack_offset[l] = up(offset + scale * flushed);
  } else {
    // Sums are exact; the way from them to `value` takes four roundings, rotating both sides up to 54.
    screen.slack_norm[l] = up(scale * (row.residual + 64 * kUnit * rounded));
    screen.slack_error[l] = up(scale * rounded);
    screen.slack_offset[l] = up(offset);
  }
}

void check_arrays(const EncoderWeights& encoder) {
  const Selection& selection = encoder.selection;
  const std::size_t n = encoder.latents;
  const auto check = [n](const char* name, const float* values) {
    if (values) check_finite(name, values, 1, n, n);
  };
  if (encoder.centre) check_finite("b_dec", encoder.centre, 1, encoder.width, encoder.width);
  check("b_enc", encoder.bias);
  check("the selection scale", selection.scale);
  check("threshold", selection.threshold);
  check("the gate's bias", selection.gate_bias);
  check("the magnitude's scale", selection.magnitude_scale);
  check("the magnitude's bias", selection.magnitude_bias);
  if (selection.scale)
    for (std::size_t l = 0; l < n; ++l)
      if (!(selection.scale[l] >= 0))
        fail(ErrorCode::invalid_argument, "the selection scale of latent " + std::to_string(l) + " is " +
                                              std::to_string(selection.scale[l]) + ", expected at least 0");
}

}  // namespace

const char* precision_name(Precision precision) {
  return precision == Precision::int8 ? "int8" : precision == Precision::bf16 ? "bf16" : "fp32";
}

namespace {

// A screen whose table is still empty.
std::shared_ptr<Screen> empty_screen(const EncoderWeights& encoder, Precision precision, const float* mean) {
  check_arrays(encoder);
  auto screen = std::make_shared<Screen>();
  screen->precision = precision;
  for (AlignedBuffer<float>* entries :
       {&screen->scale, &screen->bias, &screen->slack_norm, &screen->slack_error, &screen->slack_offset})
    *entries = AlignedBuffer<float>(encoder.latents);
  if (mean) {
    screen->mean = AlignedBuffer<float>(padded_width(encoder.width));
    std::copy_n(mean, encoder.width, screen->mean.data());
    if (precision == Precision::int8) screen->mean_product = AlignedBuffer<double>(encoder.latents);
  }
  return screen;
}

double length(const AlignedBuffer<float>& row) {
  return row.size() ? std::sqrt(encode_variants().active().dot(row.data(), row.data(), row.size())) : 0;
}

// Fills in the table: facts(work, l, begin) are those of latent l of a block that begins at `begin`, where
// each thread has a `work` of its own, and finish(work, begin, end) ends a block.
template <class MakeWork, class Facts, class Finish>
void fill(const EncoderWeights& encoder, Screen& screen, const ScreenHooks& hooks, const MakeWork& make_work,
          const Facts& facts, const Finish& finish) {
  const std::size_t n = encoder.latents, blocks = (n + kBlock - 1) / kBlock;
  const double mean_norm = length(screen.mean);
  std::vector<double> norms(blocks), biases(blocks);
  std::atomic<std::size_t> done{0};
  std::mutex reporting;
  parallel_for(blocks, 1, [&](std::size_t first, std::size_t last) {
    auto work = make_work();
    for (std::size_t block = first; block < last; ++block) {
      if (hooks.check) hooks.check();
      const std::size_t begin = block * kBlock, end = std::min(n, begin + kBlock);
      for (std::size_t l = begin; l < end; ++l) {
        const RowFacts row = facts(work, l, begin);
        bound(encoder, screen, l, row, mean_norm);
        const double scale = std::max(1.0f, encoder.selection.scale ? encoder.selection.scale[l] : 1.0f);
        norms[block] = std::max(norms[block], row.norm * scale);
        biases[block] = std::max(biases[block], std::fabs(static_cast<double>(encoder.bias[l])) * scale);
      }
      finish(work, begin, end);
      const std::size_t now = done.fetch_add(end - begin) + end - begin;
      if (hooks.progress) {
        const std::lock_guard lock(reporting);
        hooks.progress(now);
      }
    }
  });
  screen.largest_norm = *std::max_element(norms.begin(), norms.end());
  screen.largest_bias = *std::max_element(biases.begin(), biases.end());
}

}  // namespace

std::shared_ptr<const Screen> make_screen(const EncoderWeights& encoder, Precision precision,
                                          const float* mean, const ScreenHooks& hooks,
                                          std::shared_ptr<const Int8Copy> copy,
                                          std::shared_ptr<Int8Copy> room) {
  require(!mean || precision != Precision::fp32, ErrorCode::internal,
          "encoder: fp32 screens tokens as they are");
  const EncodeKernels kernels = encode_variants().active();
  const std::size_t width = encoder.width, padded = padded_width(width);
  const auto screen = empty_screen(encoder, precision, mean);
  // The copy does not depend on the mean.
  std::shared_ptr<Int8Copy> made;
  if (precision == Precision::int8) {
    require(padded <= kMostInt8Width, ErrorCode::invalid_argument,
            "encoder: width " + std::to_string(width) + ", expected at most " +
                std::to_string(kMostInt8Width) + " for int8");
    if (!copy) copy = made = room ? room : std::make_shared<Int8Copy>(encoder.latents, padded);
    screen->copy = copy;
  }
  struct Work {
    AlignedBuffer<float> wide;
    AlignedBuffer<std::uint16_t> half;
    AlignedBuffer<std::int8_t> bytes;
  };
  fill(
      encoder, *screen, hooks,
      [&] {
        return Work{AlignedBuffer<float>(padded), AlignedBuffer<std::uint16_t>(padded),
                    AlignedBuffer<std::int8_t>(made ? kBlock * padded : 0)};
      },
      [&](Work& work, std::size_t l, std::size_t begin) {
        float* wide = work.wide.data();
        kernels.widen(encoder.rows, l, wide);
        RowFacts row;
        row.norm = std::sqrt(kernels.dot(wide, wide, padded));
        if (!std::isfinite(row.norm)) check_finite(encoder.name, wide, 1, width, width, l, "latent");
        if (!(row.norm < kLargestRow))
          fail(ErrorCode::non_finite, std::string(encoder.name) + ": the row of latent " + std::to_string(l) +
                                          " has length " + std::to_string(row.norm));
        if (mean) row.mean = kernels.dot(wide, screen->mean.data(), padded);
        if (precision == Precision::bf16)
          row.residual = std::sqrt(kernels.round_bf16(wide, padded, work.half.data()));
        if (precision != Precision::int8) return row;
        if (mean) screen->mean_product[l] = row.mean;
        if (made) {
          kernels.rotate(wide, padded);
          const Quantised q = kernels.quantise(wide, padded, work.bytes.data() + (l - begin) * padded);
          made->scale[l] = q.scale;
          made->residual[l] = up(std::sqrt(q.squared_error));
          made->norm[l] = up(row.norm);
        }
        row.scale = copy->scale[l];
        row.residual = copy->residual[l];
        return row;
      },
      [&](Work& work, std::size_t begin, std::size_t end) {
        if (made) made->write(begin, end, work.bytes.data(), padded);
      });
  return screen;
}

std::shared_ptr<const Screen> make_screen(const EncoderWeights& encoder, std::shared_ptr<const Int8Copy> copy,
                                          const float* mean, const double* mean_product) {
  const auto screen = empty_screen(encoder, Precision::int8, mean);
  screen->copy = copy;
  struct Nothing {};
  fill(
      encoder, *screen, {}, [] { return Nothing(); },
      [&](Nothing&, std::size_t l, std::size_t) {
        if (mean) screen->mean_product[l] = mean_product[l];
        return RowFacts{copy->norm[l], copy->residual[l], mean ? mean_product[l] : 0, copy->scale[l]};
      },
      [](Nothing&, std::size_t, std::size_t) {});
  return screen;
}

EncoderWeights::EncoderWeights(const float* weights, std::size_t stride, const float* bias_,
                               const float* centre_, std::size_t latents_, std::size_t width_)
    : EncoderWeights(RowView{reinterpret_cast<const std::uint8_t*>(weights), Dtype::f32,
                             stride * sizeof(float), latents_, width_},
                     bias_, centre_, {}) {
  refresh();
}

EncoderWeights::EncoderWeights(const RowView& rows_, const float* bias_, const float* centre_,
                               const Selection& selection_)
    : rows(rows_),
      bias(bias_),
      centre(centre_),
      latents(rows_.rows),
      width(rows_.width),
      selection(selection_) {
  require(width >= 1 && width <= (std::size_t{1} << 20), ErrorCode::invalid_argument,
          "encoder: width " + std::to_string(width) + ", expected 1 to 1048576");
  require(latents >= 1 && latents < (std::size_t{1} << 32), ErrorCode::invalid_argument,
          "encoder: " + std::to_string(latents) + " latents, expected 1 to 4294967295");
  require(rows.stride >= width * dtype_size(rows.dtype), ErrorCode::invalid_argument,
          "encoder: rows lie " + std::to_string(rows.stride) + " bytes apart, expected at least " +
              std::to_string(width * dtype_size(rows.dtype)));
}

void EncoderWeights::refresh() {
  screen = make_screen(*this, Precision::fp32, nullptr);
}

}  // namespace personascope
