#include "native/sae/trainer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "test/native/check.h"
#include "test/native/kernels/variants.h"

using namespace personascope;

namespace {

// Sparse combinations of hidden directions: data that a TopK autoencoder can explain.
std::vector<float> sparse_data(std::size_t tokens, std::size_t width, std::size_t directions,
                               std::uint64_t seed) {
  const auto basis = check::normal(directions * width, 77);
  const Philox random(seed, 5);
  std::vector<float> x(tokens * width, 0.5f);
  for (std::size_t t = 0; t < tokens; ++t)
    for (std::size_t a = 0; a < 4; ++a) {
      const auto direction =
          static_cast<std::size_t>(random.uniform(t * 8 + a) * static_cast<double>(directions));
      const float size = static_cast<float>(0.5 + random.uniform(t * 8 + 4 + a));
      for (std::size_t i = 0; i < width; ++i) x[t * width + i] += size * basis[direction * width + i];
    }
  return x;
}

// The loss in float64, written down once more: codes fixed, e fixed.
struct Reference {
  std::size_t n, d, stride, tokens, k, aux_k;
  double coefficient, scale;
  std::vector<double> enc, dec, bias, centre, x;
  std::vector<std::vector<std::size_t>> chosen, dead_chosen;
  std::vector<double> residual;

  double pre(std::size_t t, std::size_t l) const {
    double sum = bias[l];
    for (std::size_t i = 0; i < d; ++i) sum += enc[l * stride + i] * (x[t * d + i] * scale - centre[i]);
    return sum;
  }
  std::vector<std::size_t> top(std::size_t t, const std::vector<std::size_t>& among,
                               std::size_t count) const {
    std::vector<std::size_t> order;
    for (std::size_t l : among)
      if (pre(t, l) > 0) order.push_back(l);
    std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return pre(t, a) > pre(t, b); });
    order.resize(std::min(order.size(), count));
    return order;
  }
  double variance() const {
    double total = 0;
    for (std::size_t i = 0; i < d; ++i) {
      double mean = 0;
      for (std::size_t t = 0; t < tokens; ++t) mean += x[t * d + i] * scale / static_cast<double>(tokens);
      for (std::size_t t = 0; t < tokens; ++t) total += std::pow(x[t * d + i] * scale - mean, 2);
    }
    return total;
  }
  double loss(double share, bool remember) {
    double error = 0, auxiliary = 0;
    if (remember) residual.assign(tokens * d, 0.0);
    for (std::size_t t = 0; t < tokens; ++t)
      for (std::size_t i = 0; i < d; ++i) {
        double found = centre[i], revived = 0;
        for (std::size_t l : chosen[t]) found += std::max(0.0, pre(t, l)) * dec[l * stride + i];
        for (std::size_t l : dead_chosen[t]) revived += std::max(0.0, pre(t, l)) * dec[l * stride + i];
        const double e = x[t * d + i] * scale - found;
        if (remember) residual[t * d + i] = e;
        error += e * e;
        auxiliary += std::pow(residual[t * d + i] - revived, 2);
      }
    return (error + coefficient * share * auxiliary) / variance();
  }
};

}  // namespace

