// Schemes by name, as command lines and other languages give them.
#pragma once

#include <algorithm>    // find_if
#include <array>        // to_array
#include <optional>     // optional
#include <string_view>  // string_view
#include <utility>      // pair

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

/// That of all_named() with this name, or nothing.
inline std::optional<Scheme> named(std::string_view name) {
  const auto all = all_named();
  const auto found = std::find_if(all.begin(), all.end(), [&](const auto& one) { return one.first == name; });
  if (found == all.end()) return std::nullopt;
  return found->second;
}

}  // namespace schemes

TIEDLORA_END_NAMESPACE
