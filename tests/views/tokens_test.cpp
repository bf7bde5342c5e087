#include <gtest/gtest.h>

#include <limits>
#include <numeric>
#include <tiedlora/eigen.hpp>
#include <tiedlora/views/tokens.hpp>
#include <vector>

#include "support/dice.hpp"
#include "support/errors.hpp"

namespace tiedlora_test {
namespace {

using tiedlora::Tokens;
using tiedlora::detail::input_tokens;
using tiedlora::detail::output_tokens;

std::vector<int> counted(Index size) {
  std::vector<int> values(static_cast<std::size_t>(size));
  std::iota(values.begin(), values.end(), 0);
  return values;
}

TEST(Tokens, Strided) {
  std::vector<int> memory = counted(20);
  const Tokens<int> tokens = {.data = memory.data(), .width = 3, .count = 4, .stride = 5};
  for (Index t = 0; t < 4; ++t) EXPECT_EQ(tokens[t][2], 5 * t + 2);
}

TEST(Tokens, RowsGather) {
  std::vector<int> memory = counted(20);
  const Index rows[] = {3, 0, 2};
  const Tokens<int> tokens = {.data = memory.data(), .width = 3, .count = 3, .stride = 5, .rows = rows};
  EXPECT_EQ(tokens[0][0], 15);
  EXPECT_EQ(tokens[1][0], 0);
  EXPECT_EQ(tokens[2][1], 11);
}

TEST(Tokens, Pointers) {
  std::vector<int> a = counted(4), b = counted(4);
  int* const pointers[] = {b.data(), a.data()};
  const Tokens<int> tokens = {.width = 4, .count = 2, .pointers = pointers};
  EXPECT_EQ(tokens[0], b.data());
  EXPECT_EQ(tokens.features(1, 2)[1], a.data() + 1);
  EXPECT_EQ(tokens.features(1, 3).features(1, 2)[1], a.data() + 2);
  EXPECT_EQ(tokens.tokens(1, 1)[0], a.data());
}

TEST(Tokens, CutsOfStridedAndGatheredTokens) {
  std::vector<int> memory = counted(30);
  const Index rows[] = {4, 1, 3};
  const Tokens<int> strided = {.data = memory.data(), .width = 4, .count = 5, .stride = 6};
  const Tokens<int> gathered = {.data = memory.data(), .width = 4, .count = 3, .stride = 6, .rows = rows};
  const Tokens<int> cut = strided.tokens(2, 3).features(1, 2);
  EXPECT_EQ(cut.count, 3);
  EXPECT_EQ(cut.width, 2);
  EXPECT_EQ(cut[0], memory.data() + 2 * 6 + 1);
  EXPECT_EQ(cut[2], memory.data() + 4 * 6 + 1);
  const Tokens<int> gathered_cut = gathered.features(3, 1).tokens(1, 2);
  EXPECT_EQ(gathered_cut[0], memory.data() + 1 * 6 + 3);
  EXPECT_EQ(gathered_cut[1], memory.data() + 3 * 6 + 3);
}

TEST(Tokens, EmptyCuts) {
  std::vector<int> memory = counted(12);
  const Tokens<int> tokens = {.data = memory.data(), .width = 4, .count = 3, .stride = 4};
  EXPECT_EQ(tokens.tokens(3, 0).count, 0);
  EXPECT_EQ(tokens.features(4, 0).width, 0);
  EXPECT_EQ(tokens.tokens(0, 3)[2], tokens[2]);
  // Without tokens there is no memory to point into.
  EXPECT_EQ((Tokens<int>{.width = 4}).features(2, 2).width, 2);
  EXPECT_EQ((Tokens<int>{.width = 4}).tokens(0, 0).count, 0);
}

TEST(Tokens, RefuseCutsOutside) {
  std::vector<int> memory = counted(12);
  const Tokens<int> tokens = {.data = memory.data(), .width = 4, .count = 3, .stride = 4};
  expect_error([&] { (void)tokens.features(3, 2); },
               {"2 features from 3 on do not exist: a token has 4 features"});
  expect_error([&] { (void)tokens.features(-1, 2); }, {"2 features from -1 on"});
  expect_error([&] { (void)tokens.features(1, -1); }, {"-1 features from 1 on"});
  expect_error([&] { (void)tokens.tokens(2, 2); },
               {"2 tokens from 2 on do not exist: the view has 3 tokens"});
  expect_error([&] { (void)tokens.tokens(-1, 1); }, {"1 tokens from -1 on"});
  expect_error([&] { (void)tokens.features(1, std::numeric_limits<Index>::max()); },
               {"9223372036854775807 features from 1 on"});
  expect_error([&] { (void)tokens.tokens(0, 4); },
               {"4 tokens from 0 on do not exist: the view has 3 tokens"});
}

TEST(Tokens, WritableTokensConvertToConstOnes) {
  std::vector<int> memory = counted(12), other = counted(4);
  const Index rows[] = {1};
  int* const pointers[] = {other.data()};
  Tokens<int> tokens = {.data = memory.data(), .width = 2, .count = 1, .stride = 4, .rows = rows};
  const Tokens<const int> gathered = tokens;
  EXPECT_EQ(gathered[0], memory.data() + 4);
  EXPECT_EQ(gathered.width, 2);
  tokens = {.width = 2, .count = 1, .pointers = pointers, .first_feature = 1};
  const Tokens<const int> scattered = tokens;
  EXPECT_EQ(scattered[0], other.data() + 1);
}

template <class View, class T>
void expect_view(const View& view, T* data, Index width, Index count, Index stride) {
  static_assert(std::is_same_v<View, Tokens<T>>);
  EXPECT_EQ(view.data, data);
  EXPECT_EQ(view.width, width);
  EXPECT_EQ(view.count, count);
  EXPECT_EQ(view.stride, stride);
}

TEST(Tokens, EigenInputsConvertWithoutACopy) {
  const Matrix<float> m = Matrix<float>::Zero(5, 4);
  const float* d = m.data();
  expect_view(input_tokens(m), d, 5, 4, 5);
  expect_view(input_tokens(m.middleCols(1, 2)), d + 5, 5, 2, 5);
  expect_view(input_tokens(m.block(1, 2, 3, 2)), d + 11, 3, 2, 5);
  expect_view(input_tokens(m.topRows(2)), d, 2, 4, 5);
  expect_view(input_tokens(m.col(3)), d + 15, 5, 1, 5);
  const Eigen::Map<const Matrix<float>> map(d, 4, 5);
  expect_view(input_tokens(map), d, 4, 5, 4);
  const Eigen::Map<const Matrix<float>, 0, Eigen::OuterStride<>> spread(d, 3, 2, Eigen::OuterStride<>(9));
  expect_view(input_tokens(spread), d, 3, 2, 9);
  const RowMatrix<float> rows = RowMatrix<float>::Zero(4, 5);  // [tokens, features]
  expect_view(input_tokens(rows.transpose()), rows.data(), 5, 4, 5);
  const Eigen::VectorXf vector = Eigen::VectorXf::Zero(6);
  EXPECT_EQ(input_tokens(vector).count, 1);
  EXPECT_EQ(input_tokens(vector).width, 6);
}

TEST(Tokens, EigenOutputsMayBeTemporaryViews) {
  Matrix<double> m = Matrix<double>::Zero(5, 4);
  double* d = m.data();
  expect_view(output_tokens(m), d, 5, 4, 5);
  expect_view(output_tokens(m.rightCols(2)), d + 10, 5, 2, 5);
  expect_view(output_tokens(m.block(1, 0, 2, 3)), d + 1, 2, 3, 5);
  RowMatrix<double> rows = RowMatrix<double>::Zero(4, 5);
  expect_view(output_tokens(rows.transpose()), rows.data(), 5, 4, 5);
  Eigen::Ref<Matrix<double>> ref = m;
  expect_view(output_tokens(ref), d, 5, 4, 5);
  EXPECT_EQ(output_tokens(Eigen::Map<Matrix<double>>(d, 2, 10)).count, 10);
}

}  // namespace
}  // namespace tiedlora_test
