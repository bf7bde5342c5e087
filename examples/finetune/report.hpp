// What the user reads at the end: the table and samples of text.
#pragma once

#include <cctype>    // isprint
#include <cstdint>   // int32_t
#include <optional>  // optional
#include <string>    // string
#include <vector>    // vector

#include <fmt/format.h>
#include <transformer/generate.hpp>

#include "results.hpp"    // Comparison
#include "text_data.hpp"  // TextData

namespace finetune {

/// "467 k"
inline std::string count_text(double count) {
  return count < 1e4   ? fmt::format("{:.0f}", count)
         : count < 1e6 ? fmt::format("{:.1f} k", count / 1e3)
                       : fmt::format("{:.2f} M", count / 1e6);
}

/// For each adapter that is not LoRA: does it beat the LoRAs that train at most as many numbers? Says so
/// where it does not.
inline std::string verdicts(const Comparison& comparison) {
  const auto loss = [&](const Contender& one) {
    return comparison.mean(one, [](const RunResult& run) { return run.task_loss; });
  };
  const auto trained = [&](const Contender& one) {
    return comparison.mean(one, [](const RunResult& run) { return double(run.trained); });
  };
  std::string text;
  for (const Contender& contender : comparison.contenders()) {
    if (contender.scheme == "lora" || contender.is_full()) continue;
    std::optional<Contender> rival;
    for (const Contender& other : comparison.contenders())
      if (other.scheme == "lora" && trained(other) <= trained(contender) &&
          (!rival || loss(other) < loss(*rival)))
        rival = other;
    if (!rival || !std::isfinite(loss(*rival)) || !std::isfinite(loss(contender))) continue;
    const double difference = loss(*rival) - loss(contender);
    text +=
        fmt::format("{} {} {}, which trains {:.2g} times as many numbers: test loss {:.3f} against {:.3f}.\n",
                    contender.label(), difference > 0 ? "beats" : "LOSES to", rival->label(),
                    trained(*rival) / trained(contender), loss(contender), loss(*rival));
  }
  return text;
}

/// One row per contender, means over the seeds, in the order in which they were run.
inline std::string result_table(const Comparison& comparison) {
  const auto loss = [](double bits) {
    return std::isfinite(bits) ? fmt::format("{:.3f}", bits) : std::string("–");
  };
  std::string table =
      fmt::format("{:<11}{:>10}{:>10}{:>20}{:>12}{:>20}{:>10}{:>12}{:>10}\n", "", "trained", "% of",
                  "task test loss", "LoRA's gain", "base text loss", "training", "kept for", "seconds");
  table += fmt::format("{:<11}{:>10}{:>10}{:>20}{:>12}{:>20}{:>10}{:>12}{:>10}\n", "scheme", "numbers",
                       "LoRA", "before → after", "kept", "before → after", "memory", "backward", "per step");
  for (const Contender& contender : comparison.contenders()) {
    const auto mean = [&](auto value) { return comparison.mean(contender, value); };
    const double kept =
        mean([&](const RunResult& r) { return comparison.gain_kept(r).value_or(not_measured); });
    const double trained = mean([](const RunResult& r) { return double(r.trained); });
    std::string status;
    for (const RunResult& r : comparison.runs)
      if (r.contender == contender && std::string(r.status()) != "done")
        status = fmt::format("  {} after {} steps", r.status(), r.training.steps);
    table += fmt::format(
        "{:<11}{:>10}{:>9.2f}%{:>20}{:>12}{:>20}{:>10}{:>12}{:>10.3f}{}\n", contender.label(),
        count_text(trained), 100.0 * trained / double(comparison.reference_count()),
        loss(comparison.base_task_loss) + " → " + loss(mean([](const RunResult& r) { return r.task_loss; })),
        std::isfinite(kept) ? fmt::format("{:.0f} %", 100 * kept) : std::string("–"),
        loss(comparison.base_base_loss) + " → " + loss(mean([](const RunResult& r) { return r.base_loss; })),
        size_text(mean([](const RunResult& r) { return double(r.bytes); })),
        size_text(mean([](const RunResult& r) { return double(r.activation_bytes); })),
        mean([](const RunResult& r) { return r.training.seconds_per_step; }), status);
  }
  const std::size_t seeds = comparison.settings.seeds.size();
  table += verdicts(comparison);
  table += fmt::format(
      "Losses in bits per byte, lower is better. LoRA: {} ({} numbers).\n"
      "Training memory: parameters, gradients and AdamW's state, in float32; the frozen base model comes on "
      "top.\n"
      "{} pre-training and {} fine-tuning steps of {} x {} bytes, same data in the same order for all.\n",
      comparison.reference_name(), comparison.reference_count(), comparison.base_steps, comparison.steps,
      comparison.settings.batch, comparison.settings.length);
  table += seeds == 1 ? fmt::format(
                            "One seed ({}) is no evidence: differences of a few hundredths may turn around "
                            "with the next. Try --seeds 1,2,3.\n",
                            comparison.settings.seeds.front())
                      : fmt::format("Means over {} seeds.\n", seeds);
  return table;
}

/// The beginning of a line of the task's test text, some hundred bytes before its middle: the same for all
/// models.
struct Prompt {
  std::string text, truth;  ///< the prompt, and how the text really goes on
};
inline Prompt choose_prompt(const TextData& data, std::size_t length, std::size_t count) {
  const std::string& text = data.task.text(Part::test);
  std::size_t begin = text.find('\n', text.size() / 2);
  if (begin == std::string::npos || begin + 1 + length + count > text.size()) begin = 0;
  return {text.substr(begin + 1, length), text.substr(begin + 1 + length, count)};
}

/// `count` bytes that follow the prompt, bytes that are no printable ASCII shown as '?'.
inline std::string sample_text(Model& model, const Weights& weights, const Adapter* adapter,
                               const std::string& prompt, Index count) {
  std::vector<std::int32_t> tokens;
  for (const char c : prompt) tokens.push_back(static_cast<unsigned char>(c));
  std::string text;
  for (const std::int32_t token :
       transformer::generate(model, weights, adapter, tokens, count, /*temperature=*/0.8, /*seed=*/1)) {
    const bool shown = token == '\n' || token == '\t' || (token >= 32 && token < 127);
    text += shown ? static_cast<char>(token) : '?';
  }
  return text;
}

}  // namespace finetune
