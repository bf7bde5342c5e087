#include "compare_report.hpp"

#include <algorithm>  // max, sort

#include <fmt/format.h>
#include <finetune/data/files.hpp>    // CsvTable, write_atomically
#include <finetune/report/plots.hpp>  // draw, plot_script
#include <finetune/settings.hpp>      // has_b_rate, scheme_named

namespace finetune {

void report(const std::filesystem::path& folder, std::span<const Candidate> candidates,
            std::span<const double> weights, const Compared& compared) {
  std::vector<const Candidate*> order;
  std::size_t width = 24;
  for (const Candidate& candidate : candidates) {
    order.push_back(&candidate);
    width = std::max(width, candidate.name.size());
  }
  std::sort(order.begin(), order.end(), is_smaller);
  CsvTable table({"candidate", "scheme", "rank", "rate", "b_rate", "trained", "steps", "seconds", "round",
                  "loss", "diverged"});
  std::string text = fmt::format("{:<{}} {:>12} {:>8} {:>10} {:>12}\n", "candidate", width, "trained",
                                 "steps", "nats/token", "left after");
  text += fmt::format("{:<{}} {:>12} {:>8} {:>10.4f}\n", "base", width, 0, 0, compared.base_loss);
  for (const Candidate* c : order) {
    const bool both = has_b_rate(scheme_named(c->tune.scheme));
    table.add({c->name, c->tune.scheme, std::to_string(c->tune.rank), csv_number(c->rates.rate),
               both ? csv_number(c->rates.rate * c->rates.b_multiple) : "", std::to_string(c->trained),
               std::to_string(c->steps), csv_number(c->seconds), std::to_string(c->round),
               csv_number(c->loss), c->diverged ? "1" : "0"});
    text += fmt::format("{:<{}} {:>12} {:>8} {:>10} {:>12}\n", c->name, width, c->trained, c->steps,
                        c->diverged ? "diverged" : fmt::format("{:.4f}", c->loss),
                        c->steps == compared.steps ? "stayed" : fmt::format("round {}", c->round));
  }
  const std::string words = advice(candidates, weights);
  fmt::print("\n{}\n{}", text, words);
  table.save(folder / "compare.csv");
  write_atomically(folder / "result.txt", text + '\n' + words);
  const std::string problem = draw(
      folder, "compare",
      plot_script(
          "compare", "compare.csv", 800, 520,
          fmt::format(
              "  set logscale x\n  set xlabel 'trainable parameters'\n  set ylabel 'validation loss, nats "
              "a token'\n  set key top right\n  set offsets graph 0.2, graph 0.2, graph 0.12, graph 0.05\n"
              "  plot data skip 1 using ($7 == {0} ? $6 : NaN):10:1 with labels point pt 7 ps 1.2 lc rgb "
              "'#D55E00' offset 0,1 noenhanced title 'all {0} steps', \\\n"
              "    data skip 1 using ($7 < {0} ? $6 : NaN):10:(sprintf('%s (%d)', strcol(1), $7)) with "
              "labels point pt 6 ps 1 lc rgb '#999999' offset 0,1 noenhanced title 'dropped out "
              "(steps trained)'\n",
              compared.steps)));
  if (!problem.empty()) fmt::print("Note: {}\n", problem);
  fmt::print("{}: result.txt, compare.csv, adapters/{}\n", folder.string(),
             problem.empty() ? ", compare.png" : "");
}

}  // namespace finetune
