// From an engine's own names for its weights to the modules of an adapter, once at load time.
#pragma once

#include <algorithm>      // min
#include <cstddef>        // size_t
#include <span>           // span
#include <string>         // string
#include <string_view>    // string_view
#include <unordered_map>  // unordered_map
#include <vector>         // vector

#include "../views/config.hpp"
#include "../views/error.hpp"
#include "layout.hpp"
#include "name_map.hpp"
#include "quote.hpp"
#include "result.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace detail {
/// "a", "b", "c" and 9 more.
inline std::string some_of(std::span<const std::string> names, std::size_t most) {
  std::string text;
  for (std::size_t n = 0; n < std::min(names.size(), most); ++n)
    text += (n ? ", " : "") + in_quotes(names[n]);
  return names.size() > most ? message(text, " and ", names.size() - most, " more") : text;
}

/// What an engine may call the module: as the map has it, or by its own name, with transformers' prefix or
/// without.
inline std::vector<std::string> engine_names_of(const std::string& module, const NameMap& map) {
  std::vector<std::string> names;
  if (const auto mapped = map.to_file(module)) names.push_back(*mapped);
  names.push_back(module);
  for (const std::string_view prefix : {"model.", "transformer."}) {
    if (module.starts_with(prefix)) names.push_back(module.substr(prefix.size()));
    names.push_back(std::string(prefix) + module);
  }
  return names;
}

}  // namespace detail

/// For each of the engine's names the index of the module that adapts it, or -1. A name may end in ".weight".
/// The map (names::llama(), names::gpt2() or your own) says what the engine calls a module; an engine that
/// uses the modules' own names needs none. Each module of rank > 0 must match a name of its own; otherwise a
/// Failure lists those that do not, with some of the engine's names.
inline Result<std::vector<Index>> try_bind_names(const Layout& layout,
                                                 std::span<const std::string> engine_names,
                                                 const NameMap& map = {}) {
  using detail::message;
  std::unordered_map<std::string_view, std::size_t> places;
  for (std::size_t n = 0; n < engine_names.size(); ++n) {
    std::string_view name = engine_names[n];
    if (name.ends_with(".weight")) name.remove_suffix(std::string_view(".weight").size());
    if (!places.try_emplace(name, n).second)
      return Failure{
          message("the engine's list has ", detail::in_quotes(name), " twice; list each weight once")};
  }
  std::vector<Index> module_of(engine_names.size(), -1);
  std::vector<std::string> homeless;
  Index adapted = 0;
  for (Index m = 0; m < layout.size(); ++m) {
    if (layout.rank(m) == 0) continue;
    ++adapted;
    const std::string& module = layout.modules()[m].name;
    auto place = places.end();
    for (const std::string& name : detail::engine_names_of(module, map))
      if (place = places.find(name); place != places.end()) break;
    if (place == places.end()) {
      homeless.push_back(module);
      continue;
    }
    Index& other = module_of[place->second];
    if (other >= 0)
      return Failure{message("modules ", detail::in_quotes(layout.modules()[other].name), " and ",
                             detail::in_quotes(module), " both adapt the engine's ",
                             detail::in_quotes(engine_names[place->second]),
                             "; give each its own rule in the name map")};
    other = m;
  }
  if (!homeless.empty())
    return Failure{message(
        homeless.size(), " of ", adapted,
        " adapted modules have no weight in this engine: ", detail::some_of(homeless, 16),
        "; the engine has ", engine_names.empty() ? std::string("none") : detail::some_of(engine_names, 4),
        " (another model, a name map without rules for these, or layers that the engine has fused: ",
        "see tiedlora::fuse)")};
  return module_of;
}

/// The same, but throws Error.
inline std::vector<Index> bind_names(const Layout& layout, std::span<const std::string> engine_names,
                                     const NameMap& map = {}) {
  return detail::value_or_fail(try_bind_names(layout, engine_names, map));
}

TIEDLORA_END_NAMESPACE