TEST(gradients_against_finite_differences) {
  const std::size_t n = 24, d = 19, tokens = 13, k = 4, aux_k = 5;
  const auto x = sparse_data(tokens, d, 12, 3);
  SaeTrainerOptions options;
  options.latents = n;
  options.width = d;
  options.k = k;
  options.seed = 4;
  options.aux_k = aux_k;
  options.aux_coefficient = 0.25;
  options.dead_after_tokens = 100;
  SaeTrainer trainer(options);
  trainer.gradients(x.data(), tokens, d);  // sets b_dec and the scale
  const std::size_t stride = padded_width(d);
  // No longer tied: the check must tell encoder and decoder apart.
  const auto noise = check::normal(n * stride, 9, 0.1), bias = check::normal(n, 10, 0.1);
  for (std::size_t l = 0; l < n; ++l) {
    trainer.bias()[l] = bias[l];
    for (std::size_t i = 0; i < d; ++i) trainer.encoder()[l * stride + i] += noise[l * stride + i];
    if (l % 3 == 0) trainer.bias()[l] -= 50;  // silent: dead once idle
    if (l % 6 == 0) trainer.set_idle_tokens(l, 1000);
  }
  for (std::size_t l = 0; l < n; l += 6) trainer.bias()[l] += 49.8f;
  // Dead latents must not be among the k: find those that are and leave them out of the dead.
  Reference reference{
      n,  d,  stride, tokens, k,  aux_k, options.aux_coefficient, trainer.input_scale(), {}, {},
      {}, {}, {},     {},     {}, {}};
  reference.enc.assign(trainer.encoder(), trainer.encoder() + n * stride);
  reference.dec.assign(trainer.decoder(), trainer.decoder() + n * stride);
  reference.bias.assign(trainer.bias(), trainer.bias() + n);
  reference.centre.assign(trainer.decoder_bias(), trainer.decoder_bias() + d);
  reference.x.assign(x.begin(), x.end());
  reference.scale = static_cast<float>(trainer.input_scale());
  std::vector<std::size_t> all(n), dead;
  std::iota(all.begin(), all.end(), std::size_t{0});
  std::vector<bool> used(n, false);
  for (std::size_t t = 0; t < tokens; ++t) {
    reference.chosen.push_back(reference.top(t, all, k));
    for (std::size_t l : reference.chosen.back()) used[l] = true;
  }
  for (std::size_t l = 0; l < n; l += 6)
    if (!used[l]) dead.push_back(l);
  // Make sure that some are: dead latents are pushed below the k-th, but stay positive for the auxiliary
  // codes.
  if (dead.empty()) {
    dead.push_back(0);
    reference.bias[0] -= 1.0;
    trainer.bias()[0] = static_cast<float>(reference.bias[0]);
  }
  for (std::size_t t = 0; t < tokens; ++t) {
    reference.chosen[t] = reference.top(t, all, k);
    reference.dead_chosen.push_back(reference.top(t, dead, aux_k));
  }
  std::size_t revived = 0;
  for (const auto& chosen : reference.dead_chosen) revived += chosen.size();
  const double share = std::min(1.0, static_cast<double>(dead.size()) / aux_k);
  reference.loss(share, true);
  const double loss = reference.loss(share, false);
  std::printf("  %zu dead latents, %zu auxiliary codes, loss %.6f\n", dead.size(), revived, loss);
  CHECK(revived > 0);

  const SaeGradients found = trainer.gradients(x.data(), tokens, d);
  CHECK_CLOSE(found.loss, loss, 1e-5 * loss);
  const auto compare = [&](std::vector<double>& parameter, const float* gradient, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      const double at = parameter[i], h = 1e-5;
      parameter[i] = at + h;
      const double up = reference.loss(share, false);
      parameter[i] = at - h;
      const double down = reference.loss(share, false);
      parameter[i] = at;
      CHECK_CLOSE(gradient[i], (up - down) / (2 * h), 2e-6 + 1e-4 * std::fabs(up - down) / (2 * h));
    }
  };
  check::each_isa([&](Isa) {
    const SaeGradients again = trainer.gradients(x.data(), tokens, d);
    CHECK(std::equal(again.encoder.data(), again.encoder.data() + n * stride, found.encoder.data()));
    CHECK(std::equal(again.decoder.data(), again.decoder.data() + n * stride, found.decoder.data()));
  });
  compare(reference.enc, found.encoder.data(), n * stride);
  compare(reference.dec, found.decoder.data(), n * stride);
  compare(reference.bias, found.bias.data(), n);
  compare(reference.centre, found.decoder_bias.data(), d);
}

TEST(learns_sparse_data_and_keeps_the_decoder_unit) {
  const std::size_t n = 64, d = 24, batch = 256;
  SaeTrainerOptions options;
  options.latents = n;
  options.width = d;
  options.k = 4;
  options.seed = 1;
  options.aux_k = 12;
  options.dead_after_tokens = 2048;
  SaeTrainer trainer(options);
  SaeStepReport first, last;
  for (std::size_t s = 0; s < 800; ++s) {
    const auto x = sparse_data(batch, d, 64, 100 + s);
    last = trainer.step(x.data(), batch, d, 3e-3 * (s < 600 ? 1 : 0.2));
    if (s == 0) first = last;
  }
  std::printf("  FVU %.3f -> %.3f, L0 %.2f, dead %.3f\n", first.fvu, last.fvu, last.l0, last.dead_share);
  CHECK(first.fvu > 0.4);
  CHECK(last.fvu < 0.2);
  CHECK(last.l0 > 2 && last.l0 <= 4);
  CHECK(last.dead_share < 0.2);
  CHECK_EQ(last.step, 800u);
  CHECK_EQ(last.tokens, 800u * batch);
  const Sae sae = trainer.result();
  for (std::size_t l = 0; l < n; ++l) {
    double squares = 0;
    for (std::size_t i = 0; i < d; ++i) squares += std::pow(sae.decoder_vector(l)[i], 2);
    CHECK_CLOSE(squares, 1, 1e-5);
  }
  // The result works on inputs as they are, unscaled.
  const auto x = sparse_data(batch, d, 64, 5000);
  const SparseCodes codes = sae.encode(x.data(), batch, d);
  std::vector<float> back(batch * d);
  sae.decode(codes.view(), {}, back.data());
  double error = 0, size = 0;
  for (std::size_t i = 0; i < d; ++i) {
    double mean = 0;
    for (std::size_t t = 0; t < batch; ++t) mean += x[t * d + i] / static_cast<double>(batch);
    for (std::size_t t = 0; t < batch; ++t) {
      size += std::pow(x[t * d + i] - mean, 2);
      error += std::pow(x[t * d + i] - back[t * d + i], 2);
    }
  }
  CHECK(error / size < 0.2);
}

