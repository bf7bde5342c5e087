// expand for tokens of many adapters that have B in common and differ in u and v: one product with B for all
// of them, the order of every sum that of expand for one adapter.
#pragma once

#include <algorithm>  // min

#include "../../views/factors.hpp"
#include "../../views/options.hpp"
#include "../../views/tenants.hpp"
#include "../../views/tokens.hpp"
#include "blocking.hpp"
#include "forward.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace cpu {
inline namespace TIEDLORA_ISA {

/// As IntoTokens, with a vector of weights for each output.
template <class P>
struct IntoTenants {
  const P* const* weights;
  bool overwrite;
  bool far;

  template <unsigned M, unsigned J, class Out>
  TIEDLORA_INLINE void fetch_ahead(Out* const (&out)[J], Index at) const {
    if (far) TIEDLORA_UNROLL for (unsigned j = 0; j < J; ++j) {
        prefetch_tile<M>(out[j]);
        prefetch_tile<M>(weights[j] + at);
      }
  }
  template <unsigned J, unsigned M, class Io, class Out>
  TIEDLORA_INLINE bool finish(Vector (&acc)[J][M], const Io& io, Out* const (&out)[J], Index at) const {
    if (overwrite)
      replace(acc, [&](unsigned j, Index i, Vector g)
                       __attribute__((always_inline)) { return io.load(weights[j] + at + i) * g; });
    else
      replace(acc, [&](unsigned j, Index i, Vector g) __attribute__((always_inline)) {
        return multiply_add(io.load(weights[j] + at + i), g, io.load(out[j] + i));
      });
    return true;
  }
};

template <unsigned R, unsigned M, bool whole, class Out, class P>
TIEDLORA_INLINE void add_few_rows(FewRows<R, M, whole>& rows, const float* c, Out* const* outs, Index count,
                                  const IntoTenants<P>& into) {
  for (Index j = 0; j < count; ++j, c += R) {
    FewRows<R, M, whole> own = rows;
    add_few_rows(own, c, outs + j, 1, IntoTokens<P>{into.weights[j], into.overwrite, into.far});
  }
}

/// y_t (+)= c_t v_t ∘ B (u_t ∘ h_t) for all tokens t.
template <class P, class Y>
void expand(const Factors<const P>& f, const Tenants<P>& tenants, const Tokens<const float>& h,
            const Tokens<Y>& y, const CallOptions& o) {
  const auto fill = [&](Index t, Index k, Index n, float* c) {
    Factors<const P> own = f;
    if (tenants.u >= 0) own.u = tenants.arrays[t] + tenants.u;
    fill_expand(own, h, o, t, k, n, c);
  };
  const auto rows = [&](Index first, Index count, Index feature, const P** out) {
    for (Index p = 0; p < count; ++p) out[p] = f.B + (first + p) * f.b_stride + feature;
  };
  if (tenants.v < 0) return sum_into_tokens<P>(rows, f.rank, fill, f.v, y, o.overwrite, {0, f.out_features});

  // Outputs and weights, of which each token may have its own.
  const bool is_far = y.count * y.width * static_cast<Index>(sizeof(Y) + sizeof(P)) > far_bytes;
  const Index chunk = sum_features(f.rank, y.count);
  const P* row[panel_ranks];
  for (Index begin = 0; begin < f.out_features; begin += chunk) {
    const Index n = std::min(f.out_features - begin, chunk);
    if (f.rank <= few_ranks) {
      rows(0, f.rank, begin, row);
      const P* weights[few_outputs];
      few_rows_into_tokens(
          row, f.rank, fill, y,
          [&](Index first) {
            for (Index t = 0; t < std::min(few_outputs, y.count - first); ++t)
              weights[t] = tenants.arrays[first + t] + tenants.v + begin;
            return IntoTenants<P>{weights, o.overwrite, is_far};
          },
          begin, n);
      continue;
    }
    in_output_groups(y.count, f.rank, [&](auto J, Index t) {
      float c[J * panel_ranks];
      const auto sums_of = [&](Index k) {
        const Index count = std::min(panel_ranks, f.rank - k);
        rows(k, count, begin, row);
        for (unsigned j = 0; j < J; ++j) fill(t + j, k, count, c + j * panel_ranks);
        return SumRows<P, panel_ranks>{row, count, c};
      };
      Y* outs[J];
      const P* weights[J];
      point_at(y, t, Index{J}, begin, outs);
      for (unsigned j = 0; j < J; ++j) weights[j] = tenants.arrays[t + j] + tenants.v + begin;
      if (f.rank <= panel_ranks)
        return sum_rows<J>(sums_of(0), outs, IntoTenants<P>{weights, o.overwrite, is_far}, n);
      // As in sum_into_tokens: an output is rounded once.
      float block[J][panels_features];
      float* blocks[J];
      for (unsigned j = 0; j < J; ++j) blocks[j] = block[j];
      for (Index k = 0; k < f.rank; k += panel_ranks)
        sum_rows<J>(sums_of(k), blocks, IntoTokens<P>{.w = nullptr, .overwrite = k == 0, .far = false}, n);
      for (unsigned j = 0; j < J; ++j) add_weighted(blocks[j], weights[j], outs[j], n, o.overwrite);
    });
  }
}

}  // namespace TIEDLORA_ISA
}  // namespace cpu
TIEDLORA_END_NAMESPACE
