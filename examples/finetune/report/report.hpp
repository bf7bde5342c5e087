// What the user reads at the end: the table and samples of text.
#pragma once

#include <algorithm>  // min_element
#include <string>     // string
#include <utility>    // move
#include <vector>     // vector

#include <fmt/format.h>
#include <finetune/data/text_data.hpp>  // TextData

#include "results.hpp"  // Comparison

namespace finetune {

/// One row per contender, means over the seeds, in the order in which they were run.
std::string result_table(const Comparison& comparison);

/// Where the samples start: a line from the middle of the task's test text, the same for all models.
struct Prompt {
  std::string text, truth;  ///< the prompt, and how the text really continues
};
inline constexpr std::size_t prompt_length = 96, sample_length = 240;  // bytes

Prompt choose_prompt(const TextData& data);

/// sample_length bytes that follow the prompt; what is not printable ASCII is shown as '?'. The model never
/// sees more than the `length` bytes it was trained on: from time to time it starts again from the last half
/// of them.
std::string sample_text(Model& model, const Weights& weights, const Adapter* adapter,
                        const std::string& prompt, Index length);

/// The texts that all models wrote.
class Samples {
 public:
  explicit Samples(Prompt prompt) : prompt_(std::move(prompt)) {}

  const Prompt& prompt() const { return prompt_; }
  void add(const std::string& title, double loss, const std::string& text) {
    samples_.push_back({title, loss, text});
  }

  std::string all() const {
    std::string text = section("prompt", prompt_.text) + section("the text itself", prompt_.truth);
    for (const Sample& sample : samples_) text += section(sample.title, sample.text);
    return text;
  }
  /// The prompt, what the first model wrote, and what the one with the lowest loss wrote.
  std::string before_and_best() const {
    const auto best = std::min_element(samples_.begin(), samples_.end(),
                                       [](const Sample& a, const Sample& b) { return a.loss < b.loss; });
    return section("prompt", prompt_.text) + section(samples_.front().title, samples_.front().text) +
           (best != samples_.begin() ? section(best->title, best->text) : std::string());
  }

 private:
  struct Sample {
    std::string title;
    double loss;
    std::string text;
  };
  static std::string section(const std::string& title, const std::string& text) {
    return fmt::format("--- {}\n{}\n", title, text);
  }

  Prompt prompt_;
  std::vector<Sample> samples_;
};

}  // namespace finetune
