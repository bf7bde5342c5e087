// Checks hand-written derivatives, the library's or your own kernels', against finite differences.
#pragma once

#include <algorithm>   // max
#include <cmath>       // sqrt
#include <cstdint>     // uint64_t
#include <cstdio>      // snprintf
#include <functional>  // function
#include <span>        // span
#include <string>      // string
#include <utility>     // move
#include <vector>      // vector

#include "../adapter/adapter.hpp"
#include "../adapter/layout.hpp"
#include "../adapter/random.hpp"
#include "../adapter/scheme.hpp"
#include "../views/config.hpp"
#include "../views/error.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace verify {

/// Values that a loss depends on, and its derivatives according to the code under test. In double: in float
/// arithmetic the differences are too coarse to judge by.
struct Variables {
  std::string name;                  ///< for the table, e.g. "A"
  std::span<double> values;          ///< varied in place, and restored exactly
  std::span<const double> gradient;  ///< ∂loss/∂values, computed at these values before the check
};

/// How check_gradients takes its differences.
struct GradientCheckOptions {
  double step = 1e-4;         ///< h in (L(p + h) - L(p - h)) / 2h, times max(1, |p|)
  Index most_per_name = 200;  ///< of a longer span, this many elements, chosen by the seed
  std::uint64_t seed = 1;
};

/// The result for the variables of one name.
struct GradientCheckRow {
  std::string name;              ///< as in Variables
  Index checked = 0, count = 0;  ///< elements that were varied, and how many there are
  double relative_error =
      0;  ///< ‖numeric - given‖ / max(‖numeric‖, ‖given‖) over the checked elements; 0 if both are 0
  double largest_error = 0;  ///< absolute, of one element
  Index largest_at = 0;      ///< which element
};

/// The result: a row for each variable.
struct GradientCheck {
  std::vector<GradientCheckRow> rows;  ///< in the order of the variables

  /// The largest of all rows; NaN if any is NaN.
  double relative_error() const {
    double largest = 0;
    for (const GradientCheckRow& row : rows)
      largest = std::isnan(row.relative_error) ? row.relative_error : std::max(largest, row.relative_error);
    return largest;
  }

  /// A table to print.
  std::string table() const {
    std::string text = "variable              checked        of   relative error   largest error   at\n";
    for (const GradientCheckRow& row : rows) {
      char line[160];
      std::snprintf(line, sizeof line, "%-20s %8td %9td   %14.3e   %13.3e   %td\n", row.name.c_str(),
                    row.checked, row.count, row.relative_error, row.largest_error, row.largest_at);
      text += line;
    }
    return text;
  }
};

/// Gives a variable its value back when it goes, also where the loss throws.
class VariedValue {
 public:
  /// Keeps its value.
  explicit VariedValue(double& value) : value_(value), kept_(value) {}
  VariedValue(const VariedValue&) = delete;
  VariedValue& operator=(const VariedValue&) = delete;
  ~VariedValue() { value_ = kept_; }

  double kept() const { return kept_; }  ///< what it gets back
  /// Returns what the variable then holds, which rounding may have changed.
  double set(double value) { return value_ = value; }

 private:
  double& value_;
  double kept_;
};

/// Compares given gradients with central differences, ∂L/∂p ≈ (L(p + h) - L(p - h)) / 2h, whose error is of
/// order h² L''' + ε L / h. `loss` is called twice for each element checked and must be a pure function of
/// the variables; what it throws is passed on. Throws Error where a span and its gradient differ in length.
inline GradientCheck check_gradients(std::span<const Variables> variables,
                                     const std::function<double()>& loss,
                                     const GradientCheckOptions& options = {}) {
  GradientCheck result;
  for (const Variables& variable : variables) {
    if (variable.values.size() != variable.gradient.size())
      detail::fail(detail::message("variable \"", variable.name, "\" has ", variable.values.size(),
                                   " values but ", variable.gradient.size(), " derivatives"));
    GradientCheckRow row = {.name = variable.name, .count = static_cast<Index>(variable.values.size())};
    row.checked = std::min(row.count, options.most_per_name);
    double error_squares = 0, numeric_squares = 0, given_squares = 0;
    for (Index n = 0; n < row.checked; ++n) {
      // All of a short span; of a long one, a random element of each of `checked` equal parts.
      const Index begin = row.count * n / row.checked, end = row.count * (n + 1) / row.checked;
      const auto random = detail::random_bits(options.seed, static_cast<std::uint64_t>(n));
      const auto i = static_cast<std::size_t>(begin) + random % static_cast<std::uint64_t>(end - begin);
      VariedValue value(variable.values[i]);
      const double step = options.step * std::max(1.0, std::abs(value.kept()));
      const double above = value.set(value.kept() + step), loss_above = loss();
      const double below = value.set(value.kept() - step), loss_below = loss();
      const double numeric = (loss_above - loss_below) / (above - below);
      const double given = variable.gradient[i], error = std::abs(numeric - given);
      error_squares += error * error;
      numeric_squares += numeric * numeric;
      given_squares += given * given;
      if (!(error <= row.largest_error)) {
        row.largest_error = error;
        row.largest_at = static_cast<Index>(i);
      }
    }
    const double scale = std::sqrt(std::max(numeric_squares, given_squares));
    row.relative_error = error_squares == 0 ? 0 : std::sqrt(error_squares) / scale;
    result.rows.push_back(std::move(row));
  }
  return result;
}

/// The same for an adapter: one row for each trained factor. `gradients` holds what the backward pass under
/// test computed at the adapter's current values; `loss` runs the forward pass under test. Throws Error where
/// their layouts differ.
inline GradientCheck check_gradients(Adapter<double>& adapter, const Gradients<double>& gradients,
                                     const std::function<double()>& loss,
                                     const GradientCheckOptions& options = {}) {
  if (!(adapter.layout() == gradients.layout()))
    detail::fail("gradients of another layout than the adapter's cannot be checked");
  std::vector<Variables> variables;
  for (const FactorId id : all_factors) {
    if (!adapter.layout().is_trained(id)) continue;
    const Layout::Segment segment = adapter.layout().segment(id);
    const auto offset = static_cast<std::size_t>(segment.offset),
               count = static_cast<std::size_t>(segment.count);
    variables.push_back({to_string(id), adapter.trainable().subspan(offset, count),
                         gradients.values().subspan(offset, count)});
  }
  return check_gradients(variables, loss, options);
}

}  // namespace verify
TIEDLORA_END_NAMESPACE
