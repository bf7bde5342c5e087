// Calls for several modules that read the same x: the bits of single calls where that is promised, the sums
// of the reference in double elsewhere.
#include <gtest/gtest.h>

#include <iostream>
#include <memory>
#include <tiedlora/ops.hpp>

#include "support/bits.hpp"
#include "support/deck.hpp"
#include "support/errors.hpp"
#include "support/expect_near.hpp"
#include "support/guarded.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using Eigen::bfloat16;
using Eigen::half;

// Which A each module has and which of these are trained; the rank belongs to A.
struct Sharing {
  std::vector<std::size_t> A;
  std::vector<Index> ranks;
  std::vector<bool> trained;
};

template <class P, class X, class Dx>
class SharedInput {
 public:
  using Acc = accumulator_t<P>;
  using Rows = GuardedRows<Acc>;

  SharedInput(const Sharing& sharing, Index in, Index tokens, std::uint64_t seed)
      : text_("in " + std::to_string(in) + ", tokens " + std::to_string(tokens) + ", seed " +
              std::to_string(seed)),
        sharing_(sharing),
        in_(in),
        count_(tokens),
        dice_(seed),
        x_(in, tokens, dice_.pick(all_views), dice_),
        overwrite_(dice_.coin()) {
    x_.set(dice_.matrix<double>(in, tokens));
    dx_ = to_double(dice_.matrix<Dx>(in, tokens));
    for (const Index rank : sharing.ranks) {
      A_.push_back(std::make_unique<GuardedRows<P>>(in, rank, View::strided, dice_));
      A_.back()->set(dice_.matrix<double>(in, rank));
      dA_.push_back(to_double(dice_.matrix<Acc>(in, rank)));
    }
    for (const std::size_t a : sharing.A) {
      const Index rank = sharing.ranks[a];
      modules_.push_back({.A = A_[a]->data(),
                          .a_stride = A_[a]->stride(),
                          .rank = rank,
                          .in_features = in,
                          .out_features = 1,
                          .name = "shared"});
      dh_.push_back(std::make_unique<Rows>(rank, tokens, dice_.pick(all_views), dice_));
      dh_.back()->set(dice_.matrix<double>(rank, tokens));
    }
  }

  void check() {
    SCOPED_TRACE(text_);
    const CrashNote note(text_);
    expect_bits_of_single_calls();
    expect_derivatives(backward(true), true);
    expect_derivatives(backward(false), false);
  }

 private:
  void expect_bits_of_single_calls() {
    std::vector<Matrix<double>> single;
    for (std::size_t m = 0; m < modules_.size(); ++m) {
      Rows h(modules_[m].rank, count_, View::dense, dice_);
      shrink(modules_[m], x_.tokens(), h.tokens());
      single.push_back(h.values());
    }
    for (const Index nth : {1, 2, 5}) {
      std::vector<std::unique_ptr<Rows>> rows;
      std::vector<Tokens<Acc>> h;
      for (const Factors<const P>& f : modules_) {
        rows.push_back(std::make_unique<Rows>(f.rank, count_, dice_.pick(all_views), dice_));
        h.push_back(rows.back()->tokens());
      }
      for (Index ith = 0; ith < nth; ++ith)
        shrink(std::span<const Factors<const P>>(modules_), x_.tokens(), h, {.slice = {ith, nth}});
      for (std::size_t m = 0; m < modules_.size(); ++m) {
        EXPECT_TRUE(same_bits(rows[m]->values(), single[m])) << "h of module " << m << ", parts " << nth;
        EXPECT_TRUE(rows[m]->nothing_else_written()) << "beside h of module " << m;
      }
    }
  }

