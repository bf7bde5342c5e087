#include <gtest/gtest.h>

#include <tiedlora/adapter/scheme.hpp>

#include "support/schemes.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using Kind = Init::Kind;

constexpr Tying own = {each_layer, Across::module};

void expect_factor(const Factor& factor, const Tying& tying, bool trained, const Init& init) {
  EXPECT_TRUE(factor.tying == tying);
  EXPECT_EQ(factor.trained, trained);
  EXPECT_TRUE(factor.init == init);
}

TEST(Scheme, Lora) {
  const Scheme s = schemes::lora();
  expect_factor(s.A, own, true, init::kaiming());
  expect_factor(s.B, own, true, init::zeros());
  EXPECT_FALSE(s.u || s.v);
}

TEST(Scheme, LoraFused) {
  const Scheme s = schemes::lora_fused();
  expect_factor(s.A, {each_layer, Across::input}, true, init::kaiming());
  expect_factor(s.B, own, true, init::zeros());
  EXPECT_FALSE(s.u || s.v);
}

TEST(Scheme, Vera) {
  const Scheme s = schemes::vera(9);
  expect_factor(s.A, {all_layers, Across::model}, false, init::torch_vera(9));
  expect_factor(s.B, {all_layers, Across::model}, false, init::torch_vera(9));
  expect_factor(*s.u, own, true, init::constant(0.1));
  expect_factor(*s.v, own, true, init::zeros());
  EXPECT_TRUE(schemes::vera().A.init == init::torch_vera(0));
}

TEST(Scheme, TiedLoraOfABIsTL5) {
  const Scheme s = schemes::tied_lora_ab();
  expect_factor(s.A, {all_layers, Across::input}, true, init::kaiming());
  expect_factor(s.B, {all_layers, Across::kind}, true, init::zeros());
  EXPECT_FALSE(s.u || s.v);
  EXPECT_TRUE(s == schemes::tl5());
}

TEST(Scheme, TiedLoraIsTL6) {
  const Scheme s = schemes::tied_lora();
  expect_factor(s.A, {all_layers, Across::input}, true, init::kaiming());
  expect_factor(s.B, {all_layers, Across::kind}, true, init::zeros());
  expect_factor(*s.u, {each_layer, Across::input}, true, init::ones());
  expect_factor(*s.v, own, true, init::ones());
  EXPECT_TRUE(s == schemes::tl6());
}

TEST(Scheme, Tl6FromZeroV) {
  Scheme s = schemes::tl6_v0();
  expect_factor(s.B, {all_layers, Across::kind}, true, init::kaiming());
  expect_factor(*s.v, own, true, init::zeros());
  s.B.init = init::zeros();
  s.v->init = init::ones();
  EXPECT_TRUE(s == schemes::tl6());  // all else
}

TEST(Scheme, Relatives) {
  expect_factor(schemes::lora_fa().A, own, false, init::kaiming());
  expect_factor(schemes::lora_fa().B, own, true, init::zeros());

  const Tying kind = {all_layers, Across::kind};
  EXPECT_TRUE(schemes::share_lora_a().A.tying == kind);
  EXPECT_TRUE(schemes::share_lora_a().B.tying == own);
  EXPECT_TRUE(schemes::share_lora_b().A.tying == own);
  EXPECT_TRUE(schemes::share_lora_b().B.tying == kind);
  EXPECT_TRUE(schemes::share_lora_ab().A.tying == kind);
  EXPECT_TRUE(schemes::share_lora_ab().B.tying == kind);
  EXPECT_FALSE(schemes::share_lora_ab().u || schemes::share_lora_ab().v);
}

TEST(Scheme, GroupedRegroupsOnlyWhatIsTiedOverAllLayers) {
  const Scheme s = schemes::grouped(4);
  EXPECT_EQ(s.A.tying.layers, 4);
  EXPECT_EQ(s.B.tying.layers, 4);
  EXPECT_EQ(s.u->tying.layers, each_layer);
  EXPECT_EQ(s.v->tying.layers, each_layer);
  EXPECT_EQ(s.A.tying.modules, Across::input);

  Scheme tied_vectors = schemes::tied_lora();
  tied_vectors.u->tying = tied_vectors.v->tying = {all_layers, Across::kind};
  const Scheme t = schemes::grouped(2, tied_vectors);
  EXPECT_EQ(t.u->tying.layers, 2);
  EXPECT_EQ(t.v->tying.layers, 2);
  EXPECT_TRUE(schemes::grouped(3, schemes::lora()) == schemes::lora());
}

TEST(Scheme, FindIsNullWhereAFactorIsAbsent) {
  const Scheme lora = schemes::lora(), tied = schemes::tied_lora();
  EXPECT_EQ(lora.find(FactorId::A), &lora.A);
  EXPECT_EQ(lora.find(FactorId::B), &lora.B);
  EXPECT_EQ(lora.find(FactorId::u), nullptr);
  EXPECT_EQ(lora.find(FactorId::v), nullptr);
  EXPECT_EQ(tied.find(FactorId::u), &*tied.u);
  EXPECT_EQ(tied.find(FactorId::v), &*tied.v);
}

TEST(Scheme, FactorsStandInTheOrderABvu) {
  std::string order;
  for (const FactorId id : all_factors) order += to_string(id);
  EXPECT_EQ(order, "ABvu");
}

TEST(Init, KnowsWhatStartsAtZero) {
  EXPECT_TRUE(init::zeros().is_zero());
  EXPECT_TRUE(init::normal(0).is_zero());
  EXPECT_TRUE(init::kaiming(0).is_zero());
  EXPECT_FALSE(init::ones().is_zero());
  EXPECT_FALSE(init::constant(-0.5).is_zero());
  EXPECT_FALSE(init::kaiming().is_zero());
  EXPECT_FALSE(init::torch_vera(0).is_zero());
  EXPECT_FALSE(init::given().is_zero());
}

TEST(Scheme, EqualityLooksAtEveryFactor) {
  const Scheme base = schemes::tied_lora();
  Scheme other = base;
  EXPECT_TRUE(other == base);
  other.v->init = init::constant(2);
  EXPECT_FALSE(other == base);
  other = base;
  other.u.reset();
  EXPECT_FALSE(other == base);
  for (const NamedScheme& a : presets())
    for (const NamedScheme& b : presets())
      EXPECT_EQ(a.scheme == b.scheme, a.name == b.name) << a.name << b.name;
}

}  // namespace
}  // namespace tiedlora_test
