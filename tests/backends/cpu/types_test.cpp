// Every storage type of the parameters beside every one of x, y and dx: 27 combinations of P, X and Y, and
// every dx beside every P and X.
#include <gtest/gtest.h>

#include "support/kernel_parity.hpp"

namespace tiedlora_test {
namespace {

using Eigen::bfloat16;
using Eigen::half;
using tiedlora::verify::ParityCase, tiedlora::verify::ParitySampler;

// As many cases as it takes for every rank and every number of tokens to occur.
template <class P, class X, class Y, class Dx>
void run_types(ParitySampler& sampler) {
  SCOPED_TRACE(testing::Message() << "bytes of P " << sizeof(P) << ", X " << sizeof(X) << ", Y " << sizeof(Y)
                                  << ", dx " << sizeof(Dx));
  expect_parity<P, X, Y, Dx>(
      sampler.draw_all(numbers(1, 33), numbers(1, 17) + std::vector<Index>{33, 64, 100}, 36));
}

// A Latin square: for a P, every dx beside every X and every Y.
template <class P>
void run_parameters(std::uint64_t seed) {
  ParitySampler sampler(seed, widths());
  run_types<P, float, float, float>(sampler);
  run_types<P, float, half, half>(sampler);
  run_types<P, float, bfloat16, bfloat16>(sampler);
  run_types<P, half, float, half>(sampler);
  run_types<P, half, half, bfloat16>(sampler);
  run_types<P, half, bfloat16, float>(sampler);
  run_types<P, bfloat16, float, bfloat16>(sampler);
  run_types<P, bfloat16, half, float>(sampler);
  run_types<P, bfloat16, bfloat16, half>(sampler);
}

TEST(Types, FloatParameters) { run_parameters<float>(1'000'000); }
TEST(Types, HalfParameters) { run_parameters<half>(1'100'000); }
TEST(Types, Bfloat16Parameters) { run_parameters<bfloat16>(1'200'000); }

template <class P, class X>
void run_wide(std::uint64_t seed) {
  ParitySampler sampler(seed, numbers(4095, 4097) + std::vector<Index>{9, 300});
  std::vector<ParityCase> cases;
  for (const Index tokens : {1, 2, 5, 8, 19}) cases.push_back(sampler.draw(tokens, tokens + 3));
  expect_parity<P, X>(cases);
}

TEST(Types, WideModules) {
  run_wide<bfloat16, bfloat16>(1'300'000);
  run_wide<half, half>(1'310'000);
  run_wide<float, bfloat16>(1'320'000);
  run_wide<float, half>(1'330'000);
}

}  // namespace
}  // namespace tiedlora_test
