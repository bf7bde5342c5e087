// What is printed: the median of each measurement, and at the end each contender against the baseline of its
// cell.
#pragma once

#include <benchmark/benchmark.h>
#include <unistd.h>  // isatty

#include <cstdio>  // printf
#include <map>     // map
#include <string>  // string
#include <vector>  // vector

namespace bench {

/// Shows medians only and remembers them. A measurement's last name, after the last '/', is its contender;
/// what stands before is its cell.
class Comparison : public benchmark::ConsoleReporter {
 public:
  Comparison() : ConsoleReporter(isatty(STDOUT_FILENO) ? OO_ColorTabular : OO_Tabular) {}

  void ReportRuns(const std::vector<Run>& runs) override {
    std::vector<Run> shown;
    for (const Run& run : runs) {
      // Without repetitions there are no medians.
      if (run.run_type == Run::RT_Aggregate && run.aggregate_name != "median") continue;
      shown.push_back(run);
      const bool manual = run.run_name.time_type == "manual_time";
      seconds_[run.run_name.function_name] = (manual ? run.GetAdjustedRealTime() : run.GetAdjustedCPUTime()) /
                                             benchmark::GetTimeUnitMultiplier(run.time_unit);
    }
    if (!shown.empty()) ConsoleReporter::ReportRuns(shown);
  }

  /// Every contender that was measured together with its cell's baseline ("eigen" or "lora"), in the order of
  /// `names`. Above 1 the contender is faster than the baseline.
  void print(const std::vector<std::string>& names) const {
    bool is_first = true;
    for (const std::string& name : names) {
      const auto contender = seconds_.find(name);
      if (contender == seconds_.end()) continue;
      const std::string cell = name.substr(0, name.rfind('/') + 1);
      for (const char* baseline : {"eigen", "lora"}) {
        const auto base = seconds_.find(cell + baseline);
        if (base == seconds_.end() || base == contender) continue;
        if (is_first)
          std::printf("\n%-44s %12s %9s %12s %9s\n", "median time", "us", "against", "us", "faster");
        is_first = false;
        std::printf("%-44s %12.2f %9s %12.2f %8.2fx\n", name.c_str(), 1e6 * contender->second, baseline,
                    1e6 * base->second, base->second / contender->second);
      }
    }
  }

 private:
  std::map<std::string, double> seconds_;
};

}  // namespace bench
