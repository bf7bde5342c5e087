// Every kind of token view as input and output: the values of dense operands, exactly there and nowhere else.
#include <gtest/gtest.h>

#include <tiedlora/adapter.hpp>
#include <tiedlora/ops.hpp>
#include <vector>

#include "support/bits.hpp"
#include "support/one_module.hpp"
#include "support/reference.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

constexpr Index in = 19, out = 21, rank = 3, count = 5;

// One module with dense operands and their results, against which every view is held.
template <class T>
struct Dense {
  Dense() : adapter(one_module_layout({.in = in, .out = out, .rank = rank})), gradients(adapter.layout()) {
    Dice dice(50);
    fill_factors(adapter, dice);
    x = dice.matrix<T>(in, count), y0 = dice.matrix<T>(out, count);
    dy = dice.matrix<T>(out, count), dx0 = dice.matrix<T>(in, count);
    y = y0, dx = dx0, h = Matrix<T>(rank, count);
    forward(f(), x, y, h);
    backward(f(), x, h, dy, gradients.factors(0), dx);
  }
  Factors<const T> f() const { return adapter.factors(0); }

  Adapter<T> adapter;
  Gradients<T> gradients;
  Matrix<T> x, y0, y, h, dy, dx0, dx;
};

// Memory filled with a canary except for the tokens of a view into it.
template <class T>
class Buffer {
 public:
  // Token t of `width` features begins at places[t].
  Buffer(const Matrix<T>& values, std::vector<Index> places, Index size)
      : memory_(static_cast<std::size_t>(size), canary), places_(std::move(places)) {
    write(values);
  }
  T* data() { return memory_.data(); }
  T* token(Index t) { return data() + places_[static_cast<std::size_t>(t)]; }
  T* const* pointers() {
    pointers_.clear();
    for (std::size_t t = 0; t < places_.size(); ++t) pointers_.push_back(token(static_cast<Index>(t)));
    return pointers_.data();
  }

  // Whether it now holds these values at the places and canaries elsewhere.
  testing::AssertionResult holds(const Matrix<T>& values) {
    const std::vector<T> actual = memory_;
    memory_.assign(memory_.size(), canary);
    write(values);
    return same_bits<T>(actual, memory_);
  }

 private:
  static inline const T canary = T(12345);
  void write(const Matrix<T>& values) {
    for (Index t = 0; t < values.cols(); ++t)
      for (Index i = 0; i < values.rows(); ++i) token(t)[i] = values(i, t);
  }

  std::vector<T> memory_;
  std::vector<Index> places_;
  std::vector<T*> pointers_;
};

// Views of four operands, made alike from buffers of their own.
template <class T, class MakeView>
void expect_views_work(const Dense<T>& d, Buffer<T> x, Buffer<T> y, Buffer<T> dy, Buffer<T> dx, Buffer<T> h,
                       const MakeView& view) {
  forward(d.f(), view(x, in), view(y, out), view(h, rank));
  EXPECT_TRUE(y.holds(d.y));
  EXPECT_TRUE(h.holds(d.h));
  Gradients<T> gradients(d.adapter.layout());
  backward(d.f(), view(x, in), view(h, rank), view(dy, out), gradients.factors(0), view(dx, in));
  EXPECT_TRUE(dx.holds(d.dx));
  EXPECT_TRUE(same_bits<T>(gradients.values(), d.gradients.values()));
  // Inputs are as they were.
  EXPECT_TRUE(x.holds(d.x));
  EXPECT_TRUE(h.holds(d.h));
  EXPECT_TRUE(dy.holds(d.dy));
}

template <class T, class MakeView>
void expect_views_work(const std::vector<Index>& places, Index size, const MakeView& view) {
  const Dense<T> d;
  const auto buffer = [&](const Matrix<T>& values) { return Buffer<T>(values, places, size); };
  expect_views_work<T>(d, buffer(d.x), buffer(d.y0), buffer(d.dy), buffer(d.dx0),
                       buffer(Matrix<T>::Zero(rank, count)), view);
}

template <class T>
void expect_strided() {
  // Slots of 30, the first begins at 2.
  expect_views_work<T>({2, 32, 62, 92, 122}, 155, [](Buffer<T>& b, Index width) {
    return Tokens<T>{.data = b.token(0), .width = width, .count = count, .stride = 30};
  });
}
template <class T>
void expect_gathered() {
  static constexpr Index rows[] = {4, 0, 6, 1, 3};
  expect_views_work<T>({4 * 25 + 1, 1, 6 * 25 + 1, 25 + 1, 3 * 25 + 1}, 180, [](Buffer<T>& b, Index width) {
    return Tokens<T>{.data = b.data() + 1, .width = width, .count = count, .stride = 25, .rows = rows};
  });
}
template <class T>
void expect_pointers() {
  expect_views_work<T>({100, 3, 30, 160, 60}, 200, [](Buffer<T>& b, Index width) {
    return Tokens<T>{.width = width, .count = count, .pointers = b.pointers()};
  });
}

