#include "native/kernels/attention/attention.h"

#include <cstring>
#include <limits>

#include "test/native/check.h"
#include "test/native/kernels/variants.h"

using namespace personascope;

namespace {

// A case with its arrays: q, k and v side by side as columns of one [batch * len, width] matrix where all
// have the same number of rows, else apart.
struct Problem {
  AttentionShape shape;
  std::vector<std::int32_t> q_lengths, k_lengths, q_offsets, kv_rows;
  std::vector<float> q, k, v, dout;
  HeadStrides qs, ks;

  Problem(std::size_t batch, std::size_t heads, std::size_t kv_heads, std::size_t dim, std::size_t q_len,
          std::size_t k_len, double size = 1) {
    shape.batch = batch;
    shape.heads = heads;
    shape.kv_heads = kv_heads;
    shape.head_dim = dim;
    shape.q_len = q_len;
    shape.k_len = k_len;
    shape.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(dim)));
    qs.head = dim;
    qs.token = heads * dim + 3;
    qs.batch = q_len * qs.token;
    ks.head = dim + 1;
    ks.token = kv_heads * ks.head;
    ks.batch = k_len * ks.token + 5;
    q = check::normal(batch * qs.batch, 1, size);
    k = check::normal(batch * ks.batch, 2, size);
    v = check::normal(batch * ks.batch, 3);
    dout = check::normal(batch * qs.batch, 4);
  }
  AttentionShape bound() const {
    AttentionShape s = shape;
    if (!q_lengths.empty()) s.q_lengths = q_lengths.data();
    if (!k_lengths.empty()) s.k_lengths = k_lengths.data();
    if (!q_offsets.empty()) s.q_offsets = q_offsets.data();
    if (!kv_rows.empty()) s.kv_rows = kv_rows.data();
    return s;
  }
  std::size_t queries(std::size_t b) const {
    return q_lengths.empty() ? shape.q_len : static_cast<std::size_t>(q_lengths[b]);
  }
  // By the definition in attention.h.
  bool sees(std::size_t b, std::size_t t, std::size_t j) const {
    const std::ptrdiff_t keys = k_lengths.empty() ? static_cast<std::ptrdiff_t>(shape.k_len) : k_lengths[b];
    const std::ptrdiff_t offset = q_offsets.empty() ? 0 : q_offsets[b];
    const std::ptrdiff_t key = static_cast<std::ptrdiff_t>(j);
    return t < queries(b) && key < keys && (!shape.causal || key <= offset + static_cast<std::ptrdiff_t>(t));
  }
};

// out of one row in double; empty where no key is seen. lse receives the log of the sum.
std::vector<double> row_out(const Problem& p, const std::vector<double>& q, const std::vector<double>& k,
                            const std::vector<double>& v, std::size_t b, std::size_t t, std::size_t h,
                            double& lse) {
  const AttentionShape& s = p.shape;
  const std::size_t g = h / (s.heads / s.kv_heads),
                    row = p.kv_rows.empty() ? b : static_cast<std::size_t>(p.kv_rows[b]);
  std::vector<double> scores, out(s.head_dim);
  std::vector<std::size_t> seen;
  double max = -1e300, sum = 0;
  for (std::size_t j = 0; j < s.k_len; ++j) {
    if (!p.sees(b, t, j)) continue;
    double dot = 0;
    for (std::size_t i = 0; i < s.head_dim; ++i)
      dot += q[b * p.qs.batch + t * p.qs.token + h * p.qs.head + i] *
             k[row * p.ks.batch + j * p.ks.token + g * p.ks.head + i];
    scores.push_back(dot * s.scale);
    seen.push_back(j);
    max = std::max(max, scores.back());
  }
  for (double& score : scores) sum += score = std::exp(score - max);
  for (std::size_t n = 0; n < seen.size(); ++n)
    for (std::size_t i = 0; i < s.head_dim; ++i)
      out[i] += scores[n] / sum * v[row * p.ks.batch + seen[n] * p.ks.token + g * p.ks.head + i];
  lse = seen.empty() ? -std::numeric_limits<double>::infinity() : max + std::log(sum);
  return out;
}

struct Forward {
  std::vector<float> out, lse;
};

Forward run_forward(const Problem& p, bool& same) {
  const AttentionShape shape = p.bound();
  const std::size_t lse = shape.batch * shape.heads * shape.q_len;
  const auto all = check::each_thread_count(
      [&] {
        std::vector<float> values(p.q.size() + lse, 9.0f);
        AttentionArgs a;
        a.shape = shape;
        a.q = p.q.data();
        a.q_strides = a.out_strides = p.qs;
        a.k = p.k.data();
        a.v = p.v.data();
        a.k_strides = a.v_strides = p.ks;
        a.out = values.data();
        a.lse = values.data() + p.q.size();
        attention_forward(a);
        return values;
      },
      same);
  return {{all.begin(), all.end() - static_cast<std::ptrdiff_t>(lse)},
          {all.end() - static_cast<std::ptrdiff_t>(lse), all.end()}};
}

