// What every consumer program does: trains one adapter over two layers and reports the loss before and after.
// All of it has internal linkage, so that each translation unit instantiates the library's templates itself.
#pragma once

#include <string>
#include <tiedlora/tiedlora.hpp>

namespace {

struct Losses {
  float before = 0;
  float after = 0;
};

/// Fits both layers to one linear map of rank 2, which an adapter of rank 2 tied across the layers can
/// represent.
Losses train_two_layers() {
  // The order is written out because one of the programs is built with EIGEN_DEFAULT_TO_ROW_MAJOR.
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>;
  constexpr tiedlora::Index in = 6, out = 5, rank = 2, tokens = 16;

  tiedlora::ModuleList modules;
  for (int layer = 0; layer < 2; ++layer)
    modules.add({.name = "layers." + std::to_string(layer) + ".proj",
                 .layer = layer,
                 .kind = "proj",
                 .in_features = in,
                 .out_features = out});
  const tiedlora::Layout layout(modules, tiedlora::schemes::tied_lora(), rank);
  tiedlora::Adapter<float> adapter(layout);
  adapter.initialize(/*seed=*/1);
  tiedlora::Gradients<float> gradients(layout);
  tiedlora::AdamW<float> optimizer(layout, {.learning_rate = 3e-2});

  Matrix x(in, tokens), target(out, tokens);
  for (tiedlora::Index t = 0; t < tokens; ++t) {
    for (tiedlora::Index i = 0; i < in; ++i) x(i, t) = static_cast<float>((7 * i + 5 * t) % 11) / 11 - 0.5f;
    for (tiedlora::Index o = 0; o < out; ++o) target(o, t) = x(o, t) - x(o + 1, t);
  }

  Losses losses;
  for (int step = 0; step < 200; ++step) {
    float loss = 0;
    for (tiedlora::Index m = 0; m < 2; ++m) {
      Matrix y = Matrix::Zero(out, tokens), h(rank, tokens);
      tiedlora::forward(adapter.factors(m), x, y, h);
      const Matrix dy = y - target;
      loss += dy.squaredNorm() / 2;
      tiedlora::backward(adapter.factors(m), x, h, dy, gradients.factors(m));
    }
    if (step == 0) losses.before = loss;
    losses.after = loss;
    optimizer.step(adapter.trainable(), gradients.values());
    gradients.set_zero();
  }
  return losses;
}

}  // namespace
