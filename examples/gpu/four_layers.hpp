// The four-layer program of docs/adapters.md: a frozen model, what it should learn, and its loss curve on the
// CPU, beside which a device's is put.
#pragma once

#include <algorithm>  // max
#include <cmath>      // abs, isfinite
#include <cstddef>    // size_t
#include <cstdlib>    // srand
#include <limits>     // numeric_limits
#include <string>     // to_string
#include <vector>     // vector

#include <tiedlora/tiedlora.hpp>
#include <tiedlora/verify/tolerance.hpp>

namespace gpu {

using tiedlora::Index;
template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;

/// x <- x + W x in every layer, W width × width, x width × tokens. The target has other weights.
struct FourLayers {
  static constexpr Index layers = 4, width = 64, tokens = 256, rank = 4;
  static constexpr int last_step = 200;

  FourLayers() {
    std::srand(1);  // which Eigen's Random draws from
    for (Index l = 0; l < layers; ++l) W.push_back(0.1f * Matrix<float>::Random(width, width));
    input = Matrix<float>::Random(width, tokens);
    const Matrix<float> shift = 0.02f * Matrix<float>::Random(width, 2) * Matrix<float>::Random(2, width);
    target = input;
    for (const Matrix<float>& weight : W) target += (weight + shift) * target.eval();
    adapter.initialize(/*seed=*/1);
  }

  static tiedlora::Layout make_layout() {
    tiedlora::ModuleList modules;
    for (int l = 0; l < layers; ++l)
      modules.add({.name = "layers." + std::to_string(l) + ".linear",
                   .layer = l,
                   .in_features = width,
                   .out_features = width});
    return {modules, tiedlora::schemes::tied_lora(), rank};
  }
  static tiedlora::AdamWOptions adamw_options() { return {.learning_rate = 3e-3}; }

  std::vector<Matrix<float>> W;
  Matrix<float> input, target;
  tiedlora::Layout layout = make_layout();
  tiedlora::Adapter<float> adapter{layout};  ///< at the start
};

/// The mean of squared errors.
template <class T>
double loss_of(const Matrix<T>& error) {
  return static_cast<double>(error.squaredNorm()) / static_cast<double>(error.size());
}

/// The loss before each of the steps 0, …, last_step, computed in T.
template <class T>
std::vector<double> train_on_cpu(const FourLayers& problem) {
  const auto converted = [](const Matrix<float>& m) { return Matrix<T>(m.cast<T>()); };
  std::vector<Matrix<T>> W;
  for (const Matrix<float>& weight : problem.W) W.push_back(converted(weight));
  const Matrix<T> target = converted(problem.target);
  tiedlora::Adapter<T> adapter = problem.adapter.template cast<T>();
  tiedlora::Gradients<T> gradients(problem.layout);
  tiedlora::AdamW<T> optimizer(problem.layout, FourLayers::adamw_options());

  constexpr auto layers = static_cast<std::size_t>(FourLayers::layers);
  std::vector<Matrix<T>> x(layers + 1, converted(problem.input));
  std::vector<Matrix<T>> h(layers, Matrix<T>(FourLayers::rank, FourLayers::tokens));
  std::vector<double> losses;
  for (int step = 0; step <= FourLayers::last_step; ++step) {
    for (std::size_t l = 0; l < layers; ++l) {
      x[l + 1] = x[l] + W[l] * x[l];
      tiedlora::forward(adapter.factors(static_cast<Index>(l)), x[l], x[l + 1], h[l]);
    }
    const Matrix<T> error = x[layers] - target;
    losses.push_back(loss_of(error));
    Matrix<T> dy = error * (T(2) / static_cast<T>(error.size()));
    for (std::size_t l = layers; l-- > 0;) {
      const auto m = static_cast<Index>(l);
      Matrix<T> dx = dy + W[l].transpose() * dy;
      tiedlora::backward(adapter.factors(m), x[l], h[l], dy, gradients.factors(m), dx);
      dy = dx;
    }
    optimizer.step(adapter.trainable(), gradients.values());
    gradients.set_zero();
  }
  return losses;
}

/// Three curves of one program, and how far apart rounding explains.
struct LossCurves {
  std::vector<double> device, cpu, exact;  ///< in float, in float, in double

  /// What the device's loss may be off the exact one. Two things add up. The loss of given parameters is a
  /// sum of squares of sums, within verify's bound for random roundings of that length. And the parameters
  /// are off, since every step was rounded: how much the program makes of that is seen on the CPU, whose
  /// float is off the same curve by another draw of the same roundings. λ = 8, as in verify/tolerance.hpp,
  /// times the most seen so far.
  double bound(std::size_t step) const {
    constexpr Index length =
        FourLayers::width * FourLayers::tokens + FourLayers::layers * (FourLayers::width + FourLayers::rank);
    double seen = 0;
    for (std::size_t s = 0; s <= step; ++s) seen = std::max(seen, std::abs(cpu[s] - exact[s]));
    return 8 * seen + tiedlora::verify::random_rounding_bound<float>(length, exact[step]);
  }
  /// The device's error in units of its bound.
  double ratio(std::size_t step) const { return std::abs(device[step] - exact[step]) / bound(step); }
  /// The largest of all steps; the curves are equal within rounding if it is at most 1. Infinite where a loss
  /// is NaN.
  double worst() const {
    double worst = 0;
    for (std::size_t step = 0; step < exact.size(); ++step)
      if (!(ratio(step) <= worst))
        worst = std::isfinite(device[step]) ? ratio(step) : std::numeric_limits<double>::infinity();
    return worst;
  }
};

}  // namespace gpu
