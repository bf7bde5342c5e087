// expand for tenants, whose tokens have their own u and v over one B, for backends that have it.
#pragma once

#include <cmath>    // abs
#include <cstddef>  // size_t
#include <utility>  // as_const
#include <vector>   // vector

#include "../backends/reference.hpp"
#include "../views/config.hpp"
#include "../views/factors.hpp"
#include "../views/options.hpp"
#include "../views/scalar.hpp"
#include "../views/tenants.hpp"
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

template <class B, class P, class Y>
concept ExpandsTenants = requires(const B& b, const Factors<const P>& f, const Tenants<P>& tenants,
                                  Tokens<const accumulator_t<P>> h, Tokens<Y> y,
                                  const CallOptions& o) { b.expand(f, tenants, h, y, o); };

/// Up to four tenants, in random order. They own u, v or both: those that the case trains.
template <class P, class Y, class SomeBackend>
class TenantsRun {
  using Acc = accumulator_t<P>;

 public:
  static constexpr bool is_offered = ExpandsTenants<SomeBackend, P, Y>;

  TenantsRun(const SomeBackend& backend, const Memory& memory, const ParityCase& c, Surroundings around)
      : backend_(backend),
        c_(c),
        dice_(c.seed + 4),
        findings_(c),
        owns_v_(c.has('v') && (c.trains('v') || !c.trains('u'))),
        owns_u_(c.has('u') && (c.trains('u') || !owns_v_)),
        count_(dice_.integer(1, 4)),
        of_B_(drawn<P>(c.out, c.rank, 'B', Spoilt::B)),
        of_h_(drawn<Acc>(c.rank, c.tokens, 'x', Spoilt::x)),
        of_y_(drawn<Y>(c.out, c.tokens)),
        of_scales_(drawn<float>(c.token_scale ? c.tokens : 0, 1, 't')),
        us_(drawn<P>(c.rank, count_, 'u', Spoilt::u)),
        vs_(drawn<P>(c.out, count_, 'v', Spoilt::v)),
        B_(memory, c.out, c.rank, c.factors, around, dice_),
        h_(memory, c.rank, c.tokens, c.h, around, dice_),
        y_(memory, c.out, c.tokens, c.y, around, dice_),
        u_(memory, c.rank, 1, View::dense, around.of_vector(), dice_),
        v_(memory, c.out, 1, View::dense, around.of_vector(), dice_),
        arrays_(memory, place_of_u() + c.rank, count_, View::padded, around, dice_),
        scales_(memory, of_scales_.rows, 1, View::dense, around.of_vector(), dice_),
        array_of_token_(memory, static_cast<std::size_t>(c.tokens)) {
    B_.set(of_B_), h_.set(of_h_), scales_.set(of_scales_);
    if (!c.overwrite) y_.set(of_y_);
    // What tenants have in common. Where they have their own, this is another tenant's, as in a batch.
    u_.set(owns_u_ ? drawn<P>(c.rank, 1) : column(us_, 0));
    v_.set(owns_v_ ? drawn<P>(c.out, 1) : column(vs_, 0));
    Matrix arrays(place_of_u() + c.rank, count_);
    for (double& value : arrays.values) value = dice_.uniform();
    for (Index n = 0; n < count_; ++n) {
      for (Index i = 0; i < c.out; ++i) arrays(place_of_v + i, n) = vs_(i, n);
      for (Index k = 0; k < c.rank; ++k) arrays(place_of_u() + k, n) = us_(k, n);
    }
    arrays_.set(arrays);
    std::vector<const P*> pointers;
    for (Index t = 0; t < c.tokens; ++t) {
      tenant_.push_back(dice_.integer(0, count_ - 1));
      pointers.push_back(arrays_.data() + tenant_.back() * arrays_.stride());
    }
    array_of_token_.upload(pointers);
  }

