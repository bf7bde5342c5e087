// tiedlora::dispatch, which ships several instruction sets in one binary, against the kernels of this build.
#pragma once

#include <Eigen/Core>  // bfloat16

#include <string>                 // string
#include <tiedlora/dispatch.hpp>  // DispatchBackend
#include <utility>                // as_const

#include "harness/plan.hpp"
#include "harness/problem.hpp"
#include "harness/race.hpp"

namespace bench {

/// One module, by the kernels of this build and by those that dispatch chooses on this processor.
template <class P>
void measure_dispatch(Report& report, bool backward, const Shape& s, const Pace& pace) {
  const tiedlora::Adapter<P> adapter = make_adapter(make_layout(tl6.make(), 1, s)).template cast<P>();
  tiedlora::Gradients<float> gradients(adapter.layout());
  Activations<P> a(s);
  const auto f = adapter.factors(0);
  const auto g = gradients.factors(0);
  const auto by = [&](const std::string& name, auto backend) {
    return backward ? runner(name, [=, &a] { tiedlora::backward(backend, f, a.x, a.h, a.dy, g, a.dx); })
                    : runner(name, [=, &a] { tiedlora::forward(backend, f, a.x, a.y, a.h); });
  };
  const auto times =
      race({by("build", tiedlora::CpuBackend()), by("dispatch", tiedlora::DispatchBackend())}, pace);
  report.time("build", times[0]);
  report.time("dispatch", times[1]);
  report.ratio("dispatch_of_build", times[1] / times[0]);
}

inline void add_dispatch(Plan& plan) {
  const bool quick = plan.extent == Extent::quick;
  for (const Index d : {576, 4096})
    for (const Index T : {1, 8, 64, 512})
      for (const bool backward : {false, true}) {
        if (quick && (d != 4096 || T > 8)) continue;
        const Shape s = {d, d, 16, T};
        const std::string name = std::string(backward ? "backward/" : "forward/") + to_string(s);
        plan.add("dispatch/float/" + name, [=](Report& report, const Pace& pace) {
          measure_dispatch<float>(report, backward, s, pace);
        });
        plan.add("dispatch/bfloat16/" + name, [=](Report& report, const Pace& pace) {
          measure_dispatch<Eigen::bfloat16>(report, backward, s, pace);
        });
      }
}

}  // namespace bench
