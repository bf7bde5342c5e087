#include "training_state.hpp"

#include <filesystem>  // create_directories, exists
#include <span>        // span
#include <string>      // string

#include <fmt/format.h>
#include <finetune/distributed/agreement.hpp>
#include <finetune/report/json_number.hpp>
#include <nlohmann/json.hpp>

#include "checked_file.hpp"  // open_checked, save_checked
#include "settings_differences.hpp"

namespace finetune {

namespace {

nlohmann::json finite(double number) { return json_number<nlohmann::json>(number); }
double number_or(const nlohmann::json& json, double otherwise) {
  return json.is_number() ? json.get<double>() : otherwise;
}

/// The file beside a checkpoint that holds TrainingState::best.
std::filesystem::path best_path(const CheckpointPlan& plan) { return plan.path.string() + ".best"; }

/// In which settings two keys differ, each a text and a JSON object: as list_differences.
std::string differences(const std::string& there, const std::string& here) {
  const std::size_t begin_there = there.find(" {"), begin_here = here.find(" {");
  if (begin_there == std::string::npos || begin_here == std::string::npos) return "";
  auto old_settings = nlohmann::json::parse(there.substr(begin_there + 1), nullptr, false);
  auto new_settings = nlohmann::json::parse(here.substr(begin_here + 1), nullptr, false);
  if (old_settings.is_discarded() || new_settings.is_discarded()) return "";
  old_settings["run"] = there.substr(0, begin_there);
  new_settings["run"] = here.substr(0, begin_here);
  return list_differences(old_settings, new_settings);
}

/// All but the best values. Returns whether there are any.
bool read_position(const CheckpointPlan& plan, const tiedlora::TrainingPosition& position,
                   TrainingState& state) {
  const auto json = nlohmann::json::parse(position.data, nullptr, /*allow_exceptions=*/false);
  const std::string key = json.is_object() ? json.value("key", std::string()) : std::string();
  if (key != plan.key)
    throw tiedlora::Error(fmt::format("{} belongs to a run with different settings{}; use the same ones; {}",
                                      plan.path.string(), differences(key, plan.key), plan.start_anew));
  try {
    state.steps = position.step;
    for (const nlohmann::json& row : json.at("log"))
      state.log.push_back({row.at(0).get<std::int64_t>(), number_or(row.at(1), not_measured),
                           number_or(row.at(2), not_measured), number_or(row.at(3), not_measured),
                           number_or(row.at(4), not_measured), number_or(row.at(5), not_measured)});
    state.spent = json.at("spent").get<double>();
    state.sum = number_or(json.at("sum"), not_measured);
    state.summed = json.at("summed").get<std::int64_t>();
    state.smooth = number_or(json.at("smooth"), not_measured);
    state.first = number_or(json.at("first"), not_measured);
    state.last.gradient_norm = number_or(json.at("gradient_norm"), not_measured);
    state.activation_bytes = json.at("activation_bytes").get<Index>();
    state.stopping.resume(number_or(json.at("best"), std::numeric_limits<double>::infinity()),
                          json.at("waited").get<int>());
    if (state.log.empty()) throw tiedlora::Error(plan.path.string() + " is damaged: its log is empty");
    return json.at("has_best").get<bool>();
  } catch (const nlohmann::json::exception& error) {
    throw tiedlora::Error(plan.path.string() + " is damaged: " + error.what());
  }
}

void read_best(const CheckpointPlan& plan, std::size_t count, TrainingState& state) {
  const std::filesystem::path path = best_path(plan);
  if (!std::filesystem::exists(path))
    throw tiedlora::Error(fmt::format("{} is missing, which belongs to {}; {}", path.string(),
                                      plan.path.filename().string(), plan.start_anew));
  const auto file = open_checked(path);
  const auto text = file.metadata().find("finetune");
  const auto json =
      text == file.metadata().end() ? nlohmann::json() : nlohmann::json::parse(text->second, nullptr, false);
  state.best.resize(count);
  const auto* values = file.find("values");
  if (!values || !tiedlora::safetensors::try_read(*values, std::span(state.best)) || !json.is_object() ||
      !json.contains("step") || !json["step"].is_number_integer() || !json.contains("loss"))
    throw tiedlora::Error(
        fmt::format("{} does not hold this run's best values; {}", path.string(), plan.start_anew));
  state.best_step = json["step"].get<std::int64_t>();
  state.best_loss = number_or(json["loss"], std::numeric_limits<double>::infinity());
}

}  // namespace

void save_best(const CheckpointPlan& plan, const TrainingState& state) {
  const nlohmann::json json = {{"step", state.best_step}, {"loss", finite(state.best_loss)}};
  save_checked(best_path(plan), {{"values", state.best}}, json.dump());
}

void save_state(const CheckpointPlan& plan, const Trainable& trainable, const TrainingState& state) {
  nlohmann::json log = nlohmann::json::array();
  for (const Logged& row : state.log)
    log.push_back({row.step, finite(row.train_loss), finite(row.select_loss), finite(row.rate_factor),
                   finite(row.gradient_norm), finite(row.seconds)});
  const nlohmann::json json = {{"key", plan.key},
                               {"log", log},
                               {"spent", state.spent},
                               {"sum", finite(state.sum)},
                               {"summed", state.summed},
                               {"smooth", finite(state.smooth)},
                               {"first", finite(state.first)},
                               {"gradient_norm", finite(state.last.gradient_norm)},
                               {"activation_bytes", state.activation_bytes},
                               {"best", finite(state.stopping.best())},
                               {"waited", state.stopping.waited()},
                               {"has_best", !state.best.empty()}};
  std::filesystem::create_directories(plan.path.parent_path());
  trainable.save(plan.path, {.step = state.steps, .data = json.dump()});
}

bool resume_state(const CheckpointPlan& plan, Communicator& processes, Trainable& trainable,
                  TrainingState& state) {
  tiedlora::TrainingPosition position;
  bool is_there = false, has_best = false;
  first_only(processes, [&] {
    is_there = plan.resume && std::filesystem::exists(plan.path);
    if (!is_there) return;
    position = trainable.resume(plan.path);
    has_best = read_position(plan, position, state);
    if (has_best) read_best(plan, trainable.values().size(), state);
  });
  if (!processes.from_first(is_there)) return false;
  position.step = processes.from_first(position.step);
  processes.broadcast_text(position.data);
  if (!processes.is_first()) has_best = read_position(plan, position, state);
  if (has_best) {
    state.best.resize(trainable.values().size());
    processes.broadcast(std::as_writable_bytes(std::span(state.best)));
    state.best_step = processes.from_first(state.best_step);
    state.best_loss = processes.from_first(state.best_loss);
  }
  trainable.share(processes);
  return true;
}

}  // namespace finetune
