// Times several runners against each other in rounds: in each round every runner runs for a few milliseconds.
// A disturbance that outlasts a round hits all of them alike, and ratios are taken within a round. Google
// Benchmark's repetitions, interleaved or not, keep no such pairs; hence the loop here, and each race is one
// benchmark of one iteration.
#pragma once

#include <benchmark/benchmark.h>  // ClobberMemory
#include <time.h>                 // clock_gettime

#include <algorithm>   // sort, max
#include <chrono>      // steady_clock
#include <functional>  // function
#include <string>      // string
#include <utility>     // move
#include <vector>      // vector

namespace bench {

/// How long a race takes.
struct Pace {
  int rounds = 7;
  double seconds_per_turn = 3e-3;
};

using Clock = std::chrono::steady_clock;
inline double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// The library or a baseline, as it takes its turns.
struct Runner {
  std::string name;
  std::function<double(long)> seconds;  ///< of that many calls
};

/// CPU time of this thread: unlike wall-clock time it stops while another program has the core.
inline double thread_seconds() {
  timespec t = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

/// A runner that repeats `call`, a function without arguments, in this thread alone.
template <class Call>
Runner runner(std::string name, Call call) {
  return {std::move(name), [call](long calls) mutable {
            const double start = thread_seconds();
            for (long i = 0; i < calls; ++i) {
              call();
              benchmark::ClobberMemory();
            }
            return thread_seconds() - start;
          }};
}

/// The same in wall-clock time, for calls that wait for other threads.
template <class Call>
Runner waiting_runner(std::string name, Call call) {
  return {std::move(name), [call](long calls) mutable {
            const Clock::time_point start = Clock::now();
            for (long i = 0; i < calls; ++i) call();
            return seconds_since(start);
          }};
}

struct Quartiles {
  double q1 = 0, median = 0, q3 = 0;
};
inline Quartiles quartiles(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto at = [&](double part) {
    const double place = part * static_cast<double>(values.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    const std::size_t above = std::min(below + 1, values.size() - 1);
    return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
  };
  return {at(0.25), at(0.5), at(0.75)};
}

/// Seconds of one call in each round.
using Times = std::vector<double>;

/// a / b within each round.
inline Times operator/(const Times& a, const Times& b) {
  Times ratio(a.size());
  std::transform(a.begin(), a.end(), b.begin(), ratio.begin(), [](double x, double y) { return x / y; });
  return ratio;
}

/// Calls that fill one turn. The first call is not timed: it touches its memory for the first time.
inline long calls_per_turn(const Runner& c, const Pace& pace) {
  c.seconds(1);
  for (long calls = 1;; calls *= 4) {
    const double seconds = c.seconds(calls);
    if (seconds > pace.seconds_per_turn / 8)
      return std::max(1L, static_cast<long>(static_cast<double>(calls) * pace.seconds_per_turn / seconds));
  }
}

/// One row per runner. Before each turn, an untimed call brings the runner's data into the caches.
inline std::vector<Times> race(const std::vector<Runner>& runners, const Pace& pace) {
  std::vector<long> calls;
  for (const Runner& c : runners) calls.push_back(calls_per_turn(c, pace));
  std::vector<Times> times(runners.size());
  for (int round = 0; round < pace.rounds; ++round)
    for (std::size_t i = 0; i < runners.size(); ++i) {
      runners[i].seconds(1);
      times[i].push_back(runners[i].seconds(calls[i]) / static_cast<double>(calls[i]));
    }
  return times;
}

}  // namespace bench
