// Equality bit by bit: a forward of T tokens is T forwards of one, and the parts of every slicing add up to
// the whole, whatever the types and however widths stand to vectors and blocks.
#include <gtest/gtest.h>

#include <limits>
#include <thread>
#include <tiedlora/adapter.hpp>
#include <tiedlora/forward_backward.hpp>
#include <vector>

#include "support/bits.hpp"
#include "support/one_module.hpp"
#include "support/reference.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

struct Case {
  OneModule module;
  Index count;
  bool dropout = false;
};

template <class T>
void set_garbage(Matrix<T>& m) {
  for (Index i = 0; i < m.size(); ++i) m.data()[i] = static_cast<T>(std::numeric_limits<float>::quiet_NaN());
}

template <class P, class X, class Y>
class Invariance {
 public:
  using Acc = accumulator_t<P>;

  Invariance(const Case& c, std::uint64_t seed) : count_(c.count), adapter_(one_module_layout(c.module)) {
    Dice dice(seed);
    fill_factors(adapter_, dice);
    x_ = dice.matrix<X>(c.module.in, count_);
    y_ = dice.matrix<Y>(c.module.out, count_);
    dy_ = dice.matrix<Y>(c.module.out, count_);
    h_ = Matrix<Acc>(c.module.rank, count_);
    dx_ = dice.matrix<X>(c.module.in, count_);
    token_scale_.resize(static_cast<std::size_t>(count_));
    dice.fill(token_scale_);
    options_ = {.scale = 0.7, .token_scale = token_scale_.data()};
    if (c.dropout) options_.dropout = {.probability = 0.4, .seed = seed, .first_token = 3};
  }

  void check() {
    const Factors<const P> f = adapter_.factors(0);
    Matrix<Y> y = y_;
    forward(f, x_, y, h_, options_);
    {
      SCOPED_TRACE("without h");
      Matrix<Y> again = y_;
      forward(f, x_, again, options_);
      EXPECT_TRUE(same_bits(again, y));
    }
    for (Index t = 0; t < count_; ++t) {
      SCOPED_TRACE("token " + std::to_string(t));
      CallOptions single = options_;
      single.token_scale += t;
      single.dropout.first_token += t;
      Matrix<Y> one = y_.col(t);
      Matrix<Acc> h_one(h_.rows(), 1);
      forward(f, x_.col(t), one, h_one, single);
      EXPECT_TRUE(same_bits(one, Matrix<Y>(y.col(t))));
      EXPECT_TRUE(same_bits(h_one, Matrix<Acc>(h_.col(t))));
    }
    for (Index nth = 2; nth <= 9; ++nth) {
      SCOPED_TRACE("slices of " + std::to_string(nth));
      Matrix<Y> sliced = y_;
      Matrix<Acc> h(h_.rows(), count_);
      set_garbage(h);
      for (Index ith = 0; ith < nth; ++ith) shrink(f, x_, h, slice(ith, nth));
      EXPECT_TRUE(same_bits(h, h_));
      // In any order: slices share nothing.
      for (Index ith = nth; ith-- > 0;) expand(f, h_, sliced, slice(ith, nth));
      EXPECT_TRUE(same_bits(sliced, y));
    }
    check_backward_slices(f);
  }

 private:
  CallOptions slice(Index ith, Index nth) const {
    CallOptions options = options_;
    options.slice = {ith, nth};
    return options;
  }

  struct Derivatives {
    Matrix<Acc> dh;
    Gradients<Acc> gradients;
    Matrix<X> dx;
  };
  Derivatives backward_in_slices(const Factors<const P>& f, Index nth) {
    Derivatives d = {Matrix<Acc>(h_.rows(), count_), Gradients<Acc>(adapter_.layout()), dx_};
    set_garbage(d.dh);
    Dice(1).fill(d.gradients.values());
    for (Index ith = 0; ith < nth; ++ith)
      expand_backward(f, h_, dy_, d.gradients.factors(0), d.dh, slice(ith, nth));
    for (Index ith = nth; ith-- > 0;)
      shrink_backward(f, x_, d.dh, d.gradients.factors(0), d.dx, slice(ith, nth));
    return d;
  }
  void check_backward_slices(const Factors<const P>& f) {
    const Derivatives whole = backward_in_slices(f, 1);
    for (Index nth = 2; nth <= 9; ++nth) {
      SCOPED_TRACE("backward in slices of " + std::to_string(nth));
      const Derivatives sliced = backward_in_slices(f, nth);
      EXPECT_TRUE(same_bits(sliced.dh, whole.dh));
      EXPECT_TRUE(same_bits(sliced.dx, whole.dx));
      EXPECT_TRUE(same_bits<Acc>(sliced.gradients.values(), whole.gradients.values()));
    }
  }

  Index count_;
  Adapter<P> adapter_;
  Matrix<X> x_, dx_;
  Matrix<Y> y_, dy_;
  Matrix<Acc> h_;
  std::vector<float> token_scale_;
  CallOptions options_;
};

