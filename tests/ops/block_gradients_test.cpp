// Backward in blocks of tokens: the same bits in any number of threads, and plain backward's values.
#include <gtest/gtest.h>

#include <tiedlora/adapter.hpp>
#include <tiedlora/ops.hpp>
#include <vector>

#include "support/bits.hpp"
#include "support/errors.hpp"
#include "support/module_run.hpp"
#include "support/threads.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using FloatRun = ModuleRun<float, float, float>;

void in_turn(Index n, const auto& body) {
  for (Index i = 0; i < n; ++i) body(i);
}
const auto one_thread = [](Index n, const auto& body) { in_turn(n, body); };

struct Results {
  Gradients<float> gradients;
  Matrix<float> dx;
};

// Adds to gradients that are not zero, as every call does.
template <class Backward>
Results results_of(const FloatRun& run, const Matrix<float>& h, const Backward& backward_of) {
  Results results{Gradients<float>(run.adapter.layout()), run.dx};
  Dice(5).fill(results.gradients.values());
  backward_of(results.gradients.factors(0), results.dx, h);
  return results;
}

Matrix<float> hidden(const FloatRun& run) {
  Matrix<float> h(run.factors().rank, run.count);
  shrink(run.factors(), run.x, h);
  return h;
}

Results plain(const FloatRun& run) {
  return results_of(run, hidden(run), [&](const Factors<float>& gradient, Matrix<float>& dx, const auto& h) {
    backward(run.factors(), run.x, h, run.dy, gradient, dx, run.options);
  });
}
template <class ParallelFor>
Results blocked(const FloatRun& run, const ParallelFor& parallel_for) {
  return results_of(run, hidden(run), [&](const Factors<float>& gradient, Matrix<float>& dx, const auto& h) {
    const BlockGradients<float> blocks(gradient, run.count);
    backward_in_blocks(parallel_for, run.factors(), run.x, h, run.dy, blocks, dx, run.options);
  });
}

TEST(BlockGradients, TheCutDependsOnTheTokensOnly) {
  EXPECT_EQ(token_blocks(0), 1);
  EXPECT_EQ(token_blocks(31), 1);
  EXPECT_EQ(token_blocks(32), 2);
  EXPECT_EQ(token_blocks(128), 8);
  EXPECT_EQ(token_blocks(1024), 8);
  EXPECT_EQ(token_blocks(1025), 9);
  for (const Index tokens : {1, 17, 100, 128, 1000, 5000}) {
    SCOPED_TRACE(tokens);
    Index end = 0;
    for (Index i = 0; i < token_blocks(tokens); ++i) {
      const auto block = token_block(tokens, i);
      EXPECT_EQ(block.begin, end);
      EXPECT_GT(block.end, block.begin);
      EXPECT_LE(block.end - block.begin, 144);  // 128 to the next multiple of 16
      EXPECT_EQ(block.begin % 16, 0);
      end = block.end;
    }
    EXPECT_EQ(end, tokens);
  }
}

TEST(BlockGradients, AnyNumberOfThreadsGivesTheSameBits) {
  const FloatRun run({.in = 40, .out = 30, .rank = 4}, 150, 1);
  const Results expected = blocked(run, one_thread);
  for (const Index threads : {2, 3, 8, 20}) {
    SCOPED_TRACE(threads);
    const auto pool = [threads](Index n, const auto& body) { parallel_for(threads, n, body); };
    const Results results = blocked(run, pool);
    EXPECT_TRUE(same_bits(results.gradients.values(), expected.gradients.values()));
    EXPECT_TRUE(same_bits(results.dx, expected.dx));
  }
}

