// Whether a backend computes what the library promises: every call against the loops of
// backends/reference.hpp in double, over sizes that hit every remainder, every view and every option, within
// bounds that follow from rounding alone. For kernels of one's own, on a GPU too; no test framework needed.
#pragma once

#include <algorithm>    // stable_sort
#include <cstddef>      // size_t
#include <cstdint>      // uint64_t
#include <cstdio>       // snprintf
#include <functional>   // function
#include <iterator>     // size
#include <optional>     // optional
#include <span>         // span
#include <string>       // string
#include <string_view>  // string_view
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

TIEDLORA_BEGIN_NAMESPACE
namespace verify {

/// How thorough parity is, and what it tells while it runs.
struct ParityOptions {
  std::size_t cases = 240;  ///< quick: seconds. 3000 are thorough
  std::uint64_t seed = 1;
  bool require_determinism = false;  ///< the same call twice has to give the same bits
  bool stop_at_first = false;        ///< at the first case that fails
  /// Elements of poison on either side of every operand; 0 for memory that guards itself.
  Index margin = 128;
  /// Told every case before it runs: a kernel that crashes takes the report with it.
  std::function<void(const std::string& text)> before_case = {};
};

/// One operand of one call, over all cases. Those without tokens or ranks share a row each, and those with
/// numbers that are not finite one for each operand.
struct ParityRow {
  std::string check;  ///< "expand: y"
  /// Calls that were compared, and those of them that were wrong.
  Index checked = 0, failed = 0;
  double worst = 0;        ///< error in units of its bound: above 1 it is not explained by rounding
  std::string where = {};  ///< the case of that
};

/// A fault, in a case as small as was found.
struct ParityFailure {
  std::string call = {}, operand = {};    ///< "expand_backward", "dB"
  std::string fault = {};                 ///< "does not accumulate"
  std::string where = {}, found_in = {};  ///< the smallest case, and the one that first showed it
  std::string likely = {};                ///< a slip that gives these numbers; empty: none that is known
  std::string only_with = {};             ///< what the smallest case cannot do without; empty: nothing
  /// A wrong number of the smallest case; of dA and dB `token` is the rank. -1: the fault has no place.
  Index feature = -1, token = -1;
  /// That number by the reference and by the backend, and how far apart rounding may take the two.
  double expected = 0, actual = 0, bound = 0;

  /// A paragraph to print.
  std::string text() const {
    using tiedlora::detail::message;
    std::string t = message(call, ": ", operand, ": ", fault);
    if (feature >= 0)
      t += message("\n  ", operand, "(feature ", feature,
                   operand == "dA" || operand == "dB" ? ", rank " : ", token ", token, ") is ", actual,
                   ", expected ", expected, " within ", bound);
    if (!likely.empty()) t += "\n  likely: " + likely;
    if (!only_with.empty()) t += "\n  only with: " + only_with;
    return t + "\n  smallest case: " + where + "\n  found in: " + found_in + "\n";
  }
};

/// The report.
struct Parity {
  /// What was compared, in the order of the data.
  std::vector<ParityRow> rows;
  std::vector<ParityFailure> failures;  ///< empty: passed
  bool deterministic = true;            ///< two runs gave the same bits
  /// ParityOptions::require_determinism
  bool determinism_required = false;
  std::uint64_t seed = 0;

  /// No failure, and deterministic where that was required.
  bool passed() const { return failures.empty() && (deterministic || !determinism_required); }
  /// The first in the order of the data: what goes wrong in shrink spoils what follows it.
  const ParityFailure* first_failure() const { return failures.empty() ? nullptr : &failures.front(); }

