// The parity kit: right backends pass.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string>
#include <tiedlora/eigen.hpp>
#include <tiedlora/ops.hpp>
#include <tiedlora/verify.hpp>
#include <vector>

#include "support/fake_device.hpp"
#include "support/full_backend.hpp"
#include "support/kernel_instances.hpp"
#include "support/plain_backend.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using Eigen::bfloat16;
using Eigen::half;

verify::ParityOptions quick() { return {.cases = 64}; }

template <class P = float, class X = P, class Y = X, class Dx = X, class B>
void expect_passes(const B& backend) {
  const verify::Parity report = verify::parity<P, X, Y, Dx>(backend, quick());
  EXPECT_TRUE(report.passed()) << report.table();
  EXPECT_TRUE(report.deterministic);
}

TEST(Parity, TheReferencePasses) {
  expect_passes(ReferenceBackend{});
  expect_passes<double>(ReferenceBackend{});
  expect_passes<half, bfloat16, float, half>(ReferenceBackend{});
}

TEST(Parity, TheCpuBackendPasses) {
  expect_passes(CpuBackend{});
  expect_passes<half>(CpuBackend{});
  expect_passes<bfloat16>(CpuBackend{});
  expect_passes<float, bfloat16>(CpuBackend{});
  expect_passes<half, float, bfloat16, half>(CpuBackend{});
}

TEST(Parity, ABackendOfTheUsersOwnPasses) {
  expect_passes(Plain{});
  expect_passes(PlainModules{});
}

TEST(Parity, AllOperandsLieInTheBackendsMemory) {
  expect_passes(FakeDevice{});
  EXPECT_EQ(FakeDevice::live, 0);
}

// However few are asked for. What a size is checked in is all that a backend may have.
TEST(Parity, EveryLargeSizeIsAmongTheUsualCases) {
  for (const std::size_t count : {0u, 20u, 480u}) {
    const std::vector<verify::ParityCase> cases = verify::usual_cases(1, count);
    const auto times = [&](Index verify::ParityCase::* dimension, Index size) {
      return std::count_if(cases.begin(), cases.end(), [&](const verify::ParityCase& c) {
        return c.*dimension == size && c.present == "ABuv" && c.trained == "ABuv" && c.wants_dx &&
               c.shared_x && c.tenants && c.zeros.empty() && c.spoilt == verify::Spoilt::nothing;
      });
    };
    const auto rounds = static_cast<Index>(std::max<std::size_t>(1, count / 240));
    for (const Index width : verify::large_widths()) {
      EXPECT_EQ(times(&verify::ParityCase::in, width), 2 * rounds) << width << " of " << count;
      EXPECT_EQ(times(&verify::ParityCase::out, width), 2 * rounds) << width << " of " << count;
    }
    for (const Index tokens : verify::large_tokens())
      EXPECT_EQ(times(&verify::ParityCase::tokens, tokens), rounds) << tokens << " of " << count;
  }
}

// A report names a case by its sizes and seed.
TEST(Parity, ASeedGivesTheSameCasesEachTime) {
  const auto texts = [](std::uint64_t seed) {
    std::vector<std::string> result;
    for (const verify::ParityCase& c : verify::usual_cases(seed, 20)) result.push_back(c.text());
    return result;
  };
  const std::vector<std::string> first = texts(1);
  EXPECT_EQ(texts(1), first);
  EXPECT_NE(texts(2), first);
  EXPECT_EQ(first.front().rfind("in 12, out 513, rank 127, tokens 13, ", 0), 0u) << first.front();
  EXPECT_EQ(std::set<std::string>(first.begin(), first.end()).size(), first.size());
}

const verify::ParityRow* row_of(const verify::Parity& report, const std::string& check) {
  const auto row = std::find_if(report.rows.begin(), report.rows.end(),
                                [&](const verify::ParityRow& r) { return r.check == check; });
  return row == report.rows.end() ? nullptr : &*row;
}

constexpr const char* of_all[] = {"shrink: h",
                                  "expand: y",
                                  "expand_backward: dh",
                                  "expand_backward: dB",
                                  "expand_backward: du",
                                  "expand_backward: dv",
                                  "shrink_backward: dA",
                                  "shrink_backward: dx",
                                  "finite differences: dA",
                                  "beside NaN or infinity: y",
                                  "zero times NaN or infinity: y",
                                  "zero times NaN or infinity: dA",
                                  "no tokens",
                                  "rank 0"};
constexpr const char* optional[] = {"shrink in slices: h",
                                    "expand in slices: y",
                                    "shrink of modules: h",
                                    "shrink of modules in slices: h",
                                    "expand of modules: y",
                                    "expand of modules in slices: y",
                                    "expand_backward of modules: dh",
                                    "expand_backward of modules: dB",
                                    "expand_backward of modules: du",
                                    "expand_backward of modules: dv",
                                    "shrink_backward of modules: dx",
                                    "shrink_backward of modules: dA",
                                    "expand of tenants: y"};

void expect_checked(const verify::Parity& report, const char* check) {
  const verify::ParityRow* row = row_of(report, check);
  ASSERT_NE(row, nullptr) << check << "\n" << report.table();
  EXPECT_GT(row->checked, 0) << check;
  EXPECT_LT(row->worst, 1) << check;
  EXPECT_NE(report.table().find(check), std::string::npos);
}

TEST(Parity, TheTableSaysWhatWasCheckedAndHowNear) {
  const verify::Parity report = verify::parity(FullBackend{}, quick());
  EXPECT_TRUE(report.passed()) << report.table();
  for (const char* check : of_all) expect_checked(report, check);
  for (const char* check : optional) expect_checked(report, check);
  EXPECT_EQ(report.first_failure(), nullptr);
  EXPECT_EQ(report.table().rfind("parameters in float, x in float, y in float, dx in float: 148 cases\n", 0),
            0u)
      << report.table();
}

TEST(Parity, TheTableSaysWhatABackendDoesNotOffer) {
  const verify::Parity report = verify::parity(Plain{}, quick());
  for (const char* check : of_all) expect_checked(report, check);
  for (const char* check : optional) {
    const verify::ParityRow* row = row_of(report, check);
    ASSERT_NE(row, nullptr) << check;
    EXPECT_FALSE(row->is_offered) << check;
    EXPECT_EQ(row->checked, 0) << check;
  }
  EXPECT_NE(report.table().find("not offered by the backend"), std::string::npos);
}

}  // namespace
}  // namespace tiedlora_test
