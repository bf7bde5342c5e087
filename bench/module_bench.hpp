// forward and backward of one module, the library's and an Eigen user's.
#pragma once

#include <benchmark/benchmark.h>

#include <functional>  // function
#include <string>      // string

#include "eigen_peer.hpp"
#include "problem.hpp"

namespace bench {

/// "r:8/d:4096/T:64"
inline std::string to_string(const Shape& shape) {
  return "r:" + std::to_string(shape.rank) + "/d:" + std::to_string(shape.d) +
         "/T:" + std::to_string(shape.tokens);
}

/// Calls `step` as often as the measurement asks for, and reports its floating-point operations and what the
/// adapter holds.
inline void measure(benchmark::State& state, const tiedlora::Layout& layout, double flops,
                    const std::function<void()>& step) {
  for ([[maybe_unused]] auto unused : state) {
    step();
    benchmark::ClobberMemory();
  }
  using benchmark::Counter;
  state.counters["FLOP"] = Counter(flops, Counter::kIsIterationInvariantRate);
  state.counters["trained"] = static_cast<double>(layout.trainable_count());
  state.counters["factor_bytes"] =
      Counter(static_cast<double>(layout.trainable_count() + layout.frozen_count()) * sizeof(float),
              Counter::kDefaults, Counter::kIs1024);
}

inline void forward_tiedlora(benchmark::State& state, const tiedlora::Layout& layout, const Shape& shape) {
  const tiedlora::Adapter<float> adapter = make_adapter(layout);
  Activations a(shape);
  measure(state, layout, forward_flops(shape), [&] { tiedlora::forward(adapter.factors(0), a.x, a.y, a.h); });
}

inline void forward_eigen(benchmark::State& state, const tiedlora::Layout& layout, const Shape& shape) {
  const EigenPeer peer(make_adapter(layout), 0);
  Activations a(shape);
  measure(state, layout, forward_flops(shape), [&] { peer.forward(a); });
}

inline void backward_tiedlora(benchmark::State& state, const tiedlora::Layout& layout, const Shape& shape) {
  const tiedlora::Adapter<float> adapter = make_adapter(layout);
  tiedlora::Gradients<float> gradients(layout);
  Activations a(shape);
  measure(state, layout, backward_flops(layout, shape),
          [&] { tiedlora::backward(adapter.factors(0), a.x, a.h, a.dy, gradients.factors(0), a.dx); });
}

inline void backward_eigen(benchmark::State& state, const tiedlora::Layout& layout, const Shape& shape) {
  EigenPeer peer(make_adapter(layout), 0);
  Activations a(shape);
  measure(state, layout, backward_flops(layout, shape), [&] { peer.backward(a); });
}

/// Registers all cells as direction/scheme/r/d/T/{tiedlora, eigen} and hands each name to `add_name`.
inline void register_modules(const std::function<void(const std::string&)>& add_name) {
  using Function = void (*)(benchmark::State&, const tiedlora::Layout&, const Shape&);
  const struct {
    const char *direction, *contender;
    Function function;
  } all[] = {{"forward", "tiedlora", forward_tiedlora},
             {"forward", "eigen", forward_eigen},
             {"backward", "tiedlora", backward_tiedlora},
             {"backward", "eigen", backward_eigen}};
  for (const NamedScheme& scheme : schemes)
    for (const Index rank : {1, 4, 8, 16, 64})
      for (const Index d : {576, 1024, 4096})
        for (const Index tokens : {1, 8, 64, 512})
          for (const auto& one : all) {
            const Shape shape = {rank, d, tokens};
            const std::string name =
                std::string(one.direction) + "/" + scheme.name + "/" + to_string(shape) + "/" + one.contender;
            add_name(name);
            benchmark::RegisterBenchmark(name.c_str(), [=, function = one.function](benchmark::State& state) {
              function(state, make_layout(scheme.make(), 1, shape), shape);
            });
          }
}

/// Whether both compute the same, on a small case of every scheme: a comparison with something else would be
/// worthless. Every number is below 1, so that no sum here exceeds r·d·T in magnitude nor has more terms than
/// that; a float sum of n terms errs by at most n ε times the sum of magnitudes, with n = d + r + T as the
/// longest chain of one result.
inline bool peers_agree() {
  const Shape shape = {3, 64, 5};
  const auto sum = static_cast<float>(shape.rank * shape.d * shape.tokens);
  const auto chain = static_cast<float>(shape.rank + shape.d + shape.tokens);
  const float tolerance = chain * Eigen::NumTraits<float>::epsilon() * sum;
  const auto agree = [&](const auto& a, const auto& b) {
    return a.size() == 0 || (a - b).cwiseAbs().maxCoeff() <= tolerance;
  };
  bool all = true;
  for (const NamedScheme& scheme : schemes) {
    const tiedlora::Layout layout = make_layout(scheme.make(), 1, shape);
    const tiedlora::Adapter<float> adapter = make_adapter(layout);
    tiedlora::Gradients<float> gradients(layout);
    Activations ours(shape), theirs(shape);
    EigenPeer peer(adapter, 0);
    tiedlora::forward(adapter.factors(0), ours.x, ours.y, ours.h);
    tiedlora::backward(adapter.factors(0), ours.x, ours.h, ours.dy, gradients.factors(0), ours.dx);
    peer.forward(theirs);
    theirs.h = ours.h;
    peer.backward(theirs);
    all = all && agree(ours.y, theirs.y) && agree(ours.dx, theirs.dx) && agree(gradients.A(0), peer.dA) &&
          agree(gradients.B(0), peer.dB) && agree(gradients.u(0), peer.du) && agree(gradients.v(0), peer.dv);
  }
  return all;
}

}  // namespace bench
