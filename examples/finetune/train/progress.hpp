// What a user sees of a run in progress.
#pragma once

#include <unistd.h>  // isatty

#include <algorithm>  // clamp, max
#include <cstdint>    // int64_t
#include <cstdio>     // stderr
#include <string>     // string
#include <utility>    // move

#include <fmt/format.h>

#include "resident.hpp"  // resident_bytes
#include "trainer.hpp"   // LossUnit, seconds_now

namespace finetune {

/// "1:05" or "0:07".
inline std::string clock_text(double seconds) {
  const auto whole = static_cast<std::int64_t>(std::max(0.0, seconds) + 0.5);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

/// One line on stderr: a bar that redraws itself on a terminal, else a plain line every five seconds.
class Progress {
 public:
  /// `begin`: steps that were done before, in another process.
  Progress(std::string title, std::int64_t steps, std::int64_t begin, LossUnit unit)
      : title_(std::move(title)), steps_(steps), begin_(begin), unit_(unit), terminal_(isatty(2) != 0) {
    last_ = terminal_ ? 0 : start_;
  }
  ~Progress() {
    if (terminal_) fmt::print(stderr, "\r\033[K");
  }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// After a step of `tokens` tokens. `loss` in nats.
  void update(std::int64_t done, double loss, Index tokens) {
    tokens_ += tokens;
    const double now = seconds_now();
    if (now - last_ < (terminal_ ? 0.1 : 5.0)) return;
    last_ = now;
    const double spent = now - start_;
    const double left = spent / double(done - begin_) * double(steps_ - done);
    const std::string numbers = fmt::format("step {}/{}  loss {:.3f} {}  {:.0f} tokens/s  {}  {} left", done,
                                            steps_, loss / unit_.nats, unit_.name, double(tokens_) / spent,
                                            size_text(double(resident_bytes())), clock_text(left));
    if (terminal_) {
      constexpr std::int64_t width = 24;
      const auto full = static_cast<std::size_t>(std::clamp<std::int64_t>(done * width / steps_, 0, width));
      fmt::print(stderr, "\r\033[K{:<9} [{}{}] {}", title_, std::string(full, '#'),
                 std::string(width - full, '.'), numbers);
    } else {
      fmt::print(stderr, "  {:<9} {}\n", title_, numbers);
    }
    std::fflush(stderr);
  }

 private:
  std::string title_;
  std::int64_t steps_, begin_;
  LossUnit unit_;
  Index tokens_ = 0;
  bool terminal_;
  double start_ = seconds_now();
  double last_ = 0;
};

}  // namespace finetune
