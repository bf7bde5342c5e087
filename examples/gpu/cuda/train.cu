// The four-layer program of docs/adapters.md with everything on the device, every step one CUDA graph.
//
// The frozen layers x + W x go by the same backend: with W as a "B" of rank 64 expand adds W x, and with W as
// an "A" shrink_backward adds Wᵀ dy.
#include <cmath>    // sqrt
#include <cstddef>  // byte, size_t
#include <vector>   // vector

#include <tiedlora/tiedlora.hpp>

#include "../four_layers.hpp"
#include "backend.cuh"
#include "commands.hpp"
#include "kernels/squared_error.cuh"
#include "optimizer.cuh"

namespace gpu_cuda {
namespace {

using gpu::FourLayers;

constexpr Index width = FourLayers::width, token_count = FourLayers::tokens, numbers = width * token_count;
constexpr int layers = FourLayers::layers;

std::vector<float> numbers_of(const gpu::Matrix<float>& m) { return {m.data(), m.data() + m.size()}; }
Tokens<float> tokens(const Array<float>& array, Index features) {
  return {.data = array.data(), .width = features, .count = token_count, .stride = features};
}

}  // namespace

std::vector<double> train_on_device(const FourLayers& problem, int last_step) {
  const OwnStream stream;
  const CudaBackend backend(stream);
  DeviceTraining training(problem.adapter, FourLayers::adamw_options(), stream);

  std::vector<Array<float>> columns, rows, x, h;  // of W, one after the other
  for (const gpu::Matrix<float>& weight : problem.W) {
    columns.emplace_back(numbers_of(weight));
    rows.emplace_back(numbers_of(weight.transpose()));
  }
  for (int l = 0; l <= layers; ++l) x.emplace_back(numbers_of(problem.input));
  for (int l = 0; l < layers; ++l) h.emplace_back(static_cast<std::size_t>(FourLayers::rank * token_count));
  const Array<float> target(numbers_of(problem.target)), dy(numbers_of(problem.input)),
      dx(numbers_of(problem.input));
  const Array<statistics_shape::State> loss(std::vector<statistics_shape::State>(1));
  const Array<float> scratch(static_cast<std::size_t>(FourLayers::rank * token_count + 1));
  const auto base = [&](int l) {
    return Factors<const float>{.A = rows[static_cast<std::size_t>(l)].data(),
                                .a_stride = width,
                                .B = columns[static_cast<std::size_t>(l)].data(),
                                .b_stride = width,
                                .rank = width,
                                .in_features = width,
                                .out_features = width};
  };

  const auto step = [&] {
    for (int l = 0; l < layers; ++l) {
      const auto i = static_cast<std::size_t>(l);
      copy_on_device(x[i].data(), x[i + 1].data(), numbers * sizeof(float), stream);
      backend.expand(base(l), Tokens<const float>(tokens(x[i], width)), tokens(x[i + 1], width), {});
      tiedlora::forward(backend, training.factors(l), tokens(x[i], width), tokens(x[i + 1], width),
                        tokens(h[i], FourLayers::rank));
    }
    launch({{statistics_shape::blocks, 1, 1},
            statistics_shape::threads,
            sizeof(statistics_shape::Shared),
            stream},
           squared_error_kernel, x.back().data(), target.data(), dy.data(), numbers, loss.data());
    CallOptions o;
    o.scratch = {reinterpret_cast<std::byte*>(scratch.data()), scratch.size() * sizeof(float)};
    const Array<float>*in = &dy, *out = &dx;
    for (int l = layers; l-- > 0;) {
      const auto i = static_cast<std::size_t>(l);
      copy_on_device(in->data(), out->data(), numbers * sizeof(float), stream);
      backend.shrink_backward(base(l), Tokens<const float>(), Tokens<const float>(tokens(*in, width)),
                              Factors<float>(), tokens(*out, width), {});
      tiedlora::backward(backend, training.factors(l), tokens(x[i], width), tokens(h[i], FourLayers::rank),
                         tokens(*in, width), training.gradients(l), tokens(*out, width), o);
      std::swap(in, out);
    }
    training.update();
  };

  std::vector<double> losses;
  const auto keep_loss = [&] {
    losses.push_back(loss.download(stream)[0].square / static_cast<double>(numbers));
  };
  // The first step sizes the backend's workspace; then a step is a graph.
  training.begin_step();
  step();
  keep_loss();
  const Graph graph(stream, step);
  while (losses.size() <= static_cast<std::size_t>(last_step)) {
    training.begin_step();
    graph.launch();
    keep_loss();
  }
  return losses;
}

}  // namespace gpu_cuda
