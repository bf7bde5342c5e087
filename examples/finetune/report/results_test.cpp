// Tables, JSON and gnuplot scripts of a comparison.
#include <cstring>

#include <gtest/gtest.h>
#include <finetune/test_folder.hpp>

#include "plots.hpp"
#include "results.hpp"

namespace finetune {
namespace {

Settings small_settings() {
  Settings settings;
  settings.model.layers = 2;
  settings.model.width = 16;
  settings.model.heads = 2;
  settings.model.kv_heads = 1;
  settings.model.feed_forward = 24;
  settings.ranks = {4};
  return settings;
}

RunResult run_of(const std::string& scheme, Index rank, std::uint64_t seed, double loss) {
  RunResult run;
  run.contender = {scheme, rank};
  run.seed = seed;
  run.rates = {0.01, 2};
  run.trained = 100;
  run.task_loss = loss;
  run.base_loss = 2.5;
  run.training.steps = 20;
  run.training.log = {{0, not_measured, 3.0, 0, 0, 0}, {20, 2.9, 2.8, 0.1, 1.5, 0.25}};
  return run;
}

Comparison comparison_of(const std::vector<RunResult>& runs) {
  return {small_settings(), {{"text", "abc"}}, 3.0, 2.0, 10, 20, runs};
}

std::size_t commas_outside_quotes(const std::string& line) {
  std::size_t count = 0;
  bool inside = false;
  for (const char c : line) {
    inside ^= c == '"';
    count += c == ',' && !inside;
  }
  return count;
}

TEST(Comparison, MeasuresGainAgainstTheReferenceOfTheSameSeed) {
  const Comparison comparison =
      comparison_of({run_of("lora", 4, 1, 2.0), run_of("lora", 8, 1, 1.0), run_of("tl6", 4, 1, 2.25),
                     run_of("lora", 4, 2, 2.5), run_of("tl6", 4, 2, 2.5)});
  EXPECT_EQ(comparison.reference_name(), "LoRA r=4 on q,k,v,o,gate,up,down, untied");
  EXPECT_DOUBLE_EQ(*comparison.gain_kept(comparison.runs[0]), 1.0);
  EXPECT_DOUBLE_EQ(*comparison.gain_kept(comparison.runs[1]), 2.0);
  EXPECT_DOUBLE_EQ(*comparison.gain_kept(comparison.runs[2]), 0.75);
  EXPECT_DOUBLE_EQ(*comparison.gain_kept(comparison.runs[4]), 1.0);
  EXPECT_DOUBLE_EQ(comparison.mean({"tl6", 4}, [](const RunResult& run) { return run.task_loss; }), 2.375);
  EXPECT_FALSE(
      comparison_of({run_of("tl6", 4, 1, 2.0)}).gain_kept(run_of("tl6", 4, 1, 2.0)));  // no LoRA was run
  EXPECT_FALSE(comparison_of({run_of("lora", 4, 1, 3.5)}).gain_kept(run_of("tl6", 4, 1, 2.0)));  // it lost
}

TEST(Comparison, CountsTheReference) {
  // Per layer and rank: in + out of q 16+16, k and v 16+8, o 16+16, gate and up 16+24, down 24+16.
  EXPECT_EQ(comparison_of({}).reference_count(), 2 * 4 * (32 + 24 + 24 + 32 + 40 + 40 + 40));
}

TEST(Csv, IsWellFormedAndReplacesRunsOfTheSameName) {
  const TestFolder folder;
  for (const auto& [name, save] :
       {std::pair("summary.csv", &save_summary_csv), std::pair("metrics.csv", &save_metrics)}) {
    const auto path = folder.path() / name;
    save(path, comparison_of({run_of("lora", 4, 1, 2.0)}));
    const std::string once = read_file(path);
    save(path, comparison_of({run_of("lora", 4, 1, 2.0)}));
    EXPECT_EQ(read_file(path), once);
    RunResult diverged = run_of("tl6", 4, 2, not_measured);
    diverged.training.diverged = true;
    save(path, comparison_of({diverged}));
    const std::string both = read_file(path);
    EXPECT_EQ(both.substr(0, once.size()), once);
    EXPECT_GT(both.size(), once.size());
    EXPECT_EQ(both.find("nan"), std::string::npos);
    std::size_t at = 0;
    const std::size_t columns = commas_outside_quotes(both.substr(0, both.find('\n')));
    while (at < both.size()) {
      const std::string line = both.substr(at, both.find('\n', at) - at);
      EXPECT_EQ(commas_outside_quotes(line), columns) << line;
      at += line.size() + 1;
    }
  }
}

TEST(SummaryJson, HasNullForWhatWasNotMeasured) {
  const TestFolder folder;
  RunResult diverged = run_of("tl6", 4, 1, not_measured);
  diverged.training.diverged = true;
  save_summary_json(folder.path() / "summary.json", comparison_of({run_of("lora", 4, 1, 2.0), diverged}));
  const auto json = nlohmann::json::parse(read_file(folder.path() / "summary.json"));
  ASSERT_EQ(json["runs"].size(), 2u);
  EXPECT_EQ(json["runs"][0]["test_bits_per_byte"], 2.0);
  EXPECT_EQ(json["runs"][0]["gain_kept"], 1.0);
  EXPECT_TRUE(json["runs"][1]["test_bits_per_byte"].is_null());
  EXPECT_EQ(json["runs"][1]["status"], "diverged");
  EXPECT_EQ(json["before"]["test_bits_per_byte"], 3.0);
}

TEST(Plots, QuoteTheirTexts) {
  EXPECT_EQ(gnuplot_quoted("it's"), "'it''s'");
  const std::string script = loss_script(
      comparison_of({run_of("lora", 4, 1, 2.0), run_of("lora", 1, 1, 2.0), run_of("full", 0, 1, 2.0)}));
  EXPECT_NE(script.find("title 'LoRA r=1'"), std::string::npos);
  EXPECT_NE(script.find("metrics.csv"), std::string::npos);
}

}  // namespace
}  // namespace finetune
