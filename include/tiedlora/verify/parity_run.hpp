// All calls of one case on a backend, compared with the reference loops.
#pragma once

#include <cstddef>  // byte, size_t
#include <cstdint>  // uint64_t

#include "../ops/backend.hpp"
#include "../ops/unchecked.hpp"
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

TIEDLORA_BEGIN_NAMESPACE
namespace verify {
inline namespace TIEDLORA_ISA {

/// One module in a backend's memory, for parameters P, x in X, y and dy in Y, dx in Dx. Each stage is given
/// the reference's h and dh, so that a fault shows only where it is.
template <class P, class X, class Y, class Dx, class B>
class ParityRun {
  using Acc = accumulator_t<P>;

 public:
  ParityRun(const B& backend, const Memory& memory, const ParityCase& c, Surroundings around)
      : backend_(backend),
        memory_(memory),
        c_(c),
        around_(around),
        dice_(c.seed + 1),
        own_dice_(0),
        before_(draw_numbers<P, X, Y, Dx>(c)),
        exact_(before_),
        halves_(magnitudes(before_)),
        whole_(halves_),
        findings_(c),
        token_scale_(memory, static_cast<Index>(before_.token_scale.size()), 1, View::dense,
                     around.of_vector(), dice_of("token_scale")),
        A_(memory, c.in, c.rank, c.factors, around, dice_of("A")),
        B_(memory, c.out, c.rank, c.factors, around, dice_of("B")),
        u_(memory, c.rank, 1, View::dense, around.of_vector(), dice_of("u")),
        v_(memory, c.out, 1, View::dense, around.of_vector(), dice_of("v")),
        x_(memory, c.in, c.tokens, c.x, around, dice_of("x")),
        dy_(memory, c.out, c.tokens, c.dy, around, dice_of("dy")),
        h_(memory, c.rank, c.tokens, c.h, around, dice_of("h")),
        dh_(memory, c.rank, c.tokens, c.dh, around, dice_of("dh")) {
    compute_by_reference<Acc>(c_, exact_);
    compute_by_reference<Acc>(c_, whole_);
    halves_.given_h = absolute(exact_.given_h), halves_.given_dh = absolute(exact_.given_dh);
    compute_by_reference<Acc>(c_, halves_, true);
    A_.set(before_.A), B_.set(before_.B), u_.set(before_.u), v_.set(before_.v);
    x_.set(before_.x), dy_.set(before_.dy);
    h_.set(exact_.given_h), dh_.set(exact_.given_dh);
    Matrix token_scale(static_cast<Index>(before_.token_scale.size()), 1);
    token_scale.values.assign(before_.token_scale.begin(), before_.token_scale.end());
    token_scale_.set(token_scale);
    // Of thousands of tokens every copy counts.
    for (Numbers* n : {&exact_, &halves_, &whole_}) n->x = n->dy = n->given_h = n->given_dh = Matrix();
  }

  CaseResult run() {
    if (c_.rank > 0) {
      shrink();
      expand();
      expand_backward();
      if (c_.trains('A') || c_.wants_dx) shrink_backward();
      forward();
      backward();
    } else if (c_.overwrite) {
      expand();
      if (c_.wants_dx) shrink_backward();
    }
    return findings_.result();
  }

 private:
  /// Each operand has its own, so that where it lies depends on no other.
  Dice& dice_of(const char* operand) {
    std::uint64_t seed = c_.seed;
    for (; *operand; ++operand) seed = seed * 257 + static_cast<unsigned char>(*operand);
    return own_dice_ = Dice(seed);
  }

  template <class T>
  struct Output : GuardedRows<T> {
    /// Poison if the call has to set it, else what the call adds to.
    Output(ParityRun& run, const char* name, Index width, Index count, View view, const Matrix* before)
        : GuardedRows<T>(run.memory_, width, count, view, run.around_, run.dice_of(name)) {
      if (before) this->set(*before);
    }
    Output(ParityRun& run, const char* name, const Matrix& vector)
        : GuardedRows<T>(run.memory_, vector.rows, 1, View::dense, run.around_.of_vector(),
                         run.dice_of(name)) {
      this->set(vector);
    }
  };

  struct Derivatives {
    explicit Derivatives(ParityRun& run)
        : dA(run, "dA", run.c_.in, run.c_.rank, run.c_.gradients, &run.before_.dA),
          dB(run, "dB", run.c_.out, run.c_.rank, run.c_.gradients, &run.before_.dB),
          du(run, "du", run.before_.du),
          dv(run, "dv", run.before_.dv),
          dx(run, "dx", run.c_.in, run.c_.tokens, run.c_.dx, run.before(run.before_.dx)),
          c(run.c_) {}

    Factors<Acc> factors() const {
      return {.A = c.trains('A') ? dA.data() : nullptr,
              .a_stride = dA.stride(),
              .B = c.trains('B') ? dB.data() : nullptr,
              .b_stride = dB.stride(),
              .u = c.trains('u') ? du.data() : nullptr,
              .v = c.trains('v') ? dv.data() : nullptr,
              .scaling = static_cast<Acc>(c.scaling),
              .rank = c.rank,
              .in_features = c.in,
              .out_features = c.out,
              .name = "case"};
    }
    Tokens<Dx> dx_tokens() const { return c.wants_dx ? dx.tokens() : Tokens<Dx>(); }

    Output<Acc> dA, dB, du, dv;
    Output<Dx> dx;
    const ParityCase& c;
  };

  void shrink() {
    Output<Acc> h(*this, "out_h", c_.rank, c_.tokens, c_.h, nullptr);
    backend_.shrink(factors(), x(), h.tokens(), options());
    findings_.compare<Acc>("shrink", "h", h, exact_.h, halves_.h, c_.in);
    expect_inputs_unchanged("shrink", x_);
    if (c_.slices == 1) return;
    Output<Acc> sliced(*this, "sliced", c_.rank, c_.tokens, c_.h, nullptr);
    for_each_slice(c_, options(),
                   [&](const CallOptions& o) { backend_.shrink(factors(), x(), sliced.tokens(), o); });
    findings_.expect_same_bits("shrink in slices", "h", sliced, h);
  }

  void expand() {
    Output<Y> y(*this, "y", c_.out, c_.tokens, c_.y, before(before_.y));
    backend_.expand(factors(), h(), y.tokens(), options());
    findings_.compare<Acc>("expand", "y", y, exact_.y, halves_.y, c_.rank, before(before_.y));
    expect_inputs_unchanged("expand", h_);
    if (c_.slices == 1) return;
    Output<Y> sliced(*this, "sliced", c_.out, c_.tokens, c_.y, before(before_.y));
    for_each_slice(c_, options(),
                   [&](const CallOptions& o) { backend_.expand(factors(), h(), sliced.tokens(), o); });
    findings_.expect_same_bits("expand in slices", "y", sliced, y);
  }

  void expand_backward() {
    Derivatives d(*this);
    Output<Acc> dh(*this, "dh", c_.rank, c_.tokens, c_.dh, nullptr);
    backend_.expand_backward(factors(), h(), dy(), d.factors(), c_.needs_dh() ? dh.tokens() : Tokens<Acc>(),
                             options());
    if (c_.needs_dh()) findings_.compare<Acc>("expand_backward", "dh", dh, exact_.dh, halves_.dh, c_.out);
    compare_gradients_of_expand("expand_backward", d);
    findings_.expect_unchanged("expand_backward", "dA", d.dA, "must not change ");
    expect_inputs_unchanged("expand_backward", h_, dy_);
  }

  void shrink_backward() {
    Derivatives d(*this);
    backend_.shrink_backward(factors(), c_.trains('A') ? x() : Tokens<const X>(),
                             c_.rank > 0 ? Tokens<const Acc>(dh_.tokens()) : Tokens<const Acc>(), d.factors(),
                             d.dx_tokens(), options());
    compare_shrink_backward("shrink_backward", d, halves_, c_.tokens, c_.rank);
    findings_.expect_unchanged("shrink_backward", "dB", d.dB, "must not change ");
    findings_.expect_unchanged("shrink_backward", "du", d.du, "must not change ");
    findings_.expect_unchanged("shrink_backward", "dv", d.dv, "must not change ");
    expect_inputs_unchanged("shrink_backward", x_, dh_);
  }

  // Both stages as users call them, with scratch for all tokens or for blocks of a few.
  void forward() {
    Output<Y> y(*this, "y", c_.out, c_.tokens, c_.y, before(before_.y));
    Scratch scratch(*this);
    unchecked::forward(backend_, factors(), x(), y.tokens(), scratch.options());
    expect_no_strays("forward", scratch);
    findings_.compare<Acc>("forward", "y", y, exact_.y, whole_.y, c_.in + c_.rank, before(before_.y));
    expect_inputs_unchanged("forward", x_);
  }
  void backward() {
    Derivatives d(*this);
    Scratch scratch(*this);
    unchecked::backward(backend_, factors(), c_.trains('A') ? x() : Tokens<const X>(), h(), dy(), d.factors(),
                        d.dx_tokens(), scratch.options());
    expect_no_strays("backward", scratch);
    compare_shrink_backward("backward", d, whole_, c_.out + c_.tokens, c_.out + c_.rank);
    compare_gradients_of_expand("backward", d);
    expect_inputs_unchanged("backward", x_, h_, dy_, dh_);
  }

  struct Scratch {
    explicit Scratch(ParityRun& run)
        : run_(run),
          size(scratch_bytes(run.factors(), run.dice_.coin() ? tiedlora::detail::larger(1, run.c_.tokens)
                                                             : run.dice_.integer(1, 7))),
          bytes(run.memory_, static_cast<Index>(size), 1, View::dense,
                {run.around_.margin, run.around_.rows, run.around_.stride * Index{sizeof(Acc)}}, run.dice_) {}
    CallOptions options() const {
      CallOptions o = run_.options();
      o.scratch = {bytes.data(), size};
      return o;
    }
    const ParityRun& run_;
    std::size_t size;
    GuardedRows<std::byte> bytes;
  };

  void expect_no_strays(const char* call, Scratch& scratch) {
    scratch.bytes.fetch();
    findings_.expect_no_strays(call, "the scratch", scratch.bytes);
  }

  void compare_gradients_of_expand(const char* call, Derivatives& d) {
    const Index out = c_.out, tokens = c_.tokens;
    if (c_.trains('B')) findings_.compare<Acc>(call, "dB", d.dB, exact_.dB, halves_.dB, tokens, &before_.dB);
    if (c_.trains('u'))
      findings_.compare<Acc>(call, "du", d.du, exact_.du, halves_.du, out + tokens, &before_.du);
    if (c_.trains('v'))
      findings_.compare<Acc>(call, "dv", d.dv, exact_.dv, halves_.dv, c_.rank + tokens, &before_.dv);
  }
  void compare_shrink_backward(const char* call, Derivatives& d, const Numbers& magnitude, Index dA_roundings,
                               Index dx_roundings) {
    if (c_.trains('A') && c_.rank > 0)
      findings_.compare<Acc>(call, "dA", d.dA, exact_.dA, magnitude.dA, dA_roundings, &before_.dA);
    if (c_.wants_dx)
      findings_.compare<Acc>(call, "dx", d.dx, exact_.dx, magnitude.dx, dx_roundings, before(before_.dx));
  }

  /// Factors, token_scale and these.
  template <class... T>
  void expect_inputs_unchanged(const char* call, GuardedRows<T>&... tokens) {
    findings_.expect_unchanged(call, "A", A_), findings_.expect_unchanged(call, "B", B_);
    findings_.expect_unchanged(call, "u", u_), findings_.expect_unchanged(call, "v", v_);
    if (c_.token_scale) findings_.expect_unchanged(call, "token_scale", token_scale_);
    (findings_.expect_unchanged(call, name_of(&tokens), tokens), ...);
  }
  const char* name_of(const void* rows) const {
    return rows == &x_ ? "x" : rows == &dy_ ? "dy" : rows == &h_ ? "h" : "dh";
  }

  /// What y or dx holds before a call that adds to it.
  const Matrix* before(const Matrix& m) const { return c_.overwrite ? nullptr : &m; }

  Factors<const P> factors() const {
    return {.A = A_.data(),
            .a_stride = A_.stride(),
            .B = B_.data(),
            .b_stride = B_.stride(),
            .u = c_.has('u') ? u_.data() : nullptr,
            .v = c_.has('v') ? v_.data() : nullptr,
            .scaling = static_cast<Acc>(c_.scaling),
            .rank = c_.rank,
            .in_features = c_.in,
            .out_features = c_.out,
            .name = "case"};
  }
  Tokens<const X> x() const { return x_.tokens(); }
  Tokens<const Y> dy() const { return dy_.tokens(); }
  Tokens<const Acc> h() const { return c_.rank > 0 ? Tokens<const Acc>(h_.tokens()) : Tokens<const Acc>(); }
  CallOptions options() const {
    CallOptions o = before_.options();
    if (o.token_scale) o.token_scale = token_scale_.data();
    return o;
  }

  const B& backend_;
  const Memory& memory_;
  ParityCase c_;
  Surroundings around_;
  Dice dice_, own_dice_;
  Numbers before_, exact_, halves_, whole_;  // the last two: magnitudes of the stages' results and of both
  Findings findings_;
  GuardedRows<float> token_scale_;
  GuardedRows<P> A_, B_, u_, v_;
  GuardedRows<X> x_;
  GuardedRows<Y> dy_;
  GuardedRows<Acc> h_, dh_;
};

}  // namespace TIEDLORA_ISA
}  // namespace verify
TIEDLORA_END_NAMESPACE
