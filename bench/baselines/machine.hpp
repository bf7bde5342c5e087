// The machine's own limits, for the tables; each configuration of the grid measures its own again.
#pragma once

#include <benchmark/benchmark.h>  // CPUInfo

#include <algorithm>  // max
#include <span>       // span
#include <string>     // string, to_string
#include <vector>     // vector

#include "baselines/limits.hpp"
#include "harness/plan.hpp"
#include "harness/problem.hpp"
#include "harness/race.hpp"
#include "harness/report.hpp"

namespace bench {

/// Reads and updates of a working set of that many bytes, in GB/s of memory read.
inline void measure_bandwidth(Report& report, std::size_t bytes, const Pace& pace) {
  Eigen::VectorXf memory = Eigen::VectorXf::Ones(static_cast<Index>(bytes / sizeof(float)));  // aligned
  const std::span<float> data(memory.data(), bytes / sizeof(float));
  const std::vector<Times> times =
      race({runner("read", [=] { read(data); }), runner("update", [=] { update(data); })}, pace);
  report.time("read", times[0]);
  report.time("update", times[1]);
  report.number("KiB", static_cast<double>(bytes) / 1024);
  report.number("read_GB_per_s", static_cast<double>(bytes) / quartiles(times[0]).median / 1e9);
  report.number("update_GB_per_s", static_cast<double>(bytes) / quartiles(times[1]).median / 1e9);
}

inline void measure_peak(Report& report, const Pace& pace) {
  constexpr std::size_t calls = 10000;
  const std::vector<Times> times = race({runner("fma", [] { multiply_add_loop(calls); })}, pace);
  report.time("fma", times[0]);
  report.number("GFLOP_per_s", multiply_add_flops(calls) / quartiles(times[0]).median / 1e9);
}

/// Working sets that fill a quarter of a cache, and one that no cache holds.
inline void add_machine(Plan& plan) {
  plan.add("machine/fma", measure_peak);
  std::size_t largest = 0;
  const auto add = [&](const std::string& level, std::size_t bytes) {
    plan.add("machine/" + level,
             [=](Report& report, const Pace& pace) { measure_bandwidth(report, bytes, pace); });
  };
  for (const auto& cache : benchmark::CPUInfo::Get().caches) {
    if (cache.type == "Instruction") continue;
    const auto size = static_cast<std::size_t>(cache.size);
    largest = std::max(largest, size);
    add("L" + std::to_string(cache.level), size / 4);
  }
  add("DRAM", std::max(largest * 8, std::size_t{256} << 20));
}

}  // namespace bench
