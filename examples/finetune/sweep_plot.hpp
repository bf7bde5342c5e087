// The picture of a sweep.
#pragma once

#include <cmath>   // isfinite
#include <map>     // map
#include <string>  // string
#include <vector>  // vector

#include <fmt/format.h>

#include "plots.hpp"  // plot_script
#include "sweep.hpp"  // SweepResult, SweepLog

namespace finetune {

/// Loss against the rate of A and B, or the only rate there is; of a contender with a second rate only the
/// places with the best one.
inline std::string sweep_lines(const std::string& id, const std::vector<SweepResult>& results) {
  std::string plots;
  std::map<std::string, int> ranks;  // seen so far, by scheme: they are told apart by their dashes
  for (const SweepResult& result : results) {
    const PlotStyle style = plot_style(result.contender.scheme);
    const std::string best = csv_number(result.rates.uv_multiple);
    plots += fmt::format(
        "{}    data using (strcol(1) eq '{}' && strcol(2) eq '{}' && $3 == {} && strcol(6) eq '{}' ? $5 : "
        "NaN):7 smooth unique with "
        "linespoints lw 2 dt {} pt {} lc rgb '{}' title {}",
        plots.empty() ? "" : ", \\\n", id, result.contender.scheme, result.contender.rank, best,
        ++ranks[result.contender.scheme], style.point, style.colour,
        gnuplot_quoted(
            plot_title(result.contender) +
            (best == "1" ? std::string() : fmt::format(" (u, v x{:.3g})", result.rates.uv_multiple))));
  }
  return "  plot \\\n" + plots + "\n";
}

/// The places that were tried for a contender with two rates, and their losses.
inline std::string map_data(const SweepLog& log, const SweepResult& result) {
  std::string data = "$map << EOD\n";
  for (const auto& [rates, loss] : log.means(result.contender))
    if (std::isfinite(loss))
      data += fmt::format("{:.6g},{:.6g},{:.4f}\n", rates.rate, rates.uv_multiple, loss);
  return data + "EOD\n";
}

/// Every such place as a square with its loss, coloured up to a tenth of a bit above the best.
inline std::string sweep_map(const SweepResult& result) {
  return fmt::format(
      "  set title '{}: select loss'\n"
      "  set xlabel 'learning rate of A and B'\n"
      "  set ylabel 'rate of u and v, as a multiple of it'\n"
      "  set logscale xy\n"
      "  set format y '%g'\n"
      "  set autoscale y\n"
      "  set offsets graph 0.1, graph 0.1, graph 0.1, graph 0.1\n"
      "  unset key\n"
      "  unset colorbox\n"
      "  set palette defined (0 '#56B4E9', 1 '#ffffff')\n"
      "  set cbrange [{:.4f}:{:.4f}]\n"
      "  plot $map using 1:2:3 with points pt 5 ps 6 lc palette, $map using 1:2:(sprintf('%.3f', $3)) with "
      "labels\n",
      plot_title(result.contender), result.search.score, result.search.score + 0.1);
}

inline std::string sweep_script(const SweepLog& log, const std::vector<SweepResult>& results) {
  double lowest = 1e300, highest = 0;  // of the optima: the picture need not show what diverged
  std::string map, data;
  for (const SweepResult& result : results) {
    lowest = std::min(lowest, result.search.score);
    highest = std::max(highest, result.search.score);
    if (!map.empty() || !has_uv_rate(result.contender)) continue;
    map = sweep_map(result);
    data = map_data(log, result);
  }
  const std::string body = fmt::format(
      "  set multiplot layout 1,{}\n"
      "  set logscale x\n"
      "  set format x '10^{{%T}}'\n"
      "  set format y '%g'\n"
      "  set title 'every scheme'\n"
      "  set xlabel 'learning rate'\n"
      "  set ylabel 'select loss, bits per byte'\n"
      "  unset logscale y\n"
      "  set offsets 0, 0, 0, 0\n"
      "  set yrange [{:.3f}:{:.3f}]\n"
      "  set key outside below horizontal maxcols 2 width -2\n"
      "{}{}"
      "  unset multiplot\n",
      map.empty() ? 1 : 2, lowest - 0.02, highest + 0.3, sweep_lines(log.id(), results), map);
  return plot_script("sweep", "sweep.csv", 1200, 560, body, data);
}

}  // namespace finetune
