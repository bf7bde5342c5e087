// In which settings a run that --resume finds differs from the one that is wanted.
#pragma once

#include <string>  // string

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace finetune {

/// " (data; rate: 0.002 there, 0.001 here)": the entries in which two JSON objects differ, without their
/// values where those are hashes. Empty where none does, or one is not an object.
inline std::string list_differences(const nlohmann::json& there, const nlohmann::json& here) {
  if (!there.is_object() || !here.is_object()) return "";
  const auto value_of = [](const nlohmann::json& settings, const std::string& name) {
    if (!settings.contains(name)) return std::string("none");
    const nlohmann::json& value = settings[name];
    if (value.is_number_float()) return fmt::format("{:.6g}", value.get<double>());
    return value.is_string() ? value.get<std::string>() : value.dump();
  };
  std::string list;
  nlohmann::json all = there;  // the names that either has
  all.update(here);
  for (const auto& [name, unused] : all.items()) {
    const std::string old_value = value_of(there, name), new_value = value_of(here, name);
    if (old_value == new_value) continue;
    list += (list.empty() ? "" : "; ") + name;
    const auto is_hash = [](const std::string& value) {
      return value.size() == 16 && value.find_first_not_of("0123456789abcdef") == value.npos;
    };
    if (!is_hash(old_value) && !is_hash(new_value))
      list += fmt::format(": {} there, {} here", old_value, new_value);
  }
  return list.empty() ? "" : " (" + list + ")";
}

}  // namespace finetune
