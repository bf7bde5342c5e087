// Schemes by name, as command lines and other languages give them.
#pragma once

#include <algorithm>     // find_if
#include <array>         // to_array
#include <charconv>      // from_chars
#include <optional>      // optional
#include <string>        // string
#include <string_view>   // string_view
#include <system_error>  // errc
#include <utility>       // pair

#include "../views/config.hpp"
#include "scheme.hpp"

TIEDLORA_BEGIN_NAMESPACE

namespace schemes {

/// All schemes without an argument, each under the name of its function.
inline auto all_named() {
  return std::to_array<std::pair<std::string_view, Scheme>>({
      {"lora", lora()},
      {"lora_fused", lora_fused()},
      {"vera", vera()},
      {"tl5", tl5()},
      {"tl6", tl6()},
      {"tl6_v0", tl6_v0()},
      {"lora_fa", lora_fa()},
      {"share_lora_a", share_lora_a()},
      {"share_lora_b", share_lora_b()},
      {"share_lora_ab", share_lora_ab()},
  });
}

/// "lora, lora_fused, …, share_lora_ab or grouped:G": what named() knows, for help and error messages.
inline std::string names() {
  std::string list;
  for (const auto& [name, scheme] : all_named()) list += (list.empty() ? "" : ", ") + std::string(name);
  return list + " or grouped:G";
}

/// That of all_named() with this name, for "grouped:4" grouped(4), or nothing.
inline std::optional<Scheme> named(std::string_view name) {
  const auto all = all_named();
  const auto found = std::find_if(all.begin(), all.end(), [&](const auto& one) { return one.first == name; });
  if (found != all.end()) return found->second;
  constexpr std::string_view prefix = "grouped:";
  if (!name.starts_with(prefix)) return std::nullopt;
  const std::string_view digits = name.substr(prefix.size());
  Index layers = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), layers);
  if (error != std::errc() || end != digits.data() + digits.size() || layers < 1) return std::nullopt;
  return grouped(layers);
}

}  // namespace schemes

TIEDLORA_END_NAMESPACE
