// All calls of a case, in guarded memory, against the loops of reference.hpp in double.
#pragma once

#include <gtest/gtest.h>

#include <iostream>
#include <string>
#include <tiedlora/ops.hpp>
#include <vector>

#include "support/deck.hpp"
#include "support/guarded.hpp"
#include "support/kernel_case.hpp"

namespace tiedlora_test {

/// The case with parameters P, x in X, y and dy in Y, dx in Dx.
template <class P, class X = P, class Y = X, class Dx = X>
class KernelRun {
 public:
  using Acc = tiedlora::accumulator_t<P>;

  explicit KernelRun(const KernelCase& c)
      : c_(c),
        dice_(c.seed),
        A_(c.in, c.rank, rows_view(), dice_),
        B_(c.out, c.rank, rows_view(), dice_),
        u_(c.rank, 1, View::dense, dice_),
        v_(c.out, 1, View::dense, dice_),
        x_(c.in, c.tokens, dice_.pick(all_views), dice_),
        dy_(c.out, c.tokens, dice_.pick(all_views), dice_) {
    fill(A_, n_.A, c.in, c.rank), fill(B_, n_.B, c.out, c.rank);
    fill(u_, n_.u, c.rank, 1), fill(v_, n_.v, c.out, 1);
    fill(x_, n_.x, c.in, c.tokens), fill(dy_, n_.dy, c.out, c.tokens);
    n_.y = rounded<Y>(dice_.matrix<double>(c.out, c.tokens));
    n_.dx = rounded<Dx>(dice_.matrix<double>(c.in, c.tokens));
    n_.dA = rounded<Acc>(dice_.matrix<double>(c.in, c.rank));
    n_.dB = rounded<Acc>(dice_.matrix<double>(c.out, c.rank));
    n_.du = rounded<Acc>(dice_.matrix<double>(c.rank, 1));
    n_.dv = rounded<Acc>(dice_.matrix<double>(c.out, 1));
    n_.scaling = dice_.coin() ? 1.5 : 1;
    n_.scale = dice_.coin() ? 0.625 : 1;
    n_.overwrite = dice_.coin();
    if (dice_.integer(0, 9) == 0)
      n_.dropout = {.probability = 0.3, .seed = c.seed, .step = 2, .input = 3, .first_token = 4};
    n_.token_scale.resize(static_cast<std::size_t>(dice_.coin() ? c.tokens : 0));
    dice_.fill(n_.token_scale);
    before_ = n_;
    exact_ = n_, magnitude_ = n_.magnitudes();
    compute_by_reference(c_, exact_);
    compute_by_reference(c_, magnitude_);
  }

  /// Runs every call and compares.
  void check() {
    SCOPED_TRACE(c_.text());
    const CrashNote note(c_.text());
    // The halves, forward in a view of its own and again as one call.
    GuardedRows<Acc> h(c_.rank, c_.tokens, dice_.pick(all_views), dice_);
    Output<Y> y(*this, before_.y), y_again(*this, before_.y);
    const tiedlora::CallOptions o = n_.options();
    tiedlora::shrink(factors(), x_.tokens(), h.tokens(), o);
    tiedlora::expand(factors(), h.tokens(), y.tokens(), o);
    tiedlora::forward(factors(), x_.tokens(), y_again.tokens(), o);
    near<Acc>("h", h, exact_.h, magnitude_.h, c_.in);
    near<Y>("y of the halves", y, exact_.y, magnitude_.y, c_.in + c_.rank);
    near<Y>("y", y_again, exact_.y, magnitude_.y, c_.in + c_.rank);

    {
      SCOPED_TRACE("backward by halves");
      GuardedRows<Acc> dh(c_.rank, c_.tokens, dice_.pick(all_views), dice_);
      Derivatives d(*this);
      tiedlora::expand_backward(factors(), h.tokens(), dy_.tokens(), d.factors(c_), dh.tokens(), o);
      near<Acc>("dh", dh, exact_.dh, magnitude_.dh, c_.out);
      if (c_.trains('A'))
        tiedlora::shrink_backward(factors(), x_.tokens(), dh.tokens(), d.factors(c_), d.dx.tokens(), o);
      else
        tiedlora::shrink_backward(factors(), tiedlora::none, dh.tokens(), d.factors(c_), d.dx.tokens(), o);
      check(d, true);
    }
    {
      SCOPED_TRACE("backward");
      Derivatives d(*this);
      tiedlora::backward(factors(), x_.tokens(), h.tokens(), dy_.tokens(), d.factors(c_), d.dx.tokens(), o);
      check(d, true);
    }
    {
      SCOPED_TRACE("backward without dx");
      Derivatives d(*this);
      tiedlora::backward(factors(), x_.tokens(), h.tokens(), dy_.tokens(), d.factors(c_), o);
      check(d, false);
    }
    expect_inputs_unchanged(h);
  }

 private:
  template <class T>
  struct Output : GuardedRows<T> {
    Output(KernelRun& run, const Matrix<double>& values)
        : GuardedRows<T>(values.rows(), values.cols(), run.dice_.pick(all_views), run.dice_) {
      this->set(values);
    }
  };

