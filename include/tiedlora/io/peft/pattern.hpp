// Regular expressions from untrusted sources: a matcher whose time is at most pattern × text, and whose stack
// is flat.
#pragma once

#include <cstddef>      // size_t
#include <cstdint>      // uint8_t
#include <span>         // span
#include <string_view>  // string_view
#include <utility>      // move, swap
#include <vector>       // vector

#include "../../adapter/result.hpp"
#include "../../views/config.hpp"
#include "../../views/error.hpp"
#include "pattern_parser.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace detail {
/// A regular expression in the part of Python's syntax that module names need: characters, `.`, `\` before
/// punctuation, `\d` `\w` `\s` and their negations, `[a-z0-9]` and `[^…]`, `(…)`, `(?:…)`, `(?P<name>…)`,
/// `(?#…)`, `|`, `*`, `+`, `?`, `{m}`, `{m,n}`, `{m,}`, `{,n}` (lazy ones too: whether a text matches does
/// not depend on it), `^`, `$`, `\A`, `\Z`, `\b`, `\B`, and look-around: `(?=…)`, `(?!…)`, `(?<=…)`,
/// `(?<!…)`; and `(?i)` at the start. A brace that is not a count stands for itself, as in Python. Everything
/// else (references to groups, other flags, possessive repetition) is a Failure that says so. Characters are
/// bytes.
///
/// The graph of states is walked with the set of all states a text can be in, so that no pattern takes
/// exponential time. A count repeats its part in the graph, whose size is bounded.
class Pattern {
 public:
  static Result<Pattern> try_make(std::string_view pattern) {
    constexpr std::size_t longest = PatternGraph::longest;
    if (pattern.size() > longest)
      return Failure{message("has ", pattern.size(), " characters; at most ", longest, " are read")};
    PatternParser parser(pattern);
    Pattern result;
    result.graph_ = parser.parse();
    if (!parser.problem().empty()) return Failure{parser.problem()};
    return result;
  }

  /// The states of its graph: what matching a character may cost.
  std::size_t size() const { return graph_.states.size(); }

  /// Whether the pattern describes the whole text (re.fullmatch).
  bool matches(std::string_view text) const {
    const std::size_t begin[] = {0};
    return matches_from(begin, text);
  }

  /// Whether it describes the whole text or what follows one of its dots: PEFT's rule for the keys of
  /// rank_pattern and alpha_pattern, `^(.*\.)?(KEY)$`.
  bool matches_name(std::string_view name) const {
    std::vector<std::size_t> starts = {0};
    for (std::size_t i = 0; i < name.size(); ++i)
      if (name[i] == '.') starts.push_back(i + 1);
    return matches_from(starts, name);
  }

 private:
  using Kind = PatternGraph::Kind;
  using State = PatternGraph::State;
  static constexpr std::size_t none = PatternGraph::none;

  // A set of states that remembers its members in the order in which they came.
  struct StateSet {
    explicit StateSet(std::size_t size) : seen(size, 0) {}
    std::vector<std::size_t> members = {};
    std::vector<std::uint8_t> seen;
    void insert(std::size_t s) {
      if (seen[s]) return;
      seen[s] = 1;
      members.push_back(s);
    }
    void clear() {
      for (const std::size_t s : members) seen[s] = 0;
      members.clear();
    }
  };
  // By look-around and place in the text: whether it holds there.
  using Holding = std::vector<std::vector<bool>>;

  static bool leads_on(const State& state, std::string_view text, std::size_t place, const Holding& holding) {
    const auto is_word = [text](std::size_t i) { return i < text.size() && is_word_byte(text[i]); };
    const bool at_edge = (place > 0 && is_word(place - 1)) != is_word(place);
    switch (state.kind) {
      case Kind::fork:
        return true;
      case Kind::at_begin:
        return place == 0;
      case Kind::at_end:
        return place == text.size();
      case Kind::word_edge:
        return at_edge;
      case Kind::no_word_edge:
        return !at_edge;
      case Kind::look_around:
        return holding[state.look_around][place];
      case Kind::one:
      case Kind::end:
        break;
    }
    return false;
  }

  // Walks the graph from `first` along the text, to the left if `is_left`, from every place for which
  // begins(place) is true. reached(place) is called where a walk is at an end.
  template <class Begins, class Reached>
  void walk(std::size_t first, bool is_left, std::string_view text, const Holding& holding,
            const Begins& begins, const Reached& reached) const {
    StateSet now(graph_.states.size()), after(graph_.states.size());
    for (std::size_t step = 0; step <= text.size(); ++step) {
      const std::size_t place = is_left ? text.size() - step : step;
      const bool is_last = step == text.size();
      const char byte = is_last ? '\0' : text[is_left ? place - 1 : place];
      if (begins(place)) now.insert(first);
      // Members that need no byte add those after them; the loop reaches these, too.
      for (std::size_t m = 0; m < now.members.size(); ++m) {
        const State& state = graph_.states[now.members[m]];
        if (leads_on(state, text, place, holding)) {
          if (state.next != none) now.insert(state.next);
          if (state.other != none) now.insert(state.other);
        }
        if (state.kind == Kind::end) reached(place);
        if (state.kind == Kind::one && !is_last && state.bytes.contains(static_cast<unsigned char>(byte)))
          after.insert(state.next);
      }
      now.clear();
      std::swap(now, after);
    }
  }

  bool matches_from(std::span<const std::size_t> starts, std::string_view text) const {
    Holding holding;
    for (const PatternGraph::LookAround& part : graph_.look_arounds) {
      std::vector<bool> holds(text.size() + 1, part.is_negative);
      const auto everywhere = [](std::size_t) { return true; };
      walk(part.first, part.is_ahead, text, holding, everywhere,
           [&](std::size_t place) { holds[place] = !part.is_negative; });
      holding.push_back(std::move(holds));
    }
    bool found = false;
    std::size_t start = 0;
    const auto begins = [&](std::size_t place) {
      const bool is_start = start < starts.size() && starts[start] == place;
      start += is_start ? 1 : 0;
      return is_start;
    };
    walk(graph_.first, false, text, holding, begins,
         [&](std::size_t place) { found |= place == text.size(); });
    return found;
  }

  PatternGraph graph_;
};

}  // namespace detail
TIEDLORA_END_NAMESPACE
