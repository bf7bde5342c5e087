// The sizes of the shared types with 64-bit pointers and libstdc++, whatever Eigen is told about alignment.
#include "sizes.hpp"

constexpr SharedSizes expected = {96,  48, 88, 56, 48, 40, 96, 80, 120, 272,
                                  208, 16, 56, 32, 96, 8,  48, 48, 248, 8};
static_assert(sizes_here == expected);