TEST(BlockGradients, AreThoseOfPlainBackward) {
  for (const char* trained : {"ABuv", "A", "B", "uv", "AB"})
    for (const Index tokens : {1, 40, 150}) {
      const FloatRun run({.in = 40, .out = 30, .rank = 4, .trained = trained}, tokens, 2);
      SCOPED_TRACE(run.text);
      const Results expected = plain(run), results = blocked(run, one_thread);
      // Each token's dx is computed alone, and so has the same bits. A gradient is a sum over tokens of terms
      // of one size, in another order: its error is below tokens · ε of their norm, which is at most
      // √tokens of the sum's for terms that do not cancel by more.
      EXPECT_TRUE(same_bits(results.dx, expected.dx));
      using Numbers = Eigen::Map<const Eigen::VectorXf>;
      const auto numbers = [](const Results& r) {
        const auto values = r.gradients.values();
        return Numbers(values.data(), static_cast<Eigen::Index>(values.size()));
      };
      const float tokens_float = static_cast<float>(tokens);
      EXPECT_LE((numbers(results) - numbers(expected)).norm(),
                tokens_float * std::sqrt(tokens_float) * 0x1p-23f * numbers(expected).norm());
    }
}

TEST(BlockGradients, ModulesInTurnShareMemory) {
  const FloatRun run({.in = 20, .out = 10, .rank = 3}, 100, 3);
  const Results expected = blocked(run, one_thread);
  std::vector<float> memory;
  for (int turn = 0; turn < 2; ++turn) {  // what a turn leaves behind does not reach the next
    const Results results =
        results_of(run, hidden(run), [&](const Factors<float>& gradient, Matrix<float>& dx, const auto& h) {
          memory.resize(
              static_cast<std::size_t>(token_blocks(run.count) * BlockGradients<float>::size(gradient)));
          const BlockGradients<float> blocks(gradient, run.count, memory);
          backward_in_blocks(one_thread, run.factors(), run.x, h, run.dy, blocks, dx, run.options);
        });
    EXPECT_TRUE(same_bits(results.gradients.values(), expected.gradients.values()));
  }
}

TEST(BlockGradients, HoldOnlyWhatIsTrained) {
  Gradients<float> gradients(one_module_layout({.in = 7, .out = 5, .rank = 3, .trained = "Bv"}));
  const Factors<float> gradient = gradients.factors(0);
  EXPECT_EQ(BlockGradients<float>::size(gradient), 3 * 5 + 5);
  const BlockGradients<float> blocks(gradient, 40);
  EXPECT_EQ(blocks.blocks(), 2);
  EXPECT_EQ(blocks.zeroed_block(1).A, nullptr);
  EXPECT_EQ(blocks.zeroed_block(1).u, nullptr);
  EXPECT_EQ(blocks.zeroed_block(1).v, blocks.zeroed_block(1).B + 3 * 5);
  EXPECT_EQ(blocks.gradient().B, gradient.B);
}

TEST(BlockGradients, RefuseWhatDoesNotFit) {
  const FloatRun run({.in = 20, .out = 10, .rank = 3}, 100, 4);
  const Matrix<float> h = hidden(run);
  Matrix<float> dx = run.dx;
  Gradients<float> gradients(run.adapter.layout());
  const Factors<float> gradient = gradients.factors(0);

  const Index needed = token_blocks(100) * BlockGradients<float>::size(gradient);
  std::vector<float> memory(static_cast<std::size_t>(needed - 1));
  expect_error([&] { BlockGradients<float>(gradient, 100, memory); },
               {"6 blocks", std::to_string(needed) + " values", "holds " + std::to_string(needed - 1)});

  const BlockGradients<float> few(gradient, 50);
  expect_error([&] { backward_in_blocks(one_thread, run.factors(), run.x, h, run.dy, few, dx); },
               {"100 tokens make 6 blocks", "have 3"});

  std::vector<std::byte> scratch(1000);
  const BlockGradients<float> enough(gradient, 100);
  expect_error(
      [&] {
        backward_in_blocks(one_thread, run.factors(), run.x, h, run.dy, enough, dx, {.scratch = scratch});
      },
      {"cannot share one scratch"});
}

TEST(BlockGradients, KeepTheirMemoryWhenMoved) {
  Gradients<float> gradients(one_module_layout({}));
  BlockGradients<float> blocks(gradients.factors(0), 10);
  float* const place = blocks.zeroed_block(0).A;
  BlockGradients<float> moved = std::move(blocks);
  EXPECT_EQ(moved.zeroed_block(0).A, place);
  BlockGradients<float> assigned;
  assigned = std::move(moved);
  EXPECT_EQ(assigned.zeroed_block(0).A, place);
}

}  // namespace
}  // namespace tiedlora_test
