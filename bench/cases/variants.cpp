// The library against itself: 16-bit types against float, odd widths against round ones, dispatched kernels
// against those of this build. A file of its own because the kernels for all types take the compiler long.
#include "cases/variants.hpp"

#include <Eigen/Core>  // bfloat16, half

#include <iterator>  // size
#include <string>    // string
#include <utility>   // as_const

#include "baselines/limits.hpp"
#include "baselines/traffic.hpp"
#include "cases/dispatch.hpp"
#include "harness/plan.hpp"
#include "harness/problem.hpp"
#include "harness/race.hpp"
#include "harness/report.hpp"

namespace bench {
namespace {

/// forward or backward of one module, parameters in P with activations in X.
template <class P, class X = P>
class Variant {
 public:
  explicit Variant(const Shape& s)
      : adapter_(make_adapter(make_layout(tl6.make(), 1, s)).template cast<P>()),
        gradients_(adapter_.layout()),
        a_(s) {}

  Runner runner(const std::string& name, bool backward) {
    const auto f = std::as_const(adapter_).factors(0);
    const auto g = gradients_.factors(0);
    if (backward)
      return bench::runner(name, [this, f, g] { tiedlora::backward(f, a_.x, a_.h, a_.dy, g, a_.dx); });
    return bench::runner(name, [this, f] { tiedlora::forward(f, a_.x, a_.y, a_.h); });
  }

 private:
  tiedlora::Adapter<P> adapter_;
  tiedlora::Gradients<float> gradients_;
  Activations<X> a_;
};

/// float against bfloat16 and half for all operands, and against bfloat16 activations with float parameters.
/// `memory_bound`: whether moving float's data takes longer than its arithmetic.
void measure_types(Report& report, bool backward, const Shape& s, const Pace& pace) {
  using Eigen::bfloat16, Eigen::half;
  Variant<float> whole(s);
  Variant<bfloat16> brain(s);
  Variant<half> halved(s);
  Variant<float, bfloat16> mixed(s);
  Variant<float, half> mixed_half(s);
  Problem problem(tl6.make(), s);
  Traffic traffic(problem);
  constexpr std::size_t fma_calls = 1000;
  const std::vector<Times> times = race(
      {whole.runner("float", backward), brain.runner("bfloat16", backward), halved.runner("half", backward),
       mixed.runner("float_bfloat16", backward), mixed_half.runner("float_half", backward),
       runner("traffic",
              [&] { backward ? traffic.backward(problem.first()) : traffic.forward(problem.first()); }),
       runner("fma", [] { multiply_add_loop(fma_calls); })},
      pace);
  const char* names[] = {"float", "bfloat16", "half", "float_bfloat16", "float_half"};
  for (std::size_t i = 0; i < std::size(names); ++i) report.time(names[i], times[i]);
  for (std::size_t i = 1; i < std::size(names); ++i) report.ratio(names[i], times[0] / times[i]);
  const double flops = backward ? problem.backward_flops() : problem.forward_flops();
  const double arithmetic = flops * quartiles(times[6]).median / multiply_add_flops(fma_calls);
  report.number("memory_bound", quartiles(times[5]).median > arithmetic ? 1 : 0);
}

/// A width that is not a multiple of the vector against the next one that is.
void measure_widths(Report& report, bool backward, Index odd, Index round, Index rank, Index tokens,
                    const Pace& pace) {
  Variant<float> a({odd, odd, rank, tokens}), b({round, round, rank, tokens});
  const std::vector<Times> times = race({a.runner("odd", backward), b.runner("round", backward)}, pace);
  report.time("odd", times[0]);
  report.time("round", times[1]);
  report.ratio("slower", times[0] / times[1]);
}

}  // namespace

void add_variants(Plan& plan) {
  const bool quick = plan.extent == Extent::quick;
  const auto direction = [](bool backward) { return std::string(backward ? "backward/" : "forward/"); };
  for (const Index d : {576, 1024, 4096})
    for (const Index r : {1, 8, 64})
      for (const Index T : {1, 8, 64, 512})
        for (const bool backward : {false, true}) {
          if ((r == 64 && T > 1) || (quick && (r != 8 || T > 64 || T == 8))) continue;
          const Shape s = {d, d, r, T};
          plan.add("types/" + direction(backward) + to_string(s),
                   [=](Report& report, const Pace& pace) { measure_types(report, backward, s, pace); });
        }
  for (const Index odd : {577, 1023})
    for (const Index r : {1, 8, 64})
      for (const Index T : {1, 8, 64, 512})
        for (const bool backward : {false, true}) {
          if (quick && (r != 8 || T != 64)) continue;
          const Index round = (odd + 15) / 16 * 16;
          plan.add("widths/" + direction(backward) + std::to_string(odd) + "/" + std::to_string(round) +
                       "/r:" + std::to_string(r) + "/T:" + std::to_string(T),
                   [=](Report& report, const Pace& pace) {
                     measure_widths(report, backward, odd, round, r, T, pace);
                   });
        }
  add_dispatch(plan);
}

}  // namespace bench
