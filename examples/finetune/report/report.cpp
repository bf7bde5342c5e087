// The table of a comparison, and text that the models write.
#include "report.hpp"

#include <cmath>     // abs, isfinite, log
#include <cstdint>   // int32_t
#include <optional>  // optional

#include <fmt/format.h>
#include <llama/generate.hpp>

namespace finetune {

namespace {

/// "467 k"
std::string count_text(double count) {
  return count < 1e4   ? fmt::format("{:.0f}", count)
         : count < 1e6 ? fmt::format("{:.1f} k", count / 1e3)
                       : fmt::format("{:.2f} M", count / 1e6);
}

/// For each adapter that is not LoRA: does it beat the LoRA that comes nearest to it in trainable parameters,
/// fewer or more? Says so where it does not.
std::string verdicts(const Comparison& comparison) {
  const auto loss = [&](const Contender& one) {
    return comparison.mean(one, [](const RunResult& run) { return run.task_loss; });
  };
  const auto trained = [&](const Contender& one) {
    return comparison.mean(one, [](const RunResult& run) { return double(run.trained); });
  };
  const auto distance = [&](const Contender& a, const Contender& b) {
    return std::abs(std::log(trained(a) / trained(b)));
  };
  std::string text;
  for (const Contender& contender : comparison.contenders()) {
    if (contender.scheme == "lora" || contender.is_full()) continue;
    std::optional<Contender> rival;
    for (const Contender& other : comparison.contenders())
      if (other.scheme == "lora" && (!rival || distance(other, contender) < distance(*rival, contender)))
        rival = other;
    if (!rival || !std::isfinite(loss(*rival)) || !std::isfinite(loss(contender))) continue;
    const double difference = loss(*rival) - loss(contender);
    text += fmt::format(
        "{} {} {}, which trains {:.2g} times as many parameters: test loss {:.3f} against {:.3f}.\n",
        contender.label(), difference > 0 ? "beats" : "LOSES to", rival->label(),
        trained(*rival) / trained(contender), loss(contender), loss(*rival));
  }
  return text;
}

}  // namespace

std::string result_table(const Comparison& comparison) {
  const auto loss = [](double bits) {
    return std::isfinite(bits) ? fmt::format("{:.3f}", bits) : std::string("–");
  };
  std::string table =
      fmt::format("{:<18}{:>10}{:>10}{:>20}{:>12}{:>20}{:>10}{:>12}{:>10}\n", "", "trainable", "% of",
                  "task test loss", "LoRA's gain", "base text loss", "training", "kept for", "seconds");
  table += fmt::format("{:<18}{:>10}{:>10}{:>20}{:>12}{:>20}{:>10}{:>12}{:>10}\n", "scheme", "parameters",
                       "LoRA", "before → after", "kept", "before → after", "memory", "backward", "per step");
  for (const Contender& contender : comparison.contenders()) {
    const auto mean = [&](auto value) { return comparison.mean(contender, value); };
    const double kept =
        mean([&](const RunResult& r) { return comparison.gain_kept(r).value_or(not_measured); });
    const double trained = mean([](const RunResult& r) { return double(r.trained); });
    std::string status;
    for (const RunResult& r : comparison.runs)
      if (r.contender == contender && !r.note().empty()) status = r.note();
    table += fmt::format(
        "{:<18}{:>10}{:>9.2f}%{:>20}{:>12}{:>20}{:>10}{:>12}{:>10.3f}{}\n", contender.label(),
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
      "Losses in bits per byte, lower is better. LoRA: {} ({} parameters).\n"
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

Prompt choose_prompt(const TextData& data) {
  const std::string& text = data.task.text(Part::test);
  std::size_t begin = text.find('\n', text.size() / 2);
  if (begin == std::string::npos || begin + 1 + prompt_length + sample_length > text.size()) begin = 0;
  return {text.substr(begin + 1, prompt_length),
          text.substr(std::min(begin + 1 + prompt_length, text.size()), sample_length)};
}

std::string sample_text(Model& model, const Weights& weights, const Adapter* adapter,
                        const std::string& prompt, Index length) {
  std::vector<std::int32_t> tokens;
  for (const char c : prompt) tokens.push_back(static_cast<unsigned char>(c));
  const auto half = static_cast<std::size_t>(std::max<Index>(length / 2, 1));
  while (tokens.size() < prompt.size() + sample_length) {
    const std::span<const std::int32_t> context(tokens);
    const std::vector<std::int32_t> next = llama::generate(
        model, weights, adapter, context.last(std::min(half, context.size())), static_cast<Index>(half),
        /*temperature=*/0.7, /*seed=*/tokens.size());
    tokens.insert(tokens.end(), next.begin(), next.end());
  }
  std::string text;
  for (std::size_t i = prompt.size(); i < prompt.size() + sample_length; ++i) {
    const bool shown = tokens[i] == '\n' || tokens[i] == '\t' || (tokens[i] >= 32 && tokens[i] < 127);
    text += shown ? static_cast<char>(tokens[i]) : '?';
  }
  return text;
}

}  // namespace finetune
