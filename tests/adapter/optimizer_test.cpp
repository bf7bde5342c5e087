#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <sstream>
#include <tiedlora/adapter/optimizer.hpp>
#include <vector>

#include "support/bits.hpp"
#include "support/dice.hpp"
#include "support/errors.hpp"
#include "support/golden.hpp"
#include "support/models.hpp"
#include "support/schemes.hpp"
#include "support/tolerance.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

// ---------------------------------------------------------------------------------------------------------------------
// PyTorch's results: tests/golden/adamw_golden.py says what each case is.

std::vector<double> numbers_of(const std::string& text) {
  std::istringstream words(text);
  std::vector<double> numbers;
  for (double number = 0; words >> number;) numbers.push_back(number);
  return numbers;
}

// 16 trainable parameters: either all of A, or 10 of A and 6 of v, torch's two parameter groups.
Layout layout_of(const std::vector<double>& group_sizes) {
  Scheme scheme = {.A = {.init = init::zeros()}, .B = {.trained = false, .init = init::ones()}};
  if (group_sizes.size() == 1) return Layout(one_kind(1, 16, 3), scheme, 1);
  scheme.v = Factor{.init = init::ones()};
  return Layout(one_kind(1, static_cast<Index>(group_sizes[0]), static_cast<Index>(group_sizes[1])), scheme,
                1);
}

template <class P>
void expect_golden(const Golden& golden, const std::string& name, const std::string& type) {
  SCOPED_TRACE(name + " in " + type);
  const auto meta = [&](const char* key) { return golden.number(name + "." + key); };
  const auto list = [&](const char* key) { return numbers_of(golden.meta(name + "." + key)); };
  const std::vector<double> sizes = list("group_sizes"), rates = list("learning_rate"),
                            decays = list("weight_decay");
  // The second group's rate and decay as multiples of the first's.
  AdamWOptions options = {.learning_rate = rates[0],
                          .rates = PerFactor{},
                          .beta1 = meta("beta1"),
                          .beta2 = meta("beta2"),
                          .epsilon = meta("epsilon"),
                          .weight_decay = decays[0]};
  if (rates.size() == 2) {
    options.rates->v = rates[1] / rates[0];
    options.decays.v = decays[1] / decays[0];
  }
  AdamW<P> optimizer(layout_of(sizes), options);
  ASSERT_EQ(optimizer.layout().trainable_count(), 16);

  std::vector<P> parameters = golden.tensor("initial").as<P>();
  const std::vector<P> all_gradients = golden.tensor("gradients").as<P>();
  const double max_norm = meta("max_norm");
  const std::size_t steps = all_gradients.size() / 16;
  const auto expect_row = [&](const std::string& what, std::size_t step, std::span<const P> actual) {
    const std::vector<double>& expected = golden.tensor(name + "." + type + "." + what).values;
    double largest = 0;
    for (const double value : expected) largest = std::max(largest, std::abs(value));
    for (std::size_t i = 0; i < 16; ++i)
      // 10 roundings a step: see adamw_golden.py.
      EXPECT_NEAR(static_cast<double>(actual[i]), expected[16 * step + i], golden_tolerance<P>(100, largest))
          << what << " " << i << " after step " << step + 1;
  };
  for (std::size_t step = 0; step < steps; ++step) {
    const std::span<const P> gradients = std::span(all_gradients).subspan(16 * step, 16);
    StepOptions step_options;
    if (max_norm > 0) {
      const GradientStatistics statistics = gradient_statistics(gradients);
      EXPECT_TRUE(statistics.finite);
      const double norm = golden.tensor(name + "." + type + ".norm").values[step];
      EXPECT_NEAR(statistics.norm, norm, golden_tolerance<P>(16, norm));
      step_options.gradient_scale = clip_factor(statistics.norm, max_norm);
    }
    optimizer.step(parameters, gradients, step_options);
    expect_row("parameters", step, parameters);
    expect_row("first_moment", step, optimizer.first_moment());
    expect_row("second_moment", step, optimizer.second_moment());
  }
  EXPECT_EQ(optimizer.step_count(), static_cast<std::int64_t>(steps));
}

