// The table on the screen: one row per measurement as it completes, and on stderr the time left.
#pragma once

#include <benchmark/benchmark.h>
#include <unistd.h>  // isatty

#include <cstdio>  // fflush
#include <string>  // string
#include <vector>  // vector

#include <fmt/format.h>

#include "harness/race.hpp"

namespace bench {

class Table : public benchmark::BenchmarkReporter {
 public:
  /// `expected`: how many measurements there will be.
  explicit Table(std::ptrdiff_t expected) : expected_(expected) {}

  bool ReportContext(const Context&) override { return true; }

  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) print(run);
    std::fflush(stdout);
    ++done_;
    const double left = seconds_since(start_) / static_cast<double>(done_) *
                        static_cast<double>(expected_ > done_ ? expected_ - done_ : 0);
    const bool to_screen = isatty(STDERR_FILENO) != 0;
    if (!to_screen && seconds_since(shown_) < 15) return;
    shown_ = Clock::now();
    fmt::print(stderr, "{0}{1} of {2}, about {3:.0f} s left{4}", to_screen ? "\r" : "", done_, expected_,
               left, to_screen ? "   \r" : "\n");
  }

  bool has_errors() const { return has_errors_; }

 private:
  void print(const Run& run) {
    const std::string& name = run.run_name.function_name;
    if (run.error_occurred) {
      fmt::print("{:44} {}\n", name, run.error_message);
      has_errors_ = true;
      return;
    }
    std::string header, row;
    for (const auto& [key, counter] : run.counters) {
      if (key.ends_with(".q1") || key.ends_with(".q3")) continue;
      const bool is_ratio = key.starts_with("x.");
      const std::string title = is_ratio || key.starts_with("us.") ? key.substr(key.find('.') + 1) : key;
      const std::string value = is_ratio ? fmt::format("{:.2f} ({:.2f}-{:.2f})", counter.value,
                                                       at(run, key + ".q1"), at(run, key + ".q3"))
                                         : fmt::format("{:.5g}", counter.value);
      const int width = is_ratio ? 19 : 11;
      row += fmt::format(" {:>{}}", value, width);
      header += fmt::format(" {:>{}}", title, width);
    }
    if (header != header_) fmt::print("\n{:44}{}\n", "medians (quartiles); times in us", header);
    header_ = header;
    fmt::print("{:44}{}\n", name, row);
  }

  static double at(const Run& run, const std::string& key) {
    const auto found = run.counters.find(key);
    return found == run.counters.end() ? 0 : found->second.value;
  }

  std::ptrdiff_t expected_, done_ = 0;
  Clock::time_point start_ = Clock::now(), shown_ = start_;
  std::string header_;
  bool has_errors_ = false;
};

}  // namespace bench
