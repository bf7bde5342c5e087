// Values that are not finite are found in every type, wherever they stand.
#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <limits>
#include <span>
#include <tiedlora/adapter.hpp>
#include <tiedlora/adapter/finite.hpp>
#include <vector>

namespace tiedlora_test {
namespace {

template <class P>
class Finite : public testing::Test {};
using FiniteTypes = testing::Types<float, double, Eigen::half, Eigen::bfloat16>;
TYPED_TEST_SUITE(Finite, FiniteTypes);

template <class P>
std::vector<P> all_kinds_of_finite(std::size_t count) {
  using Limits = std::numeric_limits<P>;
  const P kinds[] = {P(0),
                     P(-0.0f),
                     P(1),
                     Limits::max(),
                     Limits::lowest(),
                     Limits::min(),
                     Limits::denorm_min(),
                     -Limits::denorm_min(),
                     P(-3.5f)};
  std::vector<P> numbers;
  for (std::size_t i = 0; i < count; ++i) numbers.push_back(kinds[i % std::size(kinds)]);
  return numbers;
}

TYPED_TEST(Finite, FindsEachAtEachPlace) {
  using P = TypeParam;
  using Limits = std::numeric_limits<P>;
  const std::vector<P> numbers = all_kinds_of_finite<P>(300);
  const std::span<const P> all(numbers);
  EXPECT_FALSE(tiedlora::find_not_finite(all));
  EXPECT_FALSE(tiedlora::find_not_finite(all.first(0)));
  for (const P wrong :
       {Limits::quiet_NaN(), Limits::signaling_NaN(), Limits::infinity(), -Limits::infinity()})
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      std::vector<P> some = numbers;
      some[i] = wrong;
      const auto found = tiedlora::find_not_finite(std::span<const P>(some));
      ASSERT_TRUE(found) << i;
      EXPECT_EQ(found->first, static_cast<tiedlora::Index>(i));
      EXPECT_EQ(found->count, 1);
      EXPECT_FALSE(std::isfinite(found->value));
      EXPECT_EQ(std::isnan(found->value), std::isnan(static_cast<float>(wrong)));
    }
}

TYPED_TEST(Finite, CountsThemAndReadsAtAnyAlignment) {
  using P = TypeParam;
  std::vector<P> numbers = all_kinds_of_finite<P>(1000);
  numbers[17] = -std::numeric_limits<P>::infinity();
  numbers[18] = numbers[999] = std::numeric_limits<P>::quiet_NaN();
  std::vector<std::byte> bytes(numbers.size() * sizeof(P) + 1);
  std::memcpy(bytes.data() + 1, numbers.data(), bytes.size() - 1);
  const auto found = tiedlora::detail::find_not_finite<P>(std::span<const std::byte>(bytes).subspan(1));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->first, 17);
  EXPECT_EQ(found->count, 3);
  EXPECT_EQ(found->value, -std::numeric_limits<double>::infinity());
}

}  // namespace
}  // namespace tiedlora_test
