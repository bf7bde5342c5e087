#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <tiedlora/adapter.hpp>
#include <tiedlora/ops.hpp>
#include <vector>

#include "support/bits.hpp"
#include "support/errors.hpp"
#include "support/models.hpp"
#include "support/schemes.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

// Three layers and a head.
ModuleList small_model() {
  ModuleList modules = unequal_layers(/*k_width=*/4);
  modules.add({.name = "lm_head", .in_features = 6, .out_features = 11});
  return modules;
}

template <class T>
void expect_zero_start(const Scheme& scheme) {
  Adapter<T> adapter(Layout(small_model(), scheme, 3));
  adapter.initialize(1);
  Dice dice(70);
  for (Index m = 0; m < adapter.layout().size(); ++m) {
    const auto f = adapter.factors(m);
    const Matrix<T> x = dice.matrix<T>(f.in_features, 4), y0 = dice.matrix<T>(f.out_features, 4);
    Matrix<T> y = y0;
    forward(f, x, y);
    EXPECT_TRUE(same_bits(y, y0)) << f.name;
  }
}

TEST(Initialize, EveryPresetStartsWithDeltaWExactlyZero) {
  for (const NamedScheme& preset : presets()) {
    SCOPED_TRACE(preset.name);
    expect_zero_start<float>(preset.scheme);
    expect_zero_start<double>(preset.scheme);
    expect_zero_start<Eigen::bfloat16>(preset.scheme);
  }
}

TEST(Initialize, StartsEachFactorAsTheSchemeSays) {
  Adapter<double> adapter(Layout(small_model(), schemes::tied_lora(), 3));
  for (double& number : adapter.trainable()) number = std::nan("");
  adapter.initialize(1);
  for (Index m = 0; m < adapter.layout().size(); ++m) {
    EXPECT_GT(adapter.A(m).cwiseAbs().minCoeff(), 0);
    EXPECT_TRUE(adapter.B(m).isZero(0));
    EXPECT_TRUE(adapter.u(m).isOnes(0));
    EXPECT_TRUE(adapter.v(m).isOnes(0));
  }
  Adapter<double> vera(Layout(small_model(), schemes::vera(), 3));
  vera.initialize(1);
  EXPECT_TRUE(vera.u(2).isConstant(0.1, 0));
  EXPECT_TRUE(vera.v(2).isZero(0));
}

// Uniform in ±gain √(3 / fan_in). Of 1000 draws the largest lies below 0.98 of the bound with probability
// 2·10⁻⁹.
TEST(Initialize, KaimingIsUniformWithinItsBound) {
  Scheme scheme = schemes::lora();
  Adapter<double> adapter(Layout(one_kind(1, 50, 40), scheme, 25));
  adapter.initialize(1);
  const double bound = 1 / std::sqrt(50.0);  // torch's kaiming_uniform_(a=√5)
  EXPECT_LE(adapter.A(0).cwiseAbs().maxCoeff(), bound);
  EXPECT_GT(adapter.A(0).cwiseAbs().maxCoeff(), 0.98 * bound);

  scheme.A.init = init::zeros();
  scheme.B.init = init::kaiming(2);
  Adapter<double> other(Layout(one_kind(1, 50, 40), scheme, 25));
  other.initialize(1);
  const double bound_of_B = 2 * std::sqrt(3 / 25.0);  // fan_in of B is the rank
  EXPECT_LE(other.B(0).cwiseAbs().maxCoeff(), bound_of_B);
  EXPECT_GT(other.B(0).cwiseAbs().maxCoeff(), 0.98 * bound_of_B);
}

TEST(Initialize, FanInOfASharedFactorIsTheStoredWidth) {
  // down, 9 wide, shares A with q, 6 wide: the bound is that of 9.
  Scheme scheme = schemes::tied_lora();
  scheme.A.tying = {all_layers, Across::model};
  Adapter<double> adapter(Layout(small_model(), scheme, 400));
  adapter.initialize(1);
  EXPECT_LE(adapter.A(2).cwiseAbs().maxCoeff(), 1.0 / 3);
  EXPECT_GT(adapter.A(2).cwiseAbs().maxCoeff(), 0.98 / 3);
}

TEST(Initialize, NormalHasTheStandardDeviationAskedFor) {
  Scheme scheme = schemes::lora();
  scheme.A.init = init::normal(0.02);
  Adapter<double> adapter(Layout(one_kind(1, 500, 4), scheme, 40));
  adapter.initialize(1);
  const double n = 500 * 40, mean = adapter.A(0).sum() / n, variance = adapter.A(0).squaredNorm() / n;
  EXPECT_NEAR(mean / 0.02, 0, 6 / std::sqrt(n));
  EXPECT_NEAR(variance / (0.02 * 0.02), 1, 6 * std::sqrt(2 / n));
}

