// How far long work is, and how long it will take.
#pragma once

#include <chrono>   // steady_clock
#include <cstdint>  // uint64_t
#include <ostream>  // ostream

#include <fmt/format.h>

namespace adapter_tool {

/// A line every two seconds, the first after two: short work stays silent.
class Progress {
 public:
  Progress(std::ostream& err, std::uint64_t total) : err_(err), total_(total) {}

  void add(std::uint64_t bytes) {
    done_ += bytes;
    const Clock::time_point now = Clock::now();
    if (now - last_ < std::chrono::seconds(2)) return;
    last_ = now;
    const double spent = std::chrono::duration<double>(now - start_).count();
    const double part = static_cast<double>(done_) / static_cast<double>(total_);
    err_ << fmt::format("{:3.0f} % of {:.1f} MB, {:.0f} s left\n", 100 * part,
                        static_cast<double>(total_) / 1e6, spent / part - spent)
         << std::flush;
  }

 private:
  using Clock = std::chrono::steady_clock;
  std::ostream& err_;
  std::uint64_t total_, done_ = 0;
  Clock::time_point start_ = Clock::now(), last_ = start_;
};

}  // namespace adapter_tool
