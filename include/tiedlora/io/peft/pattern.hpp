// Regular expressions of strangers: a matcher whose time is at most pattern × text, and whose stack is flat.
#pragma once

#include <algorithm>    // min
#include <cstddef>      // size_t
#include <cstdint>      // uint64_t, uint8_t
#include <optional>     // optional
#include <string>       // string
#include <string_view>  // string_view
#include <utility>      // move, swap
#include <vector>       // vector

#include "../../adapter/result.hpp"
#include "../../views/config.hpp"
#include "../../views/error.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace detail {
/// A regular expression in the part of Python's syntax that module names need: characters, `.`, `\` before
/// punctuation, `\d` `\w` `\s` and their negations, `[a-z0-9]` and `[^…]`, `(…)`, `(?:…)`, `(?P<name>…)`,
/// `|`,
/// `*`, `+`, `?`, `{m}`, `{m,n}`, `{m,}`, `{,n}` (lazy ones too: whether a text matches does not depend on
/// it),
/// `^`, `$`, `\A`, `\Z`. A brace that is no count stands for itself, as in Python. Everything else
/// (look-around, references to groups, flags) is a Failure that says so. Characters are bytes.
///
/// Compiled to a graph of states (Thompson 1968) that is walked with the set of all states a text can be in,
/// so that no pattern takes exponential time. A count repeats its part in the graph, whose size is bounded.
class Pattern {
 public:
  static Result<Pattern> try_make(std::string_view pattern) {
    if (pattern.size() > longest)
      return Failure{message("has ", pattern.size(), " characters; at most ", longest, " are read")};
    Pattern result;
    Parser parser{.text = pattern, .states = result.states_};
    const Fragment whole = parser.alternatives(0);
    if (parser.problem.empty() && parser.next < pattern.size()) parser.refuse("a ')' without its '('");
    if (!parser.problem.empty()) return Failure{std::move(parser.problem)};
    parser.link(whole, parser.add({.kind = Kind::end}));
    result.start_ = whole.first;
    return result;
  }

  /// The states of its graph: what matching a character may cost.
  std::size_t size() const { return states_.size(); }

  /// Whether the pattern describes the whole text (re.fullmatch).
  bool matches(std::string_view text) const { return matches_from(std::vector<std::size_t>{0}, text); }

  /// Whether it describes the whole text or what stands behind one of its dots: PEFT's rule for the keys of
  /// rank_pattern and alpha_pattern, `^(.*\.)?(KEY)$`.
  bool matches_name(std::string_view name) const {
    std::vector<std::size_t> starts = {0};
    for (std::size_t i = 0; i < name.size(); ++i)
      if (name[i] == '.') starts.push_back(i + 1);
    return matches_from(starts, name);
  }

 private:
  static constexpr std::size_t longest = 65536;
  static constexpr std::size_t most_states = 4 * longest;
  static constexpr int deepest = 100;
  static constexpr std::size_t none = static_cast<std::size_t>(-1);

  enum class Kind : std::uint8_t { one, fork, at_begin, at_end, end };
  struct Bytes {  // a set of them
    std::uint64_t bits[4] = {};
    void insert(unsigned char byte) { bits[byte / 64] |= std::uint64_t{1} << byte % 64; }
    bool contains(unsigned char byte) const { return (bits[byte / 64] >> byte % 64 & 1) != 0; }
    void merge(const Bytes& other, bool inverted) {
      for (int i = 0; i < 4; ++i) bits[i] |= inverted ? ~other.bits[i] : other.bits[i];
    }
  };
  struct State {
    Kind kind = Kind::one;
    Bytes bytes = {};  // one: which byte leads on
    std::size_t next = none, other = none;
  };
  // A part of the graph: its first state, and the ends that lead out of it, as a list through the states:
  // 2 · state + (0: next, 1: other).
  struct Fragment {
    std::size_t first = none;
    std::vector<std::size_t> ends = {};
  };

  struct Parser {
    std::string_view text = {};
    std::vector<State>& states;
    std::size_t next = 0;
    std::string problem = {};

    bool done() const { return next >= text.size() || !problem.empty(); }
    bool take(char c) {
      if (done() || text[next] != c) return false;
      ++next;
      return true;
    }
    void refuse(std::string_view what) {
      if (problem.empty())
        problem = message("has ", what, " at character ", next,
                          ", which is beyond the patterns that this library reads");
      next = text.size();
    }
    std::size_t add(const State& state) {
      if (states.size() == most_states) refuse("counts that make too large a pattern");
      states.push_back(state);
      return states.size() - 1;
    }
    void link(const Fragment& fragment, std::size_t target) {
      for (const std::size_t end : fragment.ends)
        (end % 2 ? states[end / 2].other : states[end / 2].next) = target;
    }
    Fragment single(const State& state) {
      const std::size_t s = add(state);
      return {s, {2 * s}};
    }

