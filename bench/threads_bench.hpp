// One module in two threads, by slices of each half, against one thread.
#pragma once

#include <cstddef>  // byte
#include <string>   // string
#include <utility>  // as_const
#include <vector>   // vector

#include "plan.hpp"
#include "problem.hpp"
#include "race.hpp"
#include "two_threads.hpp"

namespace bench {

inline void measure_threads(Report& report, bool backward, const Shape& s, const Pace& pace) {
  Problem p(tl6.make(), s);
  Activations<float>& a = p.first();
  const auto f = std::as_const(p.adapter).factors(0);
  const auto g = p.gradients.factors(0);
  Matrix<float> dh(s.rank, s.tokens);
  std::vector<std::byte> scratch(tiedlora::scratch_bytes(f, s.tokens));
  TwoThreads threads;
  if (backward)
    threads.set_task([&](int ith) {
      tiedlora::expand_backward(f, a.h, a.dy, g, dh, {.slice = {ith, 2}, .scratch = scratch});
      threads.barrier();
      tiedlora::finish_expand_backward(f, a.dy, g, {.slice = {ith, 2}, .scratch = scratch});
      tiedlora::shrink_backward(f, a.x, dh, g, a.dx, {.slice = {ith, 2}});
    });
  else
    threads.set_task([&](int ith) {
      tiedlora::shrink(f, a.x, a.h, {.slice = {ith, 2}});
      threads.barrier();
      tiedlora::expand(f, a.h, a.y, {.slice = {ith, 2}});
    });
  const auto one = [&] {
    if (backward) {
      tiedlora::expand_backward(f, a.h, a.dy, g, dh);
      tiedlora::shrink_backward(f, a.x, dh, g, a.dx);
    } else {
      tiedlora::shrink(f, a.x, a.h);
      tiedlora::expand(f, a.h, a.y);
    }
  };

  // The library promises the same bits for any number of threads.
  const auto outcome = [&](const auto& run) {
    a.y.setZero();
    a.dx.setZero();
    p.gradients.set_zero();
    run();
    const Eigen::Map<const Eigen::VectorXf> gradients(p.gradients.values().data(),
                                                      p.layout.trainable_count());
    return std::vector<Eigen::MatrixXf>{a.y, a.dx, gradients};
  };
  if (outcome(one) != outcome([&] { threads.run(); }))
    Report::refuse("two threads and one give different bits");

  const std::vector<Times> times =
      race({waiting_contender("one", one), waiting_contender("two", [&] { threads.run(); })}, pace);
  report.time("one", times[0]);
  report.time("two", times[1]);
  report.ratio("faster", times[0] / times[1]);
}

inline void add_threads(Plan& plan) {
  for (const Index d : {576, 1024, 4096})
    for (const Index r : {8, 16, 64})
      for (const Index T : {1, 64, 512})
        for (const bool backward : {false, true}) {
          if (plan.extent == Extent::quick && (d != 4096 || r != 16 || T == 512)) continue;
          const Shape s = {d, d, r, T};
          plan.add("threads/" + std::string(backward ? "backward/" : "forward/") + to_string(s),
                   [=](Report& report, const Pace& pace) { measure_threads(report, backward, s, pace); });
        }
}

}  // namespace bench
