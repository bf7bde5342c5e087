// The four stages of forward and backward as shares of the multiply-add peak, and shrink and expand of one
// token whose factors come from memory, as in a decoder with plain LoRA.
#pragma once

#include <algorithm>  // max
#include <string>     // string
#include <utility>    // as_const
#include <vector>     // vector

#include "baselines/limits.hpp"
#include "harness/plan.hpp"
#include "harness/problem.hpp"
#include "harness/race.hpp"
#include "harness/report.hpp"

namespace bench {

/// Time per call, and the share of the peak at which the formula's products would take as long.
inline void measure_halves(Report& report, const Shape& s, const Pace& pace) {
  Problem p(tl6.make(), s);
  Activations<float>& a = p.first();
  const auto f = std::as_const(p.adapter).factors(0);
  const auto g = p.gradients.factors(0);
  Matrix<float> dh = filled<float>(s.rank, s.tokens, 8);
  constexpr std::size_t fma_calls = 1000;
  const std::vector<Times> times =
      race({runner("shrink", [&] { tiedlora::shrink(f, a.x, a.h); }),
            runner("expand", [&] { tiedlora::expand(f, a.h, a.y); }),
            runner("expand_backward", [&] { tiedlora::expand_backward(f, a.h, a.dy, g, dh); }),
            runner("shrink_backward", [&] { tiedlora::shrink_backward(f, a.x, dh, g, a.dx); }),
            runner("fma", [] { multiply_add_loop(fma_calls); })},
           pace);
  const char* names[] = {"shrink", "expand", "expand_backward", "shrink_backward"};
  const Index widths[] = {s.in, s.out, 2 * s.out, 2 * s.in};
  for (std::size_t i = 0; i < 4; ++i) {
    const double flops = 2.0 * static_cast<double>(s.rank * s.tokens * widths[i]);
    report.time(names[i], times[i]);
    Times peak = times[4];
    for (double& t : peak) t *= flops / multiply_add_flops(fma_calls);
    report.ratio(names[i], peak / times[i]);
  }
}

/// One token through more modules of plain LoRA than any cache holds, compared with a plain loop that reads
/// the same factors. Per module.
inline void measure_distant(Report& report, Index d, Index rank, const Pace& pace) {
  const Index modules = std::max<Index>(4, 160'000'000 / (8 * d * rank));
  const tiedlora::Adapter<float> adapter = make_adapter(make_layout(lora.make(), modules, {d, d, rank, 1}));
  Activations<float> a({d, d, rank, 1});
  const auto each = [&](const char* name, const auto& call) {
    return runner(name, [&adapter, modules, call, next = Index{0}]() mutable {
      call(adapter.factors(next));
      next = (next + 1) % modules;
    });
  };
  const auto numbers = [](const float* p, Index n) { return std::span(p, static_cast<std::size_t>(n)); };
  const std::vector<Runner> runners = {
      each("shrink", [&](const auto& f) { tiedlora::shrink(f, a.x, a.h); }),
      each("read_A", [&](const auto& f) { read(numbers(f.A, f.rank * f.a_stride)); }),
      each("expand", [&](const auto& f) { tiedlora::expand(f, a.h, a.y); }),
      each("read_B", [&](const auto& f) { read(numbers(f.B, f.rank * f.b_stride)); })};
  const std::vector<Times> times = race(runners, pace);
  for (std::size_t i = 0; i < times.size(); ++i) report.time(runners[i].name, times[i]);
  report.ratio("shrink", times[1] / times[0]);
  report.ratio("expand", times[3] / times[2]);
}

inline void add_halves(Plan& plan) {
  if (plan.extent == Extent::quick) return;
  for (const Index d : {576, 1024, 4096}) {
    for (const Index r : {4, 8, 16, 64}) {
      const Shape s = {d, d, r, 64};
      plan.add("halves/" + to_string(s),
               [=](Report& report, const Pace& pace) { measure_halves(report, s, pace); });
    }
    for (const Index r : {8, 16, 32, 64})
      plan.add("distant/" + to_string({d, d, r, 1}),
               [=](Report& report, const Pace& pace) { measure_distant(report, d, r, pace); });
  }
}

}  // namespace bench
