// Causal attention of one head over one sequence, in blocks of queries, so that nothing of size T×T is ever
// there: backward rebuilds the probabilities from q, k and one value a query (Dao et al. 2022).
//   D head width; T keys; n queries, at positions first … first + n − 1; a query sees the keys up to its own
//   position S = kᵀq / √D      P = softmax over the visible keys of each column of S      out = v P
#pragma once

#include <algorithm>  // min
#include <cmath>      // sqrt, log

#include <tiedlora/ops.hpp>  // expand

#include "token_matrix.hpp"

namespace llama {

inline constexpr Index attention_block = 64;  // queries

/// Elements of scratch that one call needs: forward one block of scores, backward two.
inline Index attention_scratch(Index keys) { return 2 * keys * attention_block; }

/// `visible` keys rounded up, so that no exponential is computed apart from its vector; beyond the visible
/// ones results are of no use.
inline Index whole_vectors(Index visible, Index keys) { return std::min((visible + 15) / 16 * 16, keys); }

/// out = x weights: each of the n outputs is a sum over the tokens of x. As the products with the base
/// weights it is half of an adapter, with x in the place of B.
template <class T>
void weighted_sums(const Tokens<const T>& x,  // D×keys
                   const Tokens<T>& weights,  // keys×n
                   const Tokens<T>& out) {    // D×n, overwritten
  const tiedlora::Factors<const T> f = {
      .B = x.data, .b_stride = x.stride, .rank = x.count, .out_features = x.width, .name = "attention"};
  tiedlora::expand(f, weights, out, {.overwrite = true});
}

/// log_sum_exp [n] is what backward needs besides q, k, v and out: log Σ exp of each column of S.
template <class T>
void attention_forward(const Tokens<const T>& q,  // D×n
                       const Tokens<const T>& k,  // D×(at least first + n)
                       const Tokens<const T>& v,  // as k
                       Index first,
                       const Tokens<T>& out,  // D×n
                       T* log_sum_exp,        // n
                       T* scratch) {
  const T scale = 1 / std::sqrt(static_cast<T>(q.width));
  for (Index begin = 0; begin < q.count; begin += attention_block) {
    const Index n = std::min(attention_block, q.count - begin);
    const Index keys = first + begin + n;  // that any query of the block sees
    const auto P = columns(scratch, keys, n);
    matrix(P).noalias() = matrix(k.tokens(0, keys)).transpose() * matrix(q.tokens(begin, n));
    for (Index j = 0; j < n; ++j) {
      const Index visible = first + begin + j + 1;
      auto p = column(P, j, 0, whole_vectors(visible, keys));
      const T largest = column(P, j, 0, visible).maxCoeff();
      p = ((p - largest) * scale).exp();
      column(P, j, visible, keys - visible).setZero();
      const T sum = p.sum();
      p *= 1 / sum;
      log_sum_exp[begin + j] = largest * scale + std::log(sum);
    }
    weighted_sums(v.tokens(0, keys), P, out.tokens(begin, n));
  }
}

/// dP = vᵀ dout      dS = P ∘ (dP − δ) with δ_j = Σ out_j ∘ dout_j      dq = k dS / √D      dk += q dSᵀ / √D
/// dv += dout Pᵀ. Only for whole sequences (first = 0).
template <class T>
void attention_backward(const Tokens<const T>& q,     // D×T
                        const Tokens<const T>& k,     // D×T
                        const Tokens<const T>& v,     // D×T
                        const Tokens<const T>& out,   // D×T
                        const T* log_sum_exp,         // T
                        const Tokens<const T>& dout,  // D×T
                        const Tokens<T>& dq,          // D×T, overwritten
                        const Tokens<T>& dk,          // D×T, accumulates
                        const Tokens<T>& dv,          // D×T, accumulates
                        T* scratch) {
  const T scale = 1 / std::sqrt(static_cast<T>(q.width));
  for (Index begin = 0; begin < q.count; begin += attention_block) {
    const Index n = std::min(attention_block, q.count - begin);
    const Index keys = begin + n;
    const auto P = columns(scratch, keys, n), dS = columns(scratch + keys * n, keys, n);
    const auto q_block = matrix(q.tokens(begin, n)), dout_block = matrix(dout.tokens(begin, n));
    matrix(P).noalias() = matrix(k.tokens(0, keys)).transpose() * q_block;
    matrix(dS).noalias() = matrix(v.tokens(0, keys)).transpose() * dout_block;
    for (Index j = 0; j < n; ++j) {
      const Index visible = begin + j + 1;
      const Index computed = whole_vectors(visible, keys);
      auto p = column(P, j, 0, computed), ds = column(dS, j, 0, computed);
      const T delta = (column(out, begin + j) * column(dout, begin + j)).sum();
      p = (p * scale - log_sum_exp[begin + j]).exp();
      ds = p * (ds - delta) * scale;
      column(P, j, visible, keys - visible).setZero();
      column(dS, j, visible, keys - visible).setZero();
    }
    weighted_sums(k.tokens(0, keys), dS, dq.tokens(begin, n));
    matrix(dk.tokens(0, keys)).noalias() += q_block * matrix(dS).transpose();
    matrix(dv.tokens(0, keys)).noalias() += dout_block * matrix(P).transpose();
  }
}

}  // namespace llama
