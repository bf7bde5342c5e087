// What follows from the names of modules where nothing else says it: layer, kind and order.
#pragma once

#include <cstddef>      // size_t
#include <map>          // map
#include <string>       // string
#include <string_view>  // string_view
#include <utility>      // move, pair
#include <vector>       // vector

#include "../adapter/modules.hpp"
#include "../adapter/result.hpp"
#include "../views/config.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace detail {
/// Names of files that are looked up by what follows each of their dots may have so many bytes: the time
/// grows with their square.
inline constexpr std::size_t longest_module_name = 1024;

/// Whether a name stands before another if numbers in them are compared as numbers: layer 2 before layer 10.
inline bool natural_less(std::string_view a, std::string_view b) {
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  std::size_t i = 0, j = 0;
  while (i < a.size() && j < b.size()) {
    if (!is_digit(a[i]) || !is_digit(b[j])) {
      if (a[i] != b[j]) return a[i] < b[j];
      ++i;
      ++j;
      continue;
    }
    while (i < a.size() && a[i] == '0') ++i;
    while (j < b.size() && b[j] == '0') ++j;
    std::size_t a_digits = 0, b_digits = 0;
    while (i + a_digits < a.size() && is_digit(a[i + a_digits])) ++a_digits;
    while (j + b_digits < b.size() && is_digit(b[j + b_digits])) ++b_digits;
    if (a_digits != b_digits) return a_digits < b_digits;
    const int order = a.substr(i, a_digits).compare(b.substr(j, b_digits));
    if (order != 0) return order < 0;
    i += a_digits;
    j += b_digits;
  }
  if (a.size() - i != b.size() - j) return a.size() - i < b.size() - j;
  return a < b;  // they differ in leading zeros, if at all
}

/// A module of that name, without sizes: its layer is the first component that is a number (-1 if none is),
/// its kind the last component.
inline Module module_of_name(std::string name) {
  Module module = {.name = std::move(name)};
  const std::string_view text = module.name;
  for (std::size_t begin = 0, end = 0; end != text.npos && module.layer < 0; begin = end + 1) {
    end = text.find('.', begin);
    const std::string_view part = text.substr(begin, end == text.npos ? end : end - begin);
    if (part.empty() || part.size() > 9 || part.find_first_not_of("0123456789") != part.npos) continue;
    module.layer = 0;
    for (const char digit : part) module.layer = 10 * module.layer + (digit - '0');
  }
  module.kind = text.substr(text.rfind('.') + 1);
  return module;
}

/// Lookup tables, not linear maps: names that embeddings have in the models of transformers.
inline bool is_embedding(std::string_view kind) {
  for (const std::string_view name :
       {"embed_tokens", "wte", "wpe", "word_embeddings", "position_embeddings", "token_type_embeddings",
        "embed_positions", "tok_embeddings", "embed_in", "embedding", "embeddings", "shared",
        "relative_attention_bias", "patch_embedding", "position_embedding", "token_embedding"})
    if (kind == name) return true;
  return false;
}

/// The list of these modules. Those of one kind in one layer that differ in in_features (an encoder's and a
/// decoder's) read inputs of their own.
inline Result<ModuleList> try_list_of(std::vector<Module> found) {
  ModuleList modules;
  std::map<std::pair<int, std::string>, Index> in_features_of;
  for (Module& module : found) {
    const auto [first, is_new] = in_features_of.try_emplace({module.layer, module.kind}, module.in_features);
    if (!is_new && first->second != module.in_features) module.input = module.name;
    if (Result<Index> added = modules.try_add(std::move(module)); !added) return added.failure();
  }
  return modules;
}

}  // namespace detail
TIEDLORA_END_NAMESPACE
