// Decoding: one token through the adapters of many layers. Tied A and B are one copy and stay in cache
// from layer to layer; untied ones are new in every layer. Kernels and calls are the same.
#pragma once

#include <benchmark/benchmark.h>  // DoNotOptimize, ClobberMemory

#include <string>   // string
#include <utility>  // as_const
#include <vector>   // vector

#include "baselines/limits.hpp"
#include "harness/plan.hpp"
#include "harness/problem.hpp"
#include "harness/race.hpp"

namespace bench {

class Layers {
 public:
  Layers(const tiedlora::Scheme& scheme, Index layers, const Shape& shape)
      : adapter_(make_adapter(make_layout(scheme, layers, shape))), a_(shape) {
    for (Index m = 0; m < layers; ++m) factors_.push_back(std::as_const(adapter_).factors(m));
  }

  void forward(std::size_t layer) { tiedlora::forward(factors_[layer], a_.x, a_.y, a_.h); }
  std::size_t size() const { return factors_.size(); }

  /// The adapters alone, one after the other.
  Runner alone(const std::string& name) {
    return runner(name, [this] {
      for (std::size_t layer = 0; layer < size(); ++layer) forward(layer);
    });
  }

  /// The adapters as they run in a decoder: before each, the base weights of its module are read, which
  /// displaces what the caches held. Only the adapters' time counts.
  Runner beside_weights(const std::string& name, std::span<const float> weights) {
    return {name, [this, weights](long calls) {
              const std::size_t of_layer = weights.size() / size();
              double seconds = 0;
              for (long i = 0; i < calls; ++i)
                for (std::size_t layer = 0; layer < size(); ++layer) {
                  read(weights.subspan(layer * of_layer, of_layer));
                  const Clock::time_point start = Clock::now();
                  forward(layer);
                  benchmark::ClobberMemory();
                  seconds += seconds_since(start);
                }
              return seconds;
            }};
  }

 private:
  tiedlora::Adapter<float> adapter_;
  std::vector<tiedlora::Factors<const float>> factors_;
  Activations<float> a_;  ///< the same in all layers: in a decoder too they are small and stay in cache
};

inline void report_layers(Report& report, const std::vector<Times>& times) {
  report.time("tied", times[0]);
  report.time("untied", times[1]);
  report.ratio("tied_faster", times[1] / times[0]);
}

inline void add_layers(Plan& plan) {
  constexpr Index d = 4096;
  const bool quick = plan.extent == Extent::quick;
  for (const Index r : {8, 16, 32})
    for (const Index layers : {1, 2, 4, 8, 16, 32, 64}) {
      if (quick && layers != 32) continue;
      const std::string name = "r:" + std::to_string(r) + "/layers:" + std::to_string(layers);
      const auto measure = [=](Report& report, Pace pace, bool decode) {
        // The same four factors, once with A and B of all layers in common and once with a layer's own.
        const tiedlora::Scheme tied = tl6.make(), untied = tiedlora::schemes::grouped(1, tied);
        Layers a(tied, layers, {d, d, r, 1}), b(untied, layers, {d, d, r, 1});
        if (!decode) return report_layers(report, race({a.alone("tied"), b.alone("untied")}, pace));
        // d×d weights of 4 bits each.
        const Index floats = layers * d * d / 2 / static_cast<Index>(sizeof(float));
        const Eigen::VectorXf memory = Eigen::VectorXf::Ones(floats);
        const std::span<const float> weights(memory.data(), static_cast<std::size_t>(floats));
        pace.seconds_per_turn /= 10;  // of adapters; the weights take some hundred times as long
        report_layers(report,
                      race({a.beside_weights("tied", weights), b.beside_weights("untied", weights)}, pace));
      };
      plan.add("layers/" + name, [=](Report& report, const Pace& pace) { measure(report, pace, false); });
      if (layers == 32)
        plan.add("decode/" + name, [=](Report& report, const Pace& pace) { measure(report, pace, true); });
    }
}

}  // namespace bench
