// The grid: forward and backward of one module, the library against its baselines and the machine's limits.
#pragma once

#include <algorithm>  // max
#include <cmath>      // sqrt
#include <limits>     // numeric_limits
#include <string>     // string
#include <vector>     // vector

#include "baselines/limits.hpp"
#include "baselines/linear_algebra.hpp"
#include "baselines/traffic.hpp"
#include "harness/plan.hpp"
#include "harness/problem.hpp"
#include "harness/race.hpp"
#include "harness/report.hpp"

namespace bench {

class Ours {
 public:
  explicit Ours(Problem& problem)
      : f_(problem.adapter.factors(0)),
        g_(problem.gradients.factors(0)),
        scratch_(tiedlora::scratch_bytes(f_, problem.shape.tokens)) {}

  void forward(Activations<float>& a) { tiedlora::forward(f_, a.x, a.y, a.h); }
  void backward(Activations<float>& a) {
    tiedlora::backward(f_, a.x, a.h, a.dy, g_, a.dx, {.scratch = scratch_});
  }

 private:
  tiedlora::Factors<const float> f_;
  tiedlora::Factors<float> g_;
  std::vector<std::byte> scratch_;
};

/// What one call adds to zeroed outputs.
using Outcome = std::vector<Eigen::MatrixXf>;

template <class Contestant>
Outcome outcome(Problem& p, Contestant& contestant, bool backward) {
  Activations<float>& a = p.first();
  if (!backward) {
    a.y.setZero();
    contestant.forward(a);
    return {a.y};
  }
  a.dx.setZero();
  p.gradients.set_zero();
  contestant.backward(a);
  auto& g = p.gradients;
  return {a.dx, g.A(0), g.B(0), g.u(0), g.v(0)};
}

/// Whether two runners compute the same. A result is a sum of n products of three to five values in [-1, 1);
/// their magnitudes are 1/8 on average or less, so that those of one sum add up to n/8 and hardly ever to √n
/// more. Rounding errors of a sum of n terms without order grow as √n ε (Higham and Mary 2019); a factor of 4
/// is for the sums nested in each other.
inline bool agree(const Outcome& a, const Outcome& b, const Shape& s, bool backward) {
  const std::vector<Index> terms = backward ? std::vector<Index>{s.rank * s.out, s.tokens * s.out, s.tokens,
                                                                 s.tokens * s.out, s.tokens * s.rank}
                                            : std::vector<Index>{s.rank * s.in};
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i].size() == 0) continue;
    const auto n = static_cast<float>(terms[i]), root = std::sqrt(n);
    const float tolerance = 4 * root * std::numeric_limits<float>::epsilon() * (n / 8 + root);
    if (!((a[i] - b[i]).cwiseAbs().maxCoeff() <= tolerance)) return false;
  }
  return true;
}

/// Bytes of activations that a call goes through: x, h and y, or x, h, dy and dx.
inline Index bytes_of_activations(const Shape& s, bool backward) {
  const Index features = s.in + s.rank + s.out + (backward ? s.in : 0);
  return static_cast<Index>(sizeof(float)) * s.tokens * features;
}

struct Configuration {
  std::string group;  ///< "grid" or "cold"
  bool backward;
  NamedScheme scheme;
  Shape shape;
  int copies = 1;

  std::string name() const {
    return group + (backward ? "/backward/" : "/forward/") + scheme.name + "/" + to_string(shape);
  }
};

/// Races ours, naive, eigen and openblas and, in the same rounds, the two limits that make the roofline.
inline void measure_configuration(Report& report, const Configuration& configuration, const Pace& pace) {
  Problem p(configuration.scheme.make(), configuration.shape, configuration.copies);
  Ours ours(p);
  Naive naive(p);
  Careful<EigenProducts> eigen(p);
  Careful<OpenBlasProducts> openblas(p);
  Traffic traffic(p);

  const Outcome expected = outcome(p, naive, configuration.backward);
  std::vector<Runner> runners;
  const auto enter = [&](const char* name, auto& contestant) {
    if (!agree(expected, outcome(p, contestant, configuration.backward), configuration.shape,
               configuration.backward))
      report.refuse(std::string(name) + " and naive disagree");
    runners.push_back(configuration.backward ? runner(name, [&] { contestant.backward(p.next()); })
                                             : runner(name, [&] { contestant.forward(p.next()); }));
  };
  enter("ours", ours);
  enter("naive", naive);
  enter("eigen", eigen);
  enter("openblas", openblas);
  runners.push_back(configuration.backward ? runner("traffic", [&] { traffic.backward(p.next()); })
                                           : runner("traffic", [&] { traffic.forward(p.next()); }));
  constexpr std::size_t fma_calls = 1000;
  runners.push_back(runner("fma", [] { multiply_add_loop(fma_calls); }));

  const std::vector<Times> times = race(runners, pace);
  const double flops = configuration.backward ? p.backward_flops() : p.forward_flops();
  Times roofline = times[4];
  for (std::size_t k = 0; k < roofline.size(); ++k)
    roofline[k] = std::max(roofline[k], flops * times[5][k] / multiply_add_flops(fma_calls));
  for (std::size_t i = 0; i < 5; ++i) report.time(runners[i].name, times[i]);
  report.time("roofline", roofline);
  report.ratio("share", roofline / times[0]);
  report.ratio("vs_naive", times[1] / times[0]);
  const bool eigen_is_best = quartiles(times[2]).median <= quartiles(times[3]).median;
  report.ratio("vs_peer", times[eigen_is_best ? 2 : 3] / times[0]);
  report.number("flops", flops);
  report.number("bytes", traffic.bytes(configuration.backward));
}

/// The core grid, and what --full adds to it: more shapes, other schemes, cold data.
inline void add_grid(Plan& plan) {
  using List = std::vector<Index>;
  const auto add = [&](const std::string& group, const NamedScheme& scheme, Index in, Index out,
                       const List& ranks, const List& tokens) {
    for (const Index r : ranks)
      for (const Index T : tokens)
        for (const bool backward : {false, true}) {
          Configuration configuration = {group, backward, scheme, {in, out, r, T}};
          // No cache holds 160 MB of what the calls go through.
          if (group == "cold")
            configuration.copies =
                static_cast<int>(1 + 160'000'000 / bytes_of_activations(configuration.shape, backward));
          plan.add(configuration.name(), [configuration](Report& report, const Pace& pace) {
            measure_configuration(report, configuration, pace);
          });
        }
  };
  if (plan.extent == Extent::quick) {
    for (const Index d : {576, 1024, 4096}) add("grid", tl6, d, d, {8, 64}, {1, 64, 512});
    return;
  }
  const List ranks = {1, 4, 8, 16, 64, 256}, tokens = {1, 8, 64, 512};
  for (const Index d : {576, 577, 1024, 4096}) add("grid", tl6, d, d, ranks, tokens);
  add("grid", tl6, 4096, 11008, ranks, tokens);
  if (plan.extent == Extent::core) return;
  const List more_ranks = {2, 32, 128}, more_tokens = {2, 2048};
  for (const Index d : {576, 1024, 4096}) {
    add("grid", tl6, d, d, more_ranks, tokens);
    add("grid", tl6, d, d, ranks, more_tokens);
    for (const NamedScheme& scheme : {lora, vera, tl5}) add("grid", scheme, d, d, {8, 64}, tokens);
    add("cold", tl6, d, d, {8, 64}, tokens);
  }
  add("grid", tl6, 4096, 12288, ranks, tokens);
  add("grid", tl6, 576, 192, ranks, tokens);
  add("grid", tl6, 1023, 1023, ranks, tokens);
}

}  // namespace bench
