// The transformer's kernels beside the matrix product, at the sizes of a small model's training step (48
// sequences of 71 tokens, d = 128, 4 heads, vocabulary 600): time a call, nanoseconds a value, and for
// attention GF/s (of the products that the causal mask leaves). One JSON line a kernel. Usage:
// transformer_kernels_bench [seconds a kernel, default 0.2]
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include "bench/native/peak.h"
#include "native/core/thread_pool.h"
#include "native/kernels/activation/activation.h"
#include "native/kernels/attention/attention.h"
#include "native/kernels/cross_entropy/cross_entropy.h"
#include "native/kernels/norm/norm.h"
#include "native/kernels/optimizer/optimizer.h"

using namespace personascope;

namespace {

double wall() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
double now() {
  return thread_count() == 1 ? bench::thread_seconds() : wall();
}

std::vector<float> values(std::size_t count) {
  std::vector<float> v(count);
  for (std::size_t i = 0; i < count; ++i) v[i] = static_cast<float>(i * 2654435761u % 1000) * 4e-3f - 2;
  return v;
}

// `flops` 0: none worth telling.
void measure(const char* name, double seconds, std::size_t count, double flops,
             const std::function<void()>& run) {
  run();
  std::vector<double> times;
  const double end = wall() + seconds;
  do {
    const double start = now();
    run();
    times.push_back(now() - start);
  } while (wall() < end || times.size() < 5);
  std::sort(times.begin(), times.end());
  const double time = times[times.size() / 2];
  std::printf(
      "{\"bench\":\"transformer_kernels\",\"kernel\":\"%s\",\"isa\":\"%s\",\"threads\":%d,\"microseconds\":%."
      "1f,"
      "\"nanoseconds_per_value\":%.3f",
      name, isa_name(active_isa()), thread_count(), time * 1e6, time * 1e9 / static_cast<double>(count));
  if (flops > 0)
    std::printf(",\"gflops\":%.1f,\"peak_gflops\":%.1f", flops / time * 1e-9, bench::fp32_peak_gflops(0.01));
  std::printf("}\n");
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const double seconds = argc > 1 ? std::atof(argv[1]) : 0.2;
  const std::size_t sequences = 48, length = 71, rows = sequences * length, d = 128, heads = 4,
                    vocabulary = 600;
  const auto x = values(rows * 4 * d), dy = values(rows * 4 * d), gamma = values(d);
  std::vector<float> y(rows * 4 * d), z(rows * 4 * d), mean(rows), rstd(rows, 1.0f), lse(rows * heads);

  const Activation kinds[] = {Activation::relu, Activation::gelu_tanh, Activation::gelu_erf,
                              Activation::silu};
  const char* forward_names[] = {"relu", "gelu_tanh", "gelu_erf", "silu"};
  const char* backward_names[] = {"relu_backward", "gelu_tanh_backward", "gelu_erf_backward",
                                  "silu_backward"};
  for (int i = 0; i < 4; ++i) {
    const std::size_t width = 4 * d;
    measure(forward_names[i], seconds, rows * width, 0,
            [&] { activation_forward({kinds[i], rows, width, x.data(), width, y.data(), width}); });
    measure(backward_names[i], seconds, rows * width, 0, [&] {
      activation_backward({kinds[i], rows, width, x.data(), width, dy.data(), width, y.data(), width});
    });
  }

  NormArgs norm;
  norm.rows = rows;
  norm.width = d;
  norm.x = x.data();
  norm.gamma = norm.beta = gamma.data();
  norm.y = y.data();
  norm.mean = mean.data();
  norm.rstd = rstd.data();
  measure("layer_norm", seconds, rows * d, 0, [&] { norm_forward(norm); });
  std::vector<float> dgamma(d), dbeta(d);
  NormBackwardArgs norm_back;
  norm_back.rows = rows;
  norm_back.width = d;
  norm_back.x = x.data();
  norm_back.gamma = gamma.data();
  norm_back.mean = mean.data();
  norm_back.rstd = rstd.data();
  norm_back.dy = dy.data();
  norm_back.dx = y.data();
  norm_back.dgamma = dgamma.data();
  norm_back.dbeta = dbeta.data();
  measure("layer_norm_backward", seconds, rows * d, 0, [&] { norm_backward(norm_back); });

  AttentionArgs attention;
  AttentionShape& shape = attention.shape;
  shape.batch = sequences;
  shape.heads = shape.kv_heads = heads;
  shape.head_dim = d / heads;
  shape.q_len = shape.k_len = length;
  shape.scale = 0.17f;
  attention.q = x.data();
  attention.k = x.data() + d;
  attention.v = x.data() + 2 * d;
  attention.q_strides = attention.k_strides = attention.v_strides = {length * 3 * d, 3 * d, d / heads};
  attention.out = y.data();
  attention.out_strides = {length * d, d, d / heads};
  attention.lse = lse.data();
  // Pairs (query, key) that the mask leaves, two products of head_dim each.
  const double pairs = static_cast<double>(sequences * heads * length * (length + 1) / 2);
  const double flops = pairs * 4 * static_cast<double>(d / heads);
  measure("attention", seconds, rows * d, flops, [&] { attention_forward(attention); });
  AttentionBackwardArgs back;
  back.shape = shape;
  back.q = attention.q;
  back.k = attention.k;
  back.v = attention.v;
  back.q_strides = back.k_strides = back.v_strides = attention.q_strides;
  back.out = y.data();
  back.dout = dy.data();
  back.out_strides = back.dout_strides = attention.out_strides;
  back.lse = lse.data();
  back.dq = z.data();
  back.dk = z.data() + d;
  back.dv = z.data() + 2 * d;
  back.dq_strides = back.dk_strides = back.dv_strides = attention.q_strides;
  measure("attention_backward", seconds, rows * d, 2.5 * flops, [&] { attention_backward(back); });

  // One token for each of 48 sequences with 71 keys in the cache.
  AttentionArgs decode = attention;
  decode.shape.q_len = 1;
  const std::vector<std::int32_t> offsets(sequences, static_cast<std::int32_t>(length - 1));
  decode.shape.q_offsets = offsets.data();
  measure("attention_decode", seconds, sequences * d, static_cast<double>(sequences * length * 4 * d),
          [&] { attention_forward(decode); });

  const auto logits = values(rows * vocabulary);
  std::vector<float> dlogits(rows * vocabulary), losses(rows);
  std::vector<std::int32_t> targets(rows);
  for (std::size_t r = 0; r < rows; ++r) targets[r] = static_cast<std::int32_t>(r * 7 % vocabulary);
  CrossEntropyArgs loss;
  loss.rows = rows;
  loss.vocabulary = vocabulary;
  loss.logits = logits.data();
  loss.logits_stride = loss.dlogits_stride = vocabulary;
  loss.targets = targets.data();
  loss.losses = losses.data();
  loss.dlogits = dlogits.data();
  measure("cross_entropy_with_gradient", seconds, rows * vocabulary, 0, [&] { cross_entropy(loss); });

  const std::size_t parameters = 1000000;
  auto params = values(parameters);
  const auto grads = values(parameters);
  std::vector<float> m(parameters), v(parameters);
  AdamWArgs adam;
  adam.count = parameters;
  adam.params = params.data();
  adam.grads = grads.data();
  adam.m = m.data();
  adam.v = v.data();
  measure("adamw", seconds, parameters, 0, [&] { adamw_step(adam); });
  double sink = 0;
  measure("sum_of_squares", seconds, parameters, 0,
          [&] { sink += sum_of_squares(parameters, grads.data()); });
  return sink < 0;
}