  // Gradients have room for every factor; whose are not trained must keep what they hold.
  struct Derivatives {
    explicit Derivatives(KernelRun& run)
        : A(run.c_.in, run.c_.rank, run.rows_view(), run.dice_),
          B(run.c_.out, run.c_.rank, run.rows_view(), run.dice_),
          u(run.c_.rank, 1, View::dense, run.dice_),
          v(run.c_.out, 1, View::dense, run.dice_),
          dx(run, run.before_.dx),
          scaling(static_cast<Acc>(run.n_.scaling)) {
      A.set(run.before_.dA), B.set(run.before_.dB), u.set(run.before_.du), v.set(run.before_.dv);
    }
    tiedlora::Factors<Acc> factors(const KernelCase& c) {
      return {c.trains('A') ? A.data() : nullptr,
              A.stride(),
              c.trains('B') ? B.data() : nullptr,
              B.stride(),
              c.trains('u') ? u.data() : nullptr,
              c.trains('v') ? v.data() : nullptr,
              scaling,
              c.rank,
              c.in,
              c.out,
              0,
              "case"};
    }
    GuardedRows<Acc> A, B, u, v;
    Output<Dx> dx;
    Acc scaling;
  };

  void check(Derivatives& d, bool dx_wanted) {
    // Of a factor that is not trained the exact gradient is what it was before.
    near<Acc>("dA", d.A, exact_.dA, magnitude_.dA, c_.trains('A') ? c_.out + c_.tokens : 0);
    near<Acc>("dB", d.B, exact_.dB, magnitude_.dB, c_.trains('B') ? c_.in + c_.tokens : 0);
    near<Acc>("du", d.u, exact_.du, magnitude_.du, c_.trains('u') ? c_.in + c_.out + c_.tokens : 0);
    near<Acc>("dv", d.v, exact_.dv, magnitude_.dv, c_.trains('v') ? c_.in + c_.rank + c_.tokens : 0);
    if (dx_wanted)
      near<Dx>("dx", d.dx, exact_.dx, magnitude_.dx, c_.out + c_.rank);
    else
      EXPECT_EQ(d.dx.values(), before_.dx) << "dx";
    for (const char factor : std::string("ABuv")) {
      if (c_.trains(factor)) continue;
      const auto& [rows, values] = factor == 'A'   ? std::tie(d.A, before_.dA)
                                   : factor == 'B' ? std::tie(d.B, before_.dB)
                                   : factor == 'u' ? std::tie(d.u, before_.du)
                                                   : std::tie(d.v, before_.dv);
      EXPECT_EQ(rows.values(), values) << "the gradient of " << factor << ", which is frozen";
    }
  }

  template <class T>
  void near(const char* what, GuardedRows<T>& actual, const Matrix<double>& exact,
            const Matrix<double>& magnitude, Index roundings) {
    expect_near<Acc, T>(what, actual.values(), exact, magnitude, roundings);
    EXPECT_TRUE(actual.nothing_else_written()) << "beside " << what;
  }

  void expect_inputs_unchanged(GuardedRows<Acc>& h) {
    const auto unchanged = [](const char* what, auto& rows, const Matrix<double>& values) {
      EXPECT_EQ(rows.values(), values) << what;
      EXPECT_TRUE(rows.nothing_else_written()) << "beside " << what;
    };
    unchanged("A", A_, before_.A), unchanged("B", B_, before_.B);
    unchanged("u", u_, before_.u), unchanged("v", v_, before_.v);
    unchanged("x", x_, before_.x), unchanged("dy", dy_, before_.dy);
    EXPECT_TRUE(h.nothing_else_written()) << "beside h";
  }

  tiedlora::Factors<const P> factors() {
    return {A_.data(),
            A_.stride(),
            B_.data(),
            B_.stride(),
            c_.has('u') ? u_.data() : nullptr,
            c_.has('v') ? v_.data() : nullptr,
            static_cast<Acc>(n_.scaling),
            c_.rank,
            c_.in,
            c_.out,
            0,
            "case"};
  }

  template <class T>
  static Matrix<double> rounded(Matrix<double> m) {
    for (Index i = 0; i < m.size(); ++i) m.data()[i] = static_cast<double>(static_cast<T>(m.data()[i]));
    return m;
  }
  template <class T>
  void fill(GuardedRows<T>& rows, Matrix<double>& values, Index height, Index width) {
    values = rounded<T>(dice_.matrix<double>(height, width));
    rows.set(values);
  }
  View rows_view() { return dice_.coin() ? View::dense : View::strided; }

  KernelCase c_;
  Dice dice_;
  GuardedRows<P> A_, B_, u_, v_;
  GuardedRows<X> x_;
  GuardedRows<Y> dy_;
  Numbers n_, before_, exact_, magnitude_;
};

/// Draws the dimensions that a test does not give.
class KernelCases {
 public:
  explicit KernelCases(std::uint64_t seed, const std::vector<Index>& all_widths = widths())
      : seed_(seed), dice_(seed), in_(all_widths), out_(all_widths) {
    std::cout << "seed " << seed << ", for " << tiedlora::kernel_isa() << std::endl;
  }

  template <class P, class X = P, class Y = X, class Dx = X>
  void run(Index tokens, Index rank) {
    KernelRun<P, X, Y, Dx>({.in = in_.draw(dice_),
                            .out = out_.draw(dice_),
                            .rank = rank,
                            .tokens = tokens,
                            .present = present_.draw(dice_),
                            .trained = trained_.draw(dice_),
                            .seed = ++seed_})
        .check();
  }

  /// In float, every number of tokens and every rank of these, so often.
  void run_all(const std::vector<Index>& tokens, const std::vector<Index>& ranks, std::size_t rounds) {
    Deck<Index> token_deck(tokens), rank_deck(ranks);
    const std::size_t count = rounds * std::max(tokens.size(), ranks.size());
    for (std::size_t n = 0; n < count && !testing::Test::HasFailure(); ++n)
      run<float>(token_deck.draw(dice_), rank_deck.draw(dice_));
  }

 private:
  std::uint64_t seed_;
  Dice dice_;
  Deck<Index> in_, out_;
  Deck<std::string> present_{present_factors}, trained_{factor_subsets()};
};

}  // namespace tiedlora_test
