// JSON from untrusted sources: nlohmann's parser under limits that its own DOM does not have.
#pragma once

#include <cstddef>            // size_t
#include <cstdint>            // int64_t, uint64_t
#include <limits>             // numeric_limits
#include <nlohmann/json.hpp>  // json, its SAX interface
#include <string>             // string
#include <string_view>        // string_view
#include <utility>            // move
#include <vector>             // vector

#include "../../adapter/quote.hpp"
#include "../../adapter/result.hpp"
#include "../../views/config.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// A JSON value, as nlohmann/json has it.
using Json = nlohmann::json;

namespace detail {
/// What SAX handlers have in common: a failure that stops the parser.
class JsonHandler {
 public:
  bool parse_error(std::size_t position, const std::string& last_token,
                   const nlohmann::detail::exception& /*error*/) {
    // The parser stops at the first letter of a word that JSON does not have.
    const bool may_be_nan = last_token.ends_with('N') || last_token.ends_with('I');
    return refuse(message("is not valid JSON: error at byte ", position,
                          last_token.empty() ? "" : message(", ", in_quotes(last_token, 40)),
                          may_be_nan ? " (NaN, Infinity and None are Python's, not JSON)" : ""));
  }
  /// What was wrong, to be put after "FILE " or "the header ".
  const std::string& problem() const { return problem_; }

 protected:
  bool refuse(std::string problem) {
    problem_ = std::move(problem);
    return false;
  }

 private:
  std::string problem_;
};

/// Builds a Json; refuses nesting deeper than max_depth and objects that have a name twice.
class JsonBuilder : public JsonHandler {
 public:
  explicit JsonBuilder(int max_depth) : max_depth_(static_cast<std::size_t>(max_depth)) {}

  bool null() { return add(nullptr); }
  bool boolean(bool value) { return add(value); }
  bool number_integer(std::int64_t value) { return add(value); }
  bool number_unsigned(std::uint64_t value) { return add(value); }
  bool number_float(double value, const std::string& /*text*/) { return add(value); }
  bool string(std::string& value) { return add(std::move(value)); }
  bool binary(Json::binary_t& /*value*/) { return refuse("holds binary data"); }
  bool start_array(std::size_t /*size*/) { return open(Json::value_t::array); }
  bool end_array() { return close(); }
  bool start_object(std::size_t /*size*/) { return open(Json::value_t::object); }
  bool end_object() { return close(); }
  bool key(std::string& name) {
    const auto [place, is_new] = open_.back()->get_ptr<Json::object_t*>()->try_emplace(name);
    if (!is_new) return refuse(message("has the name ", in_quotes(name), " twice in one object"));
    member_ = &place->second;
    return true;
  }

  Json take() { return std::move(root_); }

 private:
  bool add(Json value) {
    place() = std::move(value);
    return true;
  }
  bool open(Json::value_t type) {
    if (open_.size() == max_depth_) return refuse(message("is nested deeper than ", max_depth_, " levels"));
    Json& value = place();
    value = Json(type);
    open_.push_back(&value);
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }
  // Where the next value goes. Pointers to open values stay valid: nothing is added beside one until it is
  // closed.
  Json& place() {
    if (open_.empty()) return root_;
    if (auto* array = open_.back()->get_ptr<Json::array_t*>()) return array->emplace_back();
    return *member_;
  }

  std::size_t max_depth_;
  Json root_;
  std::vector<Json*> open_;
  Json* member_ = nullptr;  // the value of the name last read
};

}  // namespace detail

/// Parses one JSON value (RFC 8259, UTF-8). Refuses names that an object has twice and nesting deeper than
/// max_depth; the reason reads as if after the name of what the text is. Takes memory in proportion to the
/// text: less than 64 bytes per byte, for the worst of texts. Look at a value's type before you take it:
/// nlohmann's accessors throw or abort.
inline Result<Json> try_parse_json(std::string_view text, int max_depth = 32) {
  detail::JsonBuilder builder(max_depth);
  if (!Json::sax_parse(text.begin(), text.end(), &builder)) return Failure{builder.problem()};
  return builder.take();
}

/// The value as compact JSON. A Failure if it holds what JSON cannot: strings that are not UTF-8, numbers
/// that are not finite.
inline Result<std::string> try_dump_json(const Json& value) {
  // dump() would throw; told to replace what it cannot write, it gives what reads back as something else.
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  const Result<Json> again = try_parse_json(text, std::numeric_limits<int>::max());
  if (!again || *again != value)
    return Failure{
        "holds a string that is not UTF-8 or a number that is not finite, which JSON cannot express"};
  return text;
}

TIEDLORA_END_NAMESPACE
