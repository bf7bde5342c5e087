// Whether a backend computes what the library promises: every call against the loops of
// backends/reference.hpp in double, over sizes that hit every remainder, every view and every option, within
// bounds that follow from rounding alone. For your own kernels, on a GPU too; no test framework needed.
#pragma once

#include <algorithm>    // mismatch
#include <cmath>        // isfinite
#include <cstddef>      // size_t
#include <cstdint>      // uint64_t
#include <cstdio>       // snprintf
#include <functional>   // function
#include <iterator>     // size
#include <optional>     // optional
#include <span>         // span
#include <string>       // string
#include <string_view>  // string_view
#include <type_traits>  // is_same
#include <utility>      // move
#include <vector>       // vector

#include "../ops/backend.hpp"
#include "../views/config.hpp"
#include "../views/error.hpp"
#include "../views/scalar.hpp"
#include "derivative.hpp"
#include "findings.hpp"
#include "guarded_memory.hpp"
#include "parity_case.hpp"
#include "parity_diagnosis.hpp"
#include "parity_run.hpp"
#include "parity_sampler.hpp"
#include "parity_shared_input.hpp"
#include "parity_tenants.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace verify {

/// How thorough parity is, and what it reports while it runs.
struct ParityOptions {
  std::size_t cases = 240;  ///< quick: seconds. 3000 are thorough
  std::uint64_t seed = 1;
  bool require_determinism = false;  ///< the same call twice must give the same bits
  bool stop_at_first = false;        ///< at the first case that fails: none is run after it
  /// Elements of poison on either side of every operand, at least: after it, as far as any stride of the case
  /// leads. 0 for memory that guards itself.
  Index margin = 128;
  /// Called with every case before it runs, the finite differences' too and a failing one's simpler cases: a
  /// kernel that crashes takes the report with it.
  std::function<void(const std::string& text)> before_case = {};
};

/// One operand of one call, over all cases. Cases without tokens, and cases without ranks, share a row each;
/// those with values that are not finite, and those with zeros beside them, have a row for each operand.
struct ParityRow {
  std::string check;  ///< "expand: y"
  /// How many calls were compared, and how many of them were wrong.
  Index checked = 0, failed = 0;
  double worst = 0;        ///< error in units of its bound: above 1 it is not explained by rounding
  std::string where = {};  ///< the case with that error
  bool is_offered = true;  ///< whether the backend has this call, which is optional
};

/// A fault, in the smallest case found that shows it.
struct ParityFailure {
  std::string call = {}, operand = {};    ///< "expand_backward", "dB"
  std::string fault = {};                 ///< "does not accumulate"
  std::string where = {}, found_in = {};  ///< the smallest case, and the one that first showed it
  std::string likely = {};                ///< a slip that gives these values; empty: none is known
  std::string extent = {};                ///< which values of found_in: "the last 3 of 7 features"
  std::string only_with = {};             ///< what the smallest case needs to fail; empty: nothing
  /// A wrong value of the smallest case; in dA and dB `token` is the rank. -1: the fault has no place.
  Index feature = -1, token = -1;
  /// That value by the reference and by the backend, and how far apart rounding may take the two.
  double expected = 0, actual = 0, bound = 0;

  /// A paragraph to print.
  std::string text() const {
    using tiedlora::detail::message;
    std::string t = message(call, ": ", operand, ": ", fault);
    if (feature >= 0)
      t += message("\n  ", operand, "(feature ", feature,
                   operand == "dA" || operand == "dB" ? ", rank " : ", token ", token, ") is ", actual,
                   ", expected ", expected);
    if (feature >= 0 && std::isfinite(expected)) t += message(" within ", bound);
    if (!likely.empty()) t += "\n  likely: " + likely;
    if (!only_with.empty()) t += "\n  only with: " + only_with;
    t += "\n  smallest case: " + where + "\n  found in: " + found_in;
    if (!extent.empty()) t += "\n    there: " + extent;
    return t + "\n";
  }
};

/// The report.
struct Parity {
  /// What was compared, in the order of the data flow.
  std::vector<ParityRow> rows;
  std::vector<ParityFailure> failures;  ///< empty: passed
  bool deterministic = true;            ///< two runs gave the same bits
  /// ParityOptions::require_determinism
  bool determinism_required = false;
  std::string differs_in = {};  ///< where they first did not: call, operand and case
  std::uint64_t seed = 0;
  std::string types = {};  ///< of parameters, x, y and dx
  std::size_t cases = 0;   ///< how many were run

