// A NaN or an infinity spoils exactly the results that depend on it: nothing that is padded, masked or
// computed beside it in a tile.
#include <gtest/gtest.h>

#include <limits>

#include "support/kernel_parity.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora::verify;

template <class P, class X>
void sweep(std::uint64_t seed) {
  ParitySampler sampler(seed, widths());
  std::vector<ParityCase> cases;
  for (ParityCase c :
       sampler.draw_all(numbers(1, 19), numbers(1, 17) + std::vector<tiedlora::Index>{40}, 60)) {
    c.present = c.trained = "ABuv", c.wants_dx = true, c.dropout = 0;
    for (const double value :
         {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()})
      for (const Spoilt operand : {Spoilt::A, Spoilt::B, Spoilt::u, Spoilt::v, Spoilt::x, Spoilt::dy}) {
        c.spoilt = operand, c.spoiling_value = value;
        cases.push_back(c);
      }
  }
  expect_parity<P, X>(cases);
}

TEST(NotFinite, SpoilsWhatDependsOnItInFloat) { sweep<float, float>(10'000); }
TEST(NotFinite, SpoilsWhatDependsOnItInHalf) { sweep<Eigen::half, Eigen::half>(20'000); }
TEST(NotFinite, SpoilsWhatDependsOnItInBfloat16) { sweep<Eigen::bfloat16, Eigen::bfloat16>(30'000); }

}  // namespace
}  // namespace tiedlora_test
