// Searching the lowest point of a function on a grid whose borders are not known beforehand.
#pragma once

#include <cmath>    // pow
#include <cstddef>  // size_t
#include <map>      // map
#include <utility>  // move
#include <vector>   // vector

namespace finetune {

/// A place on the grid: learning rates as whole numbers of quarter decades, so that places compare exactly.
using GridPoint = std::vector<int>;

/// 10^(exponent / 4): … 0.001, 0.00178, 0.00316, 0.00562, 0.01 …
inline double quarter_decades(int exponent) { return std::pow(10.0, exponent / 4.0); }
inline int to_quarter_decades(double rate) { return static_cast<int>(std::lround(4 * std::log10(rate))); }

struct GridResult {
  GridPoint best;
  double score = 0;
  bool interior = false;  ///< every neighbour of best at the finest step was tried and none is better
  std::size_t evaluations = 0;
};

/// All of {-1, 0, 1}^d.
inline std::vector<GridPoint> neighbour_offsets(std::size_t dimensions) {
  std::vector<GridPoint> all = {{}};
  for (std::size_t d = 0; d < dimensions; ++d) {
    std::vector<GridPoint> longer;
    for (const GridPoint& point : all)
      for (const int offset : {-1, 0, 1}) {
        longer.push_back(point);
        longer.back().push_back(offset);
      }
    all = std::move(longer);
  }
  return all;
}

/// Starts at `start`, looks at all neighbours (3^d − 1 of them, diagonals too), moves to the lowest and
/// repeats until none is lower: thus the grid grows in whatever direction the optimum lies. First in steps of
/// half a decade, then of a quarter. No point is evaluated twice. `evaluate(point)` returns the score, the
/// lower the better; infinity for a run that diverged. Stops short, with interior = false, after `most`
/// evaluations or when stop() is true.
template <class Evaluate, class Stop>
GridResult search_grid(const GridPoint& start, std::size_t most, Evaluate evaluate, Stop stop) {
  std::map<GridPoint, double> scores;
  const auto score = [&](const GridPoint& point) {
    const auto known = scores.find(point);
    return known != scores.end() ? known->second : scores.emplace(point, evaluate(point)).first->second;
  };
  const std::vector<GridPoint> around = neighbour_offsets(start.size());
  GridResult result{start, score(start), false, 1};
  for (const int step : {2, 1}) {
    for (bool moved = true; moved;) {
      moved = false;
      const GridPoint centre = result.best;
      for (const GridPoint& offset : around) {
        GridPoint point = centre;
        for (std::size_t d = 0; d < point.size(); ++d) point[d] += step * offset[d];
        if (stop() || (scores.size() >= most && scores.count(point) == 0)) return result;
        const double found = score(point);
        if (stop()) return result;  // that run was cut short: its score means nothing
        result.evaluations = scores.size();
        if (found >= result.score) continue;
        result.score = found;
        result.best = point;
        moved = true;
      }
    }
  }
  result.interior = true;
  return result;
}

}  // namespace finetune
