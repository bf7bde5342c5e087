// What the calls of a case are found to do wrong, and how near their bounds they come.
#pragma once

#include <cmath>    // abs, isfinite
#include <cstddef>  // byte
#include <limits>   // numeric_limits
#include <string>   // string
#include <utility>  // move
#include <vector>   // vector

#include "../views/config.hpp"
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
        token = -1;  ///< of the first wrong number; of dA and dB the token is a rank. -1: of none
  double expected = 0, actual = 0, bound = 0;
  Matrix values = {}, magnitude = {};  ///< what was computed, all of it
  Bound tolerance = {};
};

/// Of one operand of one call.
struct Comparison {
  std::string call = {}, operand = {};
  double worst = 0;  ///< error in units of its bound
  bool failed = false;
  Matrix values = {};  ///< what was computed, where that is a few numbers
};

struct CaseResult {
  std::vector<Comparison> comparisons;
  std::vector<Finding> findings;
  std::vector<std::byte> bits;  ///< of all results

  void append(const CaseResult& more) {
    comparisons.insert(comparisons.end(), more.comparisons.begin(), more.comparisons.end());
    findings.insert(findings.end(), more.findings.begin(), more.findings.end());
    bits.insert(bits.end(), more.bits.begin(), more.bits.end());
  }
};

/// Collects what the calls of a case are found to do.
class Findings {
 public:
  explicit Findings(const ParityCase& c) : c_(c) {}

  /// `before` is what an operand held that the call adds to.
  template <class Acc, class T>
  void compare(const char* call, const char* operand, GuardedRows<T>& rows, const Matrix& exact,
               const Matrix& magnitude, Index roundings, const Matrix* before = nullptr, Index stores = 1) {
    rows.fetch();
    rows.append_bits(result_.bits);
    Comparison comparison = {call, operand};
    // 16 roundings more: scalings, partial sums, what was there before.
    const auto bound = Bound::of<Acc, T>(roundings + 16, stores);
    Finding finding = {call, operand, ""};
    const Matrix actual = rows.values();
    for (Index t = 0; t < exact.columns; ++t)
      for (Index i = 0; i < exact.rows; ++i) {
        const double is = actual(i, t), should_be = exact(i, t);
        const double largest_error = bound(should_be, magnitude(i, t));
        double ratio = 0;  // also of a NaN or infinity for another: which it is depends on the order of sums
        if (std::isfinite(is) && std::isfinite(should_be)) {
          const double error = std::abs(is - should_be);
          ratio = error == 0 ? 0 : error / largest_error;
        } else if (std::isfinite(is) != std::isfinite(should_be)) {
          ratio = std::numeric_limits<double>::infinity();
        }
        if (ratio > comparison.worst) comparison.worst = ratio;
        if (ratio > 1 && finding.feature < 0)
          finding.feature = i, finding.token = t, finding.expected = should_be, finding.actual = is,
          finding.bound = largest_error;
      }
    if (finding.feature >= 0) {
      finding.fault = fault(finding, actual, exact, magnitude, bound, before);
      finding.values = actual, finding.magnitude = magnitude, finding.tolerance = bound;
      result_.findings.push_back(finding);
      comparison.failed = true;
    }
    if (!rows.nothing_else_written()) {
      result_.findings.push_back({call, operand, std::string("wrote outside ") + operand});
      comparison.failed = true;
    }
    if (actual.values.size() <= few_numbers) comparison.values = actual;
    result_.comparisons.push_back(std::move(comparison));
  }

  template <class T>
  void expect_unchanged(const char* call, const char* operand, GuardedRows<T>& rows,
                        const char* fault = "changed its input ") {
    rows.fetch();
    if (rows.unchanged()) return;
    rows.restore();  // the next call is judged on its own
    add(call, operand, std::string(fault) + operand);
  }

  /// Two results that have to be the same bits.
  template <class T>
  void expect_same_bits(const char* call, const char* operand, GuardedRows<T>& rows, GuardedRows<T>& whole) {
    std::vector<std::byte> a, b;
    rows.fetch(), whole.fetch();
    rows.append_bits(a), whole.append_bits(b);
    if (a != b) return add(call, operand, "differs from that of one slice");
    if (!rows.nothing_else_written()) return add(call, operand, std::string("wrote outside ") + operand);
    result_.comparisons.push_back({call, operand});
  }

  const CaseResult& result() const { return result_; }

 private:
  static constexpr std::size_t few_numbers = 256;

  void add(const char* call, const char* operand, std::string fault) {
    result_.findings.push_back({call, operand, std::move(fault)});
    result_.comparisons.push_back({.call = call, .operand = operand, .failed = true});
  }

  std::string fault(const Finding& f, const Matrix& actual, const Matrix& exact, const Matrix& magnitude,
                    const Bound& bound, const Matrix* before) const {
    if (!std::isfinite(f.expected)) return "lost a NaN or an infinity";
    if (!std::isfinite(f.actual)) {
      if (c_.spoilt != Spoilt::nothing)
        return f.operand == "h" || f.operand == "y" || f.operand == "dh" || f.operand == "dx"
                   ? "NaN leaked into another token"
                   : "NaN leaked into another element";
      return "is not finite: memory outside of an operand was read, or what was to be overwritten";
    }
    if (before) {
      bool only_sum = true, nothing = true;
      for (Index t = 0; t < exact.columns; ++t)
        for (Index i = 0; i < exact.rows; ++i) {
          const double was = (*before)(i, t);
          only_sum = only_sum && std::abs(actual(i, t) - (exact(i, t) - was)) <=
                                     bound(exact(i, t) - was, magnitude(i, t));
          nothing = nothing && actual(i, t) == was;
        }
      if (nothing) return "was not written";
      if (only_sum) return "does not accumulate";
    }
    return "is wrong";
  }

  ParityCase c_;
  CaseResult result_;
};

}  // namespace TIEDLORA_ISA
}  // namespace verify
TIEDLORA_END_NAMESPACE
