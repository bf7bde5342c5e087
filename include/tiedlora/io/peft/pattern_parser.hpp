// Regular expressions from untrusted sources, read into a graph of states (Thompson 1968).
#pragma once

#include <algorithm>    // min
#include <cstddef>      // size_t
#include <cstdint>      // uint64_t, uint8_t
#include <optional>     // optional
#include <string>       // string
#include <string_view>  // string_view
#include <utility>      // exchange, move
#include <vector>       // vector

#include "../../views/config.hpp"
#include "../../views/error.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace detail {

/// What a pattern becomes. One graph holds the pattern and its look-arounds, each from a first state of its
/// own to a state `end`.
struct PatternGraph {
  static constexpr std::size_t none = static_cast<std::size_t>(-1);
  static constexpr std::size_t longest = 65536;  ///< characters of a pattern
  static constexpr std::size_t most_states = 4 * longest;
  static constexpr std::size_t most_look_arounds = 64;

  enum class Kind : std::uint8_t { one, fork, at_begin, at_end, word_edge, no_word_edge, look_around, end };
  struct Bytes {  ///< a set of them
    std::uint64_t bits[4] = {};
    void insert(unsigned char byte) { bits[byte / 64] |= std::uint64_t{1} << byte % 64; }
    bool contains(unsigned char byte) const { return (bits[byte / 64] >> byte % 64 & 1) != 0; }
    void merge(const Bytes& other, bool inverted) {
      for (int i = 0; i < 4; ++i) bits[i] |= inverted ? ~other.bits[i] : other.bits[i];
    }
  };
  struct State {
    Kind kind = Kind::one;
    Bytes bytes = {};  ///< one: which byte leads on
    std::size_t next = none, other = none;
    std::size_t look_around = none;  ///< which, of that kind
  };
  /// (?=…), (?!…), (?<=…), (?<!…). What looks ahead is a graph of the mirrored part, which is walked from the
  /// right to the left: so is every place where it holds found in one walk.
  struct LookAround {
    std::size_t first = none;
    bool is_ahead = false, is_negative = false;
  };

  std::vector<State> states;
  std::vector<LookAround> look_arounds;  ///< inner ones before those around them
  std::size_t first = none;
};