  struct Derivatives {
    std::vector<Matrix<double>> dA;
    Matrix<double> dx;
  };
  Derivatives backward(bool wants_dx) {
    std::vector<std::unique_ptr<Rows>> dA;
    for (std::size_t a = 0; a < A_.size(); ++a) {
      dA.push_back(std::make_unique<Rows>(in_, sharing_.ranks[a], View::strided, dice_));
      dA.back()->set(dA_[a]);
    }
    GuardedRows<Dx> dx(in_, count_, dice_.pick(all_views), dice_);
    dx.set(dx_);
    std::vector<Factors<Acc>> gradients;
    std::vector<Tokens<const Acc>> dh;
    bool needs_x = false;
    for (std::size_t m = 0; m < modules_.size(); ++m) {
      const std::size_t a = sharing_.A[m];
      needs_x |= sharing_.trained[a];
      gradients.push_back({.A = sharing_.trained[a] ? dA[a]->data() : nullptr,
                           .a_stride = dA[a]->stride(),
                           .rank = modules_[m].rank,
                           .in_features = in_,
                           .out_features = 1});
      dh.push_back(dh_[m]->tokens());
    }
    const std::span<const Factors<const P>> modules = modules_;
    const CallOptions o = {.overwrite = overwrite_};
    if (!wants_dx)
      shrink_backward(modules, x_.tokens(), dh, gradients, none, o);
    else if (needs_x)
      shrink_backward(modules, x_.tokens(), dh, gradients, dx.tokens(), o);
    else
      shrink_backward(modules, none, dh, gradients, dx.tokens(), o);
    Derivatives d;
    for (const auto& rows : dA) {
      d.dA.push_back(rows->values());
      EXPECT_TRUE(rows->nothing_else_written()) << "beside dA";
    }
    d.dx = dx.values();
    EXPECT_TRUE(dx.nothing_else_written()) << "beside dx";
    return d;
  }

  // dA = dA + Σ dh xᵀ and dx = dx + Σ Aᵀ dh, by module after module of reference.hpp.
  Derivatives exact(bool magnitudes) {
    const auto number = [magnitudes](Matrix<double> m) {
      return magnitudes ? Matrix<double>(m.cwiseAbs()) : m;
    };
    const auto in = [](const Matrix<double>& m) {
      return Tokens<const double>{m.data(), m.rows(), m.cols(), m.rows()};
    };
    Derivatives d;
    d.dx = overwrite_ ? Matrix<double>::Zero(in_, count_) : number(dx_);
    for (const Matrix<double>& dA : dA_) d.dA.push_back(number(dA));
    const Matrix<double> x = number(x_.values());
    for (std::size_t m = 0; m < modules_.size(); ++m) {
      const std::size_t a = sharing_.A[m];
      const Matrix<double> A = number(A_[a]->values()), dh = number(dh_[m]->values());
      const Factors<const double> f = {
          .A = A.data(), .a_stride = in_, .rank = modules_[m].rank, .in_features = in_, .out_features = 1};
      const Factors<double> g = {.A = sharing_.trained[a] ? d.dA[a].data() : nullptr, .a_stride = in_};
      reference::shrink_backward(f, in(x), in(dh), g, Tokens<double>{d.dx.data(), in_, count_, in_}, {});
    }
    return d;
  }

  void expect_derivatives(const Derivatives& actual, bool wants_dx) {
    const Derivatives expected = exact(false), magnitude = exact(true);
    const auto modules = static_cast<Index>(modules_.size());
    Index ranks = 0;
    for (const Factors<const P>& f : modules_) ranks += f.rank;
    if (wants_dx)
      expect_near<Acc, Dx>("dx", actual.dx, expected.dx, magnitude.dx, ranks);
    else
      EXPECT_EQ(actual.dx, dx_) << "dx was not wanted";
    for (std::size_t a = 0; a < A_.size(); ++a)
      if (sharing_.trained[a])
        expect_near<Acc, Acc>("dA", actual.dA[a], expected.dA[a], magnitude.dA[a], count_ * modules);
      else
        EXPECT_EQ(actual.dA[a], dA_[a]) << "the gradient of an A that is frozen";
  }

  template <class T>
  static Matrix<double> to_double(const Matrix<T>& m) {
    Matrix<double> result(m.rows(), m.cols());
    for (Index i = 0; i < m.size(); ++i) result.data()[i] = static_cast<double>(m.data()[i]);
    return result;
  }

  std::string text_;
  Sharing sharing_;
  Index in_, count_;
  Dice dice_;
  GuardedRows<X> x_;
  bool overwrite_;
  Matrix<double> dx_;
  std::vector<std::unique_ptr<GuardedRows<P>>> A_;
  std::vector<Matrix<double>> dA_;
  std::vector<std::unique_ptr<Rows>> dh_;
  std::vector<Factors<const P>> modules_;
};

