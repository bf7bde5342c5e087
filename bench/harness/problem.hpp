// One adapted module, or one per layer, with factors, inputs and gradients filled with values.
#pragma once

#include <Eigen/Core>  // Matrix

#include <cstdint>      // uint32_t
#include <string>       // string, to_string
#include <string_view>  // string_view
#include <utility>      // move
#include <vector>       // vector

#include <tiedlora/tiedlora.hpp>

namespace bench {

using tiedlora::Index;

template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;

struct Shape {
  Index in, out, rank, tokens;
};

/// "4096x11008/r:8/T:64"
inline std::string to_string(const Shape& s) {
  return std::to_string(s.in) + "x" + std::to_string(s.out) + "/r:" + std::to_string(s.rank) +
         "/T:" + std::to_string(s.tokens);
}

struct NamedScheme {
  const char* name;
  tiedlora::Scheme (*make)();
};
inline constexpr NamedScheme tl6 = {"tl6", tiedlora::schemes::tl6};
inline constexpr NamedScheme tl5 = {"tl5", tiedlora::schemes::tl5};
inline constexpr NamedScheme lora = {"lora", tiedlora::schemes::lora};
inline constexpr NamedScheme vera = {"vera", [] { return tiedlora::schemes::vera(); }};

inline tiedlora::Layout make_layout(const tiedlora::Scheme& scheme, Index layers, const Shape& shape) {
  tiedlora::ModuleList modules;
  for (Index layer = 0; layer < layers; ++layer)
    modules.add({.name = "layers." + std::to_string(layer) + ".q_proj",
                 .layer = static_cast<int>(layer),
                 .in_features = shape.in,
                 .out_features = shape.out});
  return tiedlora::Layout(modules, scheme, shape.rank);
}

/// Values in [-1, 1), the same in every run, none so small that sums become subnormal and slow.
template <class Range>
void fill(Range&& values, std::uint32_t seed) {
  std::uint32_t state = seed * 2654435761u + 1u;
  for (auto& value : values) {
    state = state * 1664525u + 1013904223u;
    const float number = static_cast<float>(static_cast<std::int32_t>(state)) * 0x1p-31f;
    value = static_cast<std::remove_reference_t<decltype(value)>>(number);
  }
}

template <class T = float>
Matrix<T> filled(Index rows, Index columns, std::uint32_t seed) {
  Matrix<T> matrix(rows, columns);
  fill(matrix.reshaped(), seed);
  return matrix;
}

/// An adapter in which no factor is zero, as during training.
inline tiedlora::Adapter<float> make_adapter(const tiedlora::Layout& layout) {
  tiedlora::Adapter<float> adapter(layout);
  adapter.initialize(1);
  fill(adapter.trainable(), 2);
  return adapter;
}

/// What a layer's forward and backward read and write.
template <class T = float>
struct Activations {
  explicit Activations(const Shape& s)
      : x(filled<T>(s.in, s.tokens, 3)),
        y(filled<T>(s.out, s.tokens, 4)),
        dy(filled<T>(s.out, s.tokens, 5)),
        dx(filled<T>(s.in, s.tokens, 6)),
        h(filled<float>(s.rank, s.tokens, 7)) {}
  Matrix<T> x, y, dy, dx;
  Matrix<float> h;
};

/// Everything that one configuration of the grid works on. All runners work on the same memory in turn.
class Problem {
 public:
  /// `copies` of the activations, used in turn: more of them than the caches hold make the data cold.
  Problem(const tiedlora::Scheme& scheme, const Shape& s, int copies = 1)
      : shape(s),
        layout(make_layout(scheme, 1, s)),
        adapter(make_adapter(layout)),
        gradients(layout),
        copies_(static_cast<std::size_t>(copies), Activations<float>(s)) {}

  Problem(const Problem&) = delete;
  Problem& operator=(const Problem&) = delete;
  ~Problem() = default;

  Activations<float>& next() {
    if (++current_ >= copies_.size()) current_ = 0;
    return copies_[current_];
  }
  Activations<float>& first() {
    current_ = 0;
    return copies_[0];
  }

  /// Floating-point operations that the method asks for; an implementation may do more.
  double forward_flops() const { return 2.0 * per_feature() * static_cast<double>(shape.in + shape.out); }
  /// Each product of forward has two derivatives, of its factor and of its input. Where B is frozen, that of
  /// v takes as many operations as that of B would.
  double backward_flops() const {
    const bool of_B = layout.is_trained(tiedlora::FactorId::B) || adapter.v(0).size() > 0;
    const bool of_A = layout.is_trained(tiedlora::FactorId::A);
    return 2.0 * per_feature() * static_cast<double>((of_B ? 2 : 1) * shape.out + (of_A ? 2 : 1) * shape.in);
  }

  Shape shape;
  tiedlora::Layout layout;
  tiedlora::Adapter<float> adapter;
  tiedlora::Gradients<float> gradients;

 private:
  double per_feature() const { return static_cast<double>(shape.rank * shape.tokens); }

  std::vector<Activations<float>> copies_;
  std::size_t current_ = 0;
};

}  // namespace bench
