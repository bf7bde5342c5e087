// The four halves on tiles, for float: the same sums as reference.hpp in another, equally fixed order.
//
// The order of every sum of forward follows from the module's shape alone, not from the number of tokens or
// the slice: T tokens at once give the bits of T single tokens. Gradients add up token block by token block.
#pragma once

#include <algorithm>    // clamp, fill_n, min
#include <type_traits>  // integral_constant

#include "../calls.hpp"
#include "../factors.hpp"
#include "../options.hpp"
#include "../tokens.hpp"
#include "tiles.hpp"

#if TIEDLORA_HAS_KERNELS

namespace tiedlora {
inline namespace v1 {
namespace kernels {

/// The panels on the stack hold this many ranks; beyond, the reference takes over.
inline constexpr Index largest_rank = 512;

inline namespace TIEDLORA_ISA {

// Features are taken in chunks, so that the chunk of A or B that all tokens use stays in the nearest caches.
inline constexpr Index dot_panel_features = 1024;  // of six tokens: 24 KB on the stack
inline Index dot_chunk(Index rank) { return std::clamp<Index>(32 * 1024 / rank / 64 * 64, 512, 4096); }
inline Index sum_chunk(Index rank) { return std::max<Index>(64 * 1024 / rank / 64 * 64, 512); }

// Gradients take tokens in blocks of at most half a megabyte, which all groups of ranks then find in the
// second cache.
inline constexpr Index block_tokens = 256;
inline Index token_block(Index features) {
  return std::clamp<Index>(128 * 1024 / features, 16, block_tokens);
}

/// Calls body(size, first) with the compile-time sizes Largest, 4, 2, 1 until [begin, end) is covered.
template <unsigned Largest, class Body>
void in_groups(Index begin, Index end, const Body& body) {
  Index i = begin;
  // 4 + 4 rather than 6 + 2.
  for (; end - i >= Largest && !(Largest == 6 && end - i == 8); i += Largest)
    body(std::integral_constant<unsigned, Largest>(), i);
  if constexpr (Largest > 4)
    for (; end - i >= 4; i += 4) body(std::integral_constant<unsigned, 4>(), i);
  for (; end - i >= 2; i += 2) body(std::integral_constant<unsigned, 2>(), i);
  if (i < end) body(std::integral_constant<unsigned, 1>(), i);
}

/// h[t][k] += Σ_i a_k[i] x_t[i] for the ranks of a range, over n features from where a and x point.
template <unsigned T>
void dot_all(const float* a, Index a_stride, detail::Range ranks, const float* const* x, Index n,
             const Tokens<float>& h, Index t) {
  float* sums[T];
  for (unsigned j = 0; j < T; ++j) sums[j] = h[t + j];
  Index k = ranks.begin;
  for (; k + dot_rows <= ranks.end; k += dot_rows)
    dot_tile<dot_rows, T>(a + k * a_stride, a_stride, x, n, sums, k);
  for (; k < ranks.end; ++k) dot_tile<1, T>(a + k * a_stride, a_stride, x, n, sums, k);
}

inline void shrink(const Factors<const float>& f, const Tokens<const float>& x, const Tokens<float>& h,
                   const CallOptions& o) {
  const detail::Shares shares = detail::shares_of_shrink(x.count, f.rank, o.slice);
  const detail::Range tokens = shares.tokens, ranks = shares.ranks;
  for (Index t = tokens.begin; t < tokens.end; ++t) std::fill(h[t] + ranks.begin, h[t] + ranks.end, 0.0f);
  const Index chunk = dot_chunk(f.rank);
  for (Index i = 0; i < f.in_features; i += chunk) {
    const Index n = std::min(chunk, f.in_features - i);
    in_groups<dot_tokens>(tokens.begin, tokens.end, [&](auto size, Index t) {
      const float* xs[size];
      for (unsigned j = 0; j < size; ++j) xs[j] = x[t + j] + i;
      dot_all<size>(f.A + i, f.a_stride, ranks, xs, n, h, t);
    });
  }
}

/// out_t (+)= w ∘ Σ_k c(t, k) rows_k on a range of features, for all tokens t.
template <class Coefficient>
void sum_into_tokens(const Rows& rows, const Coefficient& coefficient, const float* w,
                     const Tokens<float>& out, bool overwrite, detail::Range features) {
  const Index chunk = sum_chunk(rows.count);
  for (Index begin = features.begin; begin < features.end; begin += chunk) {
    const Index end = std::min(features.end, begin + chunk);
    in_groups<sum_rows>(0, out.count, [&](auto size, Index t) {
      float panel[largest_rank * size];
      float* outs[size];
      for (unsigned j = 0; j < size; ++j) {
        outs[j] = out[t + j];
        for (Index k = 0; k < rows.count; ++k) panel[k * size + j] = coefficient(t + j, k);
      }
      const SumEpilogue epilogue = {.w = w};
      if (overwrite)
        sum_rows_into<size, Into::set>(rows, panel, outs, epilogue, begin, end);
      else
        sum_rows_into<size, Into::add>(rows, panel, outs, epilogue, begin, end);
    });
  }
}

/// out_k += w ∘ G_k with G_k = Σ_t c(t, k) tokens_t on a range of features, for all ranks k; product += Σ_k
/// factor_k ∘ G_k.
template <class Coefficient>
void sum_into_ranks(const Rows& tokens, const Coefficient& coefficient, Index rank, float* out,
                    Index out_stride, SumEpilogue epilogue, detail::Range features) {
  const Index block = token_block(tokens.width);
  const float* factor = epilogue.factor;
  for (Index t = 0; t < tokens.count; t += block) {
    const Rows rows = tokens.tokens(t, std::min(block, tokens.count - t));
    in_groups<sum_rows>(0, rank, [&](auto size, Index k) {
      float panel[block_tokens * size];
      float* outs[size];
      for (unsigned j = 0; j < size; ++j) {
        outs[j] = out ? out + (k + j) * out_stride : nullptr;
        for (Index s = 0; s < rows.count; ++s) panel[s * size + j] = coefficient(t + s, k + j);
      }
      epilogue.factor = factor + k * epilogue.factor_stride;
      sum_rows_into<size, Into::gradient>(rows, panel, out ? outs : nullptr, epilogue, features.begin,
                                          features.end);
    });
  }
}

inline void expand(const Factors<const float>& f, const Tokens<const float>& h, const Tokens<float>& y,
                   const CallOptions& o) {
  const Rows B = {f.B, f.out_features, f.rank, f.b_stride};
  const auto coefficient = [&](Index t, Index k) {
    const float c = detail::token_scaling<float>(f, o, t);
    return f.u ? c * f.u[k] * h[t][k] : c * h[t][k];
  };
  sum_into_tokens(B, coefficient, f.v, y, o.overwrite, detail::part_of(f.out_features, o.slice));
}

inline void expand_backward(const Factors<const float>& f, const Tokens<const float>& h,
                            const Tokens<const float>& dy, const Factors<float>& gradient,
                            const Tokens<float>& dh, const CallOptions& o) {
  // dh = u ∘ Bᵀ (c v ∘ dy), du += h ∘ Bᵀ (c v ∘ dy)
  const detail::Range ranks = detail::part_of(f.rank, o.slice);
  for (Index t = 0; t < dh.count; ++t) std::fill(dh[t] + ranks.begin, dh[t] + ranks.end, 0.0f);
  const Index chunk = std::min(dot_chunk(f.rank), dot_panel_features);
  for (Index i = 0; i < f.out_features; i += chunk) {
    const Index n = std::min(chunk, f.out_features - i);
    in_groups<dot_tokens>(0, dy.count, [&](auto size, Index t) {
      float panel[dot_panel_features * size];  // v ∘ dy
      const float* rows[size];
      for (unsigned j = 0; j < size; ++j) {
        const float* row = dy[t + j] + i;
        float* scaled = panel + j * dot_panel_features;
        if (f.v)
          for (Index l = 0; l < n; ++l) scaled[l] = f.v[i + l] * row[l];
        rows[j] = f.v ? scaled : row;
      }
      dot_all<size>(f.B + i, f.b_stride, ranks, rows, n, dh, t);
    });
  }
  for (Index t = 0; t < dh.count; ++t) {
    const float c = detail::token_scaling<float>(f, o, t);
    for (Index k = ranks.begin; k < ranks.end; ++k) {
      const float d = c * dh[t][k];
      if (gradient.u) gradient.u[k] += h[t][k] * d;
      dh[t][k] = f.u ? f.u[k] * d : d;
    }
  }

  // G = dy (c u ∘ h)ᵀ: dB += v ∘ G, dv += Σ_k B_k ∘ G_k
  if (!gradient.B && !gradient.v) return;
  const auto coefficient = [&](Index t, Index k) {
    const float c = detail::token_scaling<float>(f, o, t);
    return f.u ? c * f.u[k] * h[t][k] : c * h[t][k];
  };
  const SumEpilogue epilogue = {.w = f.v, .factor = f.B, .factor_stride = f.b_stride, .product = gradient.v};
  sum_into_ranks(dy, coefficient, f.rank, gradient.B, gradient.b_stride, epilogue,
                 detail::part_of(f.out_features, o.slice));
}

inline void add_gradient_of_A(const Factors<const float>& f, const Tokens<const float>& x,
                              const Tokens<const float>& dh, const Factors<float>& gradient,
                              const CallOptions& o) {
  const auto coefficient = [&](Index t, Index k) { return dh[t][k]; };
  sum_into_ranks(x, coefficient, f.rank, gradient.A, gradient.a_stride, {},
                 detail::part_of(f.in_features, o.slice));
}

inline void add_dx(const Factors<const float>& f, const Tokens<const float>& dh, const Tokens<float>& dx,
                   const CallOptions& o) {
  const auto coefficient = [&](Index t, Index k) { return dh[t][k]; };
  const Rows A = {f.A, f.in_features, f.rank, f.a_stride};
  sum_into_tokens(A, coefficient, nullptr, dx, o.overwrite, detail::part_of(f.in_features, o.slice));
}

}  // namespace TIEDLORA_ISA
}  // namespace kernels
}  // namespace v1
}  // namespace tiedlora

#endif  // TIEDLORA_HAS_KERNELS
