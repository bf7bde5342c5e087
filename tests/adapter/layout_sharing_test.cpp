// One frozen A and B under many adapters: freeze, share_frozen, tenants.
#include <gtest/gtest.h>

#include <memory>
#include <tiedlora/adapter.hpp>
#include <tiedlora/ops.hpp>
#include <utility>

#include "support/bits.hpp"
#include "support/errors.hpp"
#include "support/models.hpp"
#include "support/reference.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

Adapter<float> trained_adapter() {
  Adapter<float> adapter(
      Layout(projections(2, {"q", "k"}, 6, "x"), schemes::tied_lora(), 3, {.scaling = 0.5}));
  Dice dice(90);
  fill_factors(adapter, dice);
  return adapter;
}

void expect_same_function(const Adapter<float>& a, const Adapter<float>& b) {
  const Matrix<float> x = Dice(91).matrix<float>(6, 3);
  for (Index m = 0; m < a.layout().size(); ++m) {
    Matrix<float> y_a = Matrix<float>::Zero(6, 3), y_b = y_a;
    forward(a.factors(m), x, y_a);
    forward(b.factors(m), x, y_b);
    EXPECT_TRUE(same_bits(y_a, y_b));
  }
}

TEST(Freeze, MovesFactorsToTheFrozenArrayAndKeepsTheFunction) {
  const Adapter<float> adapter = trained_adapter();
  const Adapter<float> base = freeze(adapter, {FactorId::A, FactorId::B});
  EXPECT_FALSE(base.layout().is_trained(FactorId::A));
  EXPECT_FALSE(base.layout().is_trained(FactorId::B));
  EXPECT_TRUE(base.layout().is_trained(FactorId::u));
  EXPECT_TRUE(base.layout().is_trained(FactorId::v));
  EXPECT_EQ(base.layout().frozen_count(), 3 * 6 + 2 * 3 * 6);
  EXPECT_EQ(base.layout().trainable_count() + base.layout().frozen_count(),
            adapter.layout().trainable_count());
  EXPECT_EQ(base.layout().scaling(), 0.5);
  expect_same_function(adapter, base);
}

TEST(Freeze, EverySubset) {
  const Adapter<float> adapter = trained_adapter();
  expect_same_function(adapter, freeze(adapter, {}));
  expect_same_function(adapter, freeze(adapter, {FactorId::u}));
  expect_same_function(adapter, freeze(adapter, {FactorId::v, FactorId::A}));
  expect_same_function(adapter, freeze(adapter, {FactorId::A, FactorId::B, FactorId::u, FactorId::v}));
  // In two steps, through an array that was frozen and shared before.
  const Adapter<float> once = freeze(adapter, {FactorId::B});
  const Adapter<float> twice = freeze(once, {FactorId::A, FactorId::B});
  expect_same_function(adapter, twice);
  EXPECT_TRUE(twice.layout() == freeze(adapter, {FactorId::A, FactorId::B}).layout());
}

TEST(Freeze, RefusesAnAbsentFactor) {
  const Adapter<float> lora(Layout(one_kind(1, 4, 4), schemes::lora(), 2));
  expect_error([&] { (void)freeze(lora, {FactorId::u}); }, {"no factor u to freeze"});
}

TEST(SharedFrozen, TenantsReadOneArrayAndTrainTheirOwn) {
  Adapter<float> base = freeze(trained_adapter(), {FactorId::A, FactorId::B});
  const auto shared = base.share_frozen();
  Adapter<float> one(base.layout(), shared), two(base.layout(), shared);
  EXPECT_EQ(one.frozen().data(), shared->data());
  EXPECT_EQ(two.factors(1).A, base.factors(1).A);
  EXPECT_EQ(two.factors(1).B, base.factors(1).B);
  EXPECT_NE(one.factors(1).v, two.factors(1).v);
  for (const float value : std::as_const(one).trainable()) EXPECT_EQ(value, 0);
  std::copy(std::as_const(base).trainable().begin(), std::as_const(base).trainable().end(),
            one.trainable().begin());
  expect_same_function(base, one);
  one.v(0)(0) = 77;
  EXPECT_EQ(two.v(0)(0), 0);
}

TEST(SharedFrozen, OutlivesTheAdapterThatGaveIt) {
  std::unique_ptr<Adapter<float>> base =
      std::make_unique<Adapter<float>>(freeze(trained_adapter(), {FactorId::A}));
  const Adapter<float> tenant(base->layout(), base->share_frozen());
  const std::vector<float> before(tenant.frozen().begin(), tenant.frozen().end());
  base.reset();
  EXPECT_TRUE(same_bits<float>(tenant.frozen(), before));
}

TEST(SharedFrozen, CopiesShareItAndCastsDoNot) {
  Adapter<float> base = freeze(trained_adapter(), {FactorId::A, FactorId::B});
  (void)base.share_frozen();
  const Adapter<float> copy = base;
  EXPECT_EQ(copy.frozen().data(), base.frozen().data());
  EXPECT_NE(copy.trainable().data(), std::as_const(base).trainable().data());
  const Adapter<float> cast = base.cast<float>();
  EXPECT_NE(cast.frozen().data(), base.frozen().data());
  expect_same_function(base, cast);
  EXPECT_EQ(base.share_frozen(), base.share_frozen());
}

TEST(SharedFrozen, IsReadOnly) {
  Adapter<float> base = freeze(trained_adapter(), {FactorId::A});
  base.B(0)(0, 0) = 1;  // trained
  (void)base.share_frozen();
  expect_error([&] { (void)base.A(1); }, {"\"layers.0.attention.k\"", "factor A", "share", "std::as_const"});
  EXPECT_EQ(std::as_const(base).A(1).rows(), 3);
  base.B(0)(0, 0) = 2;
  base.v(0)(0) = 3;
  EXPECT_EQ(base.layout().trainable_count(), static_cast<Index>(base.trainable().size()));
}

TEST(SharedFrozen, InitializeLeavesItAsItIs) {
  // A given as the shared base, B, u, v initialised again.
  Adapter<float> base = freeze(trained_adapter(), {FactorId::A});
  expect_error([&] { Adapter<float>(base.layout()).initialize(1); }, {"factor A", "given"});
  Adapter<float> tenant(base.layout(), base.share_frozen());
  const std::vector<float> before(base.frozen().begin(), base.frozen().end());
  tenant.initialize(1);
  EXPECT_TRUE(same_bits<float>(base.frozen(), before));
  EXPECT_TRUE(tenant.B(0).isZero(0));
  EXPECT_TRUE(tenant.u(0).isOnes(0));

  // VeRA tenants: one drawn base, whatever the tenant's seed.
  const Layout vera(one_kind(2, 4, 4), schemes::vera(5), 3);
  Adapter<float> drawn(vera);
  drawn.initialize(1);
  Adapter<float> other(vera, drawn.share_frozen());
  other.initialize(2);
  EXPECT_EQ(other.factors(0).A, drawn.factors(0).A);
}

TEST(SharedFrozen, MustHaveTheLayoutsLength) {
  const Layout layout(one_kind(2, 4, 4), schemes::vera(5), 3);
  expect_error([&] { Adapter<float>(layout, std::make_shared<AlignedArray<float>>(7)); },
               {"24 frozen parameters", "holds 7"});
  expect_error([&] { Adapter<float>(layout, nullptr); }, {"24 frozen parameters", "holds 0"});
}

}  // namespace
}  // namespace tiedlora_test