template <class P, class X, class Y>
void check(const Case& c, std::uint64_t seed) {
  SCOPED_TRACE("in " + std::to_string(c.module.in) + ", out " + std::to_string(c.module.out) + ", rank " +
               std::to_string(c.module.rank) + ", tokens " + std::to_string(c.count) + ", present " +
               std::string(c.module.present) + ", trained " + std::string(c.module.trained) + ", seed " +
               std::to_string(seed));
  Invariance<P, X, Y>(c, seed).check();
}

// Widths around multiples of every vector length and around the blocks of 256, ranks and tokens around tile
// sizes.
template <class P, class X, class Y>
void sweep(std::uint64_t seed) {
  constexpr Index widths[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 255, 256, 257, 300};
  constexpr Index ranks[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 16};
  constexpr Index counts[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 13};
  constexpr const char* present[] = {"AB", "ABu", "ABv", "ABuv"};
  constexpr const char* trained[] = {"AB", "B", "ABuv", "v", "Auv"};
  Dice dice(seed);
  for (const Index in : widths) {
    const Case c = {{.in = in,
                     .out = dice.pick(widths),
                     .rank = dice.pick(ranks),
                     .present = dice.pick(present),
                     .trained = dice.pick(trained)},
                    dice.pick(counts),
                    dice.integer(0, 3) == 0};
    check<P, X, Y>(c, ++seed);
  }
}

using Eigen::bfloat16;
using Eigen::half;

TEST(Bits, Float) {
  sweep<float, float, float>(1000);
  sweep<float, float, float>(1100);
  sweep<float, float, float>(1200);
}
TEST(Bits, Double) { sweep<double, double, double>(2000); }
TEST(Bits, Bfloat16) { sweep<bfloat16, bfloat16, bfloat16>(3000); }
TEST(Bits, Half) { sweep<half, half, half>(4000); }
TEST(Bits, NarrowParametersBesideFloat) { sweep<bfloat16, float, float>(5000); }
TEST(Bits, FloatParametersBesideNarrow) { sweep<float, bfloat16, half>(6000); }

TEST(Bits, BeyondTheBlocksOfFeaturesRanksAndTokens) {
  // Wide enough for several chunks of features at these ranks, long enough for several blocks of tokens.
  check<float, float, float>({{.in = 1100, .out = 1300, .rank = 64}, 7}, 7000);
  check<float, float, float>({{.in = 4100, .out = 9, .rank = 3}, 18}, 7001);
  check<float, float, float>({{.in = 9, .out = 4100, .rank = 3}, 35}, 7002);
  check<float, float, float>({{.in = 10, .out = 12, .rank = 8}, 300}, 7003);
  check<float, float, float>({{.in = 11, .out = 13, .rank = 512}, 3}, 7004);
  check<float, float, float>({{.in = 11, .out = 13, .rank = 600}, 3}, 7005);
  check<double, double, double>({{.in = 600, .out = 700, .rank = 20}, 5}, 7006);
}

// Slices at once, as a host runs them, with its barrier between the halves: a data race here is one in the
// library.
template <class T>
void expect_threads_agree() {
  const Index in = 70, out = 90, rank = 6, count = 9, nth = 4;
  Adapter<T> adapter(one_module_layout({.in = in, .out = out, .rank = rank}));
  Dice dice(8000);
  fill_factors(adapter, dice);
  const auto f = adapter.factors(0);
  const Matrix<T> x = dice.matrix<T>(in, count), dy = dice.matrix<T>(out, count),
                  y0 = dice.matrix<T>(out, count);
  struct Results {
    Matrix<T> h, y, dh, dx;
    Gradients<T> gradients;
  };
  const auto run = [&](Index parts) {
    Results r = {Matrix<T>(rank, count), y0, Matrix<T>(rank, count), Matrix<T>::Zero(in, count),
                 Gradients<T>(adapter.layout())};
    const auto at_once = [parts](const auto& half) {
      std::vector<std::thread> threads;
      for (Index ith = 0; ith < parts; ++ith)
        threads.emplace_back([&half, ith, parts] { half(CallOptions{.slice = {ith, parts}}); });
      for (std::thread& thread : threads) thread.join();
    };
    at_once([&](const CallOptions& o) { shrink(f, x, r.h, o); });
    at_once([&](const CallOptions& o) { expand(f, r.h, r.y, o); });
    at_once([&](const CallOptions& o) { expand_backward(f, r.h, dy, r.gradients.factors(0), r.dh, o); });
    at_once([&](const CallOptions& o) { shrink_backward(f, x, r.dh, r.gradients.factors(0), r.dx, o); });
    return r;
  };
  const Results whole = run(1), parts = run(nth);
  EXPECT_TRUE(same_bits(parts.h, whole.h));
  EXPECT_TRUE(same_bits(parts.y, whole.y));
  EXPECT_TRUE(same_bits(parts.dx, whole.dx));
  EXPECT_TRUE(same_bits<T>(parts.gradients.values(), whole.gradients.values()));
}

TEST(Bits, SlicesInThreads) {
  expect_threads_agree<float>();
  expect_threads_agree<double>();
}

}  // namespace
}  // namespace tiedlora_test