TEST(Initialize, DependsOnSeedFactorAndGroupAlone) {
  Scheme scheme = schemes::lora();
  scheme.B.init = init::kaiming();
  scheme.u = Factor{.init = init::zeros()};
  const auto start = [&scheme](int layers, std::uint64_t seed) {
    Adapter<float> adapter(Layout(one_kind(layers, 8, 8), scheme, 8));
    adapter.initialize(seed);
    return adapter;
  };
  const Adapter<float> one = start(2, 1), again = start(2, 1), other = start(2, 2), longer = start(5, 1);
  EXPECT_TRUE(same_bits<float>(one.trainable(), again.trainable()));
  EXPECT_FALSE(same_bits<float>(one.trainable(), other.trainable()));
  EXPECT_NE(one.A(0), one.A(1));
  EXPECT_NE(one.A(0), Matrix<float>(one.B(0).transpose()));
  // More modules at the end leave those before as they are.
  EXPECT_EQ(one.A(1), longer.A(1));
  EXPECT_EQ(one.B(1), longer.B(1));
}

TEST(Initialize, NarrowerTypesHoldTheSameNumbersRounded) {
  const Layout layout(small_model(), schemes::tied_lora(), 3);
  Adapter<double> wide(layout);
  Adapter<float> narrow(layout);
  Adapter<Eigen::bfloat16> narrowest(layout);
  wide.initialize(5), narrow.initialize(5), narrowest.initialize(5);
  EXPECT_TRUE(same_bits<float>(wide.cast<float>().trainable(), narrow.trainable()));
  EXPECT_TRUE(same_bits<Eigen::bfloat16>(wide.cast<Eigen::bfloat16>().trainable(), narrowest.trainable()));
}

TEST(Initialize, TheSameBitsOnEveryCompiler) {
  // Hashes computed from the definitions in Python, with numpy's rounding to float.
  const Scheme scheme = {.A = {.init = init::normal(0.02)},
                         .B = {{all_layers, Across::kind}, false, init::kaiming(1)},
                         .u = Factor{.init = init::ones()},
                         .v = Factor{.init = init::zeros()}};
  const Layout layout(one_kind(2, 5, 3), scheme, 2);
  Adapter<float> narrow(layout);
  narrow.initialize(42);
  EXPECT_EQ(fnv1a(std::as_const(narrow).trainable()), 0x9b59559f354441c1u);
  EXPECT_EQ(fnv1a(narrow.frozen()), 0x8f37f372b237360du);
  Adapter<double> wide(layout);
  wide.initialize(42);
  EXPECT_EQ(fnv1a(std::as_const(wide).trainable()), 0x8854946a4189f2b7u);
  EXPECT_EQ(fnv1a(wide.frozen()), 0x6147b4d83dab7f9bu);
}

TEST(InitializeErrors, SchemesThatCannotLearn) {
  const ModuleList modules = one_kind(2, 4, 5);
  const auto expect_refused = [&modules](const Scheme& scheme,
                                         std::initializer_list<std::string_view> parts) {
    Adapter<float> adapter(Layout(modules, scheme, 2));  // the layout itself is fine: files may hold it
    expect_error([&] { adapter.initialize(1); }, parts);
  };
  Scheme two_zeros = schemes::lora();
  two_zeros.A.init = init::normal(0);
  expect_refused(two_zeros, {"cannot learn", "two of its factors start at zero"});

  Scheme zero_v = schemes::tied_lora();
  zero_v.v->init = init::zeros();
  expect_refused(zero_v, {"cannot learn"});

  Scheme frozen_zero = schemes::lora();
  frozen_zero.B.trained = false;
  expect_refused(frozen_zero, {"cannot learn", "factor B", "zero and frozen"});

  Scheme nothing = schemes::lora();
  nothing.A.trained = nothing.B.trained = false;
  nothing.B.init = init::ones();
  expect_refused(nothing, {"cannot learn", "trains no factor"});

  Scheme moved = schemes::lora();
  moved.B.init = init::normal(1);
  expect_refused(moved, {"would change the model", "start one factor at zero"});

  Scheme given = schemes::lora();
  given.A.init = init::given();
  expect_refused(given, {"factor A", "given", "load the adapter"});

  Scheme vera_u = schemes::vera();
  vera_u.u->init = init::torch_vera(1);
  expect_refused(vera_u, {"factor u", "torch_vera"});
}

TEST(InitializeErrors, LeaveTheAdapterAsItWas) {
  Scheme scheme = schemes::tied_lora();
  scheme.u->init = init::torch_vera(1);  // found out last: u stands at the end
  Adapter<float> adapter(Layout(one_kind(2, 4, 5), scheme, 2));
  std::iota(adapter.trainable().begin(), adapter.trainable().end(), 1.0f);
  const std::vector<float> before(adapter.trainable().begin(), adapter.trainable().end());
  EXPECT_THROW(adapter.initialize(1), Error);
  EXPECT_TRUE(same_bits<float>(adapter.trainable(), before));
}

}  // namespace
}  // namespace tiedlora_test
