// The schemes that the program knows by name.
#pragma once

#include <stdexcept>  // invalid_argument
#include <string>     // string
#include <utility>    // pair
#include <vector>     // vector

#include <tiedlora/adapter/scheme.hpp>

namespace finetune {

/// A new scheme is one line here; its learning rates come from tiedlora::recommended_rates.
inline const std::vector<std::pair<std::string, tiedlora::Scheme>>& named_schemes() {
  namespace schemes = tiedlora::schemes;
  static const std::vector<std::pair<std::string, tiedlora::Scheme>> named = {
      {"lora", schemes::lora()},
      {"lora_fused", schemes::lora_fused()},
      {"vera", schemes::vera()},
      {"tl5", schemes::tl5()},
      {"tl6", schemes::tl6()},
      {"lora_fa", schemes::lora_fa()},
      {"share_lora_a", schemes::share_lora_a()},
      {"share_lora_b", schemes::share_lora_b()},
      {"share_lora_ab", schemes::share_lora_ab()},
      {"grouped4", schemes::grouped(4)},
  };
  return named;
}

/// "lora, lora_fused, …, full"
inline std::string known_names() {
  std::string names;
  for (const auto& [name, scheme] : named_schemes()) names += name + ", ";
  return names + "full";
}

inline tiedlora::Scheme scheme_named(const std::string& wanted) {
  for (const auto& [name, scheme] : named_schemes())
    if (name == wanted) return scheme;
  throw std::invalid_argument("--schemes: \"" + wanted + "\" is none of " + known_names());
}

/// Whether A or B and also u or v are trained: then u and v have a rate of their own.
inline bool has_uv_rate(const tiedlora::Scheme& scheme) {
  const bool uv = (scheme.u && scheme.u->trained) || (scheme.v && scheme.v->trained);
  return uv && (scheme.A.trained || scheme.B.trained);
}

}  // namespace finetune
