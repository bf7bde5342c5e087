// The library alone, for a comparison with programs in other processes: bench/baselines/pytorch.py.
#pragma once

#include <string>   // string
#include <utility>  // as_const

#include "harness/plan.hpp"
#include "harness/problem.hpp"
#include "harness/race.hpp"

namespace bench {

inline void measure_alone(Report& report, bool backward, const NamedScheme& scheme, const Shape& s,
                          const Pace& pace) {
  Problem p(scheme.make(), s);
  Activations<float>& a = p.first();
  const auto f = std::as_const(p.adapter).factors(0);
  const auto g = p.gradients.factors(0);
  const auto call = [&] {
    tiedlora::forward(f, a.x, a.y, a.h);
    if (backward) tiedlora::backward(f, a.x, a.h, a.dy, g, a.dx);
  };
  report.time("ours", race({runner("ours", call)}, pace)[0]);
}

/// forward, and "both", which is forward and then backward.
inline void add_alone(Plan& plan) {
  for (const NamedScheme& scheme : {lora, vera, tl6})
    for (const Index d : {576, 1024, 4096})
      for (const Index r : {8, 64})
        for (const Index T : {1, 64, 512})
          for (const bool backward : {false, true}) {
            const Shape s = {d, d, r, T};
            plan.add(
                "alone/" + std::string(backward ? "both/" : "forward/") + scheme.name + "/" + to_string(s),
                [=](Report& report, const Pace& pace) { measure_alone(report, backward, scheme, s, pace); });
          }
}

}  // namespace bench