  /// No failure, and deterministic if that was required.
  bool passed() const { return failures.empty() && (deterministic || !determinism_required); }
  /// The first in the order of the data flow: a fault in shrink spoils what follows.
  const ParityFailure* first_failure() const { return failures.empty() ? nullptr : &failures.front(); }

  /// A table to print.
  std::string table() const {
    char line[160];
    std::string text = tiedlora::detail::message(types, ": ", cases, " cases\n");
    std::snprintf(line, sizeof line, "%-42s %6s %7s %13s   %s\n", "check", "checks", "failed",
                  "error / bound", "largest in");
    text += line;
    for (const ParityRow& row : rows) {
      if (row.checked > 0)
        std::snprintf(line, sizeof line, "%-42s %6td %7td %13.3g   ", row.check.c_str(), row.checked,
                      row.failed, row.worst);
      else
        std::snprintf(line, sizeof line, "%-42s %s", row.check.c_str(),
                      row.is_offered ? "not checked: no case has it" : "not offered by the backend");
      text += line + row.where + "\n";
    }
    text += deterministic ? "deterministic: two runs gave the same bits\n"
                          : "not deterministic: two runs gave different bits, first in " + differs_in + "\n";
    for (const ParityFailure& failure : failures) text += "\n" + failure.text();
    return text + (passed() ? "passed" : "FAILED") + tiedlora::detail::message(", seed ", seed, "\n");
  }
};