    Fragment alternatives(int depth) {
      Fragment result = sequence(depth);
      while (take('|')) {
        Fragment right = sequence(depth);
        const std::size_t fork = add({.kind = Kind::fork, .next = result.first, .other = right.first});
        result.first = fork;
        result.ends.insert(result.ends.end(), right.ends.begin(), right.ends.end());
      }
      return result;
    }

    Fragment sequence(int depth) {
      // A fork whose other way is never taken stands for "nothing".
      Fragment result = single({.kind = Kind::fork});
      while (!done() && text[next] != '|' && text[next] != ')') {
        Fragment part = repeated(depth);
        link(result, part.first);
        result.ends = std::move(part.ends);
      }
      return result;
    }

    // {m}, {m,n}, {m,} or {,n} at this place; most == unbounded: no upper bound.
    struct Count {
      std::size_t least = 0, most = 0, end = 0;
    };
    static constexpr std::size_t unbounded = none;
    std::optional<Count> count() const {
      if (next >= text.size() || text[next] != '{') return std::nullopt;
      std::size_t at = next + 1;
      const auto number = [&](std::size_t& to) {
        const std::size_t begin = at;
        for (to = 0; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at)
          to = std::min<std::size_t>(10 * to + static_cast<std::size_t>(text[at] - '0'), most_states);
        return at > begin;
      };
      Count result;
      const bool has_least = number(result.least);
      result.most = result.least;
      const bool comma = at < text.size() && text[at] == ',';
      if (comma) {
        ++at;
        if (!number(result.most)) result.most = unbounded;
      }
      if ((!has_least && !comma) || at >= text.size() || text[at] != '}') return std::nullopt;
      result.end = at + 1;
      return result;
    }

    Fragment repeated(int depth) {
      const std::size_t begin = next;
      Fragment part = atom(depth);
      const std::optional<Count> counted = done() ? std::nullopt : count();
      const char c = done() ? '\0' : text[next];
      if (!counted && c != '*' && c != '+' && c != '?') return part;
      next = counted ? counted->end : next + 1;
      take('?');  // lazy
      if (!done() && (text[next] == '*' || text[next] == '+' || text[next] == '?' || count()))
        refuse("a repetition of a repetition");
      if (counted) return repeated_count(part, begin, *counted, depth);
      const std::size_t fork = add({.kind = Kind::fork, .next = part.first});
      if (c == '?') {
        part.ends.push_back(2 * fork + 1);
        return {fork, std::move(part.ends)};
      }
      link(part, fork);
      return {c == '*' ? fork : part.first, {2 * fork + 1}};
    }

    // The part that begins at `begin`, in a row: `least` times, and then as often as it may be again. It is
    // read anew for each time, which makes its states anew.
    Fragment repeated_count(Fragment part, std::size_t begin, const Count& times, int depth) {
      if (times.most < times.least) refuse("a count whose end is before its begin");
      const std::size_t end = next;
      const auto again = [&] {
        if (!problem.empty()) return Fragment();
        next = begin;
        Fragment copy = atom(depth);
        next = problem.empty() ? end : text.size();
        return copy;
      };
      Fragment result = single({.kind = Kind::fork});
      const auto append = [&](Fragment next_part) {
        link(result, next_part.first);
        result.ends = std::move(next_part.ends);
      };
      std::size_t used = 0;
      const auto take_part = [&] { return used++ == 0 ? std::move(part) : again(); };
      while (used < times.least && problem.empty()) append(take_part());
      if (times.most == unbounded) {
        Fragment rest = take_part();
        const std::size_t fork = add({.kind = Kind::fork, .next = rest.first});
        link(rest, fork);
        append({fork, {2 * fork + 1}});
        return result;
      }
      std::vector<std::size_t> leaves;
      while (used < times.most && problem.empty()) {
        Fragment rest = take_part();
        const std::size_t fork = add({.kind = Kind::fork, .next = rest.first});
        leaves.push_back(2 * fork + 1);
        append({fork, std::move(rest.ends)});
      }
      result.ends.insert(result.ends.end(), leaves.begin(), leaves.end());
      return result;
    }

