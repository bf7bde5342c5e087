// Regular expressions of strangers: a matcher whose time is at most pattern × text, and whose stack is flat.
#pragma once

#include <algorithm>    // min
#include <cstddef>      // size_t
#include <cstdint>      // uint64_t, uint8_t
#include <optional>     // optional, nullopt
#include <string>       // string
#include <string_view>  // string_view
#include <utility>      // exchange, move, swap
#include <vector>       // vector

#include "../../adapter/result.hpp"
#include "../../views/config.hpp"
#include "../../views/error.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace detail {
/// A regular expression in the part of Python's syntax that module names need: characters, `.`, `\` before
/// punctuation, `\d` `\w` `\s` and their negations, `[a-z0-9]` and `[^…]`, `(…)`, `(?:…)`, `|`, `*`, `+`,
/// `?`, `{2}`, `{1,2}`, `{1,}`, `{,2}` (lazy ones too: whether a text matches does not depend on it), `^`,
/// `$`. Everything else (look-around, references to groups, flags) is a Failure that says so. Characters are
/// bytes.
///
/// Compiled to a graph of states (Thompson 1968) that is walked with the set of all states a text can be in,
/// so that no pattern takes exponential time.
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
  static constexpr int deepest = 100;
  static constexpr std::size_t most_states = 1 << 18;  // counts multiply them
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
      if (states.size() >= most_states) refuse("counts that make it too large");
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

    struct Count {
      std::size_t least = 0, most = none;  // none: any number
    };
    // A number of a count, as far as counts may go.
    std::size_t number(std::size_t otherwise) {
      if (done() || text[next] < '0' || text[next] > '9') return otherwise;
      std::size_t value = 0;
      for (; !done() && text[next] >= '0' && text[next] <= '9'; ++next)
        value = std::min(value * 10 + static_cast<std::size_t>(text[next] - '0'), most_states);
      return value;
    }
    // At '{'. What is no count is that character, as in Python.
    std::optional<Count> braces() {
      const std::size_t begin = next++;
      if (!done() && text[next] == '}') {
        next = begin;
        return std::nullopt;
      }
      Count count{.least = number(none)};
      if (take(','))
        count.most = number(none);
      else
        count.most = count.least;
      const bool is_empty = next == begin + 1;
      if (is_empty || !take('}')) {
        next = begin;
        return std::nullopt;
      }
      if (count.least == none) count.least = 0;
      if (count.most < count.least) refuse("a count whose most is less than its least");
      return count;
    }
    // What stands behind an atom, if it repeats it.
    std::optional<Count> repetition() {
      if (done()) return std::nullopt;
      if (text[next] == '{') return braces();
      if (take('*')) return Count{};
      if (take('+')) return Count{.least = 1};
      if (take('?')) return Count{.most = 1};
      return std::nullopt;
    }
    bool at_repetition() {
      const std::size_t begin = next;
      const bool found = repetition().has_value();
      next = begin;
      return found;
    }

    Fragment repeated(int depth) {
      const std::size_t begin = next;
      Fragment part = atom(depth);
      const std::optional<Count> count = repetition();
      if (!count) return part;
      take('?');  // lazy
      if (at_repetition()) refuse("a repetition of a repetition");
      const std::size_t end = next;
      // The atom once more, for another turn.
      const auto again = [&] {
        next = begin;
        Fragment copy = atom(depth);
        if (problem.empty()) next = end;
        return copy;
      };
      Fragment result = single({.kind = Kind::fork});
      const auto follow = [&](Fragment after) {
        link(result, after.first);
        result.ends = std::move(after.ends);
      };
      bool is_used = false;
      const auto turn = [&] { return std::exchange(is_used, true) ? again() : std::move(part); };
      for (std::size_t i = 0; i < count->least && problem.empty(); ++i) follow(turn());
      if (count->most == none && problem.empty()) {
        Fragment body = turn();
        const std::size_t fork = add({.kind = Kind::fork, .next = body.first});
        link(body, fork);
        follow({fork, {2 * fork + 1}});
        return result;
      }
      std::vector<std::size_t> exits;
      for (std::size_t i = count->least; i < count->most && problem.empty(); ++i) {
        Fragment body = turn();
        const std::size_t fork = add({.kind = Kind::fork, .next = body.first});
        exits.push_back(2 * fork + 1);
        follow({fork, std::move(body.ends)});
      }
      result.ends.insert(result.ends.end(), exits.begin(), exits.end());
      return result;
    }

    Fragment atom(int depth) {
      if (at_repetition()) refuse("a repetition of nothing");
      if (!problem.empty()) return single({.kind = Kind::fork});
      const char c = text[next];
      if (c == '^' || c == '$') {
        ++next;
        return single({.kind = c == '^' ? Kind::at_begin : Kind::at_end});
      }
      if (c == '(') {
        if (depth == deepest) refuse("too deep a nest of '('");
        ++next;
        if (take('?') && !take(':')) refuse("'(?'");
        if (!problem.empty()) return {};
        Fragment inner = alternatives(depth + 1);
        if (!take(')')) refuse("a '(' without its ')'");
        return inner;
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