TEST(AdamW, AgreesWithPyTorch) {
  const Golden golden = Golden::load("adamw.golden");
  std::istringstream names(golden.meta("cases"));
  int cases = 0;
  for (std::string name; names >> name; ++cases) {
    expect_golden<double>(golden, name, "f64");
    expect_golden<float>(golden, name, "f32");
  }
  EXPECT_GE(cases, 6);
}

// ---------------------------------------------------------------------------------------------------------------------

// tied_lora over 2 layers, 3 → 5, rank 2: A 6, B 10, v 10, u 4.
Layout tied_layout() { return Layout(one_kind(2, 3, 5), schemes::tied_lora(), 2); }

std::vector<double> random_numbers(std::uint64_t seed, std::size_t size = 30) {
  std::vector<double> numbers(size);
  Dice(seed).fill(numbers);
  return numbers;
}

// After one step from zero moments every parameter has moved by its rate against the sign of its gradient,
// but for epsilon, and decayed before that.
TEST(AdamW, RatesAndDecaysArePerFactor) {
  const Layout layout = tied_layout();
  AdamW<double> optimizer(layout, {.learning_rate = 0.01,
                                   .rates = PerFactor{.A = 1, .B = 2, .u = 30, .v = 50},
                                   .epsilon = 1e-300,
                                   .weight_decay = 0.1,
                                   .decays = {.A = 1, .B = 0.5, .u = 0.25, .v = 0}});
  std::vector<double> parameters(30, 2.0), gradients = random_numbers(140);
  optimizer.step(parameters, gradients, {.rate_factor = 0.5});
  const auto expect_moved = [&](FactorId id, double rate, double decay) {
    const Layout::Segment segment = layout.segment(id);
    EXPECT_GT(segment.count, 0);
    for (Index i = segment.offset; i < segment.offset + segment.count; ++i) {
      const auto n = static_cast<std::size_t>(i);
      const double expected = 2 * (1 - rate * decay) - (gradients[n] > 0 ? rate : -rate);
      EXPECT_NEAR(parameters[n], expected, rounding_bound<double>(16, 4)) << to_string(id) << " " << i;
    }
  };
  expect_moved(FactorId::A, 0.005, 0.1);
  expect_moved(FactorId::B, 0.01, 0.05);
  expect_moved(FactorId::u, 0.15, 0.025);
  expect_moved(FactorId::v, 0.25, 0);
}

TEST(AdamW, DoesNotDecayUAndVByDefault) {
  const Layout layout = tied_layout();
  AdamW<double> optimizer(layout, {.learning_rate = 0.01, .weight_decay = 0.1});
  std::vector<double> parameters(30, 2.0);
  const std::vector<double> no_gradients(30, 0.0);
  optimizer.step(parameters, no_gradients);
  for (const FactorId id : all_factors) {
    const Layout::Segment segment = layout.segment(id);
    const bool decays = id == FactorId::A || id == FactorId::B;
    for (Index i = segment.offset; i < segment.offset + segment.count; ++i)
      EXPECT_EQ(parameters[static_cast<std::size_t>(i)] < 2, decays) << to_string(id);
  }
}

