// What is frozen costs nothing: backward does not touch the memory of operands that no wanted result depends
// on. They lie on pages without access, so that one look at them ends the (forked) program.
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <tiedlora/eigen.hpp>
#include <tiedlora/ops.hpp>
#include <tiedlora/verify/parity_case.hpp>

#include "support/deck.hpp"
#include "support/guarded.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

template <class P, class X>
class Operands {
 public:
  using Acc = accumulator_t<P>;

  Operands(const verify::ParityCase& c, Dice& dice)
      : A(c.in, c.rank, View::dense, dice),
        B(c.out, c.rank, View::dense, dice),
        u(c.rank, 1, View::dense, dice),
        v(c.out, 1, View::dense, dice),
        dA(c.in, c.rank, View::dense, dice),
        dB(c.out, c.rank, View::dense, dice),
        du(c.rank, 1, View::dense, dice),
        dv(c.out, 1, View::dense, dice),
        h(c.rank, c.tokens, View::dense, dice),
        dh(c.rank, c.tokens, View::dense, dice),
        x(c.in, c.tokens, View::dense, dice),
        dx(c.in, c.tokens, View::dense, dice),
        dy(c.out, c.tokens, View::dense, dice),
        c_(c) {
    A.set(dice.matrix<double>(c.in, c.rank)), B.set(dice.matrix<double>(c.out, c.rank));
    u.set(dice.matrix<double>(c.rank, 1)), v.set(dice.matrix<double>(c.out, 1));
    h.set(dice.matrix<double>(c.rank, c.tokens)), dy.set(dice.matrix<double>(c.out, c.tokens));
    x.set(dice.matrix<double>(c.in, c.tokens));
  }

  Factors<const P> factors() {
    return {A.data(), c_.in,   B.data(), c_.out, u.data(), v.data(),
            Acc(1),   c_.rank, c_.in,    c_.out, 0,        "frozen"};
  }
  Factors<Acc> gradients() {
    return {c_.trains('A') ? dA.data() : nullptr,
            c_.in,
            c_.trains('B') ? dB.data() : nullptr,
            c_.out,
            c_.trains('u') ? du.data() : nullptr,
            c_.trains('v') ? dv.data() : nullptr,
            Acc(1),
            c_.rank,
            c_.in,
            c_.out,
            0,
            "frozen"};
  }

  GuardedRows<P> A, B, u, v;
  GuardedRows<Acc> dA, dB, du, dv, h, dh;
  GuardedRows<X> x, dx, dy;

 private:
  verify::ParityCase c_;
};

template <class Rows>
void forbid(Rows& rows, bool needed) {
  if (!needed) rows.protect(PROT_NONE);
}

// In a process of its own.
template <class Call>
void expect_survival(const std::string& what, const Call& call) {
  SCOPED_TRACE(what);
  const CrashNote note(what);
  EXPECT_EXIT((call(), std::_Exit(0)), testing::ExitedWithCode(0), "");
}

template <class P, class X>
void expect_nothing_needless_is_read(const verify::ParityCase& c, bool wants_dx) {
  const bool a = c.trains('A'), b = c.trains('B'), u = c.trains('u'), v = c.trains('v');
  const std::string what = c.text() + (wants_dx ? ", with dx" : ", without dx");
  Dice dice(c.seed);
  const auto fresh = [&] { return std::make_unique<Operands<P, X>>(c, dice); };

  // The formulas of reference.hpp, read backwards. dh is computed where it is wanted, and beside du.
  const bool dh = a || u || wants_dx, d = dh;
  expect_survival("backward: " + what, [&] {
    const auto o = fresh();
    forbid(o->A, wants_dx), forbid(o->x, a), forbid(o->dx, wants_dx);
    forbid(o->B, d || v), forbid(o->u, dh || b || v), forbid(o->v, d || b);
    forbid(o->h, b || u || v), forbid(o->dy, d || b || v);
    if (wants_dx)
      backward(o->factors(), o->x.tokens(), o->h.tokens(), o->dy.tokens(), o->gradients(), o->dx.tokens());
    else
      backward(o->factors(), o->x.tokens(), o->h.tokens(), o->dy.tokens(), o->gradients());
  });
  // The first stage always computes dh, the second reads it.
  expect_survival("expand_backward: " + what, [&] {
    const auto o = fresh();
    forbid(o->A, false), forbid(o->x, false), forbid(o->h, b || u || v);
    expand_backward(o->factors(), o->h.tokens(), o->dy.tokens(), o->gradients(), o->dh.tokens());
  });
  expect_survival("shrink_backward: " + what, [&] {
    const auto o = fresh();
    forbid(o->B, false), forbid(o->u, false), forbid(o->v, false), forbid(o->h, false), forbid(o->dy, false);
    forbid(o->A, wants_dx), forbid(o->x, a), forbid(o->dx, wants_dx), forbid(o->dh, a || wants_dx);
    if (wants_dx)
      shrink_backward(o->factors(), o->x.tokens(), o->dh.tokens(), o->gradients(), o->dx.tokens());
    else
      shrink_backward(o->factors(), o->x.tokens(), o->dh.tokens(), o->gradients(), none);
  });
}

template <class P, class X>
void expect_nothing_needless_is_read(Index tokens, Index rank) {
  for (const std::string& trained : factor_subsets())
    for (const bool wants_dx : {true, false})
      expect_nothing_needless_is_read<P, X>(
          {.in = 70, .out = 90, .rank = rank, .tokens = tokens, .trained = trained, .seed = 5}, wants_dx);
}

TEST(FrozenDeathTest, OneTokenInFloat) { expect_nothing_needless_is_read<float, float>(1, 8); }
TEST(FrozenDeathTest, SomeTokensInFloat) { expect_nothing_needless_is_read<float, float>(21, 8); }
TEST(FrozenDeathTest, ALargeRankInFloat) { expect_nothing_needless_is_read<float, float>(9, 300); }
TEST(FrozenDeathTest, SomeTokensInBfloat16) {
  expect_nothing_needless_is_read<Eigen::bfloat16, Eigen::bfloat16>(21, 8);
}

// The other way round: what is needed is read, or the tests above would pass for any code.
TEST(FrozenDeathTest, WhatIsNeededIsRead) {
  const verify::ParityCase c = {.in = 70, .out = 90, .rank = 8, .tokens = 3, .trained = "", .seed = 6};
  Dice dice(c.seed);
  const auto call = [&] {
    Operands<float, float> o(c, dice);
    o.A.protect(PROT_NONE);
    backward(o.factors(), none, o.h.tokens(), o.dy.tokens(), o.gradients(), o.dx.tokens());
  };
  EXPECT_DEATH(call(), "");
}

}  // namespace
}  // namespace tiedlora_test