// Features 4 … of tokens 2 … of a larger view, however that lies in memory.
template <class T>
Tokens<T> cut(const Tokens<T>& tokens, Index width) {
  return tokens.tokens(2, count).features(4, width);
}
template <class T>
void expect_cuts() {
  expect_views_work<T>({64, 94, 124, 154, 184}, 220, [](Buffer<T>& b, Index width) {
    return cut(Tokens<T>{.data = b.data(), .width = 29, .count = 7, .stride = 30}, width);
  });
  static constexpr Index rows[] = {0, 5, 4, 1, 6, 2, 3};
  expect_views_work<T>({124, 34, 184, 64, 94}, 220, [](Buffer<T>& b, Index width) {
    return cut(Tokens<T>{.data = b.data(), .width = 29, .count = 7, .stride = 30, .rows = rows}, width);
  });
  expect_views_work<T>({24, 64, 104, 144, 184}, 220, [](Buffer<T>& b, Index width) {
    const Tokens<T> whole = {.width = width, .count = count, .pointers = b.pointers()};
    // A cut may leave everything.
    return whole.tokens(0, count).features(0, width);
  });
}

TEST(TokenViews, Strided) { expect_strided<float>(), expect_strided<double>(); }
TEST(TokenViews, GatheredRows) { expect_gathered<float>(), expect_gathered<double>(); }
TEST(TokenViews, Pointers) { expect_pointers<float>(), expect_pointers<double>(); }
TEST(TokenViews, Cuts) { expect_cuts<float>(), expect_cuts<double>(); }

TEST(TokenViews, FeatureCutsOfPointers) {
  // y is the second of three parts of five tokens that lie anywhere: a fused qkv in slots.
  const Dense<float> d;
  Buffer<float> y(d.y0, {210, 10, 310, 110, 410}, 500);
  float* pointers[count];
  for (Index t = 0; t < count; ++t) pointers[t] = y.token(t) - 7;
  const Tokens<float> fused = {.width = 7 + out + 30, .count = count, .pointers = pointers};
  forward(d.f(), d.x, fused.features(7, out));
  EXPECT_TRUE(y.holds(d.y));
}

// Straight into a cache of narrow keys: float activations gathered by row, a fused layer's second part, slots
// anywhere.
template <class Y>
void expect_narrow_slots(bool overwrite) {
  const Dense<float> d;
  const CallOptions options = {.overwrite = overwrite};
  static constexpr Index rows[] = {3, 0, 4, 2, 1}, places[] = {301, 11, 401, 111, 211};
  Matrix<float> x(in, count);
  for (Index t = 0; t < count; ++t) x.col(rows[t]) = d.x.col(t);
  const Matrix<Y> before = Dice(52).matrix<Y>(out, count);
  Matrix<Y> expected = before;
  forward(d.f(), d.x, expected, options);

  Buffer<Y> cache(before, {std::begin(places), std::end(places)}, 500);
  Y* slots[count];
  for (Index t = 0; t < count; ++t) slots[t] = cache.token(t) - 5;
  const Tokens<const float> gathered = {
      .data = x.data(), .width = in, .count = count, .stride = in, .rows = rows};
  const Tokens<Y> fused = {.width = 5 + out + 3, .count = count, .pointers = slots};
  forward(d.f(), gathered, fused.features(5, out), options);
  EXPECT_TRUE(cache.holds(expected));
}

TEST(TokenViews, NarrowSlotsOfACache) {
  for (const bool overwrite : {false, true}) {
    expect_narrow_slots<Eigen::bfloat16>(overwrite);
    expect_narrow_slots<Eigen::half>(overwrite);
  }
}

