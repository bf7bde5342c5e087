// Factors from a layout and addresses, which may be those of another device: nothing is read.
#include <gtest/gtest.h>

#include <cstdint>
#include <tiedlora/adapter.hpp>
#include <tiedlora/adapter/factors_at.hpp>

#include "support/errors.hpp"
#include "support/models.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

// Addresses where nothing is.
template <class P>
P* nowhere(std::uintptr_t address) {
  return reinterpret_cast<P*>(address);
}

// 2 layers, 3 → 5, rank 2: frozen A 6; trained B 10, v 5 + 5, u 2 + 2.
Layout small_layout_of_factors() {
  Scheme scheme = schemes::tied_lora();
  scheme.A.trained = false;
  return Layout(one_kind(2, 3, 5), scheme, 2, {.scalings = {{"layers.1.proj", 0.25}}});
}

TEST(FactorsAt, AddsTheOffsetsOfTheLayout) {
  const Layout layout = small_layout_of_factors();
  const float* const trainable = nowhere<const float>(0x100000);
  const float* const frozen = nowhere<const float>(0x200000);
  const Factors<const float> f = factors_at(layout, 1, trainable, frozen);
  EXPECT_EQ(f.A, frozen);
  EXPECT_EQ(f.B, trainable);
  EXPECT_EQ(f.v, trainable + 15);
  EXPECT_EQ(f.u, trainable + 22);
  EXPECT_EQ(f.a_stride, 3);
  EXPECT_EQ(f.b_stride, 5);
  EXPECT_EQ(f.scaling, 0.25f);
  EXPECT_EQ(f.rank, 2);
  EXPECT_EQ(f.in_features, 3);
  EXPECT_EQ(f.out_features, 5);
  EXPECT_EQ(f.module, 1);
  EXPECT_STREQ(f.name, "layers.1.proj");
}

TEST(FactorsAt, GivesWhatTheAdapterGives) {
  const Adapter<float> adapter(small_layout_of_factors());
  for (Index m = 0; m < 2; ++m) {
    const Factors<const float> expected = adapter.factors(m),
                               f = factors_at(adapter.layout(), m, adapter.trainable().data(),
                                              adapter.frozen().data());
    EXPECT_EQ(f.A, expected.A);
    EXPECT_EQ(f.B, expected.B);
    EXPECT_EQ(f.u, expected.u);
    EXPECT_EQ(f.v, expected.v);
  }
}

TEST(FactorsAt, GradientsOfFrozenFactorsAreNull) {
  float* const gradients = nowhere<float>(0x300000);
  const Factors<float> g = gradients_at(small_layout_of_factors(), 0, gradients);
  EXPECT_EQ(g.A, nullptr);
  EXPECT_EQ(g.B, gradients);
  EXPECT_EQ(g.v, gradients + 10);
  EXPECT_EQ(g.u, gradients + 20);
}

TEST(FactorsAt, AbsentFactorsAreNull) {
  const Layout layout(one_kind(1, 3, 5), schemes::lora(), 2);
  const Factors<const float> f = factors_at(layout, 0, nowhere<const float>(0x100000), nullptr);
  EXPECT_NE(f.A, nullptr);
  EXPECT_EQ(f.u, nullptr);
  EXPECT_EQ(f.v, nullptr);
}

TEST(FactorsAt, RefusesAModuleThatDoesNotExist) {
  const Layout layout = small_layout_of_factors();
  const float* const numbers = nowhere<const float>(0x100000);
  expect_error([&] { (void)factors_at(layout, 2, numbers, numbers); }, {"module 2", "has 2"});
  expect_error([&] { (void)gradients_at(layout, -1, nowhere<float>(0x100000)); }, {"module -1"});
}

}  // namespace
}  // namespace tiedlora_test
