// The dropout mask of one token. (tests/ops/dropout_test.cpp has its statistics, through the calls.)
#include <gtest/gtest.h>

#include <tiedlora/backends/dropout.hpp>

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using detail::DropoutMask;

TEST(DropoutMask, IsZeroOrOneOverWhatIsKept) {
  const DropoutMask mask({.probability = 0.75, .seed = 1}, 0);
  int kept = 0;
  for (Index i = 0; i < 1000; ++i) {
    EXPECT_TRUE(mask(i) == 0 || mask(i) == 4);
    kept += mask(i) != 0;
  }
  EXPECT_NEAR(kept, 250, 6 * 14);  // √(1000 · 0.75 · 0.25) = 13.7
}

TEST(DropoutMask, IsAskedAgainWithTheSameAnswer) {
  const Dropout dropout = {.probability = 0.5, .seed = 1, .step = 2, .input = 3};
  const DropoutMask mask(dropout, 4), again(dropout, 4);
  for (Index i = 0; i < 100; ++i) EXPECT_EQ(mask(i), again(i));
}

TEST(DropoutMask, CountsTokensFromTheFirst) {
  const DropoutMask part({.probability = 0.5, .seed = 1, .first_token = 10}, 2),
      whole({.probability = 0.5, .seed = 1}, 12);
  for (Index i = 0; i < 100; ++i) EXPECT_EQ(part(i), whole(i));
}

TEST(DropoutMask, PinnedValues) {
  // So that a run that is resumed with a newer version of the library continues as it began.
  const DropoutMask mask({.probability = 0.5, .seed = 1, .step = 2, .input = 3}, 4);
  unsigned bits = 0;
  for (Index i = 0; i < 32; ++i) bits |= unsigned{mask(i) != 0} << i;
  EXPECT_EQ(bits, 0xe2b4a6ffu);
}

}  // namespace
}  // namespace tiedlora_test