TEST(TokenViews, EigenBlocksAreOutputsAndInputs) {
  const Dense<float> d;
  Matrix<float> x = Matrix<float>::Constant(in + 4, count + 3, 7),
                y = Matrix<float>::Constant(out + 2, count + 1, 8),
                h = Matrix<float>::Constant(rank + 1, count + 2, 9), dx = x, dy = y;
  Matrix<float> y_expected = y, h_expected = h, dx_expected = dx;
  x.block(3, 1, in, count) = d.x;
  y.block(1, 0, out, count) = d.y0;
  y_expected.block(1, 0, out, count) = d.y;
  h_expected.block(0, 1, rank, count) = d.h;
  forward(d.f(), x.block(3, 1, in, count), y.block(1, 0, out, count), h.block(0, 1, rank, count));
  EXPECT_TRUE(same_bits(y, y_expected));
  EXPECT_TRUE(same_bits(h, h_expected));

  dy.block(1, 0, out, count) = d.dy;
  dx.block(3, 1, in, count) = d.dx0;
  dx_expected.block(3, 1, in, count) = d.dx;
  Gradients<float> gradients(d.adapter.layout());
  backward(d.f(), x.block(3, 1, in, count), h.block(0, 1, rank, count), dy.block(1, 0, out, count),
           gradients.factors(0), dx.block(3, 1, in, count));
  EXPECT_TRUE(same_bits(dx, dx_expected));
  EXPECT_TRUE(same_bits<float>(gradients.values(), d.gradients.values()));
}

TEST(TokenViews, ARowMajorMatrixIsPassedTransposed) {
  // [tokens, features] in rows, as PyTorch and C engines have it.
  const Dense<double> d;
  const RowMatrix<double> x = d.x.transpose(), dy = d.dy.transpose();
  RowMatrix<double> y = d.y0.transpose(), dx = d.dx0.transpose();
  Matrix<double> h(rank, count);
  forward(d.f(), x.transpose(), y.transpose(), h);
  EXPECT_TRUE(same_bits<Matrix<double>>(y.transpose(), d.y));
  Gradients<double> gradients(d.adapter.layout());
  backward(d.f(), x.transpose(), h, dy.transpose(), gradients.factors(0), dx.transpose());
  EXPECT_TRUE(same_bits<Matrix<double>>(dx.transpose(), d.dx));
}

TEST(TokenViews, MapsRefsAndVectors) {
  const Dense<float> d;
  std::vector<float> memory(d.y0.data(), d.y0.data() + d.y0.size());
  forward(d.f(), Eigen::Map<const Matrix<float>>(d.x.data(), in, count),
          Eigen::Map<Matrix<float>>(memory.data(), out, count));
  EXPECT_TRUE(same_bits<float>(memory, std::span<const float>(d.y.data(), memory.size())));

  Matrix<float> y = d.y0;
  const Eigen::Ref<const Matrix<float>> x_ref = d.x;
  Eigen::Ref<Matrix<float>> y_ref = y;
  forward(d.f(), x_ref, y_ref);
  EXPECT_TRUE(same_bits(y, d.y));

  y = d.y0;
  Eigen::VectorXf one = y.col(2);
  forward(d.f(), d.x.col(2), one);
  forward(d.f(), d.x.col(3), y.col(3));
  EXPECT_TRUE(same_bits<Eigen::VectorXf>(one, d.y.col(2)));
  EXPECT_TRUE(same_bits<Eigen::VectorXf>(y.col(3), d.y.col(3)));
}

TEST(TokenViews, SeparateModulesWriteIntoOneFusedOutput) {
  // q, k, v share A: one shrink, three expands into their features of one y.
  const Index widths[] = {6, 2, 3}, begins[] = {0, 6, 8};
  ModuleList modules;
  for (int m = 0; m < 3; ++m)
    modules.add({.name = std::string(1, "qkv"[m]),
                 .layer = 0,
                 .input = "x",
                 .in_features = in,
                 .out_features = widths[m]});
  Adapter<float> adapter(Layout(modules, schemes::lora_fused(), rank));
  Dice dice(51);
  fill_factors(adapter, dice);
  const Matrix<float> x = dice.matrix<float>(in, count), y0 = dice.matrix<float>(11, count);
  Matrix<float> h(rank, count), y = y0;
  shrink(adapter.factors(0), x, h);
  const Tokens<float> fused = {.data = y.data(), .width = 11, .count = count, .stride = 11};
  for (Index m = 0; m < 3; ++m) expand(adapter.factors(m), h, fused.features(begins[m], widths[m]));
  for (Index m = 0; m < 3; ++m) {
    Matrix<float> alone = y0.middleRows(begins[m], widths[m]);
    forward(adapter.factors(m), x, alone);
    EXPECT_TRUE(same_bits<Matrix<float>>(y.middleRows(begins[m], widths[m]), alone));
  }
}

}  // namespace
}  // namespace tiedlora_test
