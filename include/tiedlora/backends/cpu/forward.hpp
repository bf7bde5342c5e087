// shrink and expand on tiles: the same sums as reference.hpp in another, equally fixed order.
//
// The order of every sum follows from the module's shape alone, not from the number of tokens or the slice: T
// tokens at once give the bits of T single tokens.
#pragma once

#include <algorithm>    // copy_n, max, min
#include <cstddef>      // size_t
#include <span>         // span
#include <type_traits>  // false_type, true_type

#include "../../views/factors.hpp"
#include "../../views/options.hpp"
#include "../../views/slice.hpp"
#include "../../views/tokens.hpp"
#include "blocking.hpp"
#include "pack.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace cpu {
inline namespace TIEDLORA_ISA {

using detail::Range;

/// The first of the modules whose A is that of module m: they share h.
template <class Modules>
std::size_t first_with_same_A(const Modules& modules, std::size_t m) {
  std::size_t first = 0;
  while (modules[first].A != modules[m].A || modules[first].rank != modules[m].rank) ++first;
  return first;
}

/// Where feature `feature` of the tokens [first, first + count) lies.
template <class T>
TIEDLORA_INLINE void point_at(const Tokens<T>& x, Index first, Index count, Index feature, T** out) {
  if (x.pointers || x.rows) {
    for (Index t = 0; t < count; ++t) out[t] = x[first + t] + feature;
  } else {
    T* p = x[first] + feature;
    for (Index t = 0; t < count; ++t, p += x.stride) out[t] = p;
  }
}

/// Whether tokens are taken to come from beyond the second cache, by the size of all of them.
template <class T>
bool from_afar(const Tokens<T>& x) {
  return x.count * x.width * static_cast<Index>(sizeof(T)) > far_bytes;
}

/// From one token to the next where they are equally far apart, else 0.
template <class T>
Index next_token(const Tokens<T>& x) {
  return x.pointers || x.rows ? 0 : x.stride;
}

/// The same where they come from afar, for the next ones to be fetched; else 0.
template <class T>
Index next_from_afar(const Tokens<T>& x) {
  return from_afar(x) ? next_token(x) : 0;
}

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

/// Some rows of A, or of B with v folded in.
template <class P>
struct Matrix {
  const P* data;
  Index stride;
  const P* fold = nullptr;  ///< one weight per feature; null: ones

  const P* row(Index k) const { return data + k * stride; }
};

/// Whether the rows and tokens of one tile are more than the eight lines that the first cache has for each
/// address modulo 4096.
template <class P, class X>
bool overflow_cache_set(const Matrix<P>& rows, Range ranks, const X* const* x, Index count) {
  Index lines = 0;
  const auto add = [&](const auto* p) { lines += shares_cache_set(bytes_apart(x[0], p)); };
  for (Index k = ranks.begin; k < std::min<Index>(ranks.begin + dot_chains, ranks.end); ++k) add(rows.row(k));
  for (Index t = 0; t < std::min<Index>(dot_tokens, count); ++t) add(x[t]);
  return lines > 8;
}

/// h[t][k] (+)= row_k · x[t] for the ranks of a range and `count` tokens, over n <= dot_features features
/// from where rows and x point. Weights are folded into the rows or into the tokens: whatever there is less
/// of in the whole call. All tokens go past one group of rows after the other; `next` is from one to the next
/// if they come from afar (0: they do not), for the first group to fetch them.
template <class P, class X>
void dot_block(const Matrix<P>& rows, bool folds_rows, Range ranks, const X* const* x, Index next,
               float* const* h, Index count, Index n, bool add) {
  alignas(64) float packed[dot_panel_rows * packed_stride(dot_features)];
  const Index stride = packed_stride(n);
  const auto tile = [&]<class Row>(auto K, auto T, DotRows<Row> a, const auto* const* tokens, Index from_next,
                                   float* const* to, Index k) {
    if constexpr (T == dot_tokens) {
      if (from_next && k == ranks.begin) {
        a.ahead = T * from_next;
        return dot_tile<K, T, true>(a, tokens, n, to, k, add);
      }
    }
    dot_tile<K, T, false>(a, tokens, n, to, k, add);
  };
  const auto in_place = [&](const auto* const* tokens, Index from_next, float* const* to, Index m) {
    const auto tiles = [&](auto K, Index k) {
      in_balanced_groups<dot_tokens>(m, [&](auto T, Index t) {
        if constexpr (K <= dot_chains || T <= dot_tokens_of_most_rows)
          tile(K, T, DotRows<P>{rows.row(k), rows.stride}, tokens + t, from_next, to + t, k);
      });
    };
    if (m <= static_cast<Index>(dot_tokens_of_most_rows))
      in_groups<dot_most_rows>(ranks.begin, ranks.end, tiles);
    else
      in_groups<dot_chains>(ranks.begin, ranks.end, tiles);
  };
  const float* at[dot_panel_rows];
  if (rows.fold ? folds_rows
                : count >= pack_tokens && (is_narrow<P> || overflow_cache_set(rows, ranks, x, count))) {
    in_groups<dot_chains>(ranks.begin, ranks.end, [&](auto K, Index k) {
      const P* row[K];
      for (unsigned j = 0; j < K; ++j) row[j] = rows.row(k + j);
      pack_rows(row, K, rows.fold, n, packed, stride, at);
      in_balanced_groups<dot_tokens>(count, [&](auto T, Index t) {
        tile(K, T, DotRows<float>{packed, stride}, x + t, next, h + t, k);
      });
    });
  } else if (!rows.fold) {
    in_place(x, next, h, count);
  } else {
    for (Index t = 0; t < count; t += dot_panel_rows) {
      const Index m = std::min(dot_panel_rows, count - t);
      pack_rows(x + t, m, rows.fold, n, packed, stride, at);
      in_place(at, 0, h + t, m);
    }
  }
}

/// h = A x for several modules that read the same x: the part of x that is in the nearest caches serves all
/// of them, and those whose A is that of another get its h.
template <class P, class X>
void shrink(std::span<const Factors<const P>> modules, const Tokens<const X>& x,
            std::span<const Tokens<float>> h, const CallOptions& o) {
  for (Index i = 0; i < x.width; i += dot_features) {
    const Index n = std::min(dot_features, x.width - i), block = block_of(n, sizeof(X));
    for (Index first = 0; first < x.count; first += block) {
      for (std::size_t m = 0; m < modules.size(); ++m) {
        const Factors<const P>& f = modules[m];
        if (f.rank == 0 || first_with_same_A(modules, m) != m) continue;
        const auto [tokens, ranks] = detail::shares_of_shrink(x.count, f.rank, o.slice);
        const Index begin = std::max(first, tokens.begin);
        const Index count = std::min(first + block, tokens.end) - begin;
        if (count <= 0) continue;
        const X* xs[block_tokens];
        float* hs[block_tokens];
        point_at(x, begin, count, i, xs);
        point_at(h[m], begin, count, 0, hs);
        dot_block<P>({f.A + i, f.a_stride}, false, ranks, xs, next_from_afar(x), hs, count, n, i > 0);
      }
    }
  }
  // A slice copies what it has written itself.
  for (std::size_t m = 0; m < modules.size(); ++m) {
    if (modules[m].rank == 0) continue;
    const std::size_t first = first_with_same_A(modules, m);
    const auto [tokens, ranks] = detail::shares_of_shrink(x.count, modules[m].rank, o.slice);
    for (Index t = tokens.begin; t < tokens.end; ++t)
      if (h[m][t] != h[first][t])
        std::copy_n(h[first][t] + ranks.begin, ranks.end - ranks.begin, h[m][t] + ranks.begin);
  }
}

/// Whether to pack rows of tokens or of factors in a call of so many tokens: to widen them once, or out of each other's way. (With 32 registers one line of a row lasts long enough to fetch the next
/// from the second cache.)
template <class T>
bool packs_rows(const T* const* rows, Index count, Index tokens) {
  if (count <= few_ranks || tokens < pack_tokens) return false;
  return is_narrow<T> || (!many_registers && share_cache_sets(count, bytes_apart(rows[0], rows[1])));
}

/// Coefficients of `count` <= R rows for some tokens, R for each: zeros for the rows that are not there.
template <unsigned R, class Fill>
void fill_few(const Fill& fill, Index count, Index first, Index tokens, float* c) {
  for (Index t = 0; t < tokens; ++t, c += R) {
    fill(first + t, 0, count, c);
    for (Index p = count; p < static_cast<Index>(R); ++p) c[p] = 0;
  }
}

/// sum_panel_into_tokens for `count` <= few_ranks rows; into(t) says what becomes of the sums of the tokens
/// from t on.
template <class Row, class Y, class Fill, class Into>
void few_rows_into_tokens(const Row* const* rows, Index count, const Fill& fill, const Tokens<Y>& out,
                          const Into& into, Index feature, Index n) {
  const Index at_once = out.count > 1 ? few_outputs_at_once(bytes_apart(out[0], out[1])) : 1;
  with_few_rows<few_ranks>(count, [&](auto R) {
    for (Index first = 0; first < out.count; first += at_once) {
      const Index tokens = std::min(at_once, out.count - first);
      float c[few_outputs * R];
      Y* outs[few_outputs];
      fill_few<R>(fill, count, first, tokens, c);
      point_at(out, first, tokens, feature, outs);
      few_rows<R>(rows, count, c, outs, tokens, into(first), n);
    }
  });
}

/// The same with copied rows, w folded in, past which some tokens go side by side.
template <class Row, class Y, class Fill, class P>
void few_rows_into_tokens_side_by_side(const Row* const* rows, Index count, const Fill& fill, const P* w,
                                       const Tokens<Y>& out, bool overwrite, Index feature, Index n) {
  const Index next = overwrite ? 0 : next_from_afar(out);
  with_few_rows<few_ranks>(count, [&](auto R) {
    constexpr Index stride = few_rows_features + 256;
    alignas(64) float buffer[R * stride + page_floats];
    float* const folded = away_from(out[0] + feature, buffer);
    const float* row[R];
    for (unsigned p = 0; p < R; ++p) row[p] = folded + p * stride;
    for (Index p = count; p < static_cast<Index>(R); ++p) std::fill_n(folded + p * stride, stride, 0.0f);
    for (Index i = 0; i < n; i += few_rows_features) {
      const Index m = std::min(few_rows_features, n - i);
      const Row* from[R];
      for (Index p = 0; p < count; ++p) from[p] = rows[p] + i;
      pack_rows(from, count, w ? w + i : nullptr, m, folded, stride, row);
      for (Index first = 0; first < out.count; first += few_outputs) {
        const Index tokens = std::min(few_outputs, out.count - first);
        float c[few_outputs * R];
        Y* outs[few_outputs];
        fill_few<R>(fill, count, first, tokens, c);
        point_at(out, first, tokens, feature + i, outs);
        const auto past_rows = [&](auto J, Index t) {
          few_rows_side_by_side<R, J>(row, c + t * R, outs + t, overwrite, m, Ahead{.outs = J * next});
        };
        in_groups<side_by_side<R>>(0, tokens, past_rows);
      }
    }
  });
}

/// Whether tokens should go side by side past copies of few rows, or past rows in registers: where there are
/// enough of them for the copies, or where they share cache sets.
template <class Y>
bool go_side_by_side(const Tokens<Y>& out) {
  if (out.count <= 1) return false;
  return out.count >= pack_tokens || share_cache_sets(out.count, bytes_apart(out[0], out[1]));
}

/// sum_panel_into_tokens for one token and many rows.
template <class Row, class P, class Y>
void many_rows_into_token(const Row* const* rows, Index count, const float* c, const P* w, Y* out,
                          bool overwrite, Index n) {
  alignas(64) float sums[one_token_features];
  std::fill_n(sums, n, 0.0f);
  float* const out_sums = sums;
  in_balanced_groups<rows_of_one_token>(count, [&](auto K, Index k) {
    few_rows_side_by_side<K, 1>(rows + k, c + k, &out_sums, false, n, Ahead{});
  });
  add_weighted(sums, w, out, n, overwrite);
}

/// out_t (+)= w ∘ Σ_k c_t[k] row_k on n features from where the `count` <= panel_ranks rows and w point, for
/// all tokens t.
template <class Row, class Y, class Fill, class P>
void sum_panel_into_tokens(const Row* const* rows, Index count, const Fill& fill, const P* w,
                           const Tokens<Y>& out, bool overwrite, Index feature, Index n) {
  const IntoTokens<P> into = {
      .w = w, .overwrite = overwrite, .far = !overwrite && from_afar(out), .next = next_token(out)};
  if (count <= few_ranks) {
    if (go_side_by_side(out))
      return few_rows_into_tokens_side_by_side(rows, count, fill, w, out, overwrite, feature, n);
    return few_rows_into_tokens(rows, count, fill, out, [&](Index) { return into; }, feature, n);
  }
  if (out.count == 1 && count >= many_rows) {
    float c[panel_ranks];
    fill(0, 0, count, c);
    return many_rows_into_token(rows, count, c, w, out[0] + feature, overwrite, n);
  }
  in_output_groups(out.count, count, [&](auto J, Index t) {
    float c[J * panel_ranks];
    for (unsigned j = 0; j < J; ++j) fill(t + j, 0, count, c + j * panel_ranks);
    Y* outs[J];
    point_at(out, t, Index{J}, feature, outs);
    sum_rows<J>(SumRows<Row, panel_ranks>{rows, count, c}, outs, into, n);
  });
}

/// The same for more rows than a panel holds: an output is rounded once, so the sums wait in float. rows(k,
/// m, feature, p) says where the rows [k, k + m) have that feature.
template <class P, class Y, class Rows, class Fill>
void sum_panels_into_tokens(const Rows& rows, Index rank, const Fill& fill, const P* w, const Tokens<Y>& out,
                            bool overwrite, Index feature, Index n) {
  constexpr unsigned J = 4;
  float sums[J][panels_features];
  const P* row[panel_ranks];
  for (Index t = 0; t < out.count; t += J) {
    const Index tokens = std::min<Index>(J, out.count - t);
    const Tokens<float> block = {sums[0], panels_features, tokens, panels_features};
    for (Index k = 0; k < rank; k += panel_ranks) {
      const Index count = std::min(panel_ranks, rank - k);
      rows(k, count, feature, row);
      sum_panel_into_tokens(
          row, count, [&](Index j, Index, Index m, float* c) { fill(t + j, k, m, c); },
          static_cast<const P*>(nullptr), block, k == 0, 0, n);
    }
    for (Index j = 0; j < tokens; ++j) add_weighted(sums[j], w, out[t + j] + feature, n, overwrite);
  }
}

/// out_t (+)= w ∘ Σ_k c_t[k] row_k on a range of features, for all tokens t. rows(k, n, feature, p) says
/// where the rows [k, k + n) have that feature; fill(t, k, n, c) writes c_t[k …].
template <class P, class Y, class Rows, class Fill>
void sum_into_tokens(const Rows& rows, Index rank, const Fill& fill, const P* w, const Tokens<Y>& out,
                     bool overwrite, Range features) {
  const P* row[panel_ranks];
  bool packs = false;
  if (rank <= panel_ranks) {
    rows(0, rank, 0, row);
    packs = packs_rows<P>(row, rank, out.count);
  }
  const Index chunk = packs ? packed_features(rank) : sum_features(rank, out.count);
  for (Index begin = features.begin; begin < features.end; begin += chunk) {
    const Index n = std::min(features.end - begin, chunk);
    const P* const weight = w ? w + begin : nullptr;
    if (rank > panel_ranks) {
      sum_panels_into_tokens(rows, rank, fill, weight, out, overwrite, begin, n);
      continue;
    }
    rows(0, rank, begin, row);
    if (packs) {
      alignas(64) float packed[packed_floats];
      const float* at[panel_ranks];
      pack_rows(row, rank, static_cast<const P*>(nullptr), n, packed, chunk, at);
      sum_panel_into_tokens(at, rank, fill, weight, out, overwrite, begin, n);
    } else {
      sum_panel_into_tokens(row, rank, fill, weight, out, overwrite, begin, n);
    }
  }
}

/// What column k of B is multiplied with for token t, c_t u_k h_t[k], for k from `first` on.
template <class P>
TIEDLORA_INLINE void fill_expand(const Factors<const P>& f, const Tokens<const float>& h,
                                 const CallOptions& o, Index t, Index first, Index n, float* out) {
  scale(h[t] + first, f.u ? f.u + first : nullptr, detail::token_scaling<float>(f, o, t), out, n);
}

template <class P, class Y>
void expand(const Factors<const P>& f, const Tokens<const float>& h, const Tokens<Y>& y,
            const CallOptions& o) {
  const auto [tokens, features] = detail::shares_of_expand(y.count, y.width, o.slice);
  const auto fill = [&, first = tokens.begin](Index t, Index k, Index n, float* c) {
    fill_expand(f, h, o, first + t, k, n, c);
  };
  const auto rows = [&](Index first, Index count, Index feature, const P** out) {
    for (Index p = 0; p < count; ++p) out[p] = f.B + (first + p) * f.b_stride + feature;
  };
  sum_into_tokens<P>(rows, f.rank, fill, f.v, y.tokens(tokens.begin, tokens.end - tokens.begin), o.overwrite,
                     features);
}

}  // namespace TIEDLORA_ISA
}  // namespace cpu
TIEDLORA_END_NAMESPACE
