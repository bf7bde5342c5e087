// The list of measurements. Each is one benchmark of one iteration: see race.hpp for the reason.
#pragma once

#include <benchmark/benchmark.h>

#include <cstddef>    // ptrdiff_t
#include <exception>  // exception
#include <regex>      // regex
#include <string>     // string

#include "harness/race.hpp"
#include "harness/report.hpp"

namespace bench {

/// How much is measured. `full` holds what `core` does.
enum class Extent { quick, core, full };

struct Plan {
  Extent extent = Extent::core;
  Pace pace;
  bool alone = false;               ///< only the library, for another process to compare with
  std::regex filter{""};            ///< of names; measurements that it does not match are left out
  std::ptrdiff_t measurements = 0;  ///< added so far

  /// Registers measure(Report&, const Pace&), unless filtered out. An exception is shown in its row and fails
  /// the run.
  template <class Measure>
  void add(const std::string& name, const Measure& measure) {
    if (!std::regex_search(name, filter)) return;
    ++measurements;
    benchmark::RegisterBenchmark(name.c_str(),
                                 [measure, p = pace](benchmark::State& state) {
                                   for ([[maybe_unused]] auto iteration : state) {
                                     try {
                                       Report report(state);
                                       measure(report, p);
                                     } catch (const std::exception& error) {
                                       state.SkipWithError(error.what());
                                       break;
                                     }
                                   }
                                 })
        ->UseManualTime()
        ->Iterations(1);
  }
};

}  // namespace bench
