// What a user sees while a run goes on, and how Ctrl-C ends it.
#pragma once

#include <unistd.h>  // isatty

#include <algorithm>  // clamp
#include <chrono>     // steady_clock
#include <csignal>    // signal
#include <cstdint>    // int64_t
#include <cstdio>     // stderr
#include <string>     // string

#include <fmt/format.h>

namespace finetune {

inline double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// While one exists, the first Ctrl-C only raises a flag, so that the step in progress ends and its result is
/// kept; a second one ends the program at once.
class Interrupt {
 public:
  Interrupt() { previous_ = std::signal(SIGINT, on_signal); }
  ~Interrupt() { std::signal(SIGINT, previous_); }
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  static bool requested() { return flag_ != 0; }

 private:
  static void on_signal(int) {
    flag_ = 1;
    std::signal(SIGINT, SIG_DFL);
  }
  static inline volatile std::sig_atomic_t flag_ = 0;
  void (*previous_)(int) = SIG_DFL;
};

/// "1:05" or "0:07".
inline std::string clock_text(double seconds) {
  const auto whole = static_cast<std::int64_t>(std::max(0.0, seconds) + 0.5);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

/// One line on stderr: a bar that redraws itself on a terminal, else a plain line every five seconds.
class Progress {
 public:
  /// `begin`: steps that were done before, in another process.
  Progress(std::string title, std::int64_t steps, std::int64_t tokens_per_step, std::int64_t begin)
      : title_(std::move(title)),
        steps_(steps),
        tokens_(tokens_per_step),
        begin_(begin),
        terminal_(isatty(2) != 0) {
    last_ = terminal_ ? 0 : start_;
  }
  ~Progress() {
    if (terminal_) fmt::print(stderr, "\r\033[K");
  }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `loss` in bits per byte.
  void update(std::int64_t done, double loss) {
    const double now = seconds_now();
    if (now - last_ < (terminal_ ? 0.1 : 5.0)) return;
    last_ = now;
    const double spent = now - start_;
    const double left = spent / double(done - begin_) * double(steps_ - done);
    const std::string numbers =
        fmt::format("step {}/{}  loss {:.3f} bits/byte  {:.0f} tokens/s  {} left", done, steps_, loss,
                    double((done - begin_) * tokens_) / spent, clock_text(left));
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
  std::int64_t steps_, tokens_, begin_;
  bool terminal_;
  double start_ = seconds_now();
  double last_ = 0;
};

}  // namespace finetune
