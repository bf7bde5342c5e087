// Weights in GGUF's types: the package gguf's values, the formats' description, and what is refused.
#include <gtest/gtest.h>

#include <algorithm>  // min
#include <bit>        // bit_cast
#include <cmath>      // isnan
#include <random>     // mt19937
#include <sstream>    // istringstream
#include <string>     // string
#include <vector>     // vector

#include <tiedlora/io/gguf/types.hpp>

#include "quant/dequantize.hpp"
#include "quant/reference.hpp"
#include "support/golden.hpp"
#include "test_support.hpp"

namespace llama {
namespace {

using tiedlora_test::Golden;

/// Equal bits, or both NaN: processors mark a NaN of 16 bits as a quiet one when they convert it.
void expect_equal(float computed, float expected, NumberType type, Index i) {
  if (std::isnan(expected))
    ASSERT_TRUE(std::isnan(computed)) << info(type).name << ", number " << i;
  else
    ASSERT_EQ(std::bit_cast<std::uint32_t>(computed), std::bit_cast<std::uint32_t>(expected))
        << info(type).name << ", number " << i << ": " << computed << " instead of " << expected;
}

// Equality is right: a weight is one product, which is exact, and at most one sum, whose rounding IEEE 754
// prescribes. That holds for the package's numpy as for this code, with any instruction set.
TEST(Quant, NumbersAreThoseOfThePackageGguf) {
  const Golden golden = Golden::load("quant.golden");
  std::istringstream names(golden.meta("types"));
  std::size_t types = 0;
  for (std::string name; names >> name; ++types) {
    const auto type = number_type_of(static_cast<std::uint32_t>(golden.number(name + ".id")));
    ASSERT_TRUE(type) << name;
    EXPECT_EQ(info(*type).name, name);
    const auto& stored = golden.tensor(name + ".bytes");
    EXPECT_EQ(stored.dims.at(1), info(*type).bytes) << name;
    std::vector<std::byte> row;
    for (const double value : stored.values) row.push_back(static_cast<std::byte>(value));
    const std::vector<float> expected = golden.tensor(name + ".numbers").as<float>();
    const auto count = static_cast<Index>(expected.size());
    ASSERT_EQ(count, stored.dims.at(0) * info(*type).block) << name;

    std::vector<float> computed(expected.size());
    dequantize(*type, row.data(), 0, count, computed.data());
    for (Index i = 0; i < count; ++i) {
      const float value = expected[static_cast<std::size_t>(i)];
      expect_equal(computed[static_cast<std::size_t>(i)], value, *type, i);
      expect_equal(quant::reference_number(*type, row.data(), i), value, *type, i);
    }
  }
  EXPECT_EQ(types, number_types.size());
}

TEST(Quant, NumbersAreThoseOfTheDescriptionForRandomBytesAndEveryPartOfARow) {
  std::mt19937 random(62);
  for (const NumberTypeInfo& layout : number_types) {
    const Index blocks = layout.block == 1 ? 101 : 7;
    const Index count = blocks * layout.block;
    for (int repeat = 0; repeat < 20; ++repeat) {
      // One byte off: rows are not aligned.
      std::vector<std::byte> bytes(static_cast<std::size_t>(bytes_of(layout.type, count) + 1));
      for (std::byte& b : bytes) b = static_cast<std::byte>(random() & 255);
      const std::byte* row = bytes.data() + 1;
      const Index first = static_cast<Index>(random() % static_cast<unsigned>(blocks)) * layout.block;
      const Index part = static_cast<Index>(random() % static_cast<unsigned>(blocks)) * layout.block;
      const Index end = std::min(first + part, count);
      constexpr float untouched = 12345;
      std::vector<float> computed(static_cast<std::size_t>(end - first + 1), untouched);
      dequantize(layout.type, row, first, end - first, computed.data());
      for (Index i = first; i < end; ++i)
        expect_equal(computed[static_cast<std::size_t>(i - first)],
                     quant::reference_number(layout.type, row, i), layout.type, i);
      EXPECT_EQ(computed.back(), untouched) << layout.name;
    }
  }
}

TEST(Quant, EveryHalfIsConverted) {
  std::vector<std::byte> row;
  for (int i = 0; i < 1 << 16; ++i) {
    row.push_back(static_cast<std::byte>(i & 255));
    row.push_back(static_cast<std::byte>(i >> 8));
  }
  const auto count = static_cast<Index>(row.size() / 2);
  for (const NumberTypeInfo& layout : number_types) {
    if (layout.block != 1 || layout.bytes != 2) continue;
    std::vector<float> computed(static_cast<std::size_t>(count));
    dequantize(layout.type, row.data(), 0, count, computed.data());
    for (Index i = 0; i < count; ++i)
      expect_equal(computed[static_cast<std::size_t>(i)], quant::reference_number(layout.type, row.data(), i),
                   layout.type, i);
  }
}

TEST(Quant, TypesAreThoseOfFiles) {
  for (const NumberTypeInfo& layout : number_types) {
    const auto* known =
        tiedlora::gguf::find_type(tiedlora::gguf::Type{static_cast<std::uint32_t>(layout.type)});
    ASSERT_TRUE(known) << layout.name;
    EXPECT_EQ(known->name, layout.name);
    EXPECT_EQ(known->block, layout.block) << layout.name;
    EXPECT_EQ(known->bytes, layout.bytes) << layout.name;
    EXPECT_EQ(&info(layout.type), &layout);
  }
  for (const std::uint32_t other : {4u, 9u, 10u, 11u, 15u, 28u, 29u, 31u, 1u << 31})
    EXPECT_FALSE(number_type_of(other)) << other;
}

TEST(Quant, RowsThatAreNoWholeBlocksAreRefused) {
  check_width(NumberType::Q4_K, 512, "blk.0.attn_q.weight");
  check_width(NumberType::BF16, 7, "blk.0.attn_q.weight");
  const std::string message = message_of([] { check_width(NumberType::Q6_K, 576, "blk.0.ffn_down.weight"); });
  for (const char* part : {"blk.0.ffn_down.weight", "576", "Q6_K", "256", "F16"})
    EXPECT_NE(message.find(part), std::string::npos) << part << " in: " << message;
  EXPECT_NE(message_of([] { check_width(NumberType::Q4_0, 0, "x"); }), "no error");
  EXPECT_NE(message_of([] { check_width(NumberType::Q4_0, 33, "x"); }), "no error");
}

}  // namespace
}  // namespace llama
