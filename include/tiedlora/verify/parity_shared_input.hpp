// The calls for several modules with one x, for backends that have them.
#pragma once

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
#include "../views/tokens.hpp"
#include "dice.hpp"
#include "findings.hpp"
#include "guarded_memory.hpp"
#include "matrix.hpp"
#include "parity_case.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace verify {
inline namespace TIEDLORA_ISA {

template <class B, class P, class X>
concept ShrinksModules = requires(const B& b, std::span<const Factors<const P>> modules, Tokens<const X> x,
                                  std::span<const Tokens<accumulator_t<P>>> h,
                                  const CallOptions& o) { b.shrink(modules, x, h, o); };
template <class B, class P, class X, class Dx>
concept ShrinksModulesBackward = requires(
    const B& b, std::span<const Factors<const P>> modules, Tokens<const X> x,
    std::span<const Tokens<const accumulator_t<P>>> dh, std::span<const Factors<accumulator_t<P>>> gradients,
    Tokens<Dx> dx, const CallOptions& o) { b.shrink_backward(modules, x, dh, gradients, dx, o); };

/// Four modules: two share A and its gradient, one has an A of its own and another rank, one is not adapted.
template <class P, class X, class Dx, class B>
class SharedInputRun {
  using Acc = accumulator_t<P>;

 public:
  SharedInputRun(const B& backend, const Memory& memory, const ParityCase& c, Index margin)
      : backend_(backend),
        memory_(memory),
        c_(c),
        margin_(margin),
        dice_(c.seed + 2),
        findings_(c),
        x_(memory, c.in, c.tokens, c.x, margin, dice_),
        of_x_(c.in, c.tokens),
        of_dx_(c.in, c.tokens) {
    draw<X>(of_x_), draw<Dx>(of_dx_);
    x_.set(of_x_);
    for (const Index rank : {c.rank, c.rank / 2 + 1}) {
      As_.push_back({.values = Matrix(c.in, rank), .gradient = Matrix(c.in, rank)});
      draw<P>(As_.back().values), draw<Acc>(As_.back().gradient);
      As_.back().rows = std::make_unique<GuardedRows<P>>(memory, c.in, rank, c.factors, margin, dice_);
      As_.back().rows->set(As_.back().values);
    }
    for (const int a : {dice_.coin() ? -1 : 0, 0, -1, 1}) {
      const Index rank = a < 0 ? 0 : of(a).values.columns;
      Module m = {.a = a, .f = {.rank = rank, .in_features = c.in, .out_features = 1, .name = "case"}};
      if (a >= 0) m.f.A = of(a).rows->data(), m.f.a_stride = of(a).rows->stride();
      m.dh = Matrix(rank, c.tokens);
      draw<Acc>(m.dh);
      m.dh_rows = std::make_unique<GuardedRows<Acc>>(memory, rank, c.tokens, c.dh, margin, dice_);
      m.dh_rows->set(m.dh);
      modules_.push_back(std::move(m));
    }
    for (const Module& m : modules_) factors_.push_back(m.f);
  }

  CaseResult run() {
    if constexpr (ShrinksModules<B, P, X>) shrink();
    if constexpr (ShrinksModulesBackward<B, P, X, Dx>) shrink_backward();
    return findings_.result();
  }

 private:
  struct Module {
    int a;  ///< which A: -1 none
    Factors<const P> f;
    Matrix dh = {};
    std::unique_ptr<GuardedRows<Acc>> dh_rows = nullptr;
  };
  struct OneA {
    Matrix values, gradient;
    std::unique_ptr<GuardedRows<P>> rows = nullptr;
  };
  OneA& of(int a) { return As_[static_cast<std::size_t>(a)]; }

  template <class T>
  void draw(Matrix& m) {
    for (double& value : m.values) value = dice_.uniform();
    m.round<T>();
  }
  CallOptions options() const {
    return {.overwrite = c_.overwrite, .dropout = {.probability = c_.dropout, .seed = c_.seed}};
  }
  static Factors<const double> loops(const Matrix& A) {
    return {.A = A.values.data(), .a_stride = A.rows, .rank = A.columns, .in_features = A.rows};
  }
  void shrink() {
    std::vector<std::unique_ptr<GuardedRows<Acc>>> rows;
    std::vector<Tokens<Acc>> h;
    for (const Module& m : modules_) {
      rows.push_back(std::make_unique<GuardedRows<Acc>>(memory_, m.f.rank, c_.tokens, c_.h, margin_, dice_));
      h.push_back(m.a < 0 ? Tokens<Acc>() : rows.back()->tokens());
    }
    backend_.shrink(std::span<const Factors<const P>>(factors_), Tokens<const X>(x_.tokens()),
                    std::span<const Tokens<Acc>>(h), options());
    for (std::size_t m = 0; m < modules_.size(); ++m) {
      if (modules_[m].a < 0) continue;
      const Matrix& A = of(modules_[m].a).values;
      Matrix exact(A.columns, c_.tokens), magnitude = exact;
      reference::shrink(loops(A), std::as_const(of_x_).tokens(), exact.tokens(), options());
      const Matrix abs_A = absolute(A), abs_x = absolute(of_x_);
      reference::shrink(loops(abs_A), abs_x.tokens(), magnitude.tokens(), options());
      findings_.compare<Acc>("shrink of modules", "h", *rows[m], exact, magnitude, c_.in);
    }
    expect_inputs_unchanged("shrink of modules");
  }

  void shrink_backward() {
    // Exactly: dx over all modules, and both gradients. `sums` has absolute values.
    Matrix dx = c_.overwrite ? Matrix(c_.in, c_.tokens) : of_dx_, dx_sums = absolute(dx);
    std::vector<Matrix> dA, dA_sums;
    for (const OneA& A : As_) dA.push_back(A.gradient), dA_sums.push_back(absolute(A.gradient));
    CallOptions add = options();
    add.overwrite = false;
    Index ranks = 0;
    const auto by_reference = [&](const Matrix& A, const Matrix& x, const Matrix& dh, Matrix& gradient,
                                  Matrix& to) {
      const Factors<double> g = {.A = gradient.values.data(), .a_stride = c_.in};
      reference::shrink_backward(loops(A), x.tokens(), dh.tokens(), g, to.tokens(), add);
    };
    for (const Module& m : modules_) {
      if (m.a < 0) continue;
      const auto a = static_cast<std::size_t>(m.a);
      by_reference(As_[a].values, of_x_, m.dh, dA[a], dx);
      by_reference(absolute(As_[a].values), absolute(of_x_), absolute(m.dh), dA_sums[a], dx_sums);
      ranks += m.f.rank;
    }

    std::vector<std::unique_ptr<GuardedRows<Acc>>> gradients;
    for (const OneA& A : As_) {
      gradients.push_back(
          std::make_unique<GuardedRows<Acc>>(memory_, c_.in, A.values.columns, c_.factors, margin_, dice_));
      gradients.back()->set(A.gradient);
    }
    std::vector<Factors<Acc>> g;
    std::vector<Tokens<const Acc>> dh;
    for (const Module& m : modules_) {
      g.push_back({.rank = m.f.rank, .in_features = c_.in, .out_features = 1, .name = "case"});
      dh.push_back(m.a < 0 ? Tokens<const Acc>() : Tokens<const Acc>(m.dh_rows->tokens()));
      if (m.a < 0 || !c_.trains('A')) continue;
      const GuardedRows<Acc>& rows = *gradients[static_cast<std::size_t>(m.a)];
      g.back().A = rows.data(), g.back().a_stride = rows.stride();
    }
    GuardedRows<Dx> dx_rows(memory_, c_.in, c_.tokens, c_.dx, margin_, dice_);
    if (!c_.overwrite) dx_rows.set(of_dx_);
    const char* const call = "shrink_backward of modules";
    backend_.shrink_backward(std::span<const Factors<const P>>(factors_),
                             c_.trains('A') ? Tokens<const X>(x_.tokens()) : Tokens<const X>(),
                             std::span<const Tokens<const Acc>>(dh), std::span<const Factors<Acc>>(g),
                             c_.wants_dx ? dx_rows.tokens() : Tokens<Dx>(), options());
    if (c_.wants_dx)  // who goes from module to module rounds it after each
      findings_.compare<Acc>(call, "dx", dx_rows, dx, dx_sums, ranks, c_.overwrite ? nullptr : &of_dx_, 3);
    if (c_.trains('A'))
      for (std::size_t a = 0; a < As_.size(); ++a)
        findings_.compare<Acc>(call, "dA", *gradients[a], dA[a], dA_sums[a], 2 * c_.tokens, &As_[a].gradient);
    expect_inputs_unchanged(call);
  }

  void expect_inputs_unchanged(const char* call) {
    findings_.expect_unchanged(call, "x", x_);
    for (OneA& A : As_) findings_.expect_unchanged(call, "A", *A.rows);
    for (Module& m : modules_) findings_.expect_unchanged(call, "dh", *m.dh_rows);
  }

  const B& backend_;
  const Memory& memory_;
  ParityCase c_;
  Index margin_;
  Dice dice_;
  Findings findings_;
  GuardedRows<X> x_;
  Matrix of_x_, of_dx_;
  std::vector<OneA> As_;
  std::vector<Module> modules_;
  std::vector<Factors<const P>> factors_;
};

}  // namespace TIEDLORA_ISA
}  // namespace verify
TIEDLORA_END_NAMESPACE
