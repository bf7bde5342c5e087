// Which tokens or rows are whose.
#pragma once

#include <algorithm>  // max

#include "config.hpp"

namespace transformer {

/// Tokens or rows [begin, end).
struct Range {
  Index begin = 0, end = 0;
  Index size() const { return end - begin; }
};

/// What one of nth threads does of `count` tokens or rows. Cuts lie at multiples of 16 and no part but the
/// only one is shorter than 16: then every product computes each element in the same order, however many
/// threads there are, because the matrix product treats columns in groups that divide 16 and switches to
/// other code for a single column.
inline Range slice(Index count, int ith, int nth) {
  const Index blocks = std::max<Index>(count / 16, 1);
  const auto cut = [&](Index i) { return i == nth ? count : blocks * i / nth * 16; };
  return {cut(ith), cut(ith + 1)};
}

}  // namespace transformer