inline namespace TIEDLORA_ISA {

/// Runs cases on one backend and collects what they show.
class ParityRunner {
 public:
  /// The calls of a backend, for certain types.
  struct Calls {
    std::function<CaseResult(const ParityCase&)> run;
    std::function<std::string(const ParityCase&, const Finding&)> likely_slips;
    bool runs_slices, masks_x;
  };
  /// Rows for what a backend need not have.
  struct Optional {
    bool is_offered;
    const char* call;
    std::vector<const char*> operands;
  };

  ParityRunner(Calls calls, const ParityOptions& options, std::string types,
               const std::vector<Optional>& optional)
      : calls_(std::move(calls)), options_(options) {
    parity_.seed = options.seed, parity_.types = std::move(types);
    parity_.determinism_required = options.require_determinism;
    for (const Optional& o : optional)
      for (const char* operand : o.operands)
        row(std::string(o.call) + ": " + operand).is_offered = o.is_offered;
  }

  void run(ParityCase c) {
    if (is_stopped()) return;
    if (!calls_.runs_slices) c.slices = 1;
    if (!calls_.masks_x) c.dropout = 0;
    const CaseResult result = of(c);
    add(c, result);
    // NaNs may differ in their payload.
    if (++parity_.cases % 4 == 0 && result.findings.empty() && c.spoilt == Spoilt::nothing &&
        parity_.deterministic)
      compare_bits(c, result, of(c));
  }

  /// A case of which only what `compared` makes of its result counts.
  void run(const ParityCase& c, const std::function<CaseResult(const CaseResult&)>& compared) {
    if (!is_stopped()) add(c, compared(of(c)));
  }

  Parity result() && { return std::move(parity_); }

 private:
  bool is_stopped() const { return options_.stop_at_first && !parity_.failures.empty(); }

  void add(const ParityCase& c, const CaseResult& result) {
    for (const Comparison& comparison : result.comparisons) {
      ParityRow& row = row_of(comparison.call, comparison.operand, c);
      ++row.checked;
      if (comparison.failed) ++row.failed;
      if (!(comparison.worst <= row.worst) || row.where.empty())
        row.worst = comparison.worst,
        row.where = tiedlora::detail::message("in ", c.in, ", out ", c.out, ", rank ", c.rank, ", tokens ",
                                              c.tokens, ", seed ", c.seed);
    }
    for (const Finding& finding : result.findings)
      if (!known(finding)) parity_.failures.push_back(explained(c, finding));
  }

  CaseResult of(const ParityCase& c) const {
    if (options_.before_case) options_.before_case(c.text());
    return calls_.run(c);
  }

  void compare_bits(const ParityCase& c, const CaseResult& a, const CaseResult& b) {
    if (a.bits == b.bits) return;
    parity_.deterministic = false;
    const auto differ = std::mismatch(a.bits.begin(), a.bits.end(), b.bits.begin(), b.bits.end()).first;
    const auto place = static_cast<std::size_t>(differ - a.bits.begin());
    for (const Comparison& comparison : a.comparisons)
      if (place < comparison.end_of_bits) {
        parity_.differs_in = comparison.call + ": " + comparison.operand + ", " + c.text();
        return;
      }
  }

  ParityRow& row_of(const std::string& call, const std::string& operand, const ParityCase& c) {
    return row(c.rank == 0                   ? "rank 0"
               : c.tokens == 0               ? "no tokens"
               : !c.zeros.empty()            ? "zero times NaN or infinity: " + operand
               : c.spoilt != Spoilt::nothing ? "beside NaN or infinity: " + operand
                                             : call + ": " + operand);
  }
  ParityRow& row(const std::string& check) {
    for (ParityRow& row : parity_.rows)
      if (row.check == check) return row;
    // In the order of the data flow.
    const auto place = [](const std::string& text) {
      static constexpr std::string_view order[] = {"shrink:",
                                                   "expand:",
                                                   "expand_backward:",
                                                   "shrink_backward:",
                                                   "forward:",
                                                   "backward:",
                                                   "shrink in slices",
                                                   "expand in slices",
                                                   "shrink of modules",
                                                   "expand of modules",
                                                   "expand_backward of modules",
                                                   "shrink_backward of modules",
                                                   "expand of tenants",
                                                   "finite",
                                                   "beside",
                                                   "zero times"};
      std::size_t n = 0;
      while (n < std::size(order) && text.compare(0, order[n].size(), order[n]) != 0) ++n;
      return n;
    };
    auto behind = parity_.rows.begin();
    while (behind != parity_.rows.end() && place(behind->check) <= place(check)) ++behind;
    return *parity_.rows.insert(behind, {.check = check});
  }

  // Of a fault that is already known, only the number of cases matters.
  bool known(const Finding& finding) const {
    for (const ParityFailure& failure : parity_.failures)
      if (failure.call == finding.call && failure.operand == finding.operand &&
          failure.fault == finding.fault)
        return true;
    return parity_.failures.size() >= most_failures;
  }

  ParityFailure explained(const ParityCase& c, Finding finding) const {
    const auto same = [&](const CaseResult& result) -> const Finding* {
      for (const Finding& other : result.findings)
        if (other.call == finding.call && other.operand == finding.operand && other.fault == finding.fault)
          return &other;
      return nullptr;
    };
    const std::string extent = finding.extent;
    // Finite differences are of one fixed case, which run() does not repeat.
    const bool of_differences = finding.call == "finite differences";
    const bool comes_and_goes = !of_differences && !same(of(c));
    const bool is_simplified = !of_differences && !comes_and_goes;
    std::string likely = is_simplified ? slips_of(c, finding) : "";
    const ParityCase smallest = !is_simplified ? c : simplest_failing(c, [&](const ParityCase& simpler) {
      return same(of(simpler)) != nullptr;
    });
    if (is_simplified) {
      const CaseResult result = of(smallest);
      if (const Finding* found = same(result)) finding = *found;
      if (likely.empty()) likely = slips_of(smallest, finding);
      if (likely.empty()) likely = slips_of_views(smallest.features());
      if (likely.empty()) likely = finding.hint;
      if (likely.empty() && smallest.rank == 0)
        likely = "at rank 0, h and dh are null; count the tokens of y and dx";
    }
    if (comes_and_goes)
      likely = "the same case passes when run again: a race, or a call leaves state to the next";
    ParityFailure failure = {.call = finding.call,
                             .operand = finding.operand,
                             .fault = finding.fault,
                             .where = smallest.text(),
                             .found_in = c.text(),
                             .likely = likely,
                             .extent = extent,
                             .feature = finding.feature,
                             .token = finding.token,
                             .expected = finding.expected,
                             .actual = finding.actual,
                             .bound = finding.bound};
    if (!is_simplified) return failure;
    for (const std::string& feature : smallest.features())
      failure.only_with += (failure.only_with.empty() ? "" : ", ") + feature;
    return failure;
  }
  std::string slips_of(const ParityCase& c, const Finding& finding) const {
    return finding.call.find(" of ") != std::string::npos ? "" : calls_.likely_slips(c, finding);
  }

  static constexpr std::size_t most_failures = 12;  // explained: a backend that is all wrong has hundreds

  Calls calls_;
  ParityOptions options_;
  Parity parity_;
};

/// A type's name in the table.
template <class T>
const char* type_name() {
  switch (ScalarTraits<T>::format) {
    case Format::binary16:
      return "half";
    case Format::bfloat16:
      return "bfloat16";
    default:
      return std::is_same_v<T, float> ? "float" : std::is_same_v<T, double> ? "double" : "another type";
  }
}

/// Poison as far as any row of a case can lead with the stride of any of its operands.
inline Surroundings surroundings_of(const ParityCase& c, Index margin) {
  using tiedlora::detail::larger;
  return {margin, larger(c.rank, c.tokens) + 1, larger(larger(c.in, c.out), c.rank) + 9};
}

/// Runs these cases on a backend for parameters P, x in X, y and dy in Y and dx in Dx.
template <class P = float, class X = P, class Y = X, class Dx = X, class B>
Parity parity(const B& backend, std::span<const ParityCase> cases, const ParityOptions& options = {}) {
  tiedlora::detail::require_backend<B, P, X, Y>();
  tiedlora::detail::require_backend<B, P, Dx, Y>();
  using Modules = SharedInputRun<P, X, Y, Dx, B>;
  using ForTenants = TenantsRun<P, Y, B>;
  constexpr bool slices = tiedlora::detail::runs_slices<B>();
  const Memory memory = memory_of(backend);
  const auto run = [&](const ParityCase& c) {
    const Surroundings around = surroundings_of(c, options.margin);
    CaseResult result = ParityRun<P, X, Y, Dx, B>(backend, memory, c, around).run();
    if constexpr (Modules::is_offered)
      if (c.shared_x && c.rank > 0) result.append(Modules(backend, memory, c, around).run());
    if constexpr (ForTenants::is_offered)
      if (c.tenants && c.rank > 0) result.append(ForTenants(backend, memory, c, around).run());
    return result;
  };
  using tiedlora::detail::message;
  ParityRunner runner({.run = run,
                       .likely_slips =
                           [](const ParityCase& c, const Finding& finding) {
                             return likely_slips<accumulator_t<P>>(c, draw_numbers<P, X, Y, Dx>(c), finding);
                           },
                       .runs_slices = slices,
                       .masks_x = tiedlora::detail::masks_x<B>()},
                      options,
                      message("parameters in ", type_name<P>(), ", x in ", type_name<X>(), ", y in ",
                              type_name<Y>(), ", dx in ", type_name<Dx>()),
                      {{slices, "shrink in slices", {"h"}},
                       {slices, "expand in slices", {"y"}},
                       {Modules::shrinks, "shrink of modules", {"h"}},
                       {Modules::shrinks && slices, "shrink of modules in slices", {"h"}},
                       {Modules::expands, "expand of modules", {"y"}},
                       {Modules::expands && slices, "expand of modules in slices", {"y"}},
                       {Modules::expands_backward, "expand_backward of modules", {"dh", "dB", "du", "dv"}},
                       {Modules::shrinks_backward, "shrink_backward of modules", {"dx", "dA"}},
                       {ForTenants::is_offered, "expand of tenants", {"y"}}});
  for (const ParityCase& c : cases) runner.run(c);
  const ParityCase derivative = derivative_case(options.seed);
  runner.run(derivative, [&](const CaseResult& result) {
    return compare_with_differences<P, X, Y, Dx>(derivative, result);
  });
  return std::move(runner).result();
}

/// Runs options.cases cases drawn by options.seed, and some without tokens or features, of rank 0 and with
/// values that are not finite.
template <class P = float, class X = P, class Y = X, class Dx = X, class B>
Parity parity(const B& backend, const ParityOptions& options = {}) {
  const std::vector<ParityCase> cases = usual_cases(options.seed, options.cases);
  return parity<P, X, Y, Dx>(backend, std::span<const ParityCase>(cases), options);
}

}  // namespace TIEDLORA_ISA
}  // namespace verify
TIEDLORA_END_NAMESPACE
