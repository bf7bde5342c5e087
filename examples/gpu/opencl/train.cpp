#include "train.hpp"

#include <cstddef>  // byte, size_t
#include <span>     // span
#include <utility>  // swap
#include <vector>   // vector

#include <tiedlora/tiedlora.hpp>

#include "adamw.hpp"
#include "array.hpp"

namespace gpu_opencl {
namespace {

using gpu::FourLayers, gpu::Matrix;

std::span<const float> numbers_of(const Matrix<float>& m) {
  return {m.data(), static_cast<std::size_t>(m.size())};
}

/// Activations of `features` features, dense, for all tokens.
Tokens<float> tokens(float* data, Index features) { return {data, features, FourLayers::tokens, features}; }

}  // namespace

std::vector<double> train(const Backend& backend, const FourLayers& problem) {
  constexpr Index layers = FourLayers::layers, width = FourLayers::width, rank = FourLayers::rank;
  constexpr Index numbers = width * FourLayers::tokens;
  Device& device = backend.memory();
  Kernels& kernels = backend.kernels<float, float, float>();

  // Everything has its place before the first step: steps allocate nothing.
  Array<float> W(device, static_cast<std::size_t>(layers * width * width));
  for (Index l = 0; l < layers; ++l)
    device.upload(problem.W[static_cast<std::size_t>(l)].data(), W.data() + l * width * width,
                  static_cast<std::size_t>(width * width) * sizeof(float));
  Array<float> x(device, static_cast<std::size_t>((layers + 1) * numbers));  // of every layer, and the output
  device.upload(problem.input.data(), x.data(), static_cast<std::size_t>(numbers) * sizeof(float));
  const Array<float> target(device, numbers_of(problem.target));
  const Array<float> h(device, static_cast<std::size_t>(layers * rank * FourLayers::tokens));
  const Array<float> dy_memory(device, static_cast<std::size_t>(numbers)),
      dx_memory(device, dy_memory.size());

  // The adapter: parameters, gradients and both moments are one flat array each, and one copy.
  const tiedlora::Layout& layout = problem.layout;
  const Array<float> trainable(device, problem.adapter.trainable()), frozen(device, problem.adapter.frozen());
  const std::vector<float> zeros(trainable.size(), 0.0f);
  const Array<float> gradients(device, zeros), first_moment(device, zeros), second_moment(device, zeros);
  tiedlora::AdamW<float> optimizer(layout, FourLayers::adamw_options());
  const auto factors = [&](Index l) {
    return tiedlora::factors_at(layout, l, trainable.data(), frozen.data());
  };
  const Array<std::byte> scratch(device, tiedlora::scratch_bytes(factors(0), FourLayers::tokens));

  std::vector<double> losses;
  for (int step = 0; step <= FourLayers::last_step; ++step) {
    const auto x_of = [&](Index l) { return tokens(x.data() + l * numbers, width); };
    const auto h_of = [&](Index l) { return tokens(h.data() + l * rank * FourLayers::tokens, rank); };
    const auto W_of = [&](Index l) { return static_cast<const float*>(W.data() + l * width * width); };
    for (Index l = 0; l < layers; ++l) {
      kernels.start_items("base_layer", width, FourLayers::tokens, W_of(l), x_of(l), x_of(l + 1));
      tiedlora::forward(backend, factors(l), x_of(l), x_of(l + 1), h_of(l));
    }
    Matrix<float> output(width, FourLayers::tokens);
    device.download(x_of(layers).data, output.data(), static_cast<std::size_t>(numbers) * sizeof(float));
    losses.push_back(gpu::loss_of<float>(output - problem.target));

    Tokens<float> dy = tokens(dy_memory.data(), width), dx = tokens(dx_memory.data(), width);
    kernels.start_items("loss_backward", width, FourLayers::tokens, x_of(layers),
                        tokens(target.data(), width), dy, 2.0f / static_cast<float>(numbers));
    for (Index l = layers; l-- > 0;) {
      kernels.start_items("base_layer_backward", width, FourLayers::tokens, W_of(l), dy, dx);
      tiedlora::backward(backend, factors(l), x_of(l), h_of(l), dy,
                         tiedlora::gradients_at(layout, l, gradients.data()), dx,
                         {.scratch = scratch.span()});
      std::swap(dy, dx);
    }
    adamw_step(backend, optimizer, trainable.data(), gradients.data(), first_moment.data(),
               second_moment.data());
    kernels.start_items("set_to_zero", layout.trainable_count(), 1, gradients.data(),
                        static_cast<cl_long>(layout.trainable_count()));
  }
  return losses;
}

gpu::LossCurves train_side_by_side(const Backend& backend, const FourLayers& problem) {
  return {train(backend, problem), gpu::train_on_cpu<float>(problem), gpu::train_on_cpu<double>(problem)};
}

}  // namespace gpu_opencl
