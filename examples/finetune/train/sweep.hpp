// `finetune --sweep`: the learning rates of every contender, on the select split.
#pragma once

#include <cmath>       // pow, isfinite
#include <cstddef>     // size_t
#include <cstdint>     // uint64_t
#include <filesystem>  // path
#include <limits>      // numeric_limits
#include <map>         // map
#include <string>      // string
#include <utility>     // move
#include <vector>      // vector

#include <fmt/format.h>
#include <finetune/data/files.hpp>  // CsvTable, csv_number, fnv1a

#include "experiment.hpp"  // train_run

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
/// evaluations or when stop() is true; with 0 evaluations where that was during the first.
template <class Evaluate, class Stop>
GridResult search_grid(const GridPoint& start, std::size_t most, Evaluate evaluate, Stop stop) {
  std::map<GridPoint, double> scores;
  const auto score = [&](const GridPoint& point) {
    const auto known = scores.find(point);
    return known != scores.end() ? known->second : scores.emplace(point, evaluate(point)).first->second;
  };
  const std::vector<GridPoint> around = neighbour_offsets(start.size());
  GridResult result{start, score(start), false, 1};
  if (stop()) return {start, std::numeric_limits<double>::infinity(), false, 0};
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

inline bool has_uv_rate(const Contender& contender) {
  return !contender.is_full() && has_uv_rate(scheme_named(contender.scheme));
}

inline Rates rates_at(const GridPoint& point) {
  return {quarter_decades(point[0]), point.size() > 1 ? quarter_decades(point[1]) : 1};
}

/// The finished runs of a sweep, in a CSV file that is complete after each: what is there is not run again.
class SweepLog {
 public:
  SweepLog(std::filesystem::path path, std::string settings_id)
      : path_(std::move(path)),
        id_(std::move(settings_id)),
        table_(CsvTable::load(path_, {"settings", "scheme", "rank", "seed", "learning_rate", "uv_multiple",
                                      "select_bits_per_byte", "steps", "seconds"})) {}

  /// The select loss of a finished run; infinity if it diverged.
  std::optional<double> find(const Contender& contender, std::uint64_t seed, const Rates& rates) const {
    const CsvTable::Row name = key(contender, seed, rates);
    for (const CsvTable::Row& row : table_.rows())
      if (std::equal(name.begin(), name.end(), row.begin()))
        return row[6].empty() ? std::numeric_limits<double>::infinity() : std::stod(row[6]);
    return std::nullopt;
  }

  void add(const Contender& contender, std::uint64_t seed, const Rates& rates, double loss,
           const TrainingResult& training) {
    CsvTable::Row row = key(contender, seed, rates);
    row.push_back(csv_number(loss));
    row.push_back(std::to_string(training.steps));
    row.push_back(csv_number(training.seconds_per_step * double(training.steps)));
    table_.add(row);
    table_.save(path_);
  }

  const std::string& id() const { return id_; }

  /// What was found for a contender: the mean over the seeds of each place.
  std::vector<std::pair<Rates, double>> means(const Contender& contender) const {
    std::map<std::pair<double, double>, std::pair<double, double>> sums;  // (rate, multiple) to (sum, count)
    for (const CsvTable::Row& row : table_.rows()) {
      if (row[0] != id_ || row[1] != contender.scheme || row[2] != std::to_string(contender.rank)) continue;
      auto& [sum, count] = sums[{std::stod(row[4]), std::stod(row[5])}];
      sum += row[6].empty() ? std::numeric_limits<double>::infinity() : std::stod(row[6]);
      ++count;
    }
    std::vector<std::pair<Rates, double>> means;
    for (const auto& [place, sum] : sums)
      means.push_back({{place.first, place.second}, sum.first / sum.second});
    return means;
  }

 private:
  CsvTable::Row key(const Contender& contender, std::uint64_t seed, const Rates& rates) const {
    return {id_,
            contender.scheme,
            std::to_string(contender.rank),
            std::to_string(seed),
            csv_number(rates.rate),
            csv_number(rates.uv_multiple)};
  }

  std::filesystem::path path_;
  std::string id_;
  CsvTable table_;
};

/// The optimum of one contender.
struct SweepResult {
  Contender contender;
  Rates rates;
  GridResult search;
};

/// Searches from the current rate outwards until the optimum is interior; the score is the mean over the
/// seeds of the select loss at the end of the run. `train` makes one run and returns that loss.
template <class Train>
SweepResult sweep_contender(const Settings& settings, const Contender& contender, SweepLog& log,
                            Train train) {
  const Rates& now = rates_of(settings, contender);
  GridPoint start = {to_quarter_decades(now.rate)};
  if (has_uv_rate(contender)) start.push_back(to_quarter_decades(now.uv_multiple));
  const auto score = [&](const GridPoint& point) {
    double sum = 0;
    for (const std::uint64_t seed : settings.seeds) {
      const Rates rates = rates_at(point);
      std::optional<double> loss = log.find(contender, seed, rates);
      if (!loss) loss = train(contender, seed, rates);
      sum += *loss;
    }
    return sum / double(settings.seeds.size());
  };
  constexpr std::size_t most_runs = 80;  // far beyond what a search with an optimum needs
  SweepResult result{contender, {}, search_grid(start, most_runs, score, Interrupt::requested)};
  result.rates = rates_at(result.search.best);
  return result;
}

inline std::string sweep_table(const std::vector<SweepResult>& results) {
  std::string table = fmt::format("{:<18}{:>14}{:>14}{:>14}{:>8}  {}\n", "scheme", "rate (A, B)",
                                  "rate (u, v)", "select loss", "points", "optimum");
  for (const SweepResult& result : results) {
    const bool only_uv = result.contender.scheme == "vera";
    const double uv = result.rates.rate * result.rates.uv_multiple;
    table += fmt::format("{:<18}{:>14}{:>14}{:>14.4f}{:>8}  {}\n", result.contender.label(),
                         only_uv ? "–" : csv_number(result.rates.rate),
                         only_uv || has_uv_rate(result.contender) ? csv_number(uv) : "–", result.search.score,
                         result.search.evaluations, result.search.interior ? "interior" : "NOT INTERIOR");
  }
  return table;
}

inline void save_best_rates(const std::filesystem::path& path, const std::string& id,
                            const std::vector<SweepResult>& results) {
  CsvTable table({"settings", "scheme", "rank", "learning_rate", "uv_multiple", "select_bits_per_byte",
                  "points", "interior"});
  for (const SweepResult& result : results)
    table.add({id, result.contender.scheme, std::to_string(result.contender.rank),
               csv_number(result.rates.rate), csv_number(result.rates.uv_multiple),
               csv_number(result.search.score), std::to_string(result.search.evaluations),
               result.search.interior ? "yes" : "no"});
  table.save(path);
}

}  // namespace finetune