TEST(AdamW, TakesTheSchemesRatesUnlessGivenOthers) {
  const LearningRates recommended = recommended_rates(schemes::tied_lora(), tied_layout().rank(), 5);
  const AdamW<float> by_default(tied_layout());
  EXPECT_EQ(by_default.rates().learning_rate, recommended.learning_rate);
  EXPECT_EQ(by_default.rates().factors.u, recommended.factors.u);
  const AdamW<float> given(tied_layout(), {.learning_rate = 7, .rates = PerFactor{.u = 3}});
  EXPECT_EQ(given.rates().learning_rate, 7);
  EXPECT_EQ(given.rates().factors.u, 3);
  EXPECT_EQ(given.rates().factors.v, 1);
  // Where u and v train beside tied A and B they are all that tells the layers apart.
  EXPECT_GT(recommended.factors.u, 1);
  EXPECT_GT(recommended.factors.v, 1);
  EXPECT_EQ(recommended_rates(schemes::vera(), 4, 5).factors.u, 1);
  // From v = 0 they have VeRA's rate.
  Scheme from_zero = schemes::tied_lora();
  from_zero.v->init = init::zeros();
  const LearningRates zero = recommended_rates(from_zero, 4, 5);
  EXPECT_DOUBLE_EQ(zero.learning_rate * zero.factors.v,
                   recommended_rates(schemes::vera(), 4, 5).learning_rate);
}

TEST(AdamW, RateOfMatricesFallsAsRankAndWidthRise) {
  const auto lora = [](Index rank, Index width) {
    return recommended_rates(schemes::lora(), rank, width).learning_rate;
  };
  EXPECT_DOUBLE_EQ(lora(1, 576), 0.012);
  EXPECT_NEAR(lora(8, 576), 0.012 * std::pow(8, -0.4), 1e-15);
  EXPECT_NEAR(lora(1, 16 * 576), 0.012 / 2, 1e-15);
  EXPECT_DOUBLE_EQ(recommended_rates(schemes::tl5(), 8, 64).learning_rate, 2 * lora(8, 64));
  // An adapter's is that of its narrowest module.
  ModuleList modules;
  modules.add({.name = "down", .layer = 0, .in_features = 1536, .out_features = 9});
  modules.add({.name = "q", .layer = 0, .in_features = 9216, .out_features = 4});
  modules.add({.name = "up", .layer = 0, .in_features = 576, .out_features = 6});
  const AdamW<float> of_rank_8(Layout(modules, schemes::lora(), 8));
  EXPECT_EQ(of_rank_8.rates().learning_rate, lora(8, 576));
  EXPECT_EQ(of_rank_8.rates().factors.A, 1);
  // Of those that are adapted, and by their largest rank.
  const LayoutOptions one_module = {.ranks = {{"q", 64}}};
  EXPECT_EQ(recommended_rates(Layout(modules, schemes::lora(), 0, one_module)).learning_rate, lora(64, 9216));
  const LayoutOptions two_modules = {.ranks = {{"up", 0}, {"q", 3}}};
  EXPECT_EQ(recommended_rates(Layout(modules, schemes::lora(), 2, two_modules)).learning_rate, lora(3, 1536));
  // Where A is frozen B may be faster.
  EXPECT_DOUBLE_EQ(recommended_rates(schemes::lora_fa(), 8, 64).learning_rate, 3 * lora(8, 64));
}

TEST(AdamW, GradientScaleIsThatOfTheGradients) {
  // A power of two: exact.
  std::vector<double> plain = random_numbers(141), scaled = plain, gradients = random_numbers(142),
                      eighth = gradients;
  for (double& g : eighth) g /= 8;
  AdamW<double> a(tied_layout()), b(tied_layout());
  for (int step = 0; step < 3; ++step) {
    a.step(plain, gradients);
    b.step(scaled, eighth, {.gradient_scale = 8});
  }
  EXPECT_TRUE(same_bits<double>(plain, scaled));
  EXPECT_TRUE(same_bits<double>(a.second_moment(), b.second_moment()));
}