inline bool is_word_byte(char c) {
  return (c >= '0' && c <= '9') || c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/// Reads a pattern; what it cannot read is its `problem`.
class PatternParser {
 public:
  explicit PatternParser(std::string_view pattern) : text_(pattern) {}

  PatternGraph parse() {
    ignores_case_ = text_.starts_with("(?i)");
    if (ignores_case_) next_ = 4;
    const Fragment whole = alternatives(0);
    if (problem_.empty() && next_ < text_.size()) refuse("a ')' without its '('");
    if (problem_.empty()) {
      link(whole, add({.kind = Kind::end}));
      graph_.first = whole.first;
    }
    return std::move(graph_);
  }
  const std::string& problem() const { return problem_; }

 private:
  using Kind = PatternGraph::Kind;
  using Bytes = PatternGraph::Bytes;
  using State = PatternGraph::State;
  static constexpr std::size_t none = PatternGraph::none;
  static constexpr std::size_t most_states = PatternGraph::most_states;
  static constexpr int deepest = 100;
  static constexpr std::size_t most_reread = std::size_t{1} << 20;

  // A part of the graph: its first state, and the ends that lead out of it, as a list through the states:
  // 2 · state + (0: next, 1: other).
  struct Fragment {
    std::size_t first = none;
    std::vector<std::size_t> ends = {};
  };

  bool done() const { return next_ >= text_.size() || !problem_.empty(); }
  bool take(char c) {
    if (done() || text_[next_] != c) return false;
    ++next_;
    return true;
  }
  void refuse(std::string_view what) {
    if (problem_.empty())
      problem_ = message("has ", what, " at character ", next_, ", which is not supported");
    next_ = text_.size();
  }
  std::size_t add(const State& state) {
    if (graph_.states.size() == most_states) refuse("counts that make the pattern too large");
    graph_.states.push_back(state);
    return graph_.states.size() - 1;
  }
  void link(const Fragment& fragment, std::size_t target) {
    for (const std::size_t end : fragment.ends)
      (end % 2 ? graph_.states[end / 2].other : graph_.states[end / 2].next) = target;
  }
  void add_other_case(Bytes& bytes) const {
    if (!ignores_case_) return;
    for (unsigned char lower = 'a'; lower <= 'z'; ++lower) {
      const auto upper = static_cast<unsigned char>(lower - 'a' + 'A');
      if (bytes.contains(lower)) bytes.insert(upper);
      if (bytes.contains(upper)) bytes.insert(lower);
    }
  }
  Fragment single(State state) {
    add_other_case(state.bytes);
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
    while (!done() && text_[next_] != '|' && text_[next_] != ')') {
      Fragment part = repeated(depth);
      if (mirrored_) {
        link(part, result.first);
        result.first = part.first;
      } else {
        link(result, part.first);
        result.ends = std::move(part.ends);
      }
    }
    return result;
  }

  // {m}, {m,n}, {m,} or {,n} at this place; most == unbounded: no upper bound.
  struct Count {
    std::size_t least = 0, most = 0, end = 0;
  };
  static constexpr std::size_t unbounded = none;
  std::optional<Count> count() const {
    if (next_ >= text_.size() || text_[next_] != '{') return std::nullopt;
    std::size_t at = next_ + 1;
    const auto number = [&](std::size_t& to) {
      const std::size_t begin = at;
      for (to = 0; at < text_.size() && text_[at] >= '0' && text_[at] <= '9'; ++at)
        to = std::min<std::size_t>(10 * to + static_cast<std::size_t>(text_[at] - '0'), most_states);
      return at > begin;
    };
    Count result;
    const bool has_least = number(result.least);
    result.most = result.least;
    const bool comma = at < text_.size() && text_[at] == ',';
    if (comma) {
      ++at;
      if (!number(result.most)) result.most = unbounded;
    }
    if ((!has_least && !comma) || at >= text_.size() || text_[at] != '}') return std::nullopt;
    result.end = at + 1;
    return result;
  }

  Fragment repeated(int depth) {
    const std::size_t begin = next_;
    Fragment part = atom(depth);
    const std::optional<Count> counted = done() ? std::nullopt : count();
    const char c = done() ? '\0' : text_[next_];
    if (!counted && c != '*' && c != '+' && c != '?') return part;
    next_ = counted ? counted->end : next_ + 1;
    take('?');  // lazy
    if (!done() && (text_[next_] == '*' || text_[next_] == '+' || text_[next_] == '?' || count()))
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
  // read again each time, which makes its states again.
  Fragment repeated_count(Fragment part, std::size_t begin, const Count& times, int depth) {
    if (times.most < times.least) refuse("a count whose maximum is below its minimum");
    const std::size_t end = next_;
    const auto again = [&] {
      reread_ += end - begin;
      if (reread_ > most_reread) refuse("counts that make the pattern too large");
      if (!problem_.empty()) return Fragment();
      next_ = begin;
      Fragment copy = atom(depth);
      next_ = problem_.empty() ? end : text_.size();
      return copy;
    };
    Fragment result = single({.kind = Kind::fork});
    const auto append = [&](Fragment next_part) {
      link(result, next_part.first);
      result.ends = std::move(next_part.ends);
    };
    std::size_t used = 0;
    const auto take_part = [&] { return used++ == 0 ? std::move(part) : again(); };
    while (used < times.least && problem_.empty()) append(take_part());
    if (times.most == unbounded) {
      Fragment rest = take_part();
      const std::size_t fork = add({.kind = Kind::fork, .next = rest.first});
      link(rest, fork);
      append({fork, {2 * fork + 1}});
      return result;
    }
    std::vector<std::size_t> leaves;
    while (used < times.most && problem_.empty()) {
      Fragment rest = take_part();
      const std::size_t fork = add({.kind = Kind::fork, .next = rest.first});
      leaves.push_back(2 * fork + 1);
      append({fork, std::move(rest.ends)});
    }
    result.ends.insert(result.ends.end(), leaves.begin(), leaves.end());
    return result;
  }

  Fragment atom(int depth) {
    const char c = text_[next_];
    if (c == '*' || c == '+' || c == '?' || count()) refuse("a repetition of nothing");
    if (c == '^' || c == '$') {
      ++next_;
      return single({.kind = c == '^' ? Kind::at_begin : Kind::at_end});
    }
    if (c == '(') {
      if (depth == deepest) {
        refuse("a '(' nested too deeply");
        return {};
      }
      ++next_;
      if (text_.substr(next_).starts_with("?#")) return comment();
      if (std::optional<Fragment> found = look_around(depth)) return *std::move(found);
      if (take('?') && !take(':') && !take_name()) refuse("'(?'");
      if (!problem_.empty()) return {};
      Fragment inner = alternatives(depth + 1);
      if (!take(')')) refuse("a '(' without its ')'");
      return inner;
    }
    if (c == '\\' && next_ + 1 < text_.size()) {
      const char what = text_[next_ + 1];
      const std::optional<Kind> place = what == 'A'   ? std::optional(Kind::at_begin)
                                        : what == 'Z' ? std::optional(Kind::at_end)
                                        : what == 'b' ? std::optional(Kind::word_edge)
                                        : what == 'B' ? std::optional(Kind::no_word_edge)
                                                      : std::nullopt;
      if (place) {
        next_ += 2;
        return single({.kind = *place});
      }
    }
    State state;
    if (c == '[') {
      ++next_;
      state.bytes = bracket();
    } else if (c == '.') {
      ++next_;
      state.bytes.insert('\n');
      Bytes all_but;
      all_but.merge(state.bytes, true);
      state.bytes = all_but;
    } else if (c == '\\') {
      state.bytes = escape();
    } else {
      ++next_;
      state.bytes.insert(static_cast<unsigned char>(c));
    }
    return single(state);
  }

  // At "?#" after a '(': nothing, up to the ')'.
  Fragment comment() {
    next_ = std::min(text_.find(')', next_), text_.size());
    if (!take(')')) refuse("a '(' without its ')'");
    return single({.kind = Kind::fork});
  }

  // After a '('; nothing if no look-around begins here.
  std::optional<Fragment> look_around(int depth) {
    const std::string_view rest = text_.substr(next_);
    const bool is_behind = rest.starts_with("?<=") || rest.starts_with("?<!");
    if (!is_behind && !rest.starts_with("?=") && !rest.starts_with("?!")) return std::nullopt;
    next_ += is_behind ? 3 : 2;
    const bool is_negative = text_[next_ - 1] == '!', outer = std::exchange(mirrored_, !is_behind);
    const Fragment inner = alternatives(depth + 1);
    mirrored_ = outer;
    if (!take(')')) refuse("a '(' without its ')'");
    if (graph_.look_arounds.size() == PatternGraph::most_look_arounds) refuse("too many look-arounds");
    if (!problem_.empty()) return Fragment();
    link(inner, add({.kind = Kind::end}));
    graph_.look_arounds.push_back({inner.first, !is_behind, is_negative});
    return single({.kind = Kind::look_around, .look_around = graph_.look_arounds.size() - 1});
  }

  // "P<name>": a group's name, which only references would need.
  bool take_name() {
    if (!text_.substr(next_).starts_with("P<")) return false;
    const std::size_t end = text_.find('>', next_);
    if (end == text_.npos || end == next_ + 2) return false;
    next_ = end + 1;
    return true;
  }

  // Whether what stands before the place begins a range; a '-' at the end of a set is one of its characters.
  bool is_range() const { return next_ + 1 < text_.size() && text_[next_] == '-' && text_[next_ + 1] != ']'; }

  // After '['.
  Bytes bracket() {
    Bytes bytes;
    const bool inverted = take('^');
    for (bool first = true; first || !take(']'); first = false) {
      if (done()) {
        refuse("a '[' without its ']'");
        return {};
      }
      if (text_[next_] == '\\') {
        bytes.merge(escape(), false);
        if (is_range()) refuse("a range that begins with '\\' in '[]'");
        continue;
      }
      const auto low = static_cast<unsigned char>(text_[next_++]);
      auto high = low;
      if (is_range()) {
        high = static_cast<unsigned char>(text_[next_ + 1]);
        next_ += 2;
        if (high == '\\' || high < low) refuse("a range in '[]'");
      }
      for (unsigned byte = low; byte <= high; ++byte) bytes.insert(static_cast<unsigned char>(byte));
    }
    add_other_case(bytes);  // before it is inverted
    Bytes result;
    result.merge(bytes, inverted);
    return result;
  }

  // At '\'.
  Bytes escape() {
    Bytes bytes;
    const char c = next_ + 1 < text_.size() ? text_[next_ + 1] : '\0';
    const auto byte = static_cast<unsigned char>(c);
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const bool negated = c >= 'A' && c <= 'Z';
    const char kind = negated ? static_cast<char>(c - 'A' + 'a') : c;
    if (letter && (kind == 'd' || kind == 'w' || kind == 's')) {
      next_ += 2;
      for (unsigned b = 0; b < 128; ++b) {
        const bool digit = b >= '0' && b <= '9';
        const bool word = is_word_byte(static_cast<char>(b));
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
    next_ += 2;
    bytes.insert(byte);
    return bytes;
  }

  std::string_view text_;
  PatternGraph graph_ = {};
  std::size_t next_ = 0, reread_ = 0;  // reread_: characters of parts that a count repeats
  bool ignores_case_ = false;
  bool mirrored_ = false;  // inside a look-ahead: parts follow each other from the right to the left
  std::string problem_ = {};
};

}  // namespace detail
TIEDLORA_END_NAMESPACE
