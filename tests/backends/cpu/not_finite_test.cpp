// A NaN or an infinity spoils exactly the results that depend on it: nothing that is padded, masked or
// computed beside it in a tile.
#include <gtest/gtest.h>

#include <cmath>
#include <iostream>
#include <limits>

#include "support/bits.hpp"
#include "support/deck.hpp"
#include "support/kernel_case.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

// What one of the kernels' types can hold and the calls made from it.
template <class P, class X>
class Calls {
 public:
  using Acc = accumulator_t<P>;

  Calls(const KernelCase& c, const Numbers& numbers)
      : A(c.in, c.rank), B(c.out, c.rank), u(c.rank, 1), v(c.out, 1), x(c.in, c.tokens), dy(c.out, c.tokens) {
    set(A, numbers.A), set(B, numbers.B), set(u, numbers.u), set(v, numbers.v);
    set(x, numbers.x), set(dy, numbers.dy);
    set(y, numbers.y), set(dx, numbers.dx), set(h, numbers.h), set(dh, numbers.dh);
    set(dA, numbers.dA), set(dB, numbers.dB), set(du, numbers.du), set(dv, numbers.dv);
    const Factors<const P> f = {A.data(), c.in,   B.data(), c.out, u.data(),
                                v.data(), Acc(1), c.rank,   c.in,  c.out};
    const Factors<Acc> g = {dA.data(), c.in,   dB.data(), c.out, du.data(),
                            dv.data(), Acc(1), c.rank,    c.in,  c.out};
    const CallOptions o = numbers.options();
    forward(f, x, y, h, o);
    expand_backward(f, h, dy, g, dh, o);
    shrink_backward(f, x, dh, g, dx, o);
  }

  Matrix<P> A, B, u, v;
  Matrix<X> x, dy, y, dx;
  Matrix<Acc> h, dh, dA, dB, du, dv;

 private:
  template <class T>
  static void set(Matrix<T>& to, const Matrix<double>& from) {
    to.resize(from.rows(), from.cols());
    for (Index i = 0; i < from.size(); ++i) to.data()[i] = static_cast<T>(from.data()[i]);
  }
};

struct Operand {
  const char* name;
  Matrix<double> Numbers::* numbers;
};
constexpr Operand operands[] = {{"A", &Numbers::A}, {"B", &Numbers::B}, {"u", &Numbers::u},
                                {"v", &Numbers::v}, {"x", &Numbers::x}, {"dy", &Numbers::dy}};

// Where the reference stays finite the bits are those of the calls without the spoilt number.
template <class T>
void expect_spoilt(const char* what, const Matrix<T>& actual, const Matrix<T>& clean,
                   const Matrix<double>& exact) {
  for (Index t = 0; t < actual.cols(); ++t)
    for (Index i = 0; i < actual.rows(); ++i) {
      const auto value = static_cast<double>(actual(i, t));
      if (std::isfinite(exact(i, t)))
        ASSERT_EQ(value, static_cast<double>(clean(i, t))) << what << "(" << i << ", " << t << ")";
      else
        ASSERT_FALSE(std::isfinite(value)) << what << "(" << i << ", " << t << ") is " << value;
    }
}

template <class P, class X>
void expect_spoilt_results(const KernelCase& c) {
  SCOPED_TRACE(c.text());
  Dice dice(c.seed);
  Numbers numbers;
  numbers.A = dice.matrix<double>(c.in, c.rank), numbers.B = dice.matrix<double>(c.out, c.rank);
  numbers.u = dice.matrix<double>(c.rank, 1), numbers.v = dice.matrix<double>(c.out, 1);
  numbers.x = dice.matrix<double>(c.in, c.tokens), numbers.dy = dice.matrix<double>(c.out, c.tokens);
  numbers.y = numbers.dy, numbers.dx = numbers.x;
  numbers.dA = numbers.A, numbers.dB = numbers.B, numbers.du = numbers.u, numbers.dv = numbers.v;
  numbers.h = numbers.dh = Matrix<double>::Zero(c.rank, c.tokens);
  const Calls<P, X> clean(c, numbers);
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()})
    for (const auto& [name, operand] : operands) {
      Numbers spoilt = numbers;
      Matrix<double>& m = spoilt.*operand;
      const Index i = dice.integer(0, m.rows() - 1), j = dice.integer(0, m.cols() - 1);
      m(i, j) = bad;
      SCOPED_TRACE(testing::Message() << bad << " at " << name << "(" << i << ", " << j << ")");
      const Calls<P, X> actual(c, spoilt);
      compute_by_reference(c, spoilt);
      expect_spoilt("h", actual.h, clean.h, spoilt.h);
      expect_spoilt("y", actual.y, clean.y, spoilt.y);
      expect_spoilt("dh", actual.dh, clean.dh, spoilt.dh);
      expect_spoilt("dx", actual.dx, clean.dx, spoilt.dx);
      expect_spoilt("dA", actual.dA, clean.dA, spoilt.dA);
      expect_spoilt("dB", actual.dB, clean.dB, spoilt.dB);
      expect_spoilt("du", actual.du, clean.du, spoilt.du);
      expect_spoilt("dv", actual.dv, clean.dv, spoilt.dv);
      if (testing::Test::HasFailure()) return;
    }
}

template <class P, class X>
void sweep(std::uint64_t seed) {
  std::cout << "seed " << seed << std::endl;
  Dice dice(seed);
  Deck<Index> in(widths()), out(widths()), rank(numbers(1, 17) + std::vector<Index>{40}),
      tokens(numbers(1, 19));
  for (int n = 0; n < 60 && !testing::Test::HasFailure(); ++n)
    expect_spoilt_results<P, X>({.in = in.draw(dice),
                                 .out = out.draw(dice),
                                 .rank = rank.draw(dice),
                                 .tokens = tokens.draw(dice),
                                 .seed = ++seed});
}

TEST(NotFinite, SpoilsWhatDependsOnItInFloat) { sweep<float, float>(10'000); }
TEST(NotFinite, SpoilsWhatDependsOnItInHalf) { sweep<Eigen::half, Eigen::half>(20'000); }
TEST(NotFinite, SpoilsWhatDependsOnItInBfloat16) { sweep<Eigen::bfloat16, Eigen::bfloat16>(30'000); }

}  // namespace
}  // namespace tiedlora_test
