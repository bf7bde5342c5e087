// What is not there is an Error and never a crash: modules beyond the list, parameters that were moved from,
// null pointers.
#include <gtest/gtest.h>

#include <Eigen/Core>

#include <array>
#include <limits>
#include <span>
#include <string>
#include <tiedlora/adapter.hpp>
#include <tiedlora/eigen.hpp>
#include <tiedlora/ops.hpp>
#include <utility>

#include "support/errors.hpp"
#include "support/models.hpp"

// NOLINTBEGIN(bugprone-use-after-move): what is tested
namespace tiedlora_test {
namespace {

using namespace tiedlora;

Layout tied_layout() { return {one_kind(2, 4, 3), schemes::tied_lora(), 2}; }

TEST(Misuse, ModulesThatDoNotExistAreNamed) {
  const Layout layout = tied_layout();
  Adapter<float> adapter(layout);
  Gradients<float> gradients(layout);
  const auto expect = [](const auto& call) { expect_error(call, {"module", "does not exist"}); };
  for (const Index m : {Index{-1}, Index{2}, Index{99}, std::numeric_limits<Index>::max()}) {
    SCOPED_TRACE(m);
    expect([&] { (void)layout.rank(m); });
    expect([&] { (void)layout.scaling(m); });
    expect([&] { (void)layout.trainable_count(m); });
    expect([&] { (void)layout.frozen_count(m); });
    expect([&] { (void)layout.group_index(FactorId::A, m); });
    expect([&] { (void)layout.group(FactorId::A, m); });
    expect([&] { (void)layout.backward_needs_x(m); });
    expect([&] { (void)layout.share_trained(0, m); });
    expect([&] { (void)layout.share_trained(m, 0); });
    expect([&] { (void)layout.input_id(m); });
    expect([&] { (void)layout.modules()[m]; });
    expect([&] { (void)layout.modules().labels(m); });
    expect([&] { (void)adapter.factors(m); });
    expect([&] { (void)adapter.A(m); });
    expect([&] { (void)std::as_const(adapter).v(m); });
    expect([&] { (void)adapter.view().factors(m); });
    expect([&] { (void)gradients.B(m); });
    expect([&] { (void)factors_at<float>(layout, m, nullptr, nullptr); });
  }
}

TEST(Misuse, ALayoutThatWasMovedFromIsStillOne) {
  Layout layout = tied_layout();
  const Layout other = std::move(layout);
  EXPECT_TRUE(layout == other);
  Layout third = tied_layout();
  third = std::move(layout);
  EXPECT_EQ(layout.size(), 2);
}

TEST(Misuse, AnAdapterThatWasMovedFromIsAnError) {
  Adapter<float> adapter(tied_layout());
  adapter.initialize(1);
  Adapter<float> other = std::move(adapter);
  EXPECT_TRUE(adapter.is_moved_from());
  EXPECT_FALSE(other.is_moved_from());
  const auto expect = [](const auto& call) { expect_error(call, {"moved from"}); };
  expect([&] { (void)adapter.trainable(); });
  expect([&] { (void)std::as_const(adapter).trainable(); });
  expect([&] { (void)adapter.frozen(); });
  expect([&] { (void)adapter.factors(0); });
  expect([&] { (void)adapter.A(0); });
  expect([&] { (void)std::as_const(adapter).A(0); });
  expect([&] { (void)adapter.view(); });
  expect([&] { (void)adapter.cast<double>(); });
  expect([&] { (void)adapter.share_frozen(); });
  expect([&] { adapter.initialize(1); });
  expect([&] { (void)fingerprint(adapter); });
  expect([&] { (void)to_lora(adapter); });
  const Adapter<float> copy = adapter;
  EXPECT_TRUE(copy.is_moved_from());
  adapter = std::move(other);
  EXPECT_EQ(adapter.factors(0).rank, 2);
}

TEST(Misuse, GradientsAndAnOptimizerThatWereMovedFromAreErrors) {
  Adapter<float> adapter(tied_layout());
  Gradients<float> gradients(tied_layout()), others = std::move(gradients);
  const auto expect = [](const auto& call) { expect_error(call, {"moved from"}); };
  expect([&] { (void)gradients.values(); });
  expect([&] { gradients.set_zero(); });
  expect([&] { (void)gradients.factors(0); });
  expect([&] { others.add(gradients); });
  AdamW<float> optimizer(tied_layout());
  const AdamW<float> taken = std::move(optimizer);
  expect([&] { optimizer.step(adapter.trainable(), others.values()); });
}

TEST(Misuse, MemoryThatIsNotThereIsNamed) {
  const Layout layout = tied_layout();
  const auto f = factors_at<float>(layout, 0, nullptr, nullptr);
  const Eigen::MatrixXf x = Eigen::MatrixXf::Ones(4, 2);
  Eigen::MatrixXf h = Eigen::MatrixXf::Zero(2, 2), y = Eigen::MatrixXf::Zero(3, 2);
  expect_error([&] { shrink(f, x, h); }, {"A is null"});
  expect_error([&] { expand(f, h, y); }, {"B is null"});
  expect_error([&] { forward(f, x, y); }, {"A is null"});
  expect_error([&] { forward(f, x, y, h); }, {"A is null"});
  const std::array<Factors<const float>, 1> modules = {f};
  const std::array<Tokens<float>, 1> hs = {Tokens<float>{h.data(), 2, 2, 2}};
  expect_error([&] { shrink(std::span<const Factors<const float>>(modules), x, hs); }, {"A is null"});
  Adapter<float> adapter(layout);
  Gradients<float> gradients(layout);
  Factors<const float> without_b = adapter.factors(0);
  without_b.B = nullptr;
  expect_error([&] { forward(without_b, x, y); }, {"B is null"});
  expect_error([&] { backward(without_b, x, h, y, gradients.factors(0)); }, {"B is null"});
  expect_error([&] { merge(adapter.factors(0), Weight<float>{nullptr, 3, 4, 4, 1}); }, {"weight is null"});
  expect_error([&] { merge(adapter.factors(0), Weight<float>{nullptr, -3, 4, 4, 1}); }, {"is -3x4"});
  expect_error([&] { (void)MergedWeight<float>(adapter.factors(0), Weight<float>{nullptr, 3, 4, 4, 1}); },
               {"weight is null"});
  expect_error([&] { (void)combine<Adapter<float>>({{&adapter, 1}, {nullptr, 1}}); }, {"null adapter"});
}

TEST(Misuse, ScalesThatAreNotFiniteAreRefused) {
  Adapter<float> adapter(tied_layout());
  const Eigen::MatrixXf x = Eigen::MatrixXf::Ones(4, 2);
  Eigen::MatrixXf y = Eigen::MatrixXf::Zero(3, 2);
  for (const double scale :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()})
    expect_error([&] { forward(adapter.factors(0), x, y, {.scale = scale}); }, {"scale is"});
  for (const double scale : {1e39, -1e39}) {
    expect_error([&] { forward(adapter.factors(0), x, y, {.scale = scale}); },
                 {"scale is", "its product with the scaling must be finite"});
    Eigen::MatrixXf w = Eigen::MatrixXf::Zero(3, 4);
    expect_error([&] { merge(adapter.factors(0), w, scale); }, {"scale to merge with", "finite"});
    expect_error([&] { (void)combine<Adapter<float>>({{&adapter, scale}}); }, {"finite weights"});
  }
  const Adapter<float> large(Layout(one_kind(2, 4, 3), schemes::tied_lora(), 2, {.scaling = 1e20}));
  expect_error([&] { forward(large.factors(0), x, y, {.scale = 1e20}); }, {"its product with the scaling"});
  EXPECT_NO_THROW(forward(large.factors(0), x, y, {.scale = -1e18}));
  for (const double scaling : {1e39, -1e300, std::numeric_limits<double>::infinity()})
    expect_error([&] { Layout(one_kind(1, 4, 3), schemes::lora(), 2, {.scaling = scaling}); },
                 {"not finite"});
}

TEST(Misuse, TheOptimizerRefusesWhatWouldSpoilEveryNumber) {
  Adapter<float> adapter(tied_layout());
  const Gradients<float> gradients(tied_layout());
  AdamW<float> optimizer(tied_layout());
  for (const double wrong :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    expect_error([&] { optimizer.step(adapter.trainable(), gradients.values(), {.rate_factor = wrong}); },
                 {"rate factor"});
    expect_error([&] { (void)optimizer.step_plan({.gradient_scale = wrong}); }, {"gradient scale"});
    expect_error([&] { (void)combine<Adapter<float>>({{&adapter, wrong}}); }, {"of weight"});
    Eigen::MatrixXf w = Eigen::MatrixXf::Zero(3, 4);
    expect_error([&] { merge(adapter.factors(0), w, wrong); }, {"scale to merge with"});
  }
  EXPECT_EQ(optimizer.step_count(), 0);
  expect_error([&] { optimizer.set_step_count(-1); }, {"given -1"});
}

TEST(Misuse, BlocksAndSlicesThatDoNotExistAreNamed) {
  Gradients<float> gradients(tied_layout());
  BlockGradients<float> blocks(gradients.factors(0), 100);
  for (const Index index : {Index{-1}, blocks.blocks(), Index{1000}}) {
    expect_error([&] { (void)blocks.zeroed_block(index); }, {"block", "does not exist"});
    if (index != blocks.blocks()) expect_error([&] { blocks.add_up(index); }, {"to be added up"});
  }
  for (const Slice slice : {Slice{0, 0}, Slice{-1, 2}, Slice{2, 2}})
    expect_error([&] { blocks.add_up(1, slice); }, {"slice", "does not exist"});
  const BlockGradients<float> taken = std::move(blocks);
  expect_error([&] { (void)blocks.zeroed_block(0); }, {"there are 0"});
  const auto in_turn = [](Index n, const auto& body) {
    for (Index i = 0; i < n; ++i) body(i);
  };
  for (const Index threads : {0, -3})
    expect_error([&] { parallel_stages(in_turn, threads, [](Slice) {}); }, {"threads"});
  Tokens<const float> none_at_all = {.width = 4, .count = -1};
  Tokens<float> h = {.width = 2, .count = -1};
  const Adapter<float> adapter(tied_layout());
  expect_error([&] { shrink(adapter.factors(0), none_at_all, h); }, {"-1 tokens"});
}

TEST(Misuse, NamesInErrorsAreEscaped) {
  ModuleList modules;
  modules.add({.name = "a\x1b[2J\nb", .in_features = 4, .out_features = 3});
  const auto again = modules.try_add({.name = "a\x1b[2J\nb", .in_features = 4, .out_features = 3});
  ASSERT_FALSE(again);
  EXPECT_NE(again.error().find(R"("a\x1b[2J\nb")"), std::string::npos) << again.error();
  EXPECT_EQ(again.error().find('\n'), std::string::npos);
}

}  // namespace
}  // namespace tiedlora_test
// NOLINTEND(bugprone-use-after-move)
