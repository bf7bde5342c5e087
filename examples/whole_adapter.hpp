// No part of an adapter is applied for the whole.
#pragma once

#include <cstddef>     // size_t
#include <filesystem>  // path
#include <stdexcept>   // runtime_error
#include <string>      // string
#include <utility>     // move
#include <vector>      // vector

#include <tiedlora/adapter/quote.hpp>
#include <tiedlora/io/peft/load.hpp>

namespace examples {

/// Throws where a loader's report names tensors that it did not use: what is left is another function.
inline void require_whole(const std::filesystem::path& path, const std::vector<std::string>& unused,
                          const std::string& advice = "nothing was applied") {
  if (unused.empty()) return;
  std::string names;
  constexpr std::size_t shown = 4;
  for (std::size_t i = 0; i < unused.size() && i < shown; ++i)
    names += (i > 0 ? ", " : "") + tiedlora::detail::in_quotes(unused[i]);
  throw std::runtime_error(
      tiedlora::detail::message(tiedlora::detail::in_quotes(path.string()), ": ", unused.size(),
                                " of its tensors belong to no module of the model: ", names,
                                unused.size() > shown ? ", …" : "", " (wrong base model?); ", advice));
}

/// A note for a copy of the base model's weight in an adapter's file (PeftReport::base_weights) where the
/// base is not at hand.
inline std::string not_compared(const std::string& copy) {
  return tiedlora::detail::message(
      "not used: ", tiedlora::detail::in_quotes(copy),
      ", a copy of the base model's weight; it was not compared with the base's");
}

/// A PEFT folder, whole unless options.partial says otherwise. A LoRA's own tensors tell its modules, so that
/// each of them must be understood; the model's modules, `list()`, are for a VeRA, whose tensors do not tell
/// the shapes.
template <class List>
tiedlora::LoadedPeft<float> load_whole_peft(const std::filesystem::path& path, const List& list,
                                            const tiedlora::PeftLoadOptions& options = {},
                                            const std::string& advice = "nothing was applied") {
  using namespace tiedlora;
  const auto config = detail::value_or_fail(detail::try_read_peft_config(
      path, {.base_is_residual = options.base_is_residual, .partial = options.partial}));
  LoadedPeft<float> loaded = config.type == PeftConfig::Type::lora ? load_peft<float>(path, options)
                                                                   : load_peft<float>(path, list(), options);
  if (!options.partial) require_whole(path, loaded.report.unused, advice);
  return loaded;
}

}  // namespace examples
