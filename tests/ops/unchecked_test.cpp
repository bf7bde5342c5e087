// The unchecked calls do what the checked ones do, to the bit.
#include <gtest/gtest.h>

#include <tiedlora/adapter.hpp>
#include <tiedlora/ops.hpp>

#include "support/bits.hpp"
#include "support/dice.hpp"
#include "support/one_module.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using Matrix = Eigen::MatrixXf;
using In = Tokens<const float>;
using Out = Tokens<float>;

Matrix random_matrix(Dice& dice, Index rows, Index cols) {
  Matrix m(rows, cols);
  dice.fill(std::span(m.data(), static_cast<std::size_t>(m.size())), -1.0, 1.0);
  return m;
}
In in(const Matrix& m) { return {m.data(), m.rows(), m.cols(), m.rows()}; }
Out out(Matrix& m) { return {m.data(), m.rows(), m.cols(), m.rows()}; }

/// One module of rank 3, 7 → 5, and operands of T tokens.
struct Call {
  explicit Call(Index tokens, Index rank = 3)
      : adapter(one_module_layout({.rank = rank})),
        gradients(adapter.layout()),
        x(random_matrix(dice, 7, tokens)),
        dy(random_matrix(dice, 5, tokens)),
        y(random_matrix(dice, 5, tokens)),
        dx(random_matrix(dice, 7, tokens)),
        h(Matrix::Zero(rank, tokens)) {
    dice.fill(adapter.trainable(), -1.0, 1.0);
    dice.fill(gradients.values(), -1.0, 1.0);
  }
  Factors<const float> factors() const { return adapter.factors(0); }

  Dice dice{16};
  Adapter<float> adapter;
  Gradients<float> gradients;
  Matrix x, dy, y, dx, h;
};

void expect_same(const Call& checked, const Call& unchecked) {
  EXPECT_TRUE(same_bits(checked.y, unchecked.y));
  EXPECT_TRUE(same_bits(checked.h, unchecked.h));
  EXPECT_TRUE(same_bits(checked.dx, unchecked.dx));
  EXPECT_TRUE(same_bits(checked.gradients.values(), unchecked.gradients.values()));
}

TEST(Unchecked, ForwardAndBackwardHaveTheBitsOfTheCheckedCalls) {
  // 3,000 tokens of rank 3 are more than fit the stack blocks of h and dh at once.
  for (const Index tokens : {Index{0}, Index{1}, Index{9}, Index{3000}}) {
    for (const bool overwrite : {false, true}) {
      SCOPED_TRACE(testing::Message() << tokens << " tokens, overwrite " << overwrite);
      const CallOptions options = {.scale = 0.5, .overwrite = overwrite};
      Call a(tokens), b(tokens);
      forward(a.factors(), a.x, a.y, a.h, options);
      backward(a.factors(), a.x, a.h, a.dy, a.gradients.factors(0), a.dx, options);
      unchecked::forward(CpuBackend(), b.factors(), in(b.x), out(b.y), out(b.h), options);
      unchecked::backward(CpuBackend(), b.factors(), in(b.x), in(b.h), in(b.dy), b.gradients.factors(0),
                          out(b.dx), options);
      expect_same(a, b);
    }
  }
}

TEST(Unchecked, ForwardWithoutHHasTheSameBits) {
  for (const Index tokens : {Index{1}, Index{3000}}) {
    Call a(tokens), b(tokens);
    forward(a.factors(), a.x, a.y, a.h);
    unchecked::forward(CpuBackend(), b.factors(), in(b.x), out(b.y));
    EXPECT_TRUE(same_bits(a.y, b.y)) << tokens;
  }
}

TEST(Unchecked, BackwardLeavesOutWhatHasNoMemory) {
  Call a(9), b(9);
  Factors<float> wanted = a.gradients.factors(0), same = b.gradients.factors(0);
  for (Factors<float>* gradient : {&wanted, &same}) gradient->A = gradient->u = nullptr;
  forward(a.factors(), a.x, a.y, a.h);
  forward(b.factors(), b.x, b.y, b.h);
  backward(a.factors(), none, a.h, a.dy, wanted);
  unchecked::backward(CpuBackend(), b.factors(), In(), in(b.h), in(b.dy), same, Out());
  expect_same(a, b);
}

TEST(Unchecked, RankZeroOnlySetsWhatIsOverwritten) {
  Call call(4, 0);
  const Matrix y = call.y, dx = call.dx;
  for (const bool overwrite : {false, true}) {
    const CallOptions options = {.overwrite = overwrite};
    unchecked::forward(CpuBackend(), call.factors(), in(call.x), out(call.y), Out(), options);
    unchecked::backward(CpuBackend(), call.factors(), in(call.x), In(), in(call.dy),
                        call.gradients.factors(0), out(call.dx), options);
    EXPECT_TRUE(same_bits(call.y, overwrite ? Matrix(Matrix::Zero(5, 4)) : y));
    EXPECT_TRUE(same_bits(call.dx, overwrite ? Matrix(Matrix::Zero(7, 4)) : dx));
  }
}

}  // namespace
}  // namespace tiedlora_test
