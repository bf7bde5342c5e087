// Sums of rows into tokens: expand, and dx of shrink_backward. The micro-kernel depends on the number of rows
// and tokens; all of them add in the same order.
#pragma once

#include "../../views/factors.hpp"
#include "../../views/options.hpp"
#include "../../views/slice.hpp"
#include "../../views/tenants.hpp"
#include "../../views/tokens.hpp"
#include "axpyf.hpp"
#include "blocking.hpp"
#include "epilogue.hpp"
#include "groups.hpp"
#include "microkernel_sums.hpp"
#include "pack.hpp"
#include "token_rows.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace cpu {
inline namespace TIEDLORA_ISA {

/// out[i] (+)= w[i] · sums[i]; without w sums[i].
template <class P, class Y>
void add_weighted(const float* sums, const P* w, Y* out, Index n, bool overwrite) {
  in_vectors(n, [&](const auto& io, Index i) __attribute__((always_inline)) {
    const Vector s = io.load(sums + i);
    if (overwrite)
      io.store(out + i, w ? io.load(w + i) * s : s);
    else
      io.store(out + i, w ? multiply_add(io.load(w + i), s, io.load(out + i)) : s + io.load(out + i));
  });
}

/// out_t (+)= w_t ∘ Σ_k c_t[k] row_k for all tokens t: where the sums go, and with which coefficients;
/// fill(t, k, n, c) writes c_t[k …].
template <class P, class Y, class Fill>
struct TokenSums {
  Tokens<Y> out;
  bool overwrite;
  Weights<P> w;
  Fill fill;
};

/// Whether a call with that many tokens packs its rows (of factors, or of tokens): to widen them once, or so
/// that they do not evict each other. (With 32 registers one line of a row lasts long enough to prefetch the
/// next from L2.)
template <class T>
bool packs_rows(const T* const* rows, Index count, Index tokens) {
  if (count <= few_ranks || tokens < pack_tokens) return false;
  return is_narrow<T> || (!many_registers && share_cache_sets(count, bytes_apart(rows[0], rows[1])));
}

/// Calls body(c, outs, first, tokens) for groups of tokens: R coefficients for each, zeros for missing rows,
/// and the address of that feature in each.
template <unsigned R, class P, class Y, class Fill, class Body>
TIEDLORA_INLINE void for_few_outputs(const TokenSums<P, Y, Fill>& to, Index rows, Index feature,
                                     const Body& body) {
  for (Index first = 0; first < to.out.count; first += few_outputs) {
    const Index tokens = smaller(few_outputs, to.out.count - first);
    float c[few_outputs * R];
    Y* outs[few_outputs];
    for (Index i = 0; i < tokens * Index{R}; ++i) c[i] = 0;
    for (Index t = 0; t < tokens; ++t) to.fill(first + t, 0, rows, c + t * R);
    point_at(to.out, first, tokens, feature, outs);
    body(c, outs, first, tokens);
  }
}

/// sum_panel_into_tokens for `count` <= few_ranks rows, which stay in registers.
template <class Row, class P, class Y, class Fill>
void few_rows_into_tokens(const Row* const* rows, Index count, const TokenSums<P, Y, Fill>& to, Index feature,
                          Index n) {
  IntoTokens<P> into = {{}, to.overwrite, !to.overwrite && from_afar(to.out)};
  with_few_rows<few_ranks>(count, [&](auto R) {
    const auto past_rows = [&](const float* c, Y* const* outs, Index first, Index tokens) {
      const Weights<P> w = to.w.from(first, feature);
      const Index alike = w.arrays ? 1 : tokens;
      for (Index t = 0; t < tokens; t += alike) {
        into.w.common = w.of(t);
        axpyf_in_registers<R>(rows, count, c + t * R, outs + t, alike, into, n);
      }
    };
    for_few_outputs<R>(to, count, feature, past_rows);
  });
}

/// The same with packed rows, w folded in, past which several tokens stream side by side.
template <class Row, class P, class Y, class Fill>
void few_rows_into_tokens_side_by_side(const Row* const* rows, Index count, const TokenSums<P, Y, Fill>& to,
                                       Index feature, Index n) {
  const Index next = to.overwrite ? 0 : next_from_afar(to.out);
  with_few_rows<few_ranks>(count, [&](auto R) {
    constexpr Index stride = axpyf_features + 256;
    alignas(64) float buffer[R * stride + page_floats];
    float* const packed = away_from(to.out[0] + feature, buffer);
    const float* row[R];
    for (unsigned p = 0; p < R; ++p) row[p] = packed + p * stride;
    for (Index i = count * stride; i < Index{R} * stride; ++i) packed[i] = 0;
    for (Index i = 0; i < n; i += axpyf_features) {
      const Index m = smaller(axpyf_features, n - i);
      const Row* from[R];
      for (Index p = 0; p < count; ++p) from[p] = rows[p] + i;
      pack_rows(from, count, to.w.from(0, feature + i).common, m, packed, stride, row);
      const auto past_rows = [&](const float* c, Y* const* outs, Index, Index tokens) {
        in_groups<side_by_side>(0, tokens, [&](auto J, Index t) {
          axpyf<R, J>(row, c + t * R, outs + t, to.overwrite, m, J * next);
        });
      };
      for_few_outputs<R>(to, count, feature + i, past_rows);
    }
  });
}

/// Whether tokens stream side by side past packed rows, rather than one by one past rows in registers: where
/// there are enough of them to pay for packing, or they share cache sets, and the rows are the same for all
/// of them.
template <class P, class Y, class Fill>
bool go_side_by_side(const TokenSums<P, Y, Fill>& to) {
  const Tokens<Y>& out = to.out;
  if (out.count <= 1 || to.w.arrays) return false;
  return out.count >= pack_tokens || share_cache_sets(out.count, bytes_apart(out[0], out[1]));
}

/// sum_panel_into_tokens for one token and many rows.
template <class Row, class P, class Y>
void many_rows_into_token(const Row* const* rows, Index count, const float* c, const P* w, Y* out,
                          bool overwrite, Index n) {
  alignas(64) float sums[one_token_features];
  for (Index i = 0; i < n; ++i) sums[i] = 0;
  float* const to = sums;
  in_balanced_groups<rows_of_one_token>(
      count, [&](auto K, Index k) { axpyf<K, 1>(rows + k, c + k, &to, false, n, 0); });
  add_weighted(sums, w, out, n, overwrite);
}

/// The sums of `count` <= sums_kc rows over n features, starting at `feature` of the outputs and at the rows'
/// pointers.
template <class Row, class P, class Y, class Fill>
void sum_panel_into_tokens(const Row* const* rows, Index count, const TokenSums<P, Y, Fill>& to,
                           Index feature, Index n) {
  const Tokens<Y>& out = to.out;
  if (count <= few_ranks && go_side_by_side(to))
    return few_rows_into_tokens_side_by_side(rows, count, to, feature, n);
  if (count <= few_ranks) return few_rows_into_tokens(rows, count, to, feature, n);
  if (out.count == 1 && count >= many_rows) {
    float c[sums_kc];
    to.fill(0, 0, count, c);
    return many_rows_into_token(rows, count, c, to.w.from(0, feature).of(0), out[0] + feature, to.overwrite,
                                n);
  }
  const bool far = !to.overwrite && from_afar(out);
  in_output_groups(out.count, count, [&](auto J, Index t) {
    float c[J * sums_kc];
    for (unsigned j = 0; j < J; ++j) to.fill(t + j, 0, count, c + j * sums_kc);
    Y* outs[J];
    point_at(out, t, Index{J}, feature, outs);
    const IntoTokens<P> into = {to.w.from(t, feature), to.overwrite, far, next_from_afar(out)};
    sum_microkernel<J>(SumRows<Row, sums_kc>{rows, count, c}, outs, into, n);
  });
}

/// The same for more rows than a panel holds: an output is rounded once, so the sums are kept in float.
/// rows(k, m, feature, p) writes the addresses of that feature in the rows [k, k + m).
template <class P, class Y, class Rows, class Fill>
void sum_panels_into_tokens(const Rows& rows, Index rank, const TokenSums<P, Y, Fill>& to, Index feature,
                            Index n) {
  constexpr unsigned J = 4;
  float sums[J][sums_nc_of_panels];
  const P* row[sums_kc];
  for (Index t = 0; t < to.out.count; t += J) {
    const Index tokens = smaller(J, to.out.count - t);
    const Tokens<float> block = {sums[0], sums_nc_of_panels, tokens, sums_nc_of_panels};
    for (Index k = 0; k < rank; k += sums_kc) {
      const Index count = smaller(sums_kc, rank - k);
      const auto fill = [&](Index j, Index, Index m, float* c) { to.fill(t + j, k, m, c); };
      rows(k, count, feature, row);
      sum_panel_into_tokens(row, count, TokenSums<P, float, decltype(fill)>{block, k == 0, {}, fill}, 0, n);
    }
    for (Index j = 0; j < tokens; ++j)
      add_weighted(sums[j], to.w.from(t, feature).of(j), to.out[t + j] + feature, n, to.overwrite);
  }
}

/// The sums of any number of rows over a range of features. rows(k, n, feature, p) writes the addresses of
/// that feature in the rows [k, k + n).
template <class P, class Y, class Rows, class Fill>
void sum_into_tokens(const Rows& rows, Index rank, const TokenSums<P, Y, Fill>& to, Range features) {
  const P* row[sums_kc];
  bool packs = false;
  if (rank <= sums_kc) {
    rows(0, rank, 0, row);
    packs = packs_rows<P>(row, rank, to.out.count);
  }
  const Index chunk = packs ? packed_features(rank) : sum_features(rank, to.out.count);
  for (Index begin = features.begin; begin < features.end; begin += chunk) {
    const Index n = smaller(features.end - begin, chunk);
    if (rank > sums_kc) {
      sum_panels_into_tokens(rows, rank, to, begin, n);
      continue;
    }
    rows(0, rank, begin, row);
    if (packs) {
      alignas(64) float packed[packed_floats];
      const float* at[sums_kc];
      pack_rows(row, rank, static_cast<const P*>(nullptr), n, packed, chunk, at);
      sum_panel_into_tokens(at, rank, to, begin, n);
    } else {
      sum_panel_into_tokens(row, rank, to, begin, n);
    }
  }
}

/// The coefficient of column k of B for token t, c_t u_k h_t[k], for k from `first` on.
template <class P>
TIEDLORA_INLINE void fill_expand(const Factors<const P>& f, const Tokens<const float>& h,
                                 const CallOptions& o, Index t, Index first, Index n, float* out) {
  scale(h[t] + first, f.u ? f.u + first : nullptr, detail::token_scaling<float>(f, o, t), out, n);
}

/// y (+)= w ∘ B·(coefficients) for a share of the tokens and features; fill as in TokenSums.
template <class P, class Y, class Fill>
void expand_into(const Factors<const P>& f, const Tokens<Y>& y, const Weights<P>& w, const Fill& fill,
                 const CallOptions& o) {
  const auto [tokens, features] = detail::shares_of_expand(y.count, y.width, o.slice);
  const auto own = [&, first = tokens.begin](Index t, Index k, Index n, float* c) {
    fill(first + t, k, n, c);
  };
  const auto rows = [&](Index first, Index count, Index feature, const P** out) {
    for (Index p = 0; p < count; ++p) out[p] = f.B + (first + p) * f.b_stride + feature;
  };
  const Tokens<Y> out = y.tokens(tokens.begin, tokens.end - tokens.begin);
  sum_into_tokens<P>(
      rows, f.rank, TokenSums<P, Y, decltype(own)>{out, o.overwrite, w.from(tokens.begin, 0), own}, features);
}

template <class P, class Y>
void expand(const Factors<const P>& f, const Tokens<const float>& h, const Tokens<Y>& y,
            const CallOptions& o) {
  expand_into<P>(
      f, y, {.common = f.v}, [&](Index t, Index k, Index n, float* c) { fill_expand(f, h, o, t, k, n, c); },
      o);
}

/// The same for tokens of many adapters that share B and differ in u and v.
template <class P, class Y>
void expand(const Factors<const P>& f, const Tenants<P>& tenants, const Tokens<const float>& h,
            const Tokens<Y>& y, const CallOptions& o) {
  const auto fill = [&](Index t, Index k, Index n, float* c) {
    Factors<const P> own = f;
    if (tenants.u >= 0) own.u = tenants.arrays[t] + tenants.u;
    fill_expand(own, h, o, t, k, n, c);
  };
  const Weights<P> common = {.common = f.v}, own = {.arrays = tenants.arrays, .offset = tenants.v};
  expand_into<P>(f, y, tenants.v < 0 ? common : own, fill, o);
}

}  // namespace TIEDLORA_ISA
}  // namespace cpu
TIEDLORA_END_NAMESPACE
