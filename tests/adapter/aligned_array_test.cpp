// Memory for parameters: where it lies, and who owns it.
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <tiedlora/adapter/aligned_array.hpp>
#include <utility>

#include "support/errors.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

TEST(AlignedArray, IsZeroAndAligned) {
  for (const Index size : {1, 3, 16, 1000}) {
    const AlignedArray<float> array(size);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(array.data()) % 64, 0u);
    EXPECT_EQ(array.size(), size);
    for (const float value : array) EXPECT_EQ(value, 0);
  }
  EXPECT_EQ(AlignedArray<float>().size(), 0);
  EXPECT_EQ(AlignedArray<float>(0).data(), nullptr);
  expect_error([] { AlignedArray<float>(-1); }, {"an array of -1 elements"});
  expect_error([] { AlignedArray<double>(std::numeric_limits<Index>::max() / 4); }, {"address space"});
}

std::uintptr_t place_in_page(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 4096; }

TEST(AlignedArray, BeginsInItsQuarterOfAPageIfLarge) {
  constexpr Index size = 8 * 1024;
  const PageQuarter quarters[] = {PageQuarter::first, PageQuarter::second, PageQuarter::third,
                                  PageQuarter::fourth};
  for (std::size_t quarter = 0; quarter < 4; ++quarter) {
    AlignedArray<float> array(size, quarters[quarter]);
    EXPECT_EQ(place_in_page(array.data()), quarter * 1024);
    array.data()[size - 1] = 7;
    const AlignedArray<float> copy = array;
    EXPECT_EQ(place_in_page(copy.data()), quarter * 1024);
    EXPECT_EQ(copy.data()[size - 1], 7);
    array = AlignedArray<float>(size);
    EXPECT_EQ(place_in_page(array.data()), 1024);
    EXPECT_EQ(place_in_page(AlignedArray<float>::for_overwrite(size, quarters[quarter]).data()),
              quarter * 1024);
  }
}

TEST(AlignedArray, CopiesAreDeepAndMovesKeepPointers) {
  AlignedArray<int> a(3);
  a.data()[1] = 7;
  const int* p = a.data();
  AlignedArray<int> copy = a;
  copy.data()[1] = 8;
  EXPECT_EQ(a.data()[1], 7);
  AlignedArray<int> moved = std::move(a);
  EXPECT_EQ(moved.data(), p);
  copy = std::move(moved);
  EXPECT_EQ(copy.data(), p);
  EXPECT_EQ(copy.data()[1], 7);
  AlignedArray<int>& self = copy;
  copy = self;
  EXPECT_EQ(copy.data()[1], 7);
}

}  // namespace
}  // namespace tiedlora_test