void check_forward(const Problem& p, double tolerance = 5e-6) {
  bool same = true;
  const Forward f = run_forward(p, same);
  CHECK(same);
  const AttentionShape& s = p.shape;
  const std::vector<double> q(p.q.begin(), p.q.end()), k(p.k.begin(), p.k.end()), v(p.v.begin(), p.v.end());
  for (std::size_t b = 0; b < s.batch; ++b)
    for (std::size_t h = 0; h < s.heads; ++h)
      for (std::size_t t = 0; t < s.q_len; ++t) {
        double lse = 0;
        const auto expected = row_out(p, q, k, v, b, t, h, lse);
        for (std::size_t i = 0; i < s.head_dim; ++i)
          CHECK_CLOSE(f.out[b * p.qs.batch + t * p.qs.token + h * p.qs.head + i], expected[i], tolerance);
        const float found = f.lse[(b * s.heads + h) * s.q_len + t];
        if (std::isinf(lse))
          CHECK(std::isinf(found) && found < 0);
        else
          CHECK_CLOSE(found, lse, 1e-5 * (1 + std::fabs(lse)));
      }
  for (std::size_t b = 0; b < s.batch; ++b)  // between the rows nothing is written
    for (std::size_t t = 0; t < s.q_len; ++t)
      for (std::size_t i = s.heads * s.head_dim; i < p.qs.token; ++i)
        CHECK_EQ(f.out[b * p.qs.batch + t * p.qs.token + i], 9.0f);
}

void check_backward(const Problem& p) {
  bool same = true;
  const Forward f = run_forward(p, same);
  const AttentionShape& s = p.shape;
  const auto all = check::each_thread_count(
      [&] {
        std::vector<float> values(p.q.size() + 2 * p.k.size(), 9.0f);
        AttentionBackwardArgs a;
        a.shape = p.bound();
        a.q = p.q.data();
        a.k = p.k.data();
        a.v = p.v.data();
        a.out = f.out.data();
        a.lse = f.lse.data();
        a.dout = p.dout.data();
        a.dq = values.data();
        a.dk = values.data() + p.q.size();
        a.dv = values.data() + p.q.size() + p.k.size();
        a.q_strides = a.out_strides = a.dout_strides = a.dq_strides = p.qs;
        a.k_strides = a.v_strides = a.dk_strides = a.dv_strides = p.ks;
        attention_backward(a);
        return values;
      },
      same);
  CHECK(same);
  std::vector<double> q(p.q.begin(), p.q.end()), k(p.k.begin(), p.k.end()), v(p.v.begin(), p.v.end());
  // The part of sum(dout * out) that sequence b makes.
  const auto loss = [&](std::size_t b) {
    double sum = 0, lse = 0;
    for (std::size_t h = 0; h < s.heads; ++h)
      for (std::size_t t = 0; t < s.q_len; ++t) {
        const auto out = row_out(p, q, k, v, b, t, h, lse);
        for (std::size_t i = 0; i < s.head_dim; ++i)
          sum += out[i] * p.dout[b * p.qs.batch + t * p.qs.token + h * p.qs.head + i];
      }
    return sum;
  };
  const auto difference = [&](std::vector<double>& x, std::size_t at, std::size_t b) {
    const double value = x[at], step = 1e-4;
    x[at] = value + step;
    const double up = loss(b);
    x[at] = value - step;
    const double down = loss(b);
    x[at] = value;
    return (up - down) / (2 * step);
  };
  std::size_t turn = 0;
  for (std::size_t b = 0; b < s.batch; ++b) {
    for (std::size_t t = 0; t < s.q_len; ++t)
      for (std::size_t i = 0; i < s.heads * s.head_dim; ++i) {
        const std::size_t at = b * p.qs.batch + t * p.qs.token + i;
        if (turn++ % 3 == 0) CHECK_CLOSE(all[at], difference(q, at, b), 2e-5);
      }
    for (std::size_t t = 0; t < s.k_len; ++t)
      for (std::size_t i = 0; i < s.kv_heads * p.ks.head; ++i) {
        const std::size_t at = b * p.ks.batch + t * p.ks.token + i;
        const float dk = all[p.q.size() + at], dv = all[p.q.size() + p.k.size() + at];
        if (i % p.ks.head >= s.head_dim) {
          CHECK_EQ(dk, 9.0f);
          CHECK_EQ(dv, 9.0f);
        } else if (turn++ % 3 == 0) {
          CHECK_CLOSE(dk, difference(k, at, b), 3e-5);
          CHECK_CLOSE(dv, difference(v, at, b), 3e-5);
        }
      }
  }
}

}  // namespace

