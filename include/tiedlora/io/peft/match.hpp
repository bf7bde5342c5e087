// Which modules an adapter_config.json means, with which rank and alpha: PEFT's matching rules.
#pragma once

#include <cstddef>        // size_t
#include <cstdint>        // uint64_t
#include <optional>       // optional
#include <span>           // span
#include <string>         // string
#include <string_view>    // string_view
#include <tuple>          // tuple
#include <unordered_map>  // unordered_map
#include <unordered_set>  // unordered_set
#include <utility>        // move, pair
#include <vector>         // vector

#include "../../adapter/quote.hpp"
#include "../../adapter/result.hpp"
#include "../../views/config.hpp"
#include "../../views/error.hpp"
#include "config.hpp"
#include "pattern.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace detail {
/// Whether a key consists of characters that stand for themselves, or of dots, which stand for any.
inline bool is_literal(std::string_view key) { return key.find_first_of("\\^$*+?{}[]()|") == key.npos; }
inline bool literal_matches_name(std::string_view key, std::string_view name) {
  if (key.size() > name.size()) return false;
  const std::size_t start = name.size() - key.size();
  if (start > 0 && name[start - 1] != '.') return false;
  for (std::size_t i = 0; i < key.size(); ++i)
    if (key[i] != name[start + i] && key[i] != '.') return false;
  return true;
}

/// The text of a key as exact_pattern (save.hpp) makes it, one for each module; nothing of another key.
inline std::optional<std::string> exact_text(std::string_view key) {
  if (!key.starts_with('^')) return std::nullopt;
  std::string text;
  for (std::size_t i = 1; i < key.size(); ++i) {
    const char c = key[i];
    const auto stands_for_itself = [](char plain) {
      return is_word_byte(plain) || static_cast<unsigned char>(plain) >= 128;
    };
    if (stands_for_itself(c))
      text += c;
    else if (c == '\\' && i + 1 < key.size() && !stands_for_itself(key[i + 1]))
      text += key[++i];
    else
      return std::nullopt;
  }
  return text;
}

/// Calls with(suffix) for a module's name and what follows each of its dots, until it is true.
template <class With>
bool any_suffix(std::string_view name, const With& with) {
  for (std::size_t at = 0;; ++at) {
    if (with(name.substr(at))) return true;
    at = name.find('.', at);
    if (at == name.npos) return false;
  }
}

/// How many steps matching may cost: more would take minutes.
inline constexpr std::uint64_t most_matching_steps = std::uint64_t{1} << 31;

/// rank_pattern or alpha_pattern: values by patterns, which are compiled once.
template <class Value>
class PeftPatterns {
 public:
  using Entries = std::vector<std::pair<std::string, Value>>;

  /// `name`: of the config's key, for messages. `modules`, `characters`: how many names will be looked up,
  /// and their length in all. The entries must outlive the result.
  static Result<PeftPatterns> try_make(const char* name, const Entries& entries, std::size_t modules,
                                       std::size_t characters) {
    PeftPatterns result;
    result.entries_ = &entries;
    std::size_t states = 0;
    std::uint64_t steps = 0;
    const auto try_add_steps = [&](std::string_view key, std::uint64_t more) -> Status {
      steps += more;
      if (steps <= most_matching_steps) return success();
      return Failure{message("has more in ", name, " than can be matched against ", modules,
                             " modules, from the key ", in_quotes(key),
                             " on; write keys as a module's whole name after a '^', with a '\\' before each "
                             "dot, which is looked up")};
    };
    for (const auto& [key, value] : entries) {
      result.patterns_.emplace_back();
      if (const auto exact = exact_text(key)) {
        result.by_name_.try_emplace(*exact, result.patterns_.size() - 1);
        continue;
      }
      result.others_.push_back(result.patterns_.size() - 1);
      if (is_literal(key)) {  // compared with the end of each name
        if (Status few = try_add_steps(key, (key.size() + 1) * std::uint64_t{modules}); !few)
          return few.failure();
        continue;
      }
      Result<Pattern> pattern = Pattern::try_make(key);
      if (!pattern)
        return Failure{message("has the ", name, " ", in_quotes(key), ", which ", pattern.error())};
      states += pattern->size();
      if (states > most_states) return Failure{message("has patterns in ", name, " that are too large")};
      if (Status few = try_add_steps(key, pattern->size() * std::uint64_t{characters}); !few)
        return few.failure();
      result.patterns_.back() = *std::move(pattern);
    }
    return result;
  }

