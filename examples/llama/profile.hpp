// Where the time of a step goes: a stopwatch in every thread, there only where LLAMA_PROFILE is
// defined.
#pragma once

#include <array>        // array
#include <chrono>       // steady_clock
#include <cstddef>      // size_t
#include <string_view>  // string_view
#include <utility>      // exchange

namespace llama {

/// What a thread is at.
enum class Part {
  other,
  base_forward,
  base_backward,
  weight_gradients,
  attention_forward,
  attention_backward,
  norms_and_activations,
  loss,
  adapter_forward,
  adapter_backward,
  optimizer,
  waiting
};
inline constexpr std::array<std::string_view, 12> part_names = {"other",
                                                                "products with the base weights, forward",
                                                                "products with the base weights, backward",
                                                                "gradients of the base weights",
                                                                "attention, forward",
                                                                "attention, backward",
                                                                "norms, SwiGLU, rotary embedding",
                                                                "output embedding and loss",
                                                                "adapters, forward",
                                                                "adapters, backward",
                                                                "optimiser",
                                                                "waiting for other threads"};

#ifdef LLAMA_PROFILE

/// This thread's seconds by Part.
class Stopwatch {
 public:
  using Seconds = std::array<double, part_names.size()>;

  static Stopwatch& mine() {
    thread_local Stopwatch stopwatch;
    return stopwatch;
  }
  /// From now on the time counts as that of `part`; returns what it counted as before.
  Part enter(Part part) {
    const auto now = std::chrono::steady_clock::now();
    seconds_[static_cast<std::size_t>(part_)] += std::chrono::duration<double>(now - since_).count();
    since_ = now;
    return std::exchange(part_, part);
  }
  /// Those since the last call.
  Seconds take() {
    enter(part_);
    return std::exchange(seconds_, {});
  }

 private:
  std::chrono::steady_clock::time_point since_ = std::chrono::steady_clock::now();
  Part part_ = Part::other;
  Seconds seconds_ = {};
};

/// Until the end of its scope, except for scopes within that are timed themselves.
class Timed {
 public:
  explicit Timed(Part part) : before_(Stopwatch::mine().enter(part)) {}
  ~Timed() { Stopwatch::mine().enter(before_); }
  Timed(const Timed&) = delete;
  Timed& operator=(const Timed&) = delete;

 private:
  Part before_;
};

#else

struct Timed {
  explicit Timed(Part /*part*/) {}
  ~Timed() {}  // not trivial, so that no compiler finds the object unused
};

#endif

}  // namespace llama
