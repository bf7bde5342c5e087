// One adapted module, or one per layer, with factors, inputs and gradients filled with numbers.
#pragma once

#include <Eigen/Core>  // MatrixXf, VectorXf

#include <cstdint>  // uint32_t
#include <span>     // span
#include <string>   // string, to_string

#include <tiedlora/tiedlora.hpp>

namespace bench {

using tiedlora::Index;

struct NamedScheme {
  const char* name;
  tiedlora::Scheme (*make)();
};
inline constexpr NamedScheme schemes[] = {
    {"lora", tiedlora::schemes::lora},
    {"vera", [] { return tiedlora::schemes::vera(); }},
    {"tl5", tiedlora::schemes::tl5},
    {"tl6", tiedlora::schemes::tl6},
};

/// A cell of the grid that is measured. Modules are square, in = out = d.
struct Shape {
  Index rank, d, tokens;
};

inline tiedlora::Layout make_layout(const tiedlora::Scheme& scheme, Index layers, const Shape& shape) {
  tiedlora::ModuleList modules;
  for (Index layer = 0; layer < layers; ++layer)
    modules.add({.name = "layers." + std::to_string(layer) + ".q_proj",
                 .layer = static_cast<int>(layer),
                 .in_features = shape.d,
                 .out_features = shape.d});
  return tiedlora::Layout(modules, scheme, shape.rank);
}

/// Numbers in [-1, 1), the same in every run. None is so small that sums become denormal and slow.
inline void fill(std::span<float> values, std::uint32_t seed) {
  std::uint32_t state = seed * 2654435761u + 1u;
  for (float& value : values) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<float>(static_cast<std::int32_t>(state)) * 0x1p-31f;
  }
}

inline Eigen::MatrixXf filled(Index rows, Index columns, std::uint32_t seed) {
  Eigen::MatrixXf matrix(rows, columns);
  fill({matrix.data(), static_cast<std::size_t>(matrix.size())}, seed);
  return matrix;
}

/// An adapter in which no factor is zero, as in the midst of training.
inline tiedlora::Adapter<float> make_adapter(const tiedlora::Layout& layout) {
  tiedlora::Adapter<float> adapter(layout);
  adapter.initialize(1);
  fill(adapter.trainable(), 2);
  return adapter;
}

/// What a layer's forward and backward read and write.
struct Activations {
  explicit Activations(const Shape& s)
      : x(filled(s.d, s.tokens, 3)),
        y(filled(s.d, s.tokens, 4)),
        dy(filled(s.d, s.tokens, 5)),
        dx(filled(s.d, s.tokens, 6)),
        h(filled(s.rank, s.tokens, 7)) {}
  Eigen::MatrixXf x, y, dy, dx, h;
};

/// Floating-point operations that the method asks for; an implementation may do more.
inline double forward_flops(const Shape& s) { return 4.0 * static_cast<double>(s.tokens * s.rank * s.d); }
/// Forward's products each have two derivatives; where A and B are frozen, three products remain: dh, dx and
/// the one of dv.
inline double backward_flops(const tiedlora::Layout& layout, const Shape& s) {
  return layout.is_trained(tiedlora::FactorId::A) ? 2 * forward_flops(s) : 1.5 * forward_flops(s);
}

}  // namespace bench
