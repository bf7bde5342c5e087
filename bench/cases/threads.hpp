// One module in two threads against one: forward by slices of each stage, backward by blocks of tokens.
#pragma once

#include <string>   // string
#include <utility>  // as_const
#include <vector>   // vector

#include "harness/plan.hpp"
#include "harness/problem.hpp"
#include "harness/race.hpp"
#include "harness/two_threads.hpp"

namespace bench {

inline void measure_threads(Report& report, bool backward, const Shape& s, const Pace& pace) {
  Problem p(tl6.make(), s);
  Activations<float>& a = p.first();
  const auto f = std::as_const(p.adapter).factors(0);
  const auto g = p.gradients.factors(0);
  const tiedlora::BlockGradients<float> blocks(g, s.tokens);
  TwoThreads threads;
  if (backward)
    threads.set_task([&](int ith) {
      tiedlora::backward_in_blocks(
          [&](tiedlora::Index n, const auto& body) {
            for (tiedlora::Index i = ith; i < n; i += 2) body(i);
            threads.barrier();
          },
          f, a.x, a.h, a.dy, blocks, a.dx);
    });
  else
    threads.set_task([&](int ith) {
      tiedlora::shrink(f, a.x, a.h, {.slice = {ith, 2}});
      threads.barrier();
      tiedlora::expand(f, a.h, a.y, {.slice = {ith, 2}});
    });
  const auto one = [&] {
    if (backward)
      tiedlora::backward(f, a.x, a.h, a.dy, g, a.dx);
    else
      tiedlora::forward(f, a.x, a.y, a.h);
  };
  const auto blocks_in_turn = [&] {
    tiedlora::backward_in_blocks(
        [](tiedlora::Index n, const auto& body) {
          for (tiedlora::Index i = 0; i < n; ++i) body(i);
        },
        f, a.x, a.h, a.dy, blocks, a.dx);
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
  const auto expected = backward ? outcome(blocks_in_turn) : outcome(one);
  if (expected != outcome([&] { threads.run(); })) Report::refuse("two threads and one give different bits");

  const std::vector<Times> times =
      race({waiting_runner("one", one), waiting_runner("two", [&] { threads.run(); })}, pace);
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
