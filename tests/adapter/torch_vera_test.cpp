// VeRA's frozen A and B, bit for bit those of PEFT on PyTorch: tests/golden/torch_vera_golden.py.
#include <gtest/gtest.h>

#include <iomanip>
#include <sstream>
#include <tiedlora/adapter.hpp>

#include "support/bits.hpp"
#include "support/dice.hpp"
#include "support/golden.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

std::span<const float> numbers(const RowMatrix<float>& m) {
  return {m.data(), static_cast<std::size_t>(m.size())};
}

// The case's own modules, e.g. "16x8 8x33" in × out.
ModuleList modules_of(const std::string& text) {
  ModuleList modules;
  std::istringstream shapes(text);
  char cross = 0;
  for (Index in = 0, out = 0; shapes >> in >> cross >> out;)
    modules.add({.name = "linear" + std::to_string(modules.size()),
                 .layer = static_cast<int>(modules.size()),
                 .in_features = in,
                 .out_features = out});
  return modules;
}

TEST(TorchVera, GivesTheBitsOfPeft) {
  const Golden golden = Golden::load("torch_vera.golden");
  std::istringstream names(golden.meta("cases"));
  int cases = 0, compared = 0;
  for (std::string name; names >> name; ++cases) {
    SCOPED_TRACE(name);
    const auto meta = [&](const char* key) { return golden.meta(name + "." + key); };
    const Index rank = std::stoll(meta("rank")), max_in = std::stoll(meta("max_in")),
                max_out = std::stoll(meta("max_out"));
    Adapter<float> adapter(
        Layout(modules_of(meta("modules")), schemes::vera(std::stoull(meta("key"))), rank));
    adapter.initialize(/*seed=*/99);  // of no influence on A and B
    ASSERT_EQ(adapter.layout().frozen_count(), rank * (max_in + max_out));

    // A is stored as torch's (r, in); B as the transpose of its (out, r).
    const float* frozen = adapter.frozen().data();
    const RowMatrix<float> A = Eigen::Map<const RowMatrix<float>>(frozen, rank, max_in);
    const RowMatrix<float> B = Eigen::Map<const Matrix<float>>(frozen + A.size(), max_out, rank);
    std::ostringstream hash_A, hash_B;
    hash_A << std::hex << std::setw(16) << std::setfill('0') << fnv1a(numbers(A));
    hash_B << std::hex << std::setw(16) << std::setfill('0') << fnv1a(numbers(B));
    EXPECT_EQ(hash_A.str(), meta("A.fnv1a"));
    EXPECT_EQ(hash_B.str(), meta("B.fnv1a"));
    if (golden.tensors().count(name + ".A")) {
      ++compared;
      EXPECT_TRUE(same_bits<float>(numbers(A), golden.tensor(name + ".A").as<float>()));
      EXPECT_TRUE(same_bits<float>(numbers(B), golden.tensor(name + ".B").as<float>()));
    }
    // Every module sees the first columns of A and the first rows of B.
    for (Index m = 0; m < adapter.layout().size(); ++m) {
      const Module& module = adapter.layout().modules()[m];
      EXPECT_EQ(Matrix<float>(std::as_const(adapter).A(m)), Matrix<float>(A.leftCols(module.in_features)));
      EXPECT_EQ(Matrix<float>(std::as_const(adapter).B(m)), Matrix<float>(B.topRows(module.out_features)));
    }
  }
  EXPECT_GE(cases, 6);
  EXPECT_GE(compared, 5);
}

TEST(TorchVera, OtherTypesHoldTheFloatsRounded) {
  const Layout layout(modules_of("7x9 5x3"), schemes::vera(3), 4);
  Adapter<float> base(layout);
  Adapter<double> wide(layout);
  Adapter<Eigen::half> narrow(layout);
  base.initialize(1), wide.initialize(1), narrow.initialize(1);
  EXPECT_TRUE(same_bits<double>(wide.frozen(), base.cast<double>().frozen()));
  EXPECT_TRUE(same_bits<Eigen::half>(narrow.frozen(), base.cast<Eigen::half>().frozen()));
}

TEST(TorchVera, WithAKeyOfItsOwnBStartsTheGeneratorAnew) {
  // PEFT draws A and B from one generator. With different keys there are two.
  Scheme scheme = schemes::vera(3);
  scheme.B.init = init::torch_vera(4);
  const ModuleList modules = modules_of("6x6");
  Adapter<float> apart(Layout(modules, scheme, 6)), together(Layout(modules, schemes::vera(3), 6));
  apart.initialize(1), together.initialize(1);
  const auto A = std::as_const(together).A(0), A_apart = std::as_const(apart).A(0);
  EXPECT_EQ(Matrix<float>(A), Matrix<float>(A_apart));
  EXPECT_NE(Matrix<float>(std::as_const(together).B(0)), Matrix<float>(std::as_const(apart).B(0)));
  // Key 4 draws first what it would draw for an A of 6 × 6: in torch's order, the rows of B.
  Adapter<float> of_key_4(Layout(modules, schemes::vera(4), 6));
  of_key_4.initialize(1);
  EXPECT_EQ(Matrix<float>(std::as_const(apart).B(0)), Matrix<float>(std::as_const(of_key_4).A(0)));
}

}  // namespace
}  // namespace tiedlora_test