  /// PEFT's rule: the first key that describes the name or what follows one of its dots.
  Value of(std::string_view name, Value otherwise) const {
    const auto exact = by_name_.find(std::string(name));
    const std::size_t at = exact == by_name_.end() ? patterns_.size() : exact->second;
    for (const std::size_t i : others_) {
      if (i > at) break;
      const auto& [key, value] = (*entries_)[i];
      const std::optional<Pattern>& pattern = patterns_[i];
      if (pattern ? pattern->matches_name(name) : literal_matches_name(key, name)) return value;
    }
    return at < patterns_.size() ? (*entries_)[at].second : otherwise;
  }

 private:
  static constexpr std::size_t most_states = 262144;
  const Entries* entries_ = nullptr;
  std::vector<std::optional<Pattern>> patterns_;          // nothing: a literal key
  std::unordered_map<std::string, std::size_t> by_name_;  // keys that mean one module: their places
  std::vector<std::size_t> others_;                       // the places of the other keys
};

/// Whether a module's name is that one, or ends with it after a dot.
inline bool is_or_ends_with(std::string_view name, std::string_view end) {
  return name.ends_with(end) && (name.size() == end.size() || name[name.size() - end.size() - 1] == '.');
}

/// The layer that PEFT compares with layers_to_transform: after layers_pattern, or the first component that
/// is a number and has two before it; -1 if there is none.
inline Index peft_layer(std::string_view name, std::span<const std::string> layers_pattern) {
  std::size_t begin = 0;
  for (int component = 0; begin < name.size(); ++component) {
    const std::size_t end = name.find('.', begin);
    if (end == name.npos) break;  // the number is never the last component
    const std::string_view part = name.substr(begin, end - begin);
    const bool number =
        !part.empty() && part.size() < 10 && part.find_first_not_of("0123456789") == part.npos;
    bool here = number && layers_pattern.empty() && component >= 2;
    for (const std::string& pattern : layers_pattern) {
      const std::string_view before = name.substr(0, begin == 0 ? 0 : begin - 1);
      here |= number && is_or_ends_with(before, pattern);
    }
    if (here) {
      Index layer = 0;
      for (const char digit : part) layer = 10 * layer + (digit - '0');
      return layer;
    }
    begin = end + 1;
  }
  return -1;
}

/// Which modules a config targets.
class PeftTargetMatcher {
 public:
  /// `characters`: of all names that will be matched. A Failure where a regular expression is beyond those
  /// that this library reads. The config must outlive the result.
  static Result<PeftTargetMatcher> try_make(const PeftConfig& config, std::size_t characters) {
    PeftTargetMatcher result;
    result.config_ = &config;
    const std::tuple<const PeftTargets*, std::optional<Pattern>*, Names*> sides[] = {
        {&config.targets, &result.target_, &result.target_names_},
        {&config.excluded, &result.exclude_, &result.exclude_names_}};
    for (const auto& [targets, to, names] : sides) {
      names->insert(targets->names.begin(), targets->names.end());
      if (targets->pattern.empty()) continue;
      Result<Pattern> pattern = Pattern::try_make(targets->pattern);
      if (!pattern) return pattern.failure();
      if (pattern->size() * std::uint64_t{characters} > most_matching_steps)
        return Failure{message("has the regular expression ", in_quotes(targets->pattern),
                               ", which is too large to match against so many modules; list their names")};
      *to = *std::move(pattern);
    }
    if (config.layers) result.layers_.insert(config.layers->begin(), config.layers->end());
    return result;
  }

  bool operator()(std::string_view name) const {
    if (matches(exclude_names_, exclude_, name)) return false;
    if (config_->targets.all_linear) return !name.ends_with("lm_head");
    if (!matches(target_names_, target_, name)) return false;
    if (!config_->layers || target_) return true;
    if (target_names_.contains(name)) return true;
    const Index layer = peft_layer(name, config_->layers_pattern);
    return layer >= 0 && layers_.contains(layer);
  }

 private:
  using Names = std::unordered_set<std::string_view>;

  static bool matches(const Names& names, const std::optional<Pattern>& pattern, std::string_view name) {
    if (pattern) return pattern->matches(name);
    return any_suffix(name, [&](std::string_view suffix) { return names.contains(suffix); });
  }

  const PeftConfig* config_ = nullptr;
  std::optional<Pattern> target_, exclude_;
  Names target_names_, exclude_names_;
  std::unordered_set<Index> layers_;
};

}  // namespace detail
TIEDLORA_END_NAMESPACE