TEST(auxk_revives_dead_latents) {
  const std::size_t n = 96, d = 24, batch = 256, stride = padded_width(d);
  double dead[2], fvu[2];
  for (int with : {0, 1}) {
    SaeTrainerOptions options;
    options.latents = n;
    options.width = d;
    options.k = 4;
    options.seed = 2;
    options.aux_k = with ? 12 : 0;
    options.dead_after_tokens = 1024;
    SaeTrainer trainer(options);
    // A third of the encoder is too weak ever to be among the k: without AuxK it gets no gradient.
    for (std::size_t l = 0; l < n; l += 3)
      for (std::size_t i = 0; i < d; ++i) trainer.encoder()[l * stride + i] *= 0.02f;
    SaeStepReport last;
    for (std::size_t s = 0; s < 500; ++s) {
      const auto x = sparse_data(batch, d, n, 100 + s);
      last = trainer.step(x.data(), batch, d, 2e-3);
    }
    dead[with] = last.dead_share;
    fvu[with] = last.fvu;
  }
  std::printf("  dead share without AuxK %.3f, with %.3f; FVU %.3f, %.3f\n", dead[0], dead[1], fvu[0],
              fvu[1]);
  CHECK(dead[0] > 0.25);
  CHECK(dead[1] < dead[0] / 2);
  CHECK(fvu[1] < fvu[0]);
}

TEST(same_bits_for_any_threads_and_isa) {
  std::vector<float> first;
  check::each_isa([&](Isa) {
    bool same = false;
    const auto found = check::each_thread_count(
        [&] {
          SaeTrainerOptions options;
          options.latents = 200;
          options.width = 21;
          options.k = 5;
          options.aux_k = 7;
          options.dead_after_tokens = 300;
          SaeTrainer trainer(options);
          for (std::size_t s = 0; s < 8; ++s) {
            const auto x = sparse_data(150, 21, 30, s);
            trainer.step(x.data(), 150, 21, 1e-2);
          }
          std::vector<float> out(trainer.encoder(), trainer.encoder() + 200 * padded_width(21));
          out.insert(out.end(), trainer.decoder(), trainer.decoder() + 200 * padded_width(21));
          out.insert(out.end(), trainer.bias(), trainer.bias() + 200);
          out.insert(out.end(), trainer.decoder_bias(), trainer.decoder_bias() + 21);
          return out;
        },
        same);
    CHECK(same);
    if (first.empty()) first = found;
    CHECK(first == found);
  });
}

TEST(bad_batches_are_refused_and_change_nothing) {
  SaeTrainerOptions options;
  options.latents = 8;
  options.width = 4;
  options.k = 2;
  SaeTrainer trainer(options);
  std::vector<float> x = check::normal(40, 1);
  x[13] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> before(trainer.encoder(), trainer.encoder() + 8 * 16);
  CHECK_THROWS(trainer.step(x.data(), 10, 4, 1e-3), ErrorCode::non_finite);
  CHECK(std::equal(before.begin(), before.end(), trainer.encoder()));
  const std::vector<float> flat(40, 1.0f);
  CHECK_THROWS(trainer.step(flat.data(), 10, 4, 1e-3), ErrorCode::invalid_argument);
  x[13] = 0;
  CHECK_THROWS(trainer.step(x.data(), 10, 4, -1), ErrorCode::invalid_argument);
  CHECK_THROWS(trainer.step(x.data(), 10, 3, 1e-3), ErrorCode::invalid_argument);
  CHECK_EQ(trainer.step(x.data(), 10, 4, 1e-3).step, 1u);
  options.k = 9;
  CHECK_THROWS(SaeTrainer{options}, ErrorCode::invalid_argument);
}
