// The output embedding and the loss, chunk by chunk of tokens: there is never more than one chunk of logits,
// and it turns into its own gradient in place.
//   V vocabulary; W width; N tokens; C tokens of a chunk; E output embedding; n tokens counted
//   z = E h      loss_t = log Σ_i exp z_it − z_{target t}      dz = (softmax(z) − onehot(target)) / n
#pragma once

#include <algorithm>  // min, clamp
#include <cmath>      // log
#include <cstdint>    // int32_t
#include <span>       // span

#include "product.hpp"
#include "thread_pool.hpp"
#include "token_matrix.hpp"

namespace llama {

/// C, the most tokens of a chunk: as many as keep it within 32 MiB, but at least 128 so that the products
/// stay efficient.
template <class T>
Index cross_entropy_chunk(Index vocabulary, Index count) {
  const Index fitting = (Index{32} << 20) / (vocabulary * static_cast<Index>(sizeof(T))) / 16 * 16;
  return std::min(std::max<Index>(fitting, 128), count);
}

/// In pieces: in one float, a sum of thousands of terms loses those that are below half an ulp of it.
template <class Array>
double sum_of(const Array& z) {
  constexpr Index piece = 256;
  double sum = 0;
  for (Index i = 0; i < z.size(); i += piece)
    sum += static_cast<double>(z.segment(i, std::min(piece, z.size() - i)).sum());
  return sum;
}

/// One token's logits become their own gradient (times `scale`, 1 / n); returns its loss.
template <class T>
T cross_entropy_column(ArrayMap<T> z, std::int32_t target, T scale) {
  if (target < 0) {
    z.setZero();
    return 0;
  }
  const T largest = z.maxCoeff();
  const T shifted_target = z[target] - largest;
  z = (z - largest).exp();
  const double sum = sum_of(z);
  z *= static_cast<T>(static_cast<double>(scale) / sum);
  z[target] -= scale;
  return static_cast<T>(std::log(sum)) - shifted_target;
}

/// Writes each token's loss to losses[t], 0 where its target is negative. Gradients are of the mean over
/// counted tokens; dhidden and dE may be left out (no data, null), which spares their products.
template <class T>
void cross_entropy(ThreadPool& pool, const Weight<T>& E,  // V×W
                   const Tokens<const T>& hidden,         // W×N
                   const std::int32_t* targets, Index n,  // N; how many of them count
                   T* losses,                             // N
                   const Tokens<T>& dhidden,              // W×N, overwritten
                   T* dE, Index vocabulary, T* logits) {  // V×W, accumulates; scratch for V×C
  if (hidden.count == 0) return;
  // Chunks of about one size, so that none reads all of E for a few tokens. They do not depend on the
  // threads, nor then does the order of the sums over tokens.
  const Index most = cross_entropy_chunk<T>(vocabulary, hidden.count);
  const Index chunks = (hidden.count + most - 1) / most;
  const Index chunk = std::min(most, ((hidden.count + chunks - 1) / chunks + 15) / 16 * 16);
  const T scale = 1 / static_cast<T>(n);
  for (Index begin = 0; begin < hidden.count; begin += chunk) {
    const Index count = std::min(chunk, hidden.count - begin);
    const auto h = hidden.tokens(begin, count);
    const auto z = columns(logits, vocabulary, count);  // V×C
    product(pool, Part::loss, std::span(&E, 1), h, z);
    for_tasks(pool, count, [&](int, Index t) {
      const Timed timed(Part::loss);
      losses[begin + t] = cross_entropy_column(column(z, t), targets[begin + t], scale);
    });
    if (dhidden.data)
      transposed_product(pool, Part::loss, std::span(&E, 1), Tokens<const T>(z),
                         dhidden.tokens(begin, count));
    if (dE) add_weight_gradient(pool, Tokens<const T>(z), h, dE);
  }
}

}  // namespace llama
