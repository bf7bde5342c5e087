// What the calls of a case do wrong, and how near their bounds they come.
#pragma once

#include <algorithm>  // min
#include <cmath>      // abs, isfinite
#include <cstddef>    // byte
#include <limits>     // numeric_limits
#include <string>     // string
#include <utility>    // move
#include <vector>     // vector

#include "../views/config.hpp"
#include "../views/error.hpp"
#include "guarded_memory.hpp"
#include "matrix.hpp"
#include "parity_case.hpp"
#include "tolerance.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace verify {
inline namespace TIEDLORA_ISA {

/// What a call did wrong.
struct Finding {
  std::string call = {};     ///< "expand"
  std::string operand = {};  ///< "y"
  std::string fault = {};    ///< "is wrong", "wrote outside y", "changed its input h", …
  Index feature = -1,
        token = -1;  ///< of the first wrong value; in dA and dB the token is a rank. -1: none
  double expected = 0, actual = 0, bound = 0;
  std::string extent = {};             ///< which values: "the last 3 of 7 features"
  std::string hint = {};               ///< what is known of the cause
  Matrix values = {}, magnitude = {};  ///< what was computed, all of it
  Bound tolerance = {};
};

/// Of one operand of one call.
struct Comparison {
  std::string call = {}, operand = {};
  double worst = 0;  ///< error in units of its bound
  bool failed = false;
  Matrix values = {};           ///< what was computed, if that is a few values
  std::size_t end_of_bits = 0;  ///< of this and of all before it in CaseResult::bits
};

struct CaseResult {
  std::vector<Comparison> comparisons;
  std::vector<Finding> findings;
  std::vector<std::byte> bits;  ///< of all results

  void append(const CaseResult& more) {
    for (Comparison comparison : more.comparisons) {
      comparison.end_of_bits += bits.size();
      comparisons.push_back(std::move(comparison));
    }
    findings.insert(findings.end(), more.findings.begin(), more.findings.end());
    bits.insert(bits.end(), more.bits.begin(), more.bits.end());
  }
};

/// Collects what the calls of a case do wrong.
class Findings {
 public:
  explicit Findings(const ParityCase& c) : c_(c) {}

  /// `before` is what an operand held that the call adds to.
  template <class Acc, class T>
  void compare(const char* call, const char* operand, GuardedRows<T>& rows, const Matrix& exact,
               const Matrix& magnitude, Index roundings, const Matrix* before = nullptr, Index stores = 1) {
    rows.fetch();
    rows.append_bits(result_.bits);
    Comparison comparison = {.call = call, .operand = operand};
    comparison.end_of_bits = result_.bits.size();
    // 16 roundings more: scalings, partial sums, what was there before.
    const auto bound = Bound::of<Acc, T>(roundings + 16, stores);
    Finding finding = {call, operand, ""};
    const Matrix actual = rows.values();
    std::vector<bool> wrong(actual.values.size());
    bool unwritten = false;
    for (Index t = 0; t < exact.columns; ++t)
      for (Index i = 0; i < exact.rows; ++i) {
        const double is = actual(i, t), should_be = exact(i, t);
        const double largest_error = bound(should_be, magnitude(i, t));
        double ratio = 0;  // also of a NaN or infinity for another: which it is depends on the order of sums
        if (std::isfinite(is) && std::isfinite(should_be)) {
          const double error = std::abs(is - should_be);
          ratio = error == 0 ? 0 : error / largest_error;
        } else if (std::isfinite(is) != std::isfinite(should_be) || rows.is_unwritten(i, t)) {
          ratio = std::numeric_limits<double>::infinity();
        }
        if (ratio > comparison.worst) comparison.worst = ratio;
        if (!(ratio > 1)) continue;
        wrong[static_cast<std::size_t>(t * exact.rows + i)] = true;
        if (finding.feature >= 0) continue;
        finding.feature = i, finding.token = t, finding.expected = should_be, finding.actual = is,
        finding.bound = largest_error;
        unwritten = rows.is_unwritten(i, t);
      }
    if (finding.feature >= 0) {
      finding.fault =
          unwritten ? "was not written" : fault(finding, actual, wrong, exact, magnitude, bound, before);
      finding.extent = extent_of(operand, wrong, exact.rows, exact.columns);
      if (!unwritten) finding.hint = origin_of(rows.origin(finding.feature, finding.token));
      finding.values = actual, finding.magnitude = magnitude, finding.tolerance = bound;
      result_.findings.push_back(finding);
      comparison.failed = true;
    }
    comparison.failed |= !expect_no_strays(call, operand, rows);
    if (actual.values.size() <= few_numbers) comparison.values = actual;
    result_.comparisons.push_back(std::move(comparison));
  }

  /// Whether nothing was written but the rows.
  template <class T>
  bool expect_no_strays(const char* call, const char* operand, const GuardedRows<T>& rows) {
    const std::string stray = rows.first_stray();
    if (stray.empty()) return true;
    result_.findings.push_back({.call = call,
                                .operand = operand,
                                .fault = std::string("wrote outside ") + operand,
                                .extent = stray});
    return false;
  }

  template <class T>
  void expect_unchanged(const char* call, const char* operand, GuardedRows<T>& rows,
                        const char* fault = "changed its input ") {
    rows.fetch_nearby();
    if (rows.unchanged()) return;
    rows.restore();  // the next call is judged on its own
    add(call, operand, std::string(fault) + operand);
  }

  /// Compares two results that must be bit-identical.
  template <class T>
  void expect_same_bits(const char* call, const char* operand, GuardedRows<T>& rows, GuardedRows<T>& whole) {
    std::vector<std::byte> a, b;
    rows.fetch(), whole.fetch();
    rows.append_bits(a), whole.append_bits(b);
    if (a != b) return add(call, operand, "differs from that of one slice");
    if (!expect_no_strays(call, operand, rows))
      return result_.comparisons.push_back(
          {.call = call, .operand = operand, .failed = true, .end_of_bits = result_.bits.size()});
    result_.comparisons.push_back({.call = call, .operand = operand, .end_of_bits = result_.bits.size()});
  }

  const CaseResult& result() const { return result_; }

 private:
  static constexpr std::size_t few_numbers = 256;

  void add(const char* call, const char* operand, std::string fault) {
    result_.findings.push_back({.call = call, .operand = operand, .fault = std::move(fault)});
    result_.comparisons.push_back(
        {.call = call, .operand = operand, .failed = true, .end_of_bits = result_.bits.size()});
  }

  std::string fault(const Finding& f, const Matrix& actual, const std::vector<bool>& wrong,
                    const Matrix& exact, const Matrix& magnitude, const Bound& bound,
                    const Matrix* before) const {
    if (!std::isfinite(f.expected))
      return c_.zeros.empty() ? "lost a NaN or an infinity"
                              : "skips zeros, but 0 times a NaN or an infinity is NaN";
    if (!std::isfinite(f.actual)) {
      if (c_.spoilt != Spoilt::nothing)
        return f.operand == "h" || f.operand == "y" || f.operand == "dh" || f.operand == "dx"
                   ? "NaN leaked into another token"
                   : "NaN leaked into another element";
      return "is not finite: memory outside an operand was read, or what was to be overwritten";
    }
    if (before) {
      bool only_sum = true, nothing = true;
      for (Index t = 0; t < exact.columns; ++t)
        for (Index i = 0; i < exact.rows; ++i) {
          const double was = (*before)(i, t);
          only_sum = only_sum && std::abs(actual(i, t) - (exact(i, t) - was)) <=
                                     bound(exact(i, t) - was, magnitude(i, t));
          nothing = nothing && (actual(i, t) == was || !wrong[static_cast<std::size_t>(t * exact.rows + i)]);
        }
      if (nothing) return "was not written";
      if (only_sum) return "does not accumulate";
    }
    return "is wrong";
  }

  static std::string origin_of(Origin origin) {
    switch (origin) {
      case Origin::outside:
        return "memory outside an operand was read";
      case Origin::overwritten:
        return "what was to be overwritten was read";
      default:
        return "";
    }
  }

  /// Which values are wrong, of features × tokens; in dA and dB the tokens are ranks, in u the rows are.
  static std::string extent_of(const std::string& operand, const std::vector<bool>& wrong, Index rows,
                               Index columns) {
    using tiedlora::detail::message;
    Index count = 0, first_row = rows, first_column = columns;
    for (Index t = 0; t < columns; ++t)
      for (Index i = 0; i < rows; ++i) {
        if (!wrong[static_cast<std::size_t>(t * rows + i)]) continue;
        ++count, first_row = std::min(first_row, i), first_column = std::min(first_column, t);
      }
    if (count == rows * columns) return "all of it";
    const bool by_rank = operand == "dA" || operand == "dB";
    const char* const row = operand == "h" || operand == "dh" || operand == "du" ? " ranks" : " features";
    if (count == (rows - first_row) * columns)
      return message("the last ", rows - first_row, " of ", rows, row);
    if (count == rows * (columns - first_column))
      return message("the last ", columns - first_column, " of ", columns, by_rank ? " ranks" : " tokens");
    return message(count, " of ", rows * columns, " values");
  }

  ParityCase c_;
  CaseResult result_;
};

}  // namespace TIEDLORA_ISA
}  // namespace verify
TIEDLORA_END_NAMESPACE
