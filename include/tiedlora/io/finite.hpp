// The check that a loaded adapter is finite, and what to say where it is not: file, tensor, place and value.
#pragma once

#include <cmath>             // isnan
#include <cstddef>           // size_t
#include <initializer_list>  // initializer_list
#include <optional>          // optional
#include <span>              // span
#include <string>            // string
#include <string_view>       // string_view
#include <unordered_set>     // unordered_set
#include <vector>            // vector

#include "../adapter/finite.hpp"
#include "../adapter/quote.hpp"
#include "../adapter/result.hpp"
#include "../views/config.hpp"
#include "../views/error.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace detail {

/// In which order a format writes the sizes of a tensor.
enum class ShapeOrder : unsigned char { slowest_first, fastest_first };

/// "[2, 3]": the place of a value in a tensor, in the order in which the shape is written.
inline std::string place_text(Index number, std::span<const Index> shape, ShapeOrder order) {
  std::vector<std::string> parts(shape.size());
  for (std::size_t i = 0; i < shape.size(); ++i) {
    const std::size_t d = order == ShapeOrder::fastest_first ? i : shape.size() - 1 - i;
    parts[d] = std::to_string(number % shape[d]);
    number /= shape[d];
  }
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : ", ") + part;
  return "[" + text + "]";
}

inline std::string not_finite_text(const NotFinite& found) {
  return std::isnan(found.value) ? "NaN" : found.value < 0 ? "-infinity" : "infinity";
}

/// How many elements of at least a byte each a tensor's bytes may hold; 0 where its shape claims more.
template <class Tensor>
std::size_t numbers_to_read(const Tensor& tensor) {
  std::size_t count = 1;
  for (const Index size : tensor.shape) {
    if (size <= 0 || static_cast<std::size_t>(size) > tensor.bytes.size() / count) return 0;
    count *= static_cast<std::size_t>(size);
  }
  return count;
}

/// What was read from these tensors but those of the names in `unread` must be finite. A reason reads as if
/// after the file's name. Costs one pass over the values; if one is wrong, its tensor is read again.
template <class P, class Tensors>
Status try_check_finite(std::initializer_list<std::span<const P>> numbers, const Tensors& tensors,
                        ShapeOrder order, std::span<const std::string> unread = {}) {
  bool finite = true;
  for (const std::span<const P> part : numbers) finite = finite && all_finite<P>(std::as_bytes(part));
  if (finite) return success();
  const std::unordered_set<std::string_view> passed_over(unread.begin(), unread.end());
  for (const auto& tensor : tensors) {
    std::vector<double> in_file(numbers_to_read(tensor));
    if (in_file.empty() || passed_over.contains(tensor.name) || !try_read(tensor, std::span<double>(in_file)))
      continue;
    if (const auto found = tiedlora::find_not_finite(std::span<const double>(in_file)))
      return Failure{message("tensor ", in_quotes(tensor.name), " has ", not_finite_text(*found), " at ",
                             place_text(found->first, tensor.shape, order), "; ", found->count, " of its ",
                             tensor.count(), found->count == 1 ? " values is" : " values are",
                             " not finite, and such an adapter makes every output NaN (to load it anyway: "
                             "check_finite = false, in adapter_tool and engine --no-check-finite)")};
  }
  for (const auto& tensor : tensors) {
    std::vector<P> read(numbers_to_read(tensor));
    if (read.empty() || passed_over.contains(tensor.name) || !try_read(tensor, std::span<P>(read))) continue;
    if (const auto found = tiedlora::find_not_finite(std::span<const P>(read)))
      return Failure{message("tensor ", in_quotes(tensor.name), " has ", found->count,
                             found->count == 1 ? " value that overflows" : " values that overflow",
                             " the type it is loaded as, the first at ",
                             place_text(found->first, tensor.shape, order), "; load it as float or double")};
  }
  return Failure{"has values that are not finite"};
}

}  // namespace detail
TIEDLORA_END_NAMESPACE