    Fragment atom(int depth) {
      const char c = text[next];
      if (c == '*' || c == '+' || c == '?' || count()) refuse("a repetition of nothing");
      if (c == '^' || c == '$') {
        ++next;
        return single({.kind = c == '^' ? Kind::at_begin : Kind::at_end});
      }
      if (c == '(') {
        if (depth == deepest) refuse("too deep a nest of '('");
        ++next;
        if (take('?') && !take(':') && !take_name()) refuse("'(?'");
        if (!problem.empty()) return {};
        Fragment inner = alternatives(depth + 1);
        if (!take(')')) refuse("a '(' without its ')'");
        return inner;
      }
      if (c == '\\' && next + 1 < text.size() && (text[next + 1] == 'A' || text[next + 1] == 'Z')) {
        next += 2;
        return single({.kind = text[next - 1] == 'A' ? Kind::at_begin : Kind::at_end});
      }
      State state;
      if (c == '[') {
        ++next;
        state.bytes = bracket();
      } else if (c == '.') {
        ++next;
        state.bytes.insert('\n');
        Bytes all_but;
        all_but.merge(state.bytes, true);
        state.bytes = all_but;
      } else if (c == '\\') {
        state.bytes = escape();
      } else {
        ++next;
        state.bytes.insert(static_cast<unsigned char>(c));
      }
      return single(state);
    }

    // "P<name>": a group's name, which only references would need.
    bool take_name() {
      if (!text.substr(next).starts_with("P<")) return false;
      const std::size_t end = text.find('>', next);
      if (end == text.npos || end == next + 2) return false;
      next = end + 1;
      return true;
    }

    // After '['.
    Bytes bracket() {
      Bytes bytes;
      const bool inverted = take('^');
      for (bool first = true; first || !take(']'); first = false) {
        if (done()) {
          refuse("a '[' without its ']'");
          return {};
        }
        if (text[next] == '\\') {
          bytes.merge(escape(), false);
          continue;
        }
        const auto low = static_cast<unsigned char>(text[next++]);
        auto high = low;
        if (next + 1 < text.size() && text[next] == '-' && text[next + 1] != ']') {
          high = static_cast<unsigned char>(text[next + 1]);
          next += 2;
          if (high == '\\' || high < low) refuse("a range in '[]'");
        }
        for (unsigned byte = low; byte <= high; ++byte) bytes.insert(static_cast<unsigned char>(byte));
      }
      Bytes result;
      result.merge(bytes, inverted);
      return result;
    }

    // At '\'.
    Bytes escape() {
      Bytes bytes;
      const char c = next + 1 < text.size() ? text[next + 1] : '\0';
      const auto byte = static_cast<unsigned char>(c);
      const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
      const bool negated = c >= 'A' && c <= 'Z';
      const char kind = negated ? static_cast<char>(c - 'A' + 'a') : c;
      if (letter && (kind == 'd' || kind == 'w' || kind == 's')) {
        next += 2;
        for (unsigned b = 0; b < 128; ++b) {
          const bool digit = b >= '0' && b <= '9';
          const bool word = digit || b == '_' || (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z');
          const bool space = b == ' ' || (b >= '\t' && b <= '\r');
          if (kind == 'd' ? digit : kind == 'w' ? word : space) bytes.insert(static_cast<unsigned char>(b));
        }
        Bytes result;
        result.merge(bytes, negated);
        return result;
      }
      if (letter || (c >= '0' && c <= '9') || byte < 0x21 || byte > 0x7e) {
        refuse("this use of '\\'");
        return {};
      }
      next += 2;
      bytes.insert(byte);
      return bytes;
    }
  };

  // A set of states that remembers its members in the order in which they came.
  struct StateSet {
    explicit StateSet(std::size_t size) : seen(size, 0) {}
    std::vector<std::size_t> members = {};
    std::vector<std::uint8_t> seen;
    bool insert(std::size_t s) {
      if (seen[s]) return false;
      seen[s] = 1;
      members.push_back(s);
      return true;
    }
    void clear() {
      for (const std::size_t s : members) seen[s] = 0;
      members.clear();
    }
  };

  bool matches_from(const std::vector<std::size_t>& starts, std::string_view text) const {
    StateSet now(states_.size()), after(states_.size());
    std::size_t start = 0;
    for (std::size_t i = 0; i <= text.size(); ++i) {
      if (start < starts.size() && starts[start] == i) {
        now.insert(start_);
        ++start;
      }
      // Members that need no byte add those behind them; the loop reaches these, too.
      for (std::size_t m = 0; m < now.members.size(); ++m) {
        const State& state = states_[now.members[m]];
        const bool leads_on = state.kind == Kind::fork || (state.kind == Kind::at_begin && i == 0) ||
                              (state.kind == Kind::at_end && i == text.size());
        if (leads_on && state.next != none) now.insert(state.next);
        if (leads_on && state.other != none) now.insert(state.other);
        if (state.kind == Kind::end && i == text.size()) return true;
        if (state.kind == Kind::one && i < text.size() &&
            state.bytes.contains(static_cast<unsigned char>(text[i])))
          after.insert(state.next);
      }
      now.clear();
      std::swap(now, after);
    }
    return false;
  }

  std::vector<State> states_;
  std::size_t start_ = 0;
};

}  // namespace detail
TIEDLORA_END_NAMESPACE
