// Blocks of values, products with them and the functions between matrices, against doubles.
#include "quant.hpp"

#include <gtest/gtest.h>

#include <Eigen/Core>
#include <cmath>
#include <string>
#include <vector>

#include <llama/quant/dequantize.hpp>
#include "math.hpp"
#include "support/dice.hpp"

namespace engine {
namespace {

using tiedlora_test::Dice;

constexpr std::uint64_t seed = 7;

/// Activations of one token in blocks, with the memory they lie in.
struct Rounded {
  std::vector<float> x, scale, sum;
  std::vector<std::int8_t> p;
  Blocks blocks;

  Rounded(Dice& dice, Index width) : x(at(width)), scale(at(width / 32)), sum(scale), p(at(width)) {
    dice.fill(x);
    blocks = {p.data(), scale.data(), sum.data()};
    quantize(x.data(), blocks, 0, width / 32);
  }
  static std::size_t at(Index i) { return static_cast<std::size_t>(i); }
};

TEST(Quantize, RoundsToHalfAStep) {
  Dice dice(seed);
  const Rounded r(dice, 320);
  for (std::size_t i = 0; i < r.x.size(); ++i) {
    const double e = static_cast<double>(r.scale[i / 32]);
    // Half a step, and up to 127 times the rounding of e to a half, 2^-11 of it.
    EXPECT_NEAR(static_cast<double>(r.x[i]), e * r.p[i], e * (0.5 + 127 * 0x1p-11) * 1.0001)
        << "seed " << seed;
  }
  for (std::size_t b = 0; b < r.sum.size(); ++b) {
    int sum = 0;
    for (std::size_t i = 0; i < 32; ++i) sum += r.p[32 * b + i];
    const double exact = static_cast<double>(r.scale[b]) * sum;
    EXPECT_NEAR(static_cast<double>(r.sum[b]), exact,
                2 * 0x1p-11 * std::abs(exact));  // two roundings to a half
  }
}

TEST(Quantize, KeepsZerosAndTiesToEven) {
  std::vector<float> x(64);
  x[32] = 127, x[33] = 0.5f, x[34] = 1.5f, x[35] = -2.5f, x[36] = -127;
  std::vector<std::int8_t> p(64);
  std::vector<float> scale(2), sum(2);
  quantize(x.data(), {p.data(), scale.data(), sum.data()}, 0, 2);
  EXPECT_EQ(scale[0], 0);
  EXPECT_EQ(sum[0], 0);
  EXPECT_EQ(p[5], 0);
  EXPECT_EQ(scale[1], 1);
  const std::vector<std::int8_t> expected = {127, 0, 2, -2, -127, 0};
  EXPECT_EQ(std::vector<std::int8_t>(p.begin() + 32, p.begin() + 38), expected);
}

TEST(Quantize, TinyNumbersAreZeros) {
  for (const float tiny : {1e-38f, 1e-45f, 1e-31f}) {
    std::vector<float> x(32);
    x[3] = tiny;
    std::vector<std::int8_t> p(32, 1);
    float scale = 1, sum = 1;
    quantize(x.data(), {p.data(), &scale, &sum}, 0, 1);
    EXPECT_EQ(scale, 0) << tiny;
    EXPECT_EQ(sum, 0) << tiny;
    EXPECT_EQ(p, std::vector<std::int8_t>(32)) << tiny;
  }
}

std::string random_row(Dice& dice, Index width, Index bytes) {
  std::string row(static_cast<std::size_t>(width / 32 * bytes), '\0');
  for (std::size_t i = 0; i < row.size(); ++i) row[i] = static_cast<char>(dice.bits() >> 56);
  for (std::size_t b = 0; b < row.size(); b += static_cast<std::size_t>(bytes)) {
    // Finite values of about 0.01 in d and m; where a block has no m these are two of its weights.
    const Half d = to_half(static_cast<float>(dice.uniform(-0.02, 0.02)));
    const Half m = to_half(static_cast<float>(dice.uniform(-0.1, 0.1)));
    std::memcpy(row.data() + b, &d, 2);
    if (bytes == BlockQ4::bytes) std::memcpy(row.data() + b + 2, &m, 2);
  }
  return row;
}

template <class Type>
void expect_products() {
  for (const Index width : {32, 64, 576, 1536}) {
    Dice dice(seed);
    const std::string row = random_row(dice, width, Type::bytes);
    const auto* w = reinterpret_cast<const std::byte*>(row.data());
    std::vector<float> weights(static_cast<std::size_t>(width));
    llama::dequantize(Type::has_offset ? llama::NumberType::Q4_1 : llama::NumberType::Q8_0, w, 0, width,
                      weights.data());
    std::vector<Rounded> tokens;
    for (int n = 0; n < 4; ++n) tokens.emplace_back(dice, width);
    Blocks blocks[4];
    for (std::size_t n = 0; n < 4; ++n) blocks[n] = tokens[n].blocks;
    float together[4];
    dot_products<Type, 4>(w, width, blocks, together);
    for (std::size_t n = 0; n < 4; ++n) {
      float alone = 0;
      dot_products<Type, 1>(w, width, blocks + n, &alone);
      EXPECT_EQ(alone, together[n]) << "tokens share bits with tokens alone; width " << width;
      double exact = 0, magnitude = 0;
      for (std::size_t i = 0; i < weights.size(); ++i) {
        const double term =
            static_cast<double>(weights[i]) * static_cast<double>(tokens[n].scale[i / 32]) * tokens[n].p[i];
        exact += term, magnitude += std::abs(term);
      }
      double offsets = 0;  // of what m e Σp loses by being rounded to a half in e Σp
      if (Type::has_offset)
        for (std::size_t b = 0; b < tokens[n].sum.size(); ++b)
          offsets += std::abs(static_cast<double>(half_at(w + static_cast<Index>(b) * Type::bytes + 2)) *
                              static_cast<double>(tokens[n].sum[b]));
      // Each of the width / 32 + 8 additions, and the two products before it, rounds by 2^-24 of the
      // magnitude. d q + m may be larger in its parts than in its sum: hence the offsets once more.
      const double rounding = static_cast<double>(width / 32 + 11) * 0x1p-24 * (magnitude + 2 * offsets);
      EXPECT_NEAR(static_cast<double>(alone), exact, rounding + 2 * 0x1p-11 * offsets)
          << "seed " << seed << ", width " << width;
      EXPECT_GT(magnitude, 0.1);
    }
  }
}
TEST(DotProducts, OfQ4_1) { expect_products<BlockQ4>(); }
TEST(DotProducts, OfQ8_0) { expect_products<BlockQ8>(); }

TEST(DotProducts, AreExactWhereAllNumbersAre) {
  // d = 1, m = -8, q = 0 … 15; activations whole, the largest 127: nothing is rounded.
  std::string row(20, '\0');
  const Half one = to_half(1), offset = to_half(-8);
  std::memcpy(row.data(), &one, 2);
  std::memcpy(row.data() + 2, &offset, 2);
  std::vector<float> x(32);
  float expected = 0;
  for (int i = 0; i < 32; ++i) {
    const int q = (5 * i + 3) % 16;
    row[static_cast<std::size_t>(4 + i % 16)] =
        static_cast<char>(row[static_cast<std::size_t>(4 + i % 16)] | q << (i < 16 ? 0 : 4));
    x[static_cast<std::size_t>(i)] = static_cast<float>(i == 7 ? 127 : i - 16);
    expected += static_cast<float>(q - 8) * x[static_cast<std::size_t>(i)];
  }
  std::vector<std::int8_t> p(32);
  float scale = 0, sum = 0, result = 0;
  const Blocks blocks = {p.data(), &scale, &sum};
  quantize(x.data(), blocks, 0, 1);
  dot_products<BlockQ4, 1>(reinterpret_cast<const std::byte*>(row.data()), 32, &blocks, &result);
  EXPECT_EQ(result, expected);
}

TEST(FastExp, IsExp) {
  for (int i = -8730; i <= 8830; ++i) {
    const float x = static_cast<float>(i) / 100;
    const double exact = std::exp(static_cast<double>(x));
    // Polynomial and its rounding: 4 units; the reduction loses |n| 2^-24 · 2^-13 more, which is nothing.
    EXPECT_NEAR(static_cast<double>(fast_exp(x)), exact, 4 * 0x1p-23 * exact) << x;
  }
  EXPECT_EQ(fast_exp(0), 1);
  EXPECT_EQ(fast_exp(-100), 0);
  EXPECT_EQ(fast_exp(-INFINITY), 0);
}

TEST(Math, Swiglu) {
  Dice dice(seed);
  std::vector<float> x(96), up(96);
  dice.fill(x, -3, 3), dice.fill(up);
  std::vector<float> gate = x;
  swiglu(gate.data(), up.data(), 96);
  for (std::size_t i = 0; i < 96; ++i) {
    const double g = static_cast<double>(x[i]), exact = g / (1 + std::exp(-g)) * static_cast<double>(up[i]);
    EXPECT_NEAR(static_cast<double>(gate[i]), exact,
                12 * 0x1p-24 * std::abs(exact));  // exp's 8 and four more
  }
}

TEST(Math, ProductsWithHalves) {
  Dice dice(seed);
  std::vector<Half> halves(64);
  std::vector<float> x(64), y(64);
  dice.fill(x);
  double exact = 0, magnitude = 0;
  for (std::size_t i = 0; i < 64; ++i) {
    halves[i] = to_half(static_cast<float>(dice.uniform()));
    const double term = static_cast<double>(to_float(halves[i])) * static_cast<double>(x[i]);
    exact += term, magnitude += std::abs(term);
  }
  EXPECT_NEAR(static_cast<double>(dot_product(halves.data(), x.data(), 64)), exact, 65 * 0x1p-24 * magnitude);
  add_scaled(0.5f, halves.data(), 64, y.data());
  for (std::size_t i = 0; i < 64; ++i) EXPECT_EQ(y[i], 0.5f * to_float(halves[i]));
}

}  // namespace
}  // namespace engine
