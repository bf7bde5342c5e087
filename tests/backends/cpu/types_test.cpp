// Every storage type of the parameters beside every one of x, y and dx.
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

// Any two of P, X, Y and dx are of every two types (an orthogonal array): no kernel depends on more than two.
TEST(Types, FloatParameters) {
  ParitySampler sampler(1'000'000, widths());
  run_types<float, float, float, float>(sampler);
  run_types<float, half, half, half>(sampler);
  run_types<float, bfloat16, bfloat16, bfloat16>(sampler);
}
TEST(Types, HalfParameters) {
  ParitySampler sampler(1'100'000, widths());
  run_types<half, float, half, bfloat16>(sampler);
  run_types<half, half, bfloat16, float>(sampler);
  run_types<half, bfloat16, float, half>(sampler);
}
TEST(Types, Bfloat16Parameters) {
  ParitySampler sampler(1'200'000, widths());
  run_types<bfloat16, float, bfloat16, half>(sampler);
  run_types<bfloat16, half, float, bfloat16>(sampler);
  run_types<bfloat16, bfloat16, half, float>(sampler);
}

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
