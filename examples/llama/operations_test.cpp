// Each small operation against its definition, and its backward against finite differences in double.
#include <gtest/gtest.h>

#include <numeric>  // iota

#include "attention.hpp"
#include "cross_entropy.hpp"
#include "rms_norm.hpp"
#include "rope.hpp"
#include "swiglu.hpp"
#include "test_support.hpp"

namespace llama {
namespace {

using Values = std::vector<double>;

Tokens<const double> view(const Values& x, Index width, Index count) {
  return columns(x.data(), width, count);
}
Tokens<double> view(Values& x, Index width, Index count) { return columns(x.data(), width, count); }

TEST(RmsNorm, DividesByTheRootMeanSquare) {
  const Values x = {3, 4, 0, 0}, w = {1, 2, 1, 1};
  Values y(4), inverse_rms(1);
  rms_norm_forward(view(x, 4, 1), w.data(), 0.25, view(y, 4, 1), inverse_rms.data());
  const double rms = std::sqrt(25.0 / 4 + 0.25);  // by hand
  EXPECT_DOUBLE_EQ(inverse_rms[0], 1 / rms);
  EXPECT_DOUBLE_EQ(y[0], 3 / rms);
  EXPECT_DOUBLE_EQ(y[1], 8 / rms);

  Values again(4);
  rms_norm_apply(view(x, 4, 1), w.data(), inverse_rms.data(), view(again, 4, 1));
  EXPECT_EQ(again, y);
}

// L = Σ c ∘ y: dL/dy = c.
TEST(RmsNorm, BackwardIsTheDerivative) {
  const Index W = 7, N = 3;
  Values x = random_values(W * N, 1), w = random_values(W, 2);
  const Values c = random_values(W * N, 3);
  Values y(x.size()), inverse_rms(3), dx(x.size()), dw(w.size());
  const auto loss = [&] {
    rms_norm_forward(view(std::as_const(x), W, N), w.data(), 1e-5, view(y, W, N), inverse_rms.data());
    return dot(c, y);
  };
  loss();
  rms_norm_backward(view(std::as_const(x), W, N), w.data(), inverse_rms.data(), view(c, W, N),
                    view(dx, W, N));
  rms_norm_backward_weight(view(std::as_const(x), W, N), inverse_rms.data(), view(c, W, N), dw.data());
  EXPECT_LT(gradient_error(x, dx, loss), gradient_tolerance);
  EXPECT_LT(gradient_error(w, dw, loss), gradient_tolerance);
}

TEST(Rope, TurnsPairsOfOneHeadByPositionTimesFrequency) {
  RotaryTable<double> table(4, 100.0);  // frequencies 1 and 100^(-1/2) = 0.1
  table.extend(8);
  Values x = {1, 1, 0, 0,
              0, 0, 1, 1};  // two heads: the first along the pairs' first axis, the second along the second
  rope_forward(table, 7, x.data(), 2);
  const Values expected = {std::cos(7.0),  std::cos(0.7),  std::sin(7.0), std::sin(0.7),
                           -std::sin(7.0), -std::sin(0.7), std::cos(7.0), std::cos(0.7)};
  for (std::size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(x[i], expected[i], 1e-15) << i;
}

// L = Σ c ∘ y: dL/dx is c turned back.
TEST(Rope, BackwardIsTheDerivative) {
  RotaryTable<double> table(6, 10000.0);
  table.extend(5);
  Values x = random_values(12, 1);
  const Values c = random_values(12, 2);
  const auto loss = [&] {
    Values y = x;
    rope_forward(table, 4, y.data(), 2);
    return dot(c, y);
  };
  Values dx = c;
  rope_backward(table, 4, dx.data(), 2);
  EXPECT_LT(gradient_error(x, dx, loss), gradient_tolerance);
}

TEST(Rope, TableGrowsWithoutChanging) {
  RotaryTable<double> grown(6, 500.0), whole(6, 500.0);
  grown.extend(3);
  grown.extend(9);
  whole.extend(9);
  for (Index p = 0; p < 9; ++p)
    for (Index i = 0; i < 3; ++i) EXPECT_EQ(grown.cos(p)[i], whole.cos(p)[i]);
}

TEST(SwiGlu, MultipliesTheGatedHalves) {
  const Values gate_up = {0, std::log(3.0), -1000, 1000, 2, 5, 7, 11};  // σ: 1/2, 3/4, 0, 1
  Values y(4);
  swiglu_forward(view(gate_up, 8, 1), view(y, 4, 1));
  EXPECT_DOUBLE_EQ(y[0], 0);
  EXPECT_DOUBLE_EQ(y[1], std::log(3.0) * 0.75 * 5);
  EXPECT_NEAR(y[2], 0, 1e-300);
  EXPECT_DOUBLE_EQ(y[3], 11000);
}

TEST(SwiGlu, BackwardIsTheDerivative) {
  const Index F = 5, N = 3;
  Values gate_up = random_values(2 * F * N, 1, 3.0);
  const Values c = random_values(F * N, 2);
  const auto loss = [&] {
    Values y(c.size());
    swiglu_forward(view(std::as_const(gate_up), 2 * F, N), view(y, F, N));
    return dot(c, y);
  };
  Values d(gate_up.size());
  swiglu_backward(view(std::as_const(gate_up), 2 * F, N), view(c, F, N), view(d, 2 * F, N));
  EXPECT_LT(gradient_error(gate_up, d, loss), gradient_tolerance);
}

struct AttentionCase {
  Index D, T;
  Values q = random_values(D * T, 1, 2.0), k = random_values(D * T, 2, 2.0), v = random_values(D * T, 3);
  Values out = Values(q.size()), log_sum_exp = Values(static_cast<std::size_t>(T));
  Values scratch = Values(static_cast<std::size_t>(attention_scratch(T)));

  void forward() {
    attention_forward(view(std::as_const(q), D, T), view(std::as_const(k), D, T),
                      view(std::as_const(v), D, T), 0, view(out, D, T), log_sum_exp.data(), scratch.data());
  }
};

// The definition, one query at a time.
TEST(Attention, IsTheCausalSoftmaxAverage) {
  const Index block = attention_block;
  for (const Index T : {Index{1}, Index{2}, block - 1, block, block + 1, 2 * block + 3}) {
    AttentionCase a{.D = 4, .T = T};
    a.forward();
    for (Index j = 0; j < T; ++j) {
      Values weight;
      for (Index i = 0; i <= j; ++i) {
        double score = 0;
        for (std::size_t d = 0; d < 4; ++d)
          score += a.q[static_cast<std::size_t>(j * 4) + d] * a.k[static_cast<std::size_t>(i * 4) + d];
        weight.push_back(std::exp(score / 2));
      }
      const double sum = std::accumulate(weight.begin(), weight.end(), 0.0);
      EXPECT_NEAR(a.log_sum_exp[static_cast<std::size_t>(j)], std::log(sum), 1e-13) << T << " " << j;
      for (std::size_t d = 0; d < 4; ++d) {
        double average = 0;
        for (std::size_t i = 0; i < weight.size(); ++i) average += weight[i] / sum * a.v[i * 4 + d];
        EXPECT_NEAR(a.out[static_cast<std::size_t>(j * 4) + d], average, 1e-13) << T << " " << j;
      }
    }
  }
}

// Later queries of a sequence alone, with all keys: what a key-value cache asks for.
TEST(Attention, ContinuesASequence) {
  AttentionCase a{.D = 4, .T = attention_block + 9};
  a.forward();
  const Index first = 5, n = a.T - first;
  Values out(static_cast<std::size_t>(4 * n)), log_sum_exp(static_cast<std::size_t>(n));
  attention_forward(view(std::as_const(a.q), 4, a.T).tokens(first, n), view(std::as_const(a.k), 4, a.T),
                    view(std::as_const(a.v), 4, a.T), first, view(out, 4, n), log_sum_exp.data(),
                    a.scratch.data());
  for (std::size_t i = 0; i < out.size(); ++i)
    EXPECT_NEAR(out[i], a.out[static_cast<std::size_t>(4 * first) + i], 1e-14);
}

TEST(Attention, BackwardIsTheDerivative) {
  for (const Index T : {Index{1}, Index{5}, attention_block + 3}) {
    AttentionCase a{.D = 4, .T = T};
    const Values c = random_values(4 * T, 4);
    a.forward();
    Values dq(a.q.size()), dk(a.q.size()), dv(a.q.size());
    attention_backward(view(std::as_const(a.q), 4, T), view(std::as_const(a.k), 4, T),
                       view(std::as_const(a.v), 4, T), view(std::as_const(a.out), 4, T), a.log_sum_exp.data(),
                       view(c, 4, T), view(dq, 4, T), view(dk, 4, T), view(dv, 4, T), a.scratch.data());
    const auto loss = [&] {
      a.forward();
      return dot(c, a.out);
    };
    EXPECT_LT(gradient_error(a.v, dv, loss), gradient_tolerance) << T;
    if (T == 1) {  // one key: its probability is 1 whatever q and k are
      EXPECT_NEAR(dot(dq, dq) + dot(dk, dk), 0, 1e-25);
      continue;
    }
    EXPECT_LT(gradient_error(a.q, dq, loss), gradient_tolerance) << T;
    EXPECT_LT(gradient_error(a.k, dk, loss), gradient_tolerance) << T;
  }
}

struct CrossEntropyCase {
  Index V, W, N;
  Values E = random_values(V * W, 1), hidden = random_values(W * N, 2);
  std::vector<std::int32_t> targets = random_tokens(N, V, 3);
  Index counted = N;
  Values losses = Values(static_cast<std::size_t>(N));
  Values logits = Values(static_cast<std::size_t>(V * cross_entropy_chunk<double>(V, N)));

  double forward(ThreadPool& pool, double* dhidden = nullptr, double* dE = nullptr) {
    cross_entropy(pool, Weight<double>::plain(E.data(), V, W), view(std::as_const(hidden), W, N),
                  targets.data(), counted, losses.data(), columns(dhidden, W, N), dE, V, logits.data());
    return std::accumulate(losses.begin(), losses.end(), 0.0) / static_cast<double>(counted);
  }
};

TEST(CrossEntropy, IsTheLogarithmOfTheTargetsProbability) {
  ThreadPool pool(2);
  CrossEntropyCase a{.V = 3, .W = 1, .N = 2};
  a.E = {0, 1, 2};
  a.hidden = {1, -1};
  a.targets = {2, 2};
  a.forward(pool);
  const double e = std::exp(1.0);
  EXPECT_NEAR(a.losses[0], -std::log(e * e / (1 + e + e * e)), 1e-15);
  EXPECT_NEAR(a.losses[1], -std::log(1 / (1 + e + e * e)), 1e-15);
}

TEST(CrossEntropy, SurvivesLargeLogits) {
  ThreadPool pool(1);
  CrossEntropyCase a{.V = 2, .W = 1, .N = 1};
  a.E = {1e5, -1e5};
  a.hidden = {1};
  a.targets = {1};
  EXPECT_DOUBLE_EQ(a.forward(pool), 2e5);
}

TEST(CrossEntropy, BackwardIsTheDerivative) {
  ThreadPool pool(2);
  CrossEntropyCase a{.V = 5, .W = 4, .N = 37};
  a.targets[3] = a.targets[36] = -1;
  a.counted = 35;
  Values dhidden(a.hidden.size()), dE(a.E.size());
  a.forward(pool, dhidden.data(), dE.data());
  EXPECT_EQ(a.losses[3], 0);
  EXPECT_LT(gradient_error(a.hidden, dhidden, [&] { return a.forward(pool); }), gradient_tolerance);
  EXPECT_LT(gradient_error(a.E, dE, [&] { return a.forward(pool); }), gradient_tolerance);
}

// A vocabulary so large that a chunk is the minimum of 128 tokens: two chunks, the second short.
TEST(CrossEntropy, ChunksAddUp) {
  ThreadPool pool(2);
  const Index V = 40000, N = 131;
  ASSERT_EQ(cross_entropy_chunk<double>(V, N), 128);
  CrossEntropyCase a{.V = V, .W = 2, .N = N};
  Values dhidden(a.hidden.size()), dE(a.E.size());
  const double whole = a.forward(pool, dhidden.data(), dE.data());

  double sum = 0;
  Values dE_sum(dE.size());
  for (Index t = 0; t < N; ++t) {
    CrossEntropyCase one{.V = V, .W = 2, .N = 1};
    one.hidden = {a.hidden[static_cast<std::size_t>(2 * t)], a.hidden[static_cast<std::size_t>(2 * t + 1)]};
    one.targets = {a.targets[static_cast<std::size_t>(t)]};
    one.counted = N;
    Values d(2);
    sum += one.forward(pool, d.data(), dE_sum.data());
    EXPECT_NEAR(d[0], dhidden[static_cast<std::size_t>(2 * t)], 1e-15);
  }
  EXPECT_NEAR(whole, sum, 1e-12);
  for (std::size_t i = 0; i < dE.size(); ++i) ASSERT_NEAR(dE[i], dE_sum[i], 1e-15) << i;
}

// Sums in float of products of rounded values equal those in double of the same values up to the rounding of
// the additions. Weights of 200×300 are cut into several tasks, and 700 tokens into two blocks.
TEST(CrossEntropy, CountsWhatIsBelowHalfAnUlpOfTheSum) {
  const Index V = 49152;
  constexpr float far = -17;  // e^-17 is 0.7 of half an ulp of 1
  Eigen::ArrayXf z = Eigen::ArrayXf::Constant(V, far);
  z[0] = 0;
  const double sum = 1 + static_cast<double>(V - 1) * std::exp(static_cast<double>(far));
  const float loss = cross_entropy_column<float>(ArrayMap<float>(z.data(), V), 0, 1);
  // What a piece of 256 may lose beside the 1, and log's own rounding.
  EXPECT_NEAR(loss, std::log(sum), 256 * std::exp(far) + 1e-9);
  EXPECT_NEAR(z.tail(V - 1).cast<double>().sum(), 1 - 1 / sum, 1e-6 * (1 - 1 / sum) + 256 * std::exp(far));
}

TEST(Product, InBfloat16IsThatOfTheRoundedNumbers) {
  if (!has_bfloat16_products()) GTEST_SKIP() << "this processor has no products of bfloat16";
  constexpr Index out = 200, in = 300, tokens = 700;
  const auto numbers = [](Index count, std::uint64_t seed) {
    const std::vector<double> values = random_values(count, seed);
    return std::vector<float>(values.begin(), values.end());
  };
  const std::vector<float> w = numbers(out * in, 1), x = numbers(in * tokens, 2),
                           dy = numbers(out * tokens, 3);
  Weight<float> W = Weight<float>::plain(w.data(), out, in);
  W.in_bfloat16 = true;
  const auto rounded = [](float number) {
    return static_cast<double>(std::bit_cast<float>(std::uint32_t{to_bfloat16(number).bits} << 16));
  };
  std::vector<float> first(out * tokens), first_dx(in * tokens);
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    std::vector<float> y(out * tokens), dx(in * tokens);
    product(pool, Part::base_forward, std::span<const Weight<float>>(&W, 1),
            columns<const float>(x.data(), in, tokens), columns(y.data(), out, tokens));
    transposed_product(pool, Part::base_backward, std::span<const Weight<float>>(&W, 1),
                       columns<const float>(dy.data(), out, tokens), columns(dx.data(), in, tokens));
    if (threads == 1) {
      first = y, first_dx = dx;
      // ε for each of the additions, of sums of products below 1.
      const double tolerance = in * in * 1.2e-7;
      for (Index t = 0; t < tokens; t += 233)
        for (Index i = 0; i < out; ++i) {
          double sum = 0;
          for (Index j = 0; j < in; ++j)
            sum += rounded(w[static_cast<std::size_t>(i * in + j)]) *
                   rounded(x[static_cast<std::size_t>(t * in + j)]);
          EXPECT_NEAR(y[static_cast<std::size_t>(t * out + i)], sum, tolerance) << t << ", " << i;
        }
      for (Index t = 0; t < tokens; t += 233)
        for (Index j = 0; j < in; ++j) {
          double sum = 0;
          for (Index i = 0; i < out; ++i)
            sum += rounded(w[static_cast<std::size_t>(i * in + j)]) *
                   rounded(dy[static_cast<std::size_t>(t * out + i)]);
          EXPECT_NEAR(dx[static_cast<std::size_t>(t * in + j)], sum, tolerance) << t << ", " << j;
        }
    } else {
      EXPECT_TRUE(y == first);
      EXPECT_TRUE(dx == first_dx);
    }
  }
}

TEST(Bfloat16, IsRoundedToNearestEven) {
  const auto bits = [](std::uint32_t number) { return to_bfloat16(std::bit_cast<float>(number)).bits; };
  EXPECT_EQ(bits(0x3f800000), 0x3f80);  // 1
  EXPECT_EQ(bits(0x3f808000), 0x3f80);  // a tie, down to even
  EXPECT_EQ(bits(0x3f818000), 0x3f82);  // a tie, up to even
  EXPECT_EQ(bits(0x3f808001), 0x3f81);
  EXPECT_EQ(bits(0xff7fffff), 0xff80);  // the largest goes to infinity
  EXPECT_EQ(bits(0x7fffffff), 0x7fc0);  // a NaN stays one
  EXPECT_EQ(bits(0x7f800001), 0x7fc0);
}

}  // namespace
}  // namespace llama
