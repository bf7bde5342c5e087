// Scripts for gnuplot.
#include "plots.hpp"

#include <algorithm>  // find, max, min
#include <cmath>      // isfinite
#include <cstdlib>    // system
#include <map>        // map

#include <fmt/format.h>
#include <finetune/data/files.hpp>  // write_atomically, csv_number

namespace finetune {

std::string shell_quoted(const std::string& text) {
  const bool plain = !text.empty() && text.find_first_not_of(
                                          "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                          "0123456789_-+./:=,@%") == std::string::npos;
  if (plain) return text;
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

std::string gnuplot_quoted(const std::string& text) {
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("''") : std::string(1, c);
  return quoted + "'";
}

namespace {

/// How a scheme is drawn: colours of Okabe and Ito, which colour-blind people tell apart too, and a point
/// shape, so that nothing rests on colour alone.
struct PlotStyle {
  std::string title, colour;
  int point;
};
PlotStyle plot_style(const std::string& scheme) {
  if (scheme == "lora") return {"LoRA", "#0072B2", 7};
  if (scheme == "vera") return {"VeRA", "#E69F00", 9};
  if (scheme == "tl5") return {"TL5", "#56B4E9", 5};
  if (scheme == "tl6") return {"TL6", "#D55E00", 13};
  if (scheme == "full") return {"all weights", "#000000", 11};
  // Relatives: the colour of what they are nearest to, or one of their own, with open points.
  if (scheme == "lora_fused") return {scheme, "#0072B2", 6};
  if (scheme == "grouped4") return {scheme, "#D55E00", 12};
  if (scheme == "lora_fa") return {scheme, "#009E73", 15};
  if (scheme == "share_lora_a") return {scheme, "#CC79A7", 8};
  if (scheme == "share_lora_b") return {scheme, "#CC79A7", 10};
  if (scheme == "share_lora_ab") return {scheme, "#CC79A7", 4};
  return {scheme, "#999999", 2};
}
std::string plot_title(const Contender& contender) {
  const std::string title = plot_style(contender.scheme).title;
  return contender.is_full() ? title : fmt::format("{} r={}", title, contender.rank);
}

}  // namespace

std::string plot_script(const std::string& name, const std::string& csv, int width, int height,
                        const std::string& body, const std::string& data_blocks) {
  return fmt::format(
      "# Draws {0}.png and {0}.svg from {1}: run gnuplot {0}.gp in this folder.\n"
      "set datafile separator comma\n"
      "set datafile missing NaN\n"
      "set grid lc rgb '#dddddd' lt 1\n"
      "set border 3\n"
      "set tics nomirror\n"
      "data = {2}\n"
      "{6}"
      "do for [output in 'png svg'] {{\n"
      "  if (output eq 'png') {{ set terminal pngcairo size {3},{4} font 'sans,12' }} else {{ set terminal "
      "svg size {3},{4} font 'sans,12' background 'white' }}\n"
      "  set output '{0}.'.output\n"
      "{5}"
      "  unset output\n"
      "}}\n",
      name, csv, gnuplot_quoted(csv), width, height, body, data_blocks);
}

std::string draw(const std::filesystem::path& folder, const std::string& name, const std::string& script) {
  write_atomically(folder / (name + ".gp"), script);
  if (std::system("gnuplot --version > /dev/null 2>&1") != 0)
    return "gnuplot is not installed, so no plots were drawn (Debian: gnuplot-nox); the .gp scripts draw "
           "them later";
  const std::string command =
      fmt::format("cd {} && gnuplot {}.gp > {}.log 2>&1", shell_quoted(folder.string()), name, name);
  if (std::system(command.c_str()) != 0)
    return fmt::format("gnuplot failed; see {}", (folder / (name + ".log")).string());
  std::filesystem::remove(folder / (name + ".log"));
  return {};
}

std::string loss_script(const Comparison& comparison) {
  const std::uint64_t seed = comparison.settings.seeds.front();
  std::string body =
      "  set multiplot layout 1,2 margins 0.07,0.98,0.23,0.92 spacing 0.09,0\n  set xlabel 'steps'\n  set "
      "ylabel 'bits per byte'\n";
  for (const bool select : {false, true}) {
    body += fmt::format(
        "  set title '{}'\n  {}\n  plot \\\n",
        select ? "task text, select split" : "task text, training batches",
        select ? "unset key" : "set key at screen 0.5, screen 0.02 center bottom horizontal maxrows 1");
    std::size_t index = 0;
    const std::vector<Contender> all = comparison.contenders();
    for (const Contender& contender : all) {
      const PlotStyle style = plot_style(contender.scheme);
      // A second rank of the same scheme is told apart by its dashes.
      int dash = 1;
      for (std::size_t i = 0; i < index; ++i) dash += all[i].scheme == contender.scheme;
      ++index;
      body += fmt::format(
          "    data using (strcol(1) eq '{}' && strcol(2) eq '{}' && $3 == {} && $4 == {} ? $5 : NaN):{} "
          "with linespoints lw 2 dt {} pt {} ps 0.7 "
          "lc rgb '{}' title {}{}\n",
          comparison.id(), contender.scheme, contender.rank, seed, select ? "7" : "6", dash, style.point,
          style.colour, gnuplot_quoted(plot_title(contender)), index < all.size() ? ", \\" : "");
    }
  }
  return plot_script("loss", "metrics.csv", 1200, 480, body + "  unset multiplot\n");
}

namespace {

/// Test loss against trainable parameters: the picture that answers which scheme is best for a number of
/// parameters.
std::string parameters_script(const Comparison& comparison) {
  double fewest = 1e300, most = 1;
  std::string labels;
  for (const Contender& contender : comparison.contenders()) {
    const double trained =
        comparison.mean(contender, [](const RunResult& run) { return double(run.trained); });
    const double loss = comparison.mean(contender, [](const RunResult& run) { return run.task_loss; });
    fewest = std::min(fewest, trained);
    most = std::max(most, trained);
    // LoRA's labels are above its points and line, all others below theirs.
    if (!contender.is_full() && std::isfinite(loss))
      labels += fmt::format("  set label 'r={}' at {},{:.6f} center offset 0,{} textcolor rgb '{}'\n",
                            contender.rank, trained, loss, contender.scheme == "lora" ? 0.9 : -0.9,
                            plot_style(contender.scheme).colour);
  }
  const std::size_t seeds = comparison.settings.seeds.size();
  std::string body = fmt::format(
      "  unset label\n"
      "  set title 'after {} steps of fine-tuning; before them {:.3f}; {}'\n"
      "  set xlabel 'trainable parameters'\n"
      "  set ylabel 'loss on the task test split, bits per byte'\n"
      "  set logscale x\n"
      "  set format x '10^{{%T}}'\n"
      "  set xrange [{}:{}]\n"
      "  set offsets 0, 0, graph 0.1, graph 0.05\n"
      "  set key top right\n"
      "{}  plot",
      comparison.steps, comparison.base_task_loss, seeds == 1 ? "one seed" : fmt::format("{} seeds", seeds),
      fewest / 2, most * 2, labels);
  std::vector<std::string> schemes;
  for (const Contender& contender : comparison.contenders()) {
    if (std::find(schemes.begin(), schemes.end(), contender.scheme) != schemes.end()) continue;
    const PlotStyle style = plot_style(contender.scheme);
    const std::string mine =
        fmt::format("(strcol(1) eq '{}' && strcol(2) eq '{}' ? $5 : NaN)", comparison.id(), contender.scheme);
    // The line joins the means over the seeds of each rank; the points are the runs.
    body += fmt::format(
        "{0} \\\n    data using {1}:13 smooth unique with lines lw 1 lc rgb '{2}' notitle, \\\n"
        "    data using {1}:13 with points pt {3} ps 1.6 lc rgb '{2}' title {4}",
        schemes.empty() ? "" : ",", mine, style.colour, style.point, gnuplot_quoted(style.title));
    schemes.push_back(contender.scheme);
  }
  return plot_script("test_loss_against_parameters", "summary.csv", 900, 560, body + "\n");
}

}  // namespace

std::string draw_comparison(const std::filesystem::path& folder, const Comparison& comparison) {
  const std::string problem = draw(folder, "loss", loss_script(comparison));
  return problem.empty() ? draw(folder, "test_loss_against_parameters", parameters_script(comparison))
                         : problem;
}

namespace {

/// Loss against the rate of A and B, or the only rate there is; of a contender with a second rate only the
/// places with the best one.
std::string sweep_lines(const std::string& id, const std::vector<SweepResult>& results) {
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
std::string map_data(const SweepLog& log, const SweepResult& result) {
  std::string data = "$map << EOD\n";
  for (const auto& [rates, loss] : log.means(result.contender))
    if (std::isfinite(loss))
      data += fmt::format("{:.6g},{:.6g},{:.4f}\n", rates.rate, rates.uv_multiple, loss);
  return data + "EOD\n";
}

/// Every such place as a square with its loss, coloured up to a tenth of a bit above the best.
std::string sweep_map(const SweepResult& result) {
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

}  // namespace

std::string sweep_script(const SweepLog& log, const std::vector<SweepResult>& results) {
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
