// The same modules under other names: what a file calls what the host calls otherwise.
#pragma once

#include <cstddef>           // size_t
#include <initializer_list>  // initializer_list
#include <optional>          // optional
#include <string>            // string
#include <string_view>       // string_view
#include <utility>           // move
#include <vector>            // vector

#include "../config.hpp"

namespace tiedlora {
inline namespace v1 {

/// One kind of module under both names. A '*' stands for a number (digits, the same on both sides): {.module
/// = "model.layers.*.self_attn.q_proj", .file = "blk.*.attn_q"}.
struct NameRule {
  std::string module = {};  ///< as in Module::name
  std::string file = {};
};

/// Rules between a host's names of modules and those in a file; the first that fits counts. A rule fits a
/// name as a whole, never a part of it.
class NameMap {
 public:
  NameMap() = default;
  NameMap(std::initializer_list<NameRule> rules) : rules_(rules) {}

  /// Tried after those that are there.
  void add(NameRule rule) { rules_.push_back(std::move(rule)); }

  /// What the file calls the module; nothing if no rule fits.
  std::optional<std::string> to_file(std::string_view module) const {
    return translate(module, &NameRule::module, &NameRule::file);
  }
  /// Which module the file means; nothing if no rule fits.
  std::optional<std::string> to_module(std::string_view file) const {
    return translate(file, &NameRule::file, &NameRule::module);
  }

  /// Whether the pattern, with numbers for its '*', is the whole name; what stands for them, one after the
  /// other.
  static std::optional<std::vector<std::string>> match(std::string_view pattern, std::string_view name) {
    std::vector<std::string> numbers;
    std::size_t at = 0;
    for (const char c : pattern) {
      if (c != '*') {
        if (at == name.size() || name[at] != c) return std::nullopt;
        ++at;
        continue;
      }
      std::string digits;
      while (at < name.size() && name[at] >= '0' && name[at] <= '9') digits += name[at++];
      if (digits.empty()) return std::nullopt;
      numbers.push_back(std::move(digits));
    }
    if (at != name.size()) return std::nullopt;
    return numbers;
  }

 private:
  std::optional<std::string> translate(std::string_view name, std::string NameRule::* from,
                                       std::string NameRule::* to) const {
    for (const NameRule& rule : rules_) {
      const auto numbers = match(rule.*from, name);
      if (!numbers) continue;
      std::string result;
      std::size_t next = 0;
      for (const char c : rule.*to) {
        if (c != '*')
          result += c;
        else if (next < numbers->size())
          result += (*numbers)[next++];
      }
      return result;
    }
    return std::nullopt;
  }

  std::vector<NameRule> rules_;
};

}  // namespace v1
}  // namespace tiedlora