TEST(AdamW, ResumedFromItsStateItGoesOnBitForBit) {
  const AdamWOptions options = {.learning_rate = 0.02, .weight_decay = 0.1};
  AdamW<float> straight(tied_layout(), options);
  std::vector<float> parameters(30), resumed_parameters;
  Dice dice(143);
  dice.fill(parameters);
  std::vector<std::vector<float>> gradients(6, std::vector<float>(30));
  for (auto& g : gradients) dice.fill(g);

  AdamW<float> resumed(tied_layout(), options);
  for (std::size_t step = 0; step < 6; ++step) {
    if (step == 3) {
      resumed_parameters = parameters;
      std::copy(straight.first_moment().begin(), straight.first_moment().end(),
                resumed.first_moment().begin());
      std::copy(straight.second_moment().begin(), straight.second_moment().end(),
                resumed.second_moment().begin());
      resumed.set_step_count(straight.step_count());
    }
    straight.step(parameters, gradients[step]);
    if (step >= 3) resumed.step(resumed_parameters, gradients[step]);
  }
  EXPECT_TRUE(same_bits<float>(parameters, resumed_parameters));
  EXPECT_TRUE(same_bits<float>(straight.first_moment(), resumed.first_moment()));
  EXPECT_EQ(resumed.step_count(), 6);
}

TEST(AdamW, UpdatesParametersOutsideALayoutToo) {
  std::vector<double> a = random_numbers(144, 16), b = a, first(16), second(16);
  const std::vector<double> gradients = random_numbers(145, 16);
  AdamW<double> optimizer(layout_of({16}), {.learning_rate = 0.1, .rates = PerFactor{}, .weight_decay = 0.2});
  for (int step = 1; step <= 3; ++step) {
    optimizer.step(a, gradients, {.rate_factor = 0.5, .gradient_scale = 0.7});
    adamw_update({.rate = 0.05,
                  .decay = 0.2,
                  .beta1 = 0.9,
                  .beta2 = 0.999,
                  .epsilon = 1e-8,
                  .gradient_scale = 0.7,
                  .step = step},
                 std::span(b), gradients, first, second);
  }
  EXPECT_TRUE(same_bits<double>(a, b));
  expect_error(
      [&] {
        adamw_update(AdamWStep{.rate = 1}, std::span(b), std::span(gradients).first(15), first, second);
      },
      {"16 parameters", "a span of 15"});
}

TEST(StepPlan, RunElsewhereIsTheStep) {
  const Layout layout(one_kind(2, 3, 5), schemes::tied_lora(), 2);
  const AdamWOptions options = {.learning_rate = 0.1, .rates = PerFactor{.B = 2, .u = 0.5}};
  AdamW<float> optimizer(layout, options), elsewhere(layout, options);
  std::vector<float> parameters(static_cast<std::size_t>(layout.trainable_count()), 1),
      gradients = parameters;
  Dice(3).fill(gradients);
  std::vector<float> copy = parameters;
  for (int step = 0; step < 3; ++step) {
    const StepOptions how = {.rate_factor = 0.5, .gradient_scale = 0.25};
    optimizer.step(parameters, gradients, how);

    // Parameters and moments as plain arrays, as a device has them.
    Index next = 0;
    for (const auto& segment : elsewhere.step_plan(how)) {
      EXPECT_EQ(segment.offset, next);
      next += segment.count;
      const auto part = [&segment](auto span) {
        return span.subspan(static_cast<std::size_t>(segment.offset),
                            static_cast<std::size_t>(segment.count));
      };
      adamw_update(segment.constants, part(std::span<float>(copy)), part(std::span<const float>(gradients)),
                   part(elsewhere.first_moment()), part(elsewhere.second_moment()));
    }
    EXPECT_EQ(next, layout.trainable_count());
    elsewhere.set_step_count(elsewhere.step_count() + 1);
    EXPECT_TRUE(same_bits(std::span<const float>(copy), std::span<const float>(parameters))) << step;
  }
}

TEST(StepPlan, HasTheTrainedFactorsOnly) {
  EXPECT_EQ(AdamW<float>(Layout(one_kind(2, 3, 5), schemes::tied_lora(), 2)).step_plan().size, 4);
  const AdamW<float> vera(Layout(one_kind(2, 3, 5), schemes::vera(), 2));
  EXPECT_EQ(vera.step_plan().size, 2);
  EXPECT_EQ(vera.step_count(), 0) << "a plan is not a step";
}

