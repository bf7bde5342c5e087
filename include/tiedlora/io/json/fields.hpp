// Reading a JSON object by an allow-list of typed fields.
#pragma once

#include <algorithm>    // find
#include <cstdint>      // int64_t, uint64_t
#include <limits>       // numeric_limits
#include <optional>     // optional
#include <span>         // span
#include <string>       // string
#include <string_view>  // string_view
#include <utility>      // move
#include <vector>       // vector

#include "../../adapter/quote.hpp"
#include "../../adapter/result.hpp"
#include "../../views/config.hpp"
#include "../../views/error.hpp"
#include "json.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace detail {
/// Takes fields out of an object. The first thing that is wrong is kept in `problem`, which nested readers
/// share; from then on fields read as empty, so that the caller looks once, at the end.
class JsonFields {
 public:
  /// `where`: how messages call the object, e.g. "scheme.A".
  JsonFields(const Json& value, std::string where, std::string& problem)
      : object_(value.is_object() ? &value : nullptr), where_(std::move(where)), problem_(problem) {
    if (!object_) wrong("is not an object");
  }

  bool has(const char* name) const { return object_ && object_->find(name) != object_->end(); }

  std::string text(const char* name) {
    const Json* value = take(name);
    if (!value) return {};
    const auto* text = value->get_ptr<const std::string*>();
    if (text) return *text;
    wrong_field(name, "is not a string");
    return {};
  }
  bool boolean(const char* name) {
    const Json* value = take(name);
    if (!value) return false;
    const auto* boolean = value->get_ptr<const bool*>();
    if (boolean) return *boolean;
    wrong_field(name, "is neither true nor false");
    return false;
  }
  double number(const char* name) {
    const Json* value = take(name);
    if (!value) return 0;
    if (value->is_number()) return value->get<double>();
    wrong_field(name, "is not a number");
    return 0;
  }
  /// At least `least` and at most `most`.
  std::int64_t integer(const char* name, std::int64_t least,
                       std::int64_t most = std::numeric_limits<std::int64_t>::max()) {
    const Json* value = take(name);
    if (!value) return least;
    // What is larger than an int64_t is there as unsigned.
    const auto* natural = value->get_ptr<const std::uint64_t*>();
    const bool fits =
        value->is_number_integer() &&
        (!natural || *natural <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()));
    const std::int64_t integer = fits ? value->get<std::int64_t>() : 0;
    if (fits && integer >= least && integer <= most) return integer;
    wrong_field(name, message("is not an integer from ", least, " to ", most));
    return least;
  }
  std::uint64_t natural(const char* name) {
    const Json* value = take(name);
    if (!value) return 0;
    const auto* natural = value->get_ptr<const std::uint64_t*>();
    if (natural) return *natural;
    wrong_field(name, "is not an unsigned 64-bit integer");
    return 0;
  }
  /// The index of the field's text among those; 0 if it is not among them.
  template <std::size_t N>
  std::size_t one_of(const char* name, const std::string_view (&texts)[N]) {
    const std::string value = text(name);
    for (std::size_t i = 0; i < N; ++i)
      if (value == texts[i]) return i;
    std::string list;
    for (const std::string_view text : texts) list += (list.empty() ? "" : ", ") + std::string(text);
    wrong_field(name, message("is ", in_quotes(value), ", not one of ", list));
    return 0;
  }
  /// Any value, to be read further; null if it is missing.
  const Json* value(const char* name) { return take(name); }
  /// The elements of an array; none if it is missing or something else.
  std::span<const Json> array(const char* name) {
    const Json* value = take(name);
    if (!value) return {};
    if (const auto* array = value->get_ptr<const Json::array_t*>()) return *array;
    wrong_field(name, "is not an array");
    return {};
  }

  /// To be called when all fields were taken: others are unknown.
  void finish() {
    if (!object_ || !problem_.empty() || taken_.size() == object_->size()) return;
    for (const auto& [name, value] : object_->items()) {
      bool known = false;
      for (const std::string_view taken : taken_) known |= taken == name;
      if (!known) return wrong(message("has the unknown field ", in_quotes(name)));
    }
  }

  void wrong_field(std::string_view name, std::string_view what) {
    wrong(message("has ", in_quotes(name), ", which ", what));
  }
  void wrong(std::string_view what) {
    if (problem_.empty()) problem_ = message(where_, " ", what);
  }

 private:
  const Json* take(const char* name) {
    if (!object_ || !problem_.empty()) return nullptr;
    // Once each: finish() counts them.
    if (std::find(taken_.begin(), taken_.end(), name) == taken_.end()) taken_.push_back(name);
    const auto found = object_->find(name);
    if (found != object_->end()) return &*found;
    wrong(message("has no ", in_quotes(name)));
    return nullptr;
  }

  const Json* object_;
  std::string where_;
  std::string& problem_;
  std::vector<std::string_view> taken_;
};

}  // namespace detail
TIEDLORA_END_NAMESPACE
