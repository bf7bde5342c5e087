#include "compare_report.hpp"

#include <algorithm>  // sort

#include <fmt/format.h>
#include <finetune/data/files.hpp>    // CsvTable, write_atomically
#include <finetune/report/plots.hpp>  // draw, plot_script

namespace finetune {

void report(const std::filesystem::path& folder, std::span<const Candidate> candidates,
            std::span<const double> weights, const Compared& compared) {
  std::vector<const Candidate*> order;
  for (const Candidate& candidate : candidates) order.push_back(&candidate);
  std::sort(order.begin(), order.end(), is_smaller);
  CsvTable table(
      {"candidate", "scheme", "rank", "rate", "trained", "steps", "seconds", "round", "loss", "diverged"});
  std::string text = fmt::format("{:<24} {:>12} {:>8} {:>10} {:>12}\n", "candidate", "trained", "steps",
                                 "nats/token", "left after");
  text += fmt::format("{:<24} {:>12} {:>8} {:>10.4f}\n", "base", 0, 0, compared.base_loss);
  for (const Candidate* c : order) {
    table.add({c->name, c->tune.scheme, std::to_string(c->tune.rank), csv_number(c->rate),
               std::to_string(c->trained), std::to_string(c->steps), csv_number(c->seconds),
               std::to_string(c->round), csv_number(c->loss), c->diverged ? "1" : "0"});
    text += fmt::format("{:<24} {:>12} {:>8} {:>10} {:>12}\n", c->name, c->trained, c->steps,
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
              "  plot data skip 1 using ($6 == {0} ? $5 : NaN):9:1 with labels point pt 7 ps 1.2 lc rgb "
              "'#D55E00' offset 0,1 noenhanced title 'all {0} steps', \\\n"
              "    data skip 1 using ($6 < {0} ? $5 : NaN):9:(sprintf('%s (%d)', strcol(1), $6)) with "
              "labels point pt 6 ps 1 lc rgb '#999999' offset 0,1 noenhanced title 'dropped out "
              "(steps trained)'\n",
              compared.steps)));
  if (!problem.empty()) fmt::print("Note: {}\n", problem);
  fmt::print("{}: result.txt, compare.csv, adapters/{}\n", folder.string(),
             problem.empty() ? ", compare.png" : "");
}

}  // namespace finetune