TEST(forward_of_many_shapes) {
  check::each_isa([](Isa) {
    for (std::size_t length : {1, 2, 3, 13, 14, 15, 17, 31, 63, 65, 130})
      for (std::size_t dim : {1, 3, 8, 16, 17, 32, 64}) {
        if (length * dim > 5000) continue;
        check_forward({2, 2, 2, dim, length, length});
        check_forward({1, 6, 2, dim, length, length});
      }
    Problem open(2, 2, 1, 16, 20, 33);
    open.shape.causal = false;
    check_forward(open);
    check_forward({1, 1, 1, 16, 300, 300});
  });
}

TEST(lengths_offsets_and_rows_without_keys) {
  check::each_isa([](Isa) {
    Problem p(5, 4, 2, 16, 19, 40);
    p.q_lengths = {19, 0, 7, 19, 3};
    p.k_lengths = {40, 12, 0, 33, 5};
    p.q_offsets = {21, 3, 0, -5, 0};  // the first rows of sequence 3 see nothing
    check_forward(p);
    p.shape.causal = false;
    check_forward(p);
    p.kv_rows = {1, 1, 0, 4, 4};
    check_forward(p);
  });
}

TEST(what_lies_behind_the_lengths_is_not_read) {
  check::each_isa([](Isa) {
    Problem p(2, 2, 2, 16, 9, 20);
    p.q_lengths = {5, 9};
    p.k_lengths = {5, 20};
    const float nan = std::numeric_limits<float>::quiet_NaN();
    for (std::size_t j = 5; j < 20; ++j)
      for (std::size_t i = 0; i < p.ks.token; ++i) p.k[j * p.ks.token + i] = p.v[j * p.ks.token + i] = nan;
    for (std::size_t t = 5; t < 9; ++t)
      for (std::size_t i = 0; i < p.qs.token; ++i) p.q[t * p.qs.token + i] = p.dout[t * p.qs.token + i] = nan;
    bool same = true;
    const Forward f = run_forward(p, same);
    for (float value : f.out) CHECK(!std::isnan(value));
    std::vector<float> dq(p.q.size()), dk(p.k.size()), dv(p.k.size());
    AttentionBackwardArgs a;
    a.shape = p.bound();
    a.q = p.q.data();
    a.k = p.k.data();
    a.v = p.v.data();
    a.out = f.out.data();
    a.lse = f.lse.data();
    a.dout = p.dout.data();
    a.dq = dq.data();
    a.dk = dk.data();
    a.dv = dv.data();
    a.q_strides = a.out_strides = a.dout_strides = a.dq_strides = p.qs;
    a.k_strides = a.v_strides = a.dk_strides = a.dv_strides = p.ks;
    attention_backward(a);
    for (const auto* x : {&dq, &dk, &dv})
      for (float value : *x) CHECK(!std::isnan(value));
  });
}

TEST(large_scores) {
  check::each_isa([](Isa) {
    Problem p(1, 2, 2, 16, 33, 33, 50);  // scores near 1e4: the softmax is nearly one key
    bool same = true;
    const Forward f = run_forward(p, same);
    for (float value : f.out) CHECK(std::isfinite(value));
    check_forward(p, 5e-2);
  });
}

TEST(decoding_gives_the_bits_of_a_prefill) {
  check::each_isa([](Isa isa) {
    for (std::size_t dim : {16, 24, 32}) {
      const std::size_t length = 37;
      const Problem p(3, 4, 2, dim, length, length);
      bool same = true;
      const Forward all = run_forward(p, same);
      for (std::size_t t : {0, 1, 14, 36}) {
        Problem one = p;
        one.shape.q_len = 1;
        one.k_lengths.assign(3, static_cast<std::int32_t>(t + 1));
        one.q_offsets.assign(3, static_cast<std::int32_t>(t));
        std::vector<float> out(p.q.size());
        AttentionArgs a;
        a.shape = one.bound();
        a.q = p.q.data() + t * p.qs.token;
        a.k = p.k.data();
        a.v = p.v.data();
        a.q_strides = a.out_strides = p.qs;
        a.k_strides = a.v_strides = p.ks;
        a.out = out.data() + t * p.qs.token;
        attention_forward(a);
        // Once more with the keys in panels, whose lanes behind the length are NaN.
        const std::size_t head = (length + 15) / 16 * 16 * dim;
        std::vector<float> panels(3 * 2 * head, std::numeric_limits<float>::quiet_NaN());
        for (std::size_t b = 0; b < 3; ++b)
          for (std::size_t g = 0; g < 2; ++g)
            for (std::size_t j = 0; j <= t; ++j)
              for (std::size_t i = 0; i < dim; ++i)
                panels[(b * 2 + g) * head + panel_key_offset(dim, j) + 16 * i] =
                    p.k[b * p.ks.batch + j * p.ks.token + g * p.ks.head + i];
        std::vector<float> again(p.q.size());
        AttentionArgs c = a;
        c.k = panels.data();
        c.k_panels = true;
        c.k_strides = {2 * head, 0, head};
        c.out = again.data() + t * p.qs.token;
        attention_forward(c);
        for (std::size_t b = 0; b < 3; ++b) {
          const std::size_t at = b * p.qs.batch + t * p.qs.token, bytes = 4 * dim * sizeof(float);
          if (std::memcmp(out.data() + at, all.out.data() + at, bytes) != 0 ||
              std::memcmp(again.data() + at, all.out.data() + at, bytes) != 0)
            check::report(__FILE__, __LINE__,
                          std::string(isa_name(isa)) + ": bits differ at " + std::to_string(t));
        }
      }
    }
  });
}

