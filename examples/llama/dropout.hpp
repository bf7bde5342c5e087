// Dropout on the adapters' input: kernels read a copy of x that is masked, for they know no mask.
//   p probability; m mask, 0 or 1 / (1 − p)      h = A (m∘x)      dx += m∘(Aᵀ dh)
#pragma once

#include <cstddef>  // size_t
#include <vector>   // vector

#include <tiedlora/backends/dropout.hpp>  // DropoutMask

#include "token_matrix.hpp"

namespace llama {

/// Room for one block's x or dx, of this thread's own.
template <class T>
Tokens<T> dropout_buffer(Index width, Index count) {
  thread_local std::vector<T> buffer;
  if (static_cast<Index>(buffer.size()) < width * count)
    buffer.resize(static_cast<std::size_t>(width * count));
  return columns(buffer.data(), width, count);
}

/// to = m∘x. `dropout.first_token` is the number of x's first token in its batch.
template <class T>
void set_masked(const Tokens<const T>& x, const tiedlora::Dropout& dropout, const Tokens<T>& to) {
  for (Index t = 0; t < x.count; ++t) {
    const tiedlora::detail::DropoutMask mask(dropout, t);
    for (Index i = 0; i < x.width; ++i) to[t][i] = x[t][i] * static_cast<T>(mask(i));
  }
}

/// to += m∘dx.
template <class T>
void add_masked(const Tokens<const T>& dx, const tiedlora::Dropout& dropout, const Tokens<T>& to) {
  for (Index t = 0; t < dx.count; ++t) {
    const tiedlora::detail::DropoutMask mask(dropout, t);
    for (Index i = 0; i < dx.width; ++i) to[t][i] += dx[t][i] * static_cast<T>(mask(i));
  }
}

}  // namespace llama