  /// A table to print.
  std::string table() const {
    char line[160];
    std::string text;
    std::snprintf(line, sizeof line, "%-42s %6s %7s %13s   %s\n", "check", "checks", "failed",
                  "error / bound", "largest in");
    text += line;
    for (const ParityRow& row : rows) {
      std::snprintf(line, sizeof line, "%-42s %6td %7td %13.3g   ", row.check.c_str(), row.checked,
                    row.failed, row.worst);
      text += line + row.where + "\n";
    }
    text += deterministic ? "deterministic: two runs gave the same bits\n"
                          : "not deterministic: two runs gave different bits\n";
    for (const ParityFailure& failure : failures) text += "\n" + failure.text();
    return text + (passed() ? "passed" : "FAILED") + tiedlora::detail::message(", seed ", seed, "\n");
  }
};

inline namespace TIEDLORA_ISA {

/// Runs cases by one backend and collects what they show.
class ParityRunner {
 public:
  /// What a backend does, for certain types.
  struct Calls {
    std::function<CaseResult(const ParityCase&)> run;
    std::function<std::string(const ParityCase&, const Finding&)> likely_slips;
    bool runs_slices, masks_x;
  };

  ParityRunner(Calls calls, const ParityOptions& options) : calls_(std::move(calls)), options_(options) {
    parity_.seed = options.seed;
    parity_.determinism_required = options.require_determinism;
  }

  void run(ParityCase c) {
    if (options_.stop_at_first && !parity_.failures.empty()) return;
    if (!calls_.runs_slices) c.slices = 1;
    if (!calls_.masks_x) c.dropout = 0;
    const CaseResult result = of(c);
    add(c, result);
    // NaNs may differ in their payload.
    if (++runs_ % 4 == 0 && result.findings.empty() && c.spoilt == Spoilt::nothing)
      parity_.deterministic = parity_.deterministic && of(c).bits == result.bits;
  }

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

  Parity result() && { return std::move(parity_); }

 private:
  CaseResult of(const ParityCase& c) const {
    if (options_.before_case) options_.before_case(c.text());
    return calls_.run(c);
  }

  ParityRow& row_of(const std::string& call, const std::string& operand, const ParityCase& c) {
    const std::string check = c.rank == 0                   ? "rank 0"
                              : c.tokens == 0               ? "no tokens"
                              : c.spoilt != Spoilt::nothing ? "beside NaN or infinity: " + operand
                                                            : call + ": " + operand;
    for (ParityRow& row : parity_.rows)
      if (row.check == check) return row;
    // In the order of the data.
    const auto place = [](const std::string& text) {
      static constexpr std::string_view order[] = {
          "shrink:", "expand:", "expand_backward:", "shrink_backward:", "forward:", "backward:", "finite"};
      std::size_t n = 0;
      while (n < std::size(order) && text.compare(0, order[n].size(), order[n]) != 0) ++n;
      return n;
    };
    auto behind = parity_.rows.begin();
    while (behind != parity_.rows.end() && place(behind->check) <= place(check)) ++behind;
    return *parity_.rows.insert(behind, {.check = check});
  }

  // Of a fault that is known already only the number of cases is of interest.
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
    const std::string likely = slips_of(c, finding);
    const ParityCase smallest =
        simplest_failing(c, [&](const ParityCase& simpler) { return same(of(simpler)) != nullptr; });
    const CaseResult result = of(smallest);
    if (const Finding* found = same(result)) finding = *found;  // else it fails now and then
    ParityFailure failure = {.call = finding.call,
                             .operand = finding.operand,
                             .fault = finding.fault,
                             .where = smallest.text(),
                             .found_in = c.text(),
                             .likely = likely.empty() ? slips_of(smallest, finding) : likely,
                             .feature = finding.feature,
                             .token = finding.token,
                             .expected = finding.expected,
                             .actual = finding.actual,
                             .bound = finding.bound};
    for (const std::string& feature : smallest.features())
      failure.only_with += (failure.only_with.empty() ? "" : ", ") + feature;
    return failure;
  }
  std::string slips_of(const ParityCase& c, const Finding& finding) const {
    return finding.call.find("modules") != std::string::npos ? "" : calls_.likely_slips(c, finding);
  }

  static constexpr std::size_t most_failures = 12;  // explained: a backend that is all wrong has hundreds

  Calls calls_;
  ParityOptions options_;
  Parity parity_;
  Index runs_ = 0;
};

/// Runs these cases by a backend for parameters P, x in X, y and dy in Y and dx in Dx.
template <class P = float, class X = P, class Y = X, class Dx = X, class B>
Parity parity(const B& backend, std::span<const ParityCase> cases, const ParityOptions& options = {}) {
  tiedlora::detail::require_backend<B, P, X, Y>();
  tiedlora::detail::require_backend<B, P, Dx, Y>();
  const Memory memory = memory_of(backend);
  const auto run = [&](const ParityCase& c) {
    CaseResult result = ParityRun<P, X, Y, Dx, B>(backend, memory, c, options.margin).run();
    if (c.shared_x && c.rank > 0)
      result.append(SharedInputRun<P, X, Dx, B>(backend, memory, c, options.margin).run());
    return result;
  };
  ParityRunner runner({.run = run,
                       .likely_slips =
                           [](const ParityCase& c, const Finding& finding) {
                             return likely_slips<accumulator_t<P>>(c, draw_numbers<P, X, Y, Dx>(c), finding);
                           },
                       .runs_slices = tiedlora::detail::runs_slices<B>(),
                       .masks_x = tiedlora::detail::masks_x<B>()},
                      options);
  for (const ParityCase& c : cases) runner.run(c);
  const ParityCase derivative = derivative_case(options.seed);
  runner.add(derivative, compare_with_differences<P, X, Y, Dx>(derivative, run(derivative)));
  return std::move(runner).result();
}

/// Runs options.cases cases drawn by options.seed, and some without tokens or features, of rank 0 and with
/// numbers that are not finite.
template <class P = float, class X = P, class Y = X, class Dx = X, class B>
Parity parity(const B& backend, const ParityOptions& options = {}) {
  const std::vector<ParityCase> cases = usual_cases(options.seed, options.cases);
  return parity<P, X, Y, Dx>(backend, std::span<const ParityCase>(cases), options);
}

}  // namespace TIEDLORA_ISA
}  // namespace verify
TIEDLORA_END_NAMESPACE