TEST(backward_against_finite_differences) {
  check::each_isa([](Isa) {
    for (std::size_t length : {1, 2, 5, 14, 17})
      for (std::size_t dim : {1, 3, 8, 17}) check_backward({1, 2, 1, dim, length, length});
    check_backward({2, 4, 2, 8, 16, 16});
    Problem open(1, 2, 1, 5, 7, 11);
    open.shape.causal = false;
    check_backward(open);
    Problem p(5, 2, 1, 4, 9, 12);
    p.q_lengths = {9, 0, 7, 9, 3};
    p.k_lengths = {12, 4, 0, 8, 3};
    p.q_offsets = {3, 3, 0, -5, 0};
    check_backward(p);
  });
}

TEST(backward_over_several_blocks_of_queries) {
  // 130 queries are two blocks; the sums of dv over all keys and features are known: p sums to 1 in each row.
  check::each_isa([](Isa) {
    const Problem p(1, 2, 1, 16, 130, 130);
    bool same = true;
    const Forward f = run_forward(p, same);
    std::vector<float> dq(p.q.size()), dk(p.k.size()), dv(p.k.size());
    AttentionBackwardArgs a;
    a.shape = p.bound();
    a.q = p.q.data();
    a.k = p.k.data();
    a.v = p.v.data();
    a.out = f.out.data();
    a.lse = f.lse.data();
    a.dout = p.dout.data();
    a.dq = dq.data();
    a.dk = dk.data();
    a.dv = dv.data();
    a.q_strides = a.out_strides = a.dout_strides = a.dq_strides = p.qs;
    a.k_strides = a.v_strides = a.dk_strides = a.dv_strides = p.ks;
    attention_backward(a);
    const Isa isa = active_isa();
    std::vector<float> dq0(p.q.size()), dk0(p.k.size()), dv0(p.k.size());
    set_isa(Isa::reference);
    a.dq = dq0.data();
    a.dk = dk0.data();
    a.dv = dv0.data();
    attention_backward(a);
    set_isa(isa);
    for (std::size_t i = 0; i < dq.size(); ++i) CHECK_CLOSE(dq[i], dq0[i], 2e-5);
    for (std::size_t i = 0; i < dk.size(); ++i) CHECK_CLOSE(dk[i], dk0[i], 2e-5);
    for (std::size_t i = 0; i < dv.size(); ++i) CHECK_CLOSE(dv[i], dv0[i], 2e-5);
    for (std::size_t i = 0; i < 16; ++i) {
      double found = 0, expected = 0;
      for (std::size_t t = 0; t < 130; ++t) {
        found += dv[t * p.ks.token + i];
        for (std::size_t h = 0; h < 2; ++h) expected += p.dout[t * p.qs.token + h * p.qs.head + i];
      }
      CHECK_CLOSE(found, expected, 1e-3);
    }
  });
}

TEST(wrong_shapes_are_errors) {
  AttentionArgs a;
  a.shape.batch = 1;
  a.shape.heads = 3;
  a.shape.kv_heads = 2;
  a.shape.head_dim = 4;
  CHECK_THROWS(attention_forward(a), ErrorCode::invalid_argument);
  a.shape.kv_heads = 1;
  a.shape.k_len = 4;
  std::int32_t length = 5;
  a.shape.k_lengths = &length;
  CHECK_THROWS(attention_forward(a), ErrorCode::invalid_argument);
  length = -1;
  CHECK_THROWS(attention_forward(a), ErrorCode::invalid_argument);
  length = 4;
  a.shape.q_len = 2;
  a.k_panels = true;
  CHECK_THROWS(attention_forward(a), ErrorCode::invalid_argument);
}
