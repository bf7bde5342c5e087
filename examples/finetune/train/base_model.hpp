// The model before fine-tuning: pre-trained on the base text once, then read from the cache.
#pragma once

#include <cstdint>     // uint64_t, int64_t
#include <cstring>     // memcpy
#include <filesystem>  // path, exists
#include <optional>    // optional
#include <span>        // span
#include <string>      // string

#include <fmt/format.h>
#include <finetune/data/files.hpp>      // read_file, write_atomically, fnv1a
#include <finetune/data/text_data.hpp>  // TextData
#include <finetune/settings.hpp>        // Settings
#include <nlohmann/json.hpp>

#include "trainer.hpp"  // train_loop

namespace finetune {

/// A file of float32 numbers under a name that is the hash of what they depend on. Format: one line of JSON
/// (key, notes, count, checksum), a newline, the numbers as they lie in memory.
class BaseCache {
 public:
  /// `key`: everything the numbers depend on.
  BaseCache(const std::filesystem::path& folder, nlohmann::ordered_json key)
      : key_(std::move(key)), path_(folder / fmt::format("base-{:016x}.f32", fnv1a(key_.dump()))) {}

  const std::filesystem::path& path() const { return path_; }

  /// Fills `values` and returns the notes saved with them; nothing, and values untouched, if there is no such
  /// file or it is damaged (then `problem` says how).
  std::optional<nlohmann::ordered_json> load(std::span<float> values, std::string& problem) const {
    problem.clear();
    if (!std::filesystem::exists(path_)) return std::nullopt;
    const std::string bytes = read_file(path_);
    const std::size_t newline = bytes.find('\n');
    const auto header =
        nlohmann::ordered_json::parse(bytes.substr(0, newline), nullptr, /*allow_exceptions=*/false);
    if (newline == std::string::npos || !header.contains("key") || header["key"] != key_) {
      problem = "its header is not the expected one";
      return std::nullopt;
    }
    const std::string_view payload = std::string_view(bytes).substr(newline + 1);
    if (payload.size() != values.size_bytes()) {
      problem =
          fmt::format("it holds {} bytes of numbers instead of {}", payload.size(), values.size_bytes());
      return std::nullopt;
    }
    if (!header.contains("checksum") || header["checksum"] != checksum(payload)) {
      problem = "its checksum does not fit its numbers";
      return std::nullopt;
    }
    std::memcpy(values.data(), payload.data(), payload.size());
    return header.contains("notes") ? header["notes"] : nlohmann::ordered_json::object();
  }

  void save(std::span<const float> values, const nlohmann::ordered_json& notes) const {
    const std::string_view payload(reinterpret_cast<const char*>(values.data()), values.size_bytes());
    const nlohmann::ordered_json header = {
        {"key", key_}, {"notes", notes}, {"count", values.size()}, {"checksum", checksum(payload)}};
    write_atomically(path_, header.dump() + '\n' + std::string(payload));
  }

 private:
  static std::string checksum(std::string_view payload) { return fmt::format("{:016x}", fnv1a(payload)); }

  nlohmann::ordered_json key_;
  std::filesystem::path path_;
};

struct Base {
  Weights weights;
  std::string name = {};  ///< tells it from bases made otherwise
  std::int64_t steps = 0;
  double task_loss = 0;  ///< on the task's test split, in bits per byte
  double base_loss = 0;  ///< on the base's test split
  bool from_cache = false;
  double seconds_per_step = 0;  ///< of pre-training, if it was made now
  bool interrupted = false;     ///< Ctrl-C during pre-training: weights are of no use but to go on from
};

/// Everything the base's weights depend on. With steps that follow from --minutes it is the minutes that
/// count: the number of steps differs a little from run to run, and a base should not be made anew for that.
inline nlohmann::ordered_json base_key(const Settings& settings, const TextData& data) {
  nlohmann::ordered_json key = {{"format", 1},
                                {"model", to_json(settings.model)},
                                {"text", fmt::format("{:016x}", data.base.hash)},
                                {"batch", settings.batch},
                                {"length", settings.length},
                                {"seed", base_seed},
                                {"learning_rate", settings.rates.at("base").rate},
                                {"weight_decay", weight_decay},
                                {"clip_norm", clip_norm}};
  if (settings.base_steps > 0)
    key["steps"] = settings.base_steps;
  else
    key["minutes"] = settings.minutes;
  return key;
}

/// Reads the base from the cache, or pre-trains it for `steps` steps and saves it there. Says on stdout what
/// it does.
inline Base obtain_base(Model& model, const Settings& settings, const TextData& data, std::int64_t steps) {
  Base base{Weights(settings.model)};
  const BaseCache cache(settings.cache, base_key(settings, data));
  base.name = "finetune " + cache.path().stem().string();
  std::string problem;
  if (const auto notes = cache.load(base.weights.values(), problem)) {
    base.from_cache = true;
    base.steps = notes->value("steps", std::int64_t{0});
    fmt::print("Base model read from {} ({} steps; delete the file to pre-train anew)\n",
               cache.path().string(), base.steps);
  } else {
    if (!problem.empty()) fmt::print("{} is damaged ({}): made anew\n", cache.path().string(), problem);
    base.weights.initialize(base_seed);
    const Sampler sampler(data.base.text(Part::train), settings.batch, settings.length, base_seed);
    WeightsTrainee trainee(copy_of(base.weights), settings.rates.at("base").rate);
    std::filesystem::path checkpoint = cache.path();
    checkpoint.replace_extension(".checkpoint");
    const TrainingResult result =
        train_loop(model, trainee, sampler, {},
                   {.title = "base",
                    .steps = steps,
                    .log_rows = rows_per_run,
                    .checkpoint = {.path = checkpoint,
                                   .key = fmt::format("{} steps {}", steps, base_key(settings, data).dump()),
                                   .resume = settings.resume}});
    if (result.diverged) throw std::runtime_error("pre-training diverged; lower --learning-rate base=…");
    base.steps = result.steps;
    base.seconds_per_step = result.seconds_per_step;
    base.interrupted = result.interrupted;
    if (base.interrupted) return base;
    std::copy(trainee.values().begin(), trainee.values().end(), base.weights.values().begin());
    std::filesystem::remove(checkpoint);
    cache.save(base.weights.values(), {{"steps", base.steps}, {"seconds_per_step", result.seconds_per_step}});
    fmt::print("Base model pre-trained for {} steps, {:.3f} s each; kept in {}\n", base.steps,
               result.seconds_per_step, cache.path().string());
  }
  base.task_loss = evaluate(model, base.weights, nullptr, data.test);
  base.base_loss = evaluate(model, base.weights, nullptr, data.base_test);
  return base;
}

}  // namespace finetune
