// In which settings a run that --resume finds differs from the one that is wanted.
#pragma once

#include <string>  // string

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "../../numbers.hpp"  // in_short

namespace finetune {

/// " (data; rate: 0.002 there, 0.001 here)": the entries in which two JSON objects differ, without their
/// values where those are hashes. Empty where none does, or one is not an object.
inline std::string list_differences(const nlohmann::json& there, const nlohmann::json& here) {
  if (!there.is_object() || !here.is_object()) return "";
  const auto value_of = [](const nlohmann::json& settings, const std::string& name) {
    return settings.contains(name) ? settings[name] : nlohmann::json("none");
  };
  const auto is_hash = [](const nlohmann::json& value) {
    return value.is_string() && value.get_ref<const std::string&>().size() == 16 &&
           value.get_ref<const std::string&>().find_first_not_of("0123456789abcdef") == std::string::npos;
  };
  const auto shown = [](const nlohmann::json& value) {
    if (value.is_number_float()) return fmt::format("{}", value.get<double>());
    const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    constexpr std::size_t longest = 60;
    return text.empty() || text.size() > longest ? examples::in_short(text) : text;
  };
  std::string list;
  nlohmann::json all = there;  // the names that either has
  all.update(here);
  for (const auto& [name, unused] : all.items()) {
    const nlohmann::json old_value = value_of(there, name), new_value = value_of(here, name);
    if (old_value == new_value) continue;
    list += (list.empty() ? "" : "; ") + name;
    if (!is_hash(old_value) && !is_hash(new_value))
      list += fmt::format(": {} there, {} here", shown(old_value), shown(new_value));
  }
  return list.empty() ? "" : " (" + list + ")";
}

}  // namespace finetune
