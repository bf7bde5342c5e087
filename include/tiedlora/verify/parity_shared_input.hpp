// The calls for several modules with one x, for backends that have them.
#pragma once

#include <cmath>    // abs
#include <cstddef>  // size_t
#include <memory>   // make_unique, unique_ptr
#include <span>     // span
#include <utility>  // as_const, move
#include <vector>   // vector

#include "../backends/reference.hpp"
#include "../views/config.hpp"
#include "../views/factors.hpp"
#include "../views/options.hpp"
#include "../views/scalar.hpp"
#include "../views/slice.hpp"
#include "../views/tokens.hpp"
#include "dice.hpp"
#include "findings.hpp"
#include "guarded_memory.hpp"
#include "matrix.hpp"
#include "parity_case.hpp"
#include "parity_operands.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace verify {
inline namespace TIEDLORA_ISA {

template <class B, class P, class X>
concept ShrinksModules = requires(const B& b, std::span<const Factors<const P>> modules, Tokens<const X> x,
                                  std::span<const Tokens<accumulator_t<P>>> h,
                                  const CallOptions& o) { b.shrink(modules, x, h, o); };
template <class B, class P, class Y>
concept ExpandsModules = requires(
    const B& b, std::span<const Factors<const P>> modules, std::span<const Tokens<const accumulator_t<P>>> h,
    std::span<const Tokens<Y>> y, const CallOptions& o) { b.expand(modules, h, y, o); };
template <class B, class P, class Y>
concept ExpandsModulesBackward = requires(
    const B& b, std::span<const Factors<const P>> modules, std::span<const Tokens<const accumulator_t<P>>> h,
    std::span<const Tokens<const Y>> dy, std::span<const Factors<accumulator_t<P>>> gradients,
    std::span<const Tokens<accumulator_t<P>>> dh,
    const CallOptions& o) { b.expand_backward(modules, h, dy, gradients, dh, o); };
template <class B, class P, class X, class Dx>
concept ShrinksModulesBackward = requires(
    const B& b, std::span<const Factors<const P>> modules, Tokens<const X> x,
    std::span<const Tokens<const accumulator_t<P>>> dh, std::span<const Factors<accumulator_t<P>>> gradients,
    Tokens<Dx> dx, const CallOptions& o) { b.shrink_backward(modules, x, dh, gradients, dx, o); };

/// Five modules, one more than kernels take at once: up to three share A and its gradient; one has its own A
/// and a different rank; one is not adapted. B, u and v are drawn for each separately, as schemes tie them:
/// TL6 has one u for all that read x, and a B for each. One that shares B has fewer outputs, the first rows,
/// as VeRA has with grouped queries.
template <class P, class X, class Y, class Dx, class SomeBackend>
class SharedInputRun {
  using Acc = accumulator_t<P>;

 public:
  static constexpr bool shrinks = ShrinksModules<SomeBackend, P, X>,
                        expands = ExpandsModules<SomeBackend, P, Y>,
                        expands_backward = ExpandsModulesBackward<SomeBackend, P, Y>,
                        shrinks_backward = ShrinksModulesBackward<SomeBackend, P, X, Dx>;
  static constexpr bool is_offered = shrinks || expands || expands_backward || shrinks_backward;

  SharedInputRun(const SomeBackend& backend, const Memory& memory, const ParityCase& c, Surroundings around)
      : backend_(backend),
        memory_(memory),
        around_(around),
        c_(c),
        dice_(c.seed + 2),
        findings_(c),
        x_(*this, drawn<X>(c.in, c.tokens, 'x', Spoilt::x), c.x),
        dx_(drawn<Dx>(c.in, c.tokens)),
        token_scale_(*this, drawn<float>(c.token_scale ? c.tokens : 0, 1, 't'), View::dense) {
    scales_.assign(token_scale_.values.values.begin(), token_scale_.values.values.end());
    const Index rank = c.rank, other_rank = c.rank / 2 + 1;
    for (const Index r : {rank, other_rank}) {
      const bool first = As_.empty();
      As_.push_back({.A = {*this, drawn<P>(c.in, r, 'A', first ? Spoilt::A : Spoilt::nothing), c.factors},
                     .dA = drawn<Acc>(c.in, r)});
    }
    const Index other_out = c.out / 2 + 1;
    const auto add_B = [&](Index out, Index r) {
      const Spoilt spoilt = Bs_.empty() ? Spoilt::B : Spoilt::nothing;
      Bs_.push_back({.B = {*this, drawn<P>(out, r, 'B', spoilt), c.factors}, .dB = drawn<Acc>(out, r)});
    };
    add_B(c.out, rank), add_B(other_out, rank), add_B(other_out, other_rank);
    const auto add_vector = [&](std::vector<OneVector>& to, Index size, char name, Spoilt spoilt) {
      if (!to.empty()) spoilt = Spoilt::nothing;
      to.push_back(
          {.values = {*this, drawn<P>(size, 1, name, spoilt), View::dense}, .gradient = drawn<Acc>(size, 1)});
    };
    for (const Index r : {rank, rank, other_rank}) add_vector(us_, r, 'u', Spoilt::u);
    // As long as the widest module that may take it needs.
    for (int n = 0; n < 2; ++n) add_vector(vs_, tiedlora::detail::larger(c.out, other_out), 'v', Spoilt::v);
    const struct {
      int A, B;
      bool is_narrow = false;
    } own[] = {{dice_.coin() ? -1 : 0, 0}, {0, dice_.coin() ? 0 : 1}, {-1, 1}, {1, 2}, {0, 0, true}};
    for (const auto& [a, b, is_narrow] : own) {
      const Index r = a < 0 ? 0 : As_[index(a)].A.values.columns, rows = Bs_[index(b)].B.values.rows,
                  out = is_narrow ? (rows + 1) / 2 : rows;
      const bool spoils = a == 0;
      modules_.push_back(
          {.a = a,
           .b = b,
           .u = a == 1 ? 2 : static_cast<int>(dice_.integer(0, 1)),
           .v = static_cast<int>(dice_.integer(0, 1)),
           .out = out,
           .scaling = c.scaling * (1 + 0.25 * static_cast<double>(modules_.size())),
           .h = {*this, drawn<Acc>(r, c.tokens, 'x', spoils ? Spoilt::x : Spoilt::nothing), c.h},
           .dh = {*this, drawn<Acc>(r, c.tokens, 'y', spoils ? Spoilt::dy : Spoilt::nothing), c.dh},
           .dy = {*this, drawn<Y>(out, c.tokens, 'y', spoils ? Spoilt::dy : Spoilt::nothing), c.dy},
           .y = drawn<Y>(out, c.tokens)});
      factors_.push_back(factors(modules_.back()));
    }
  }

  CaseResult run() {
    if constexpr (shrinks) shrink();
    if constexpr (expands) expand();
    if constexpr (expands_backward) expand_backward();
    if constexpr (shrinks_backward) shrink_backward();
    return findings_.result();
  }

 private:
  /// An operand: its values, and the same in the backend's memory.
  template <class T>
  struct Operand {
    Operand(SharedInputRun& run, Matrix m, View view)
        : values(std::move(m)),
          rows(std::make_unique<GuardedRows<T>>(run.memory_, values.rows, values.columns, view,
                                                values.columns == 1 ? run.around_.of_vector() : run.around_,
                                                run.dice_)) {
      rows->set(values);
    }
    Matrix values;
    std::unique_ptr<GuardedRows<T>> rows;
  };
  struct OneA {
    Operand<P> A;
    Matrix dA;
  };
  struct OneB {
    Operand<P> B;
    Matrix dB;
  };
  struct OneVector {
    Operand<P> values;
    Matrix gradient;
  };
  struct Module {
    int a, b, u, v;  ///< which of all A, B, u and v; a is -1 where it is not adapted
    Index out;       ///< it has the first of B's rows, and of v
    double scaling;
    Operand<Acc> h, dh;
    Operand<Y> dy;
    Matrix y;  ///< before the call
  };
  /// What a call writes: the values by the loops, their sums of magnitudes, and the memory.
  template <class T>
  struct Result {
    Result(SharedInputRun& run, const Matrix& was, View view, bool is_set)
        : before(was),
          exact(is_set ? Matrix(was.rows, was.columns) : was),
          magnitude(absolute(exact)),
          rows(std::make_unique<GuardedRows<T>>(run.memory_, was.rows, was.columns, view, run.around_,
                                                run.dice_)) {
      if (!is_set) rows->set(was);
    }
    Matrix before, exact, magnitude;
    std::unique_ptr<GuardedRows<T>> rows;
  };

  static constexpr Index most_that_share = 4;  // v; the others at most three
  static std::size_t index(int i) { return static_cast<std::size_t>(i); }

  template <class T>
  Matrix drawn(Index rows, Index columns, char zero = ' ', Spoilt spoilt = Spoilt::nothing) {
    return drawn_operand<T>(c_, dice_, rows, columns, zero, spoilt);
  }
  CallOptions options(const float* token_scale) const {
    return {.scale = c_.is_zero('s') ? 0 : c_.scale,
            .token_scale = c_.token_scale ? token_scale : nullptr,
            .overwrite = c_.overwrite,
            .dropout = dropout_of(c_)};
  }
  /// For the backend, and for the loops.
  CallOptions options() const { return options(token_scale_.rows->data()); }
  CallOptions options_of_loops() const { return options(scales_.data()); }
  CallOptions magnitudes_of_loops() {
    magnitudes_ = scales_;
    for (float& value : magnitudes_) value = std::abs(value);
    return options(magnitudes_.data());
  }

  Factors<const P> factors(const Module& m) const {
    const OneB& b = Bs_[index(m.b)];
    Factors<const P> f = {
        .scaling = static_cast<Acc>(m.scaling), .in_features = c_.in, .out_features = m.out, .name = "case"};
    if (m.a < 0) return f;
    const OneA& a = As_[index(m.a)];
    f.rank = a.A.values.columns;
    f.A = a.A.rows->data(), f.a_stride = a.A.rows->stride();
    f.B = b.B.rows->data(), f.b_stride = b.B.rows->stride();
    if (c_.has('u')) f.u = us_[index(m.u)].values.rows->data();
    if (c_.has('v')) f.v = vs_[index(m.v)].values.rows->data();
    return f;
  }
  Factors<const double> loops_of_a(const Matrix& A) const {
    return {.A = A.values.data(), .a_stride = A.rows, .rank = A.columns, .in_features = A.rows};
  }
  Factors<const double> loops_of_b(const Module& m, const Matrix& B, const Matrix& u, const Matrix& v) const {
    Factors<const double> f = expanding_factors(c_, B, u, v);
    f.scaling = m.scaling, f.out_features = m.out;
    return f;
  }

  void shrink() {
    const char* const call = "shrink of modules";
    std::vector<Result<Acc>> results;
    std::vector<Tokens<Acc>> h;
    for (const Module& m : modules_) {
      results.emplace_back(*this, m.h.values, c_.h, true);
      h.push_back(m.a < 0 ? Tokens<Acc>() : results.back().rows->tokens());
    }
    backend_.shrink(modules(), x(), std::span<const Tokens<Acc>>(h), options());
    for (std::size_t m = 0; m < modules_.size(); ++m) {
      if (modules_[m].a < 0) continue;
      const Matrix &A = As_[index(modules_[m].a)].A.values, abs_A = absolute(A), abs_x = absolute(x_.values);
      reference::shrink(loops_of_a(A), std::as_const(x_.values).tokens(), results[m].exact.tokens(),
                        options_of_loops());
      reference::shrink(loops_of_a(abs_A), abs_x.tokens(), results[m].magnitude.tokens(), options_of_loops());
      compare(call, "h", results[m], c_.in, true);
    }
    expect_inputs_unchanged(call);
    if (c_.slices == 1) return;
    std::vector<Result<Acc>> sliced;
    for (std::size_t m = 0; m < modules_.size(); ++m) {
      sliced.emplace_back(*this, modules_[m].h.values, c_.h, true);
      if (modules_[m].a >= 0) h[m] = sliced.back().rows->tokens();
    }
    for_each_slice(c_, options(), [&](const CallOptions& o) {
      backend_.shrink(modules(), x(), std::span<const Tokens<Acc>>(h), o);
    });
    for (std::size_t m = 0; m < modules_.size(); ++m)
      if (modules_[m].a >= 0)
        findings_.expect_same_bits("shrink of modules in slices", "h", *sliced[m].rows, *results[m].rows);
  }

  void expand() {
    const char* const call = "expand of modules";
    std::vector<Result<Y>> results;
    std::vector<Tokens<Y>> y;
    std::vector<Tokens<const Acc>> h;
    for (const Module& m : modules_) {
      results.emplace_back(*this, m.y, c_.y, c_.overwrite);
      y.push_back(results.back().rows->tokens()), h.push_back(tokens_or_none(m, m.h));
    }
    backend_.expand(modules(), std::span<const Tokens<const Acc>>(h), std::span<const Tokens<Y>>(y),
                    options());
    for (std::size_t i = 0; i < modules_.size(); ++i) {
      const Module& m = modules_[i];
      if (m.a >= 0) {
        const Matrix &B = Bs_[index(m.b)].B.values, &u = us_[index(m.u)].values.values,
                     &v = vs_[index(m.v)].values.values, abs_B = absolute(B), abs_u = absolute(u),
                     abs_v = absolute(v), abs_h = absolute(m.h.values);
        CallOptions add = options_of_loops();
        add.overwrite = false;
        reference::expand(loops_of_b(m, B, u, v), m.h.values.tokens(), results[i].exact.tokens(), add);
        add.token_scale = magnitudes_of_loops().token_scale;
        reference::expand(loops_of_b(m, abs_B, abs_u, abs_v), abs_h.tokens(), results[i].magnitude.tokens(),
                          add);
      }
      compare(call, "y", results[i], c_.rank, c_.overwrite);
    }
    expect_inputs_unchanged(call);
    if (c_.slices == 1) return;
    std::vector<Result<Y>> sliced;
    for (std::size_t m = 0; m < modules_.size(); ++m) {
      sliced.emplace_back(*this, modules_[m].y, c_.y, c_.overwrite);
      y[m] = sliced.back().rows->tokens();
    }
    for_each_slice(c_, options(), [&](const CallOptions& o) {
      backend_.expand(modules(), std::span<const Tokens<const Acc>>(h), std::span<const Tokens<Y>>(y), o);
    });
    for (std::size_t m = 0; m < modules_.size(); ++m)
      findings_.expect_same_bits("expand of modules in slices", "y", *sliced[m].rows, *results[m].rows);
  }

  void expand_backward() {
    const char* const call = "expand_backward of modules";
    std::vector<Result<Acc>> dB, du, dv;
    for (const OneB& b : Bs_) dB.emplace_back(*this, b.dB, c_.gradients, false);
    for (const OneVector& u : us_) du.emplace_back(*this, u.gradient, View::dense, false);
    for (const OneVector& v : vs_) dv.emplace_back(*this, v.gradient, View::dense, false);
    std::vector<Result<Acc>> results;
    std::vector<Tokens<Acc>> dh;
    std::vector<Tokens<const Acc>> h;
    std::vector<Tokens<const Y>> dy;
    std::vector<Factors<Acc>> g;
    for (const Module& m : modules_) {
      results.emplace_back(*this, m.dh.values, c_.dh, true);
      dh.push_back(m.a < 0 ? Tokens<Acc>() : results.back().rows->tokens());
      h.push_back(tokens_or_none(m, m.h)), dy.push_back(m.dy.rows->tokens());
      g.push_back(gradient(m));
      if (m.a < 0) continue;
      const auto& rows_of_b = *dB[index(m.b)].rows;
      if (c_.trains('B')) g.back().B = rows_of_b.data(), g.back().b_stride = rows_of_b.stride();
      if (c_.trains('u')) g.back().u = du[index(m.u)].rows->data();
      if (c_.trains('v')) g.back().v = dv[index(m.v)].rows->data();
    }
    backend_.expand_backward(modules(), std::span<const Tokens<const Acc>>(h),
                             std::span<const Tokens<const Y>>(dy), std::span<const Factors<Acc>>(g),
                             std::span<const Tokens<Acc>>(dh), options());
    const CallOptions exact = options_of_loops(), magnitudes = magnitudes_of_loops();
    for (std::size_t i = 0; i < modules_.size(); ++i) {
      const Module& m = modules_[i];
      if (m.a < 0) continue;
      const Matrix &of_B = Bs_[index(m.b)].B.values, &of_u = us_[index(m.u)].values.values,
                   &of_v = vs_[index(m.v)].values.values;
      const auto by_loops = [&](Matrix Result<Acc>::* kind, const Matrix& B, const Matrix& u, const Matrix& v,
                                const Matrix& h_values, const Matrix& dy_values, const CallOptions& o) {
        const Factors<double> sums = {.B = (dB[index(m.b)].*kind).values.data(),
                                      .b_stride = B.rows,
                                      .u = (du[index(m.u)].*kind).values.data(),
                                      .v = (dv[index(m.v)].*kind).values.data()};
        reference::expand_backward(loops_of_b(m, B, u, v), h_values.tokens(), dy_values.tokens(), sums,
                                   (results[i].*kind).tokens(), o);
      };
      by_loops(&Result<Acc>::exact, of_B, of_u, of_v, m.h.values, m.dy.values, exact);
      by_loops(&Result<Acc>::magnitude, absolute(of_B), absolute(of_u), absolute(of_v), absolute(m.h.values),
               absolute(m.dy.values), magnitudes);
      compare(call, "dh", results[i], c_.out, true);
    }
    const Index tokens = most_that_share * c_.tokens;
    const auto compare_all = [&](char factor, const char* operand, std::vector<Result<Acc>>& sums,
                                 Index more) {
      if (c_.trains(factor))
        for (Result<Acc>& sum : sums) compare(call, operand, sum, tokens + more, false);
    };
    compare_all('B', "dB", dB, 0), compare_all('u', "du", du, c_.out), compare_all('v', "dv", dv, c_.rank);
    expect_inputs_unchanged(call);
  }

  void shrink_backward() {
    const char* const call = "shrink_backward of modules";
    Result<Dx> dx(*this, dx_, c_.dx, c_.overwrite);
    std::vector<Result<Acc>> gradients;
    for (const OneA& A : As_) gradients.emplace_back(*this, A.dA, c_.gradients, false);
    std::vector<Factors<Acc>> g;
    std::vector<Tokens<const Acc>> dh;
    CallOptions add = options_of_loops();
    add.overwrite = false;
    Index ranks = 0;
    for (const Module& m : modules_) {
      g.push_back(gradient(m)), dh.push_back(tokens_or_none(m, m.dh));
      if (m.a < 0) continue;
      ranks += g.back().rank;
      const Matrix &A = As_[index(m.a)].A.values, abs_A = absolute(A), abs_x = absolute(x_.values),
                   abs_dh = absolute(m.dh.values);
      Result<Acc>& to = gradients[index(m.a)];
      if (c_.trains('A')) g.back().A = to.rows->data(), g.back().a_stride = to.rows->stride();
      const auto sums = [&](Matrix& gradient) {
        return Factors<double>{.A = gradient.values.data(), .a_stride = c_.in};
      };
      reference::shrink_backward(loops_of_a(A), std::as_const(x_.values).tokens(), m.dh.values.tokens(),
                                 sums(to.exact), dx.exact.tokens(), add);
      reference::shrink_backward(loops_of_a(abs_A), abs_x.tokens(), abs_dh.tokens(), sums(to.magnitude),
                                 dx.magnitude.tokens(), add);
    }
    backend_.shrink_backward(modules(), c_.trains('A') ? x() : Tokens<const X>(),
                             std::span<const Tokens<const Acc>>(dh), std::span<const Factors<Acc>>(g),
                             c_.wants_dx ? dx.rows->tokens() : Tokens<Dx>(), options());
    // A backend that goes from module to module rounds dx after each.
    if (c_.wants_dx) compare(call, "dx", dx, ranks, c_.overwrite, 4);
    if (c_.trains('A'))
      for (Result<Acc>& to : gradients) compare(call, "dA", to, most_that_share * c_.tokens, false);
    expect_inputs_unchanged(call);
  }

  std::span<const Factors<const P>> modules() const { return factors_; }
  Tokens<const X> x() const { return x_.rows->tokens(); }
  Tokens<const Acc> tokens_or_none(const Module& m, const Operand<Acc>& operand) const {
    return m.a < 0 ? Tokens<const Acc>() : Tokens<const Acc>(operand.rows->tokens());
  }
  /// Points at nothing yet.
  Factors<Acc> gradient(const Module& m) const {
    const Factors<const P> f = factors(m);
    return {.scaling = f.scaling,
            .rank = f.rank,
            .in_features = f.in_features,
            .out_features = f.out_features,
            .name = "case"};
  }

  template <class T>
  void compare(const char* call, const char* operand, Result<T>& result, Index roundings, bool is_set,
               Index stores = 1) {
    findings_.compare<Acc>(call, operand, *result.rows, result.exact, result.magnitude, roundings,
                           is_set ? nullptr : &result.before, stores);
  }
  void expect_inputs_unchanged(const char* call) {
    findings_.expect_unchanged(call, "x", *x_.rows);
    if (c_.token_scale) findings_.expect_unchanged(call, "token_scale", *token_scale_.rows);
    for (OneA& A : As_) findings_.expect_unchanged(call, "A", *A.A.rows);
    for (OneB& b : Bs_) findings_.expect_unchanged(call, "B", *b.B.rows);
    for (OneVector& u : us_) findings_.expect_unchanged(call, "u", *u.values.rows);
    for (OneVector& v : vs_) findings_.expect_unchanged(call, "v", *v.values.rows);
    for (Module& m : modules_) {
      findings_.expect_unchanged(call, "h", *m.h.rows), findings_.expect_unchanged(call, "dh", *m.dh.rows);
      findings_.expect_unchanged(call, "dy", *m.dy.rows);
    }
  }

  const SomeBackend& backend_;
  const Memory& memory_;
  Surroundings around_;
  ParityCase c_;
  Dice dice_;
  Findings findings_;
  Operand<X> x_;
  Matrix dx_;  // before the call
  Operand<float> token_scale_;
  std::vector<float> scales_, magnitudes_;
  std::vector<OneA> As_;
  std::vector<OneB> Bs_;
  std::vector<OneVector> us_, vs_;
  std::vector<Module> modules_;
  std::vector<Factors<const P>> factors_;
};

}  // namespace TIEDLORA_ISA
}  // namespace verify
TIEDLORA_END_NAMESPACE
