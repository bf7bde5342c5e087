// The figures of a measurement: medians and quartiles as counters of Google Benchmark, for its JSON and for
// the table on the screen.
#pragma once

#include <benchmark/benchmark.h>

#include <stdexcept>  // runtime_error
#include <string>     // string

#include "harness/race.hpp"

namespace bench {

/// Filled by one measurement. Times are in microseconds; the names of a value's quartiles end in ".q1",
/// ".q3".
class Report {
 public:
  explicit Report(benchmark::State& state) : state_(state) {}

  void time(const std::string& name, const Times& seconds) {
    Times us(seconds);
    for (double& t : us) t *= 1e6;
    add("us." + name, us);
    if (is_first_) state_.SetIterationTime(quartiles(seconds).median);
    is_first_ = false;
  }
  void ratio(const std::string& name, const Times& ratios) { add("x." + name, ratios); }
  void number(const std::string& name, double value) { state_.counters[name] = value; }
  [[noreturn]] static void refuse(const std::string& why) {
    throw std::runtime_error("not measured: " + why);
  }

 private:
  void add(const std::string& name, const Times& values) {
    const Quartiles q = quartiles(values);
    state_.counters[name] = q.median;
    state_.counters[name + ".q1"] = q.q1;
    state_.counters[name + ".q3"] = q.q3;
  }

  benchmark::State& state_;
  bool is_first_ = true;
};

}  // namespace bench