TEST(AdamWErrors, SayWhatIsWrong) {
  AdamW<float> optimizer(tied_layout());
  std::vector<float> right(30), wrong(29);
  expect_error([&] { optimizer.step(wrong, right); }, {"30", "29 parameters and 30 gradients"});
  expect_error([&] { optimizer.step(right, wrong); }, {"30 parameters and 29 gradients"});
  EXPECT_EQ(optimizer.step_count(), 0);

  Scheme hopeless = schemes::tied_lora();
  hopeless.v->init = init::zeros();
  expect_error([&] { AdamW<float>(Layout(one_kind(2, 3, 5), hopeless, 2)); }, {"cannot learn"});
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  const AdamWOptions bad[] = {{.learning_rate = -1},
                              {.learning_rate = nan},
                              {.learning_rate = infinity},
                              {.learning_rate = 1e39},                                 // infinite as a float
                              {.learning_rate = 1e38},                                 // over 1 - beta1
                              {.learning_rate = 1e20, .rates = PerFactor{.u = 1e20}},  // or times u's
                              {.learning_rate = 1e20, .weight_decay = 1e20},
                              {.rates = PerFactor{.u = infinity}},
                              {.beta1 = 1},
                              {.beta1 = -0.1},
                              {.beta2 = 1.5},
                              {.beta2 = nan},
                              {.epsilon = -1},
                              {.epsilon = 0},
                              {.epsilon = 1e-50},  // 0 as a float
                              {.epsilon = infinity},
                              {.epsilon = 1e300},
                              {.weight_decay = -1},
                              {.weight_decay = infinity},
                              {.decays = {.B = infinity}}};
  for (const AdamWOptions& options : bad)
    expect_error([&] { AdamW<float>(tied_layout(), options); }, {"AdamW needs"});
  EXPECT_NO_THROW(AdamW<double>(tied_layout(), {.epsilon = 1e-50}));
  for (const std::int64_t count : {std::int64_t{-1}, std::numeric_limits<std::int64_t>::max()})
    expect_error([&] { optimizer.set_step_count(count); }, {"set_step_count was given"});
}

// ---------------------------------------------------------------------------------------------------------------------

TEST(GradientStatistics, NormOfFloatsThatOverflowWhenSquared) {
  const std::vector<float> large = {3e30f, -4e30f};
  const GradientStatistics statistics = gradient_statistics(std::span(large));
  EXPECT_TRUE(statistics.finite);
  EXPECT_NEAR(statistics.norm / 5e30, 1,
              rounding_bound<float>(2, 1));  // 3e30f and 4e30f are rounded themselves
  EXPECT_EQ(gradient_statistics(std::span<const float>()).norm, 0);
  EXPECT_TRUE(gradient_statistics(std::span<const float>()).finite);
}

TEST(GradientStatistics, SeesAnyInfinityOrNaN) {
  for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN()})
    for (std::size_t at = 0; at < 35; ++at) {
      std::vector<float> gradients(35, 1.0f);
      EXPECT_TRUE(gradient_statistics(std::span(gradients)).finite);
      gradients[at] = bad;
      EXPECT_FALSE(gradient_statistics(std::span(gradients)).finite) << bad << " at " << at;
    }
  // Two infinities of opposite sign do not cancel.
  const std::vector<double> opposite = {std::numeric_limits<double>::infinity(),
                                        -std::numeric_limits<double>::infinity()};
  EXPECT_FALSE(gradient_statistics(std::span(opposite)).finite);
}

TEST(ClipFactor, BoundsTheNorm) {
  EXPECT_EQ(clip_factor(0.5, 1), 1);
  EXPECT_EQ(clip_factor(0, 1), 1);
  EXPECT_NEAR(clip_factor(4, 1) * 4, 1, 1e-6);
  EXPECT_LE(clip_factor(4, 1) * 4, 1);
  EXPECT_EQ(clip_factor(std::numeric_limits<double>::infinity(), 1), 0);
}

}  // namespace
}  // namespace tiedlora_test
