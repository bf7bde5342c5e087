// Every storage type of the parameters beside every one of x, y and dx: 27 combinations of P, X and Y, and
// every dx beside every P and X.
#include <gtest/gtest.h>

#include "support/kernel_run.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using Eigen::bfloat16;
using Eigen::half;

// As many cases as it takes for every rank and every number of tokens to occur.
template <class P, class X, class Y, class Dx>
void run_types(KernelCases& cases) {
  SCOPED_TRACE(testing::Message() << "bytes of P " << sizeof(P) << ", X " << sizeof(X) << ", Y " << sizeof(Y)
                                  << ", dx " << sizeof(Dx));
  Dice dice(1);
  Deck<Index> tokens(numbers(1, 33)), ranks(numbers(1, 17) + std::vector<Index>{33, 64, 100});
  for (int n = 0; n < 36 && !testing::Test::HasFailure(); ++n)
    cases.run<P, X, Y, Dx>(tokens.draw(dice), ranks.draw(dice));
}

// A Latin square: for a P, every dx beside every X and every Y.
template <class P>
void run_parameters(std::uint64_t seed) {
  KernelCases cases(seed);
  run_types<P, float, float, float>(cases);
  run_types<P, float, half, half>(cases);
  run_types<P, float, bfloat16, bfloat16>(cases);
  run_types<P, half, float, half>(cases);
  run_types<P, half, half, bfloat16>(cases);
  run_types<P, half, bfloat16, float>(cases);
  run_types<P, bfloat16, float, bfloat16>(cases);
  run_types<P, bfloat16, half, float>(cases);
  run_types<P, bfloat16, bfloat16, half>(cases);
}

TEST(Types, FloatParameters) { run_parameters<float>(1'000'000); }
TEST(Types, HalfParameters) { run_parameters<half>(1'100'000); }
TEST(Types, Bfloat16Parameters) { run_parameters<bfloat16>(1'200'000); }

template <class P, class X>
void run_wide(std::uint64_t seed) {
  KernelCases cases(seed, numbers(4095, 4097) + std::vector<Index>{9, 300});
  for (const Index tokens : {1, 2, 5, 8, 19}) cases.run<P, X>(tokens, tokens + 3);
}

TEST(Types, WideModules) {
  run_wide<bfloat16, bfloat16>(1'300'000);
  run_wide<half, half>(1'310'000);
  run_wide<float, bfloat16>(1'320'000);
  run_wide<float, half>(1'330'000);
}

}  // namespace
}  // namespace tiedlora_test