  CaseResult run() {
    if (!owns_u_ && !owns_v_) return {};
    const Factors<const P> f = {.B = B_.data(),
                                .b_stride = B_.stride(),
                                .u = c_.has('u') ? u_.data() : nullptr,
                                .v = c_.has('v') ? v_.data() : nullptr,
                                .scaling = static_cast<Acc>(c_.scaling),
                                .rank = c_.rank,
                                .in_features = c_.in,
                                .out_features = c_.out,
                                .name = "case"};
    const Tenants<P> tenants = {array_of_token_.data(), owns_u_ ? place_of_u() : -1,
                                owns_v_ ? place_of_v : -1};
    backend_.expand(f, tenants, Tokens<const Acc>(h_.tokens()), y_.tokens(), options(scales_.data()));

    Matrix exact = c_.overwrite ? Matrix(c_.out, c_.tokens) : of_y_, magnitude = absolute(exact);
    const std::vector<float> scales(of_scales_.values.begin(), of_scales_.values.end());
    const Matrix abs_B = absolute(of_B_), abs_h = absolute(of_h_);
    for (Index t = 0; t < c_.tokens; ++t) {
      const Index n = tenant_[static_cast<std::size_t>(t)];
      const Matrix u = column(us_, owns_u_ ? n : 0), v = column(vs_, owns_v_ ? n : 0);
      const float scale = c_.token_scale ? scales[static_cast<std::size_t>(t)] : 1,
                  abs_scale = std::abs(scale);
      add(of_B_, u, v, of_h_, exact, t, scale);
      add(abs_B, absolute(u), absolute(v), abs_h, magnitude, t, abs_scale);
    }
    const char* const call = "expand of tenants";
    findings_.compare<Acc>(call, "y", y_, exact, magnitude, c_.rank, c_.overwrite ? nullptr : &of_y_);
    findings_.expect_unchanged(call, "B", B_), findings_.expect_unchanged(call, "h", h_);
    findings_.expect_unchanged(call, "u", u_), findings_.expect_unchanged(call, "v", v_);
    findings_.expect_unchanged(call, "the tenants' arrays", arrays_);
    if (c_.token_scale) findings_.expect_unchanged(call, "token_scale", scales_);
    return findings_.result();
  }

 private:
  // In an array, beside other values.
  static constexpr Index place_of_v = 2;
  Index place_of_u() const { return place_of_v + c_.out + 1; }

  template <class T>
  Matrix drawn(Index rows, Index columns, char zero = ' ', Spoilt spoilt = Spoilt::nothing) {
    return drawn_operand<T>(c_, dice_, rows, columns, zero, spoilt);
  }
  static Matrix column(const Matrix& m, Index j) {
    Matrix result(m.rows, 1);
    for (Index i = 0; i < m.rows; ++i) result(i, 0) = m(i, j);
    return result;
  }
  CallOptions options(const float* token_scale) const {
    return {.scale = c_.is_zero('s') ? 0 : c_.scale,
            .token_scale = c_.token_scale ? token_scale : nullptr,
            .overwrite = c_.overwrite};
  }
  /// y += … of one token, by the loops.
  void add(const Matrix& B, const Matrix& u, const Matrix& v, const Matrix& h, Matrix& y, Index t,
           const float& scale) const {
    CallOptions o = options(&scale);
    o.overwrite = false;
    reference::expand(expanding_factors(c_, B, u, v), h.tokens().tokens(t, 1), y.tokens().tokens(t, 1), o);
  }

  const SomeBackend& backend_;
  ParityCase c_;
  Dice dice_;
  Findings findings_;
  bool owns_v_, owns_u_;
  Index count_;
  Matrix of_B_, of_h_, of_y_, of_scales_, us_, vs_;
  std::vector<Index> tenant_;  // of each token
  GuardedRows<P> B_;
  GuardedRows<Acc> h_;
  GuardedRows<Y> y_;
  GuardedRows<P> u_, v_, arrays_;
  GuardedRows<float> scales_;
  Allocation<const P*> array_of_token_;
};

}  // namespace TIEDLORA_ISA
}  // namespace verify
TIEDLORA_END_NAMESPACE