template <class P, class X, class Dx>
void sweep(std::uint64_t seed, int cases) {
  std::cout << "seed " << seed << ", for " << kernel_isa() << std::endl;
  Dice dice(seed);
  Deck<Index> in(widths()), tokens(numbers(0, 20) + std::vector<Index>{31, 33, 65, 130});
  Deck<Index> ranks(numbers(1, 17) + std::vector<Index>{64, 100, 257});
  // One A for all, one for each, and between.
  Deck<std::vector<std::size_t>> sharings(
      {{0}, {0, 0, 0}, {0, 1, 2}, {0, 1, 0}, {0, 1, 1, 2}, {0, 0}, {0, 1}});
  for (int n = 0; n < cases && !testing::Test::HasFailure(); ++n) {
    Sharing sharing = {.A = sharings.draw(dice), .ranks = {}, .trained = {}};
    for (int a = 0; a < 3; ++a) {
      sharing.ranks.push_back(ranks.draw(dice));
      sharing.trained.push_back(dice.integer(0, 2) > 0);
    }
    SharedInput<P, X, Dx>(sharing, in.draw(dice), tokens.draw(dice), ++seed).check();
  }
}

TEST(SharedInput, Float) { sweep<float, float, float>(1'000, 150); }
TEST(SharedInput, Bfloat16) { sweep<bfloat16, bfloat16, bfloat16>(2'000, 60); }
TEST(SharedInput, Mixed) { sweep<half, bfloat16, float>(3'000, 60); }
TEST(SharedInput, Double) { sweep<double, double, double>(4'000, 40); }

TEST(SharedInput, ModulesOfRankZeroAreLeftOut) {
  const Index in = 9, tokens = 3;
  Dice dice(5'000);
  const Matrix<float> A = dice.matrix<float>(in, 2), x = dice.matrix<float>(in, tokens),
                      dh = dice.matrix<float>(2, tokens);
  const Factors<const float> some = {
      .A = A.data(), .a_stride = in, .rank = 2, .in_features = in, .out_features = 1};
  const Factors<const float> nothing = {.in_features = in, .out_features = 1};
  const std::vector<Factors<const float>> modules = {nothing, some, nothing}, nobody = {nothing, nothing};
  Matrix<float> h(2, tokens), h_alone(2, tokens), dx(in, tokens), dx_alone(in, tokens);
  const Tokens<float> none_of_it = {};
  const Tokens<float> hs[] = {none_of_it, {h.data(), 2, tokens, 2}, none_of_it};
  shrink(std::span(modules), x, hs);
  shrink(some, x, h_alone);
  EXPECT_TRUE(same_bits(h, h_alone));

  const Tokens<const float> empty = {};
  const Tokens<const float> dhs[] = {empty, {dh.data(), 2, tokens, 2}, empty};
  const std::vector<Factors<float>> gradients(3);
  shrink_backward(std::span(modules), none, dhs, gradients, dx, {.overwrite = true});
  shrink_backward(some, none, dh, {}, dx_alone, {.overwrite = true});
  EXPECT_TRUE(same_bits(dx, dx_alone));
  shrink_backward(std::span(nobody), none, std::span(dhs).first(2), std::span(gradients).first(2), dx,
                  {.overwrite = true});
  EXPECT_EQ(dx, (Matrix<float>::Zero(in, tokens)));
}

// The stages with outputs: the bits of a call for each module, and one call of a backend that takes several.
struct CountingBackend : CpuBackend {
  using CpuBackend::expand, CpuBackend::expand_backward;
  void expand(std::span<const Factors<const float>> modules, std::span<const Tokens<const float>> h,
              std::span<const Tokens<float>> y, const CallOptions& o) const {
    ++*calls;
    for (std::size_t m = 0; m < modules.size(); ++m) expand(modules[m], h[m], y[m], o);
  }
  void expand_backward(std::span<const Factors<const float>> modules, std::span<const Tokens<const float>> h,
                       std::span<const Tokens<const float>> dy, std::span<const Factors<float>> gradients,
                       std::span<const Tokens<float>> dh, const CallOptions& o) const {
    ++*calls;
    for (std::size_t m = 0; m < modules.size(); ++m)
      expand_backward(modules[m], h[m], dy[m], gradients[m], dh[m], o);
  }
  int* calls = nullptr;
};

// Each gradient that is there gets the dh of the modules that have it, whatever those with the same A have.
TEST(SharedInput, GradientsBelongToTheirModules) {
  Dice dice(5'000);
  const Matrix<float> A = dice.matrix<float>(70, 3), x = dice.matrix<float>(70, 9);
  Matrix<float> dh[3], own[2] = {Matrix<float>::Zero(70, 3), Matrix<float>::Zero(70, 3)};
  std::vector<Factors<const float>> modules;
  std::vector<Factors<float>> gradients;
  std::vector<Tokens<const float>> dhs;
  for (std::size_t m = 0; m < 3; ++m) {  // of one A: without a gradient, and with one each
    dh[m] = dice.matrix<float>(3, 9);
    modules.push_back(
        {.A = A.data(), .a_stride = 70, .rank = 3, .in_features = 70, .out_features = 1, .name = "shared"});
    gradients.push_back({.A = m == 0 ? nullptr : own[m - 1].data(),
                         .a_stride = 70,
                         .rank = 3,
                         .in_features = 70,
                         .out_features = 1});
    dhs.push_back({dh[m].data(), 3, 9, 3});
  }
  shrink_backward(std::span<const Factors<const float>>(modules), x, dhs, gradients, none);
  for (std::size_t m = 1; m < 3; ++m) {
    // One gradient is x dhᵀ: sums of 9 products, each of which rounds by at most 9 ε of what it is made of.
    const Matrix<float> expected = x * dh[m].transpose();
    const Matrix<float> most = x.cwiseAbs() * dh[m].cwiseAbs().transpose();
    EXPECT_TRUE(((own[m - 1] - expected).array().abs() <= 2 * 9 * 0x1p-23f * most.array()).all()) << m;
  }
}

TEST(SharedInput, OutputsOfSeveralModules) {
  const Index tokens = 5, outs[] = {19, 7}, ranks[] = {3, 6};
  Dice dice(6'000);
  std::vector<Matrix<float>> B, h, y, dy, dh, dB, y_alone, dh_alone, dB_alone;
  for (std::size_t m = 0; m < 2; ++m) {
    B.push_back(dice.matrix<float>(outs[m], ranks[m]));
    h.push_back(dice.matrix<float>(ranks[m], tokens));
    y.push_back(dice.matrix<float>(outs[m], tokens));
    dy.push_back(dice.matrix<float>(outs[m], tokens));
    dh.push_back(Matrix<float>(ranks[m], tokens));
    dB.push_back(dice.matrix<float>(outs[m], ranks[m]));
  }
  y_alone = y, dh_alone = dh, dB_alone = dB;
  std::vector<Factors<const float>> modules;
  std::vector<Factors<float>> gradients, gradients_alone;
  std::vector<Tokens<const float>> hs, dys;
  std::vector<Tokens<float>> ys, dhs;
  const auto view = [](auto& matrix) {
    return Tokens<std::remove_pointer_t<decltype(matrix.data())>>{matrix.data(), matrix.rows(), matrix.cols(),
                                                                  matrix.rows()};
  };
  for (std::size_t m = 0; m < 2; ++m) {
    modules.push_back(
        {.B = B[m].data(), .b_stride = outs[m], .rank = ranks[m], .in_features = 4, .out_features = outs[m]});
    Factors<float> gradient = {
        .B = dB[m].data(), .b_stride = outs[m], .rank = ranks[m], .in_features = 4, .out_features = outs[m]};
    gradients.push_back(gradient);
    gradient.B = dB_alone[m].data();
    gradients_alone.push_back(gradient);
    hs.push_back(view(std::as_const(h[m]))), dys.push_back(view(std::as_const(dy[m])));
    ys.push_back(view(y[m])), dhs.push_back(view(dh[m]));
  }
  int calls = 0;
  CountingBackend backend;
  backend.calls = &calls;
  const std::span<const Factors<const float>> all = modules;
  expand(all, hs, std::span<const Tokens<float>>(ys));
  expand_backward(backend, all, hs, std::span<const Tokens<const float>>(dys), gradients, dhs);
  EXPECT_EQ(calls, 1);
  for (std::size_t m = 0; m < 2; ++m) {
    expand(modules[m], h[m], y_alone[m]);
    expand_backward(modules[m], h[m], dy[m], gradients_alone[m], dh_alone[m]);
    EXPECT_TRUE(same_bits(y[m], y_alone[m])) << m;
    EXPECT_TRUE(same_bits(dh[m], dh_alone[m])) << m;
    EXPECT_TRUE(same_bits(dB[m], dB_alone[m])) << m;
  }
  expand(backend, all, hs, std::span<const Tokens<float>>(ys));
  EXPECT_EQ(calls, 2);
  expect_error([&] { expand(all, std::span(hs).first(1), std::span<const Tokens<float>>(ys)); },
               {"h must have", "2 modules, but has 1"});
}

}  // namespace
}  // namespace tiedlora_test
