// Which modules an adapter_config.json means, with which rank and alpha: PEFT's matching rules.
#pragma once

#include <cstddef>      // size_t
#include <optional>     // optional
#include <span>         // span
#include <string>       // string
#include <string_view>  // string_view
#include <utility>      // move, pair
#include <vector>       // vector

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

/// rank_pattern or alpha_pattern: values by patterns, which are compiled once.
template <class Value>
class PeftPatterns {
 public:
  using Entries = std::vector<std::pair<std::string, Value>>;

  /// `name`: of the config's key, for messages. The entries must outlive the result.
  static Result<PeftPatterns> try_make(const char* name, const Entries& entries) {
    PeftPatterns result;
    result.entries_ = &entries;
    std::size_t states = 0;
    for (const auto& [key, value] : entries) {
      if (is_literal(key)) {
        result.patterns_.emplace_back();
        continue;
      }
      Result<Pattern> pattern = Pattern::try_make(key);
      if (!pattern)
        return Failure{message("has the ", name, " ", in_quotes(key), ", which ", pattern.error())};
      states += pattern->size();
      if (states > most_states) return Failure{message("has too large patterns in ", name)};
      result.patterns_.emplace_back(*std::move(pattern));
    }
    return result;
  }

  /// PEFT's rule: the first key that describes the name or what stands behind one of its dots.
  Value of(std::string_view name, Value otherwise) const {
    for (std::size_t i = 0; i < patterns_.size(); ++i) {
      const auto& [key, value] = (*entries_)[i];
      const std::optional<Pattern>& pattern = patterns_[i];
      if (pattern ? pattern->matches_name(name) : literal_matches_name(key, name)) return value;
    }
    return otherwise;
  }

 private:
  static constexpr std::size_t most_states = 262144;
  const Entries* entries_ = nullptr;
  std::vector<std::optional<Pattern>> patterns_;  // nothing: a literal key
};

/// Whether a module's name is that one, or ends with it behind a dot.
inline bool is_or_ends_with(std::string_view name, std::string_view end) {
  return name.ends_with(end) && (name.size() == end.size() || name[name.size() - end.size() - 1] == '.');
}

/// The layer that PEFT compares with layers_to_transform: behind layers_pattern, or the first component that
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
  /// A Failure where a regular expression is beyond those that this library reads.
  static Result<PeftTargetMatcher> try_make(const PeftConfig& config) {
    PeftTargetMatcher result;
    result.config_ = &config;
    for (const auto& [targets, to] :
         {std::pair(&config.targets, &result.target_), std::pair(&config.excluded, &result.exclude_)}) {
      if (targets->pattern.empty()) continue;
      Result<Pattern> pattern = Pattern::try_make(targets->pattern);
      if (!pattern) return pattern.failure();
      *to = *std::move(pattern);
    }
    return result;
  }

  bool operator()(std::string_view name) const {
    if (matches(config_->excluded, exclude_, name)) return false;
    if (config_->targets.all_linear) return !name.ends_with("lm_head");
    if (!matches(config_->targets, target_, name)) return false;
    if (!config_->layers || target_) return true;
    for (const std::string& target : config_->targets.names)
      if (target == name) return true;
    const Index layer = peft_layer(name, config_->layers_pattern);
    for (const Index wanted : *config_->layers)
      if (wanted == layer && layer >= 0) return true;
    return false;
  }

 private:
  static bool matches(const PeftTargets& targets, const std::optional<Pattern>& pattern,
                      std::string_view name) {
    if (pattern) return pattern->matches(name);
    for (const std::string& target : targets.names)
      if (is_or_ends_with(name, target)) return true;
    return false;
  }

  const PeftConfig* config_ = nullptr;
  std::optional<Pattern> target_, exclude_;
};

}  // namespace detail
TIEDLORA_END_NAMESPACE
