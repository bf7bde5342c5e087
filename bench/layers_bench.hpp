// Decoding: one token (or a few) through the adapters of many layers. Tied factors are one copy, so they may
// stay in the cache from layer to layer; those of LoRA are new in every layer.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>   // nth_element
#include <array>       // array
#include <chrono>      // steady_clock
#include <cstddef>     // size_t
#include <functional>  // function
#include <string>      // string
#include <vector>      // vector

#include "module_bench.hpp"
#include "problem.hpp"

namespace bench {

inline constexpr Index layer_count = 32;
inline constexpr Index largest_d = 4096;

/// Memory of a d×d weight matrix of 4 bits each, as so many floats.
constexpr Index weight_floats(Index d) { return d * d / 2 / static_cast<Index>(sizeof(float)); }

struct Layers {
  Layers(const tiedlora::Layout& layout, const Shape& shape) : adapter(make_adapter(layout)), a(shape) {
    for (Index m = 0; m < layout.size(); ++m) factors.push_back(adapter.factors(m));
  }
  tiedlora::Adapter<float> adapter;
  std::vector<tiedlora::Factors<const float>> factors;
  Activations a;  ///< the same in all layers: in a decoder too they are small and stay in the cache
};

/// The adapters alone, one after the other.
inline void layers_alone(benchmark::State& state, const tiedlora::Layout& layout, const Shape& shape) {
  Layers layers(layout, shape);
  measure(state, layout, layer_count * forward_flops(shape), [&] {
    for (const auto& factors : layers.factors) tiedlora::forward(factors, layers.a.x, layers.a.y, layers.a.h);
  });
}

/// The adapters as they run in a decoder: before each, the weights of its module are read, 4 bits each, and
/// displace what the cache held. Only the adapters' time counts: for each layer the median over some tokens,
/// so that an interruption by another program does not.
inline void layers_beside_weights(benchmark::State& state, const tiedlora::Layout& layout,
                                  const Shape& shape) {
  constexpr std::size_t token_count = 11;
  Layers layers(layout, shape);
  // Kept from one measurement to the next: filling it takes long.
  static std::vector<float> weights(static_cast<std::size_t>(layer_count * weight_floats(largest_d)), 1.0f);
  const Index floats = weight_floats(shape.d);
  measure(state, layout, layer_count * forward_flops(shape), [&] {
    using Clock = std::chrono::steady_clock;
    std::vector<std::array<double, token_count>> times(layers.factors.size());
    for (std::size_t token = 0; token < token_count; ++token)
      for (std::size_t l = 0; l < layers.factors.size(); ++l) {
        const float* layer_weights = weights.data() + static_cast<Index>(l) * floats;
        float sum = Eigen::Map<const Eigen::VectorXf>(layer_weights, floats).sum();
        benchmark::DoNotOptimize(sum);
        const Clock::time_point start = Clock::now();
        tiedlora::forward(layers.factors[l], layers.a.x, layers.a.y, layers.a.h);
        benchmark::ClobberMemory();
        times[l][token] = std::chrono::duration<double>(Clock::now() - start).count();
      }
    double seconds = 0;
    for (auto& of_layer : times) {
      const auto median = of_layer.begin() + token_count / 2;
      std::nth_element(of_layer.begin(), median, of_layer.end());
      seconds += *median;
    }
    state.SetIterationTime(seconds);
  });
}

/// Registers layers/r/d/T/scheme (the adapters alone) and decode/r/d/T/scheme (between base weights), and
/// hands each name to `add_name`.
inline void register_layers(const std::function<void(const std::string&)>& add_name) {
  for (const Index rank : {1, 4, 8, 16, 64})
    for (const Index d : {Index(576), Index(1024), largest_d})
      for (const Index tokens : {1, 8})
        for (const NamedScheme& scheme : schemes) {
          const Shape shape = {rank, d, tokens};
          const auto layout = [=] { return make_layout(scheme.make(), layer_count, shape); };
          const std::string cell = to_string(shape) + "/" + scheme.name;
          add_name("layers/" + cell);
          benchmark::RegisterBenchmark(("layers/" + cell).c_str(), [=](benchmark::State& state) {
            layers_alone(state, layout(), shape);
          });
          add_name("decode/" + cell);
          benchmark::RegisterBenchmark(
              ("decode/" + cell).c_str(),
              [=](benchmark::State& state) { layers_beside_weights(state, layout(), shape); })
              ->UseManualTime()
              ->Iterations(1);  // one is many tokens already
        }
}

}  // namespace bench
