// The adapter as a change of the weight: merging it in, and rewriting adapters as plain LoRA.
#pragma once

#include <Eigen/Core>  // DenseBase and its traits

#include <algorithm>         // copy, max
#include <cstddef>           // size_t
#include <cstdlib>           // abs
#include <initializer_list>  // initializer_list
#include <span>              // span
#include <type_traits>       // is_const
#include <utility>           // forward
#include <vector>            // vector

#include "../views/config.hpp"
#include "../views/error.hpp"
#include "../views/factors.hpp"
#include "../views/scalar.hpp"
#include "adapter.hpp"
#include "quote.hpp"
#include "scheme.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// A view of a weight of rows × columns (out × in), element (i, j) at data + i · row_stride + j ·
/// column_stride.
template <class W>
struct Weight {
  W* data = nullptr;        ///< element (0, 0)
  Index rows = 0;           ///< out_features
  Index columns = 0;        ///< in_features
  Index row_stride = 0;     ///< columns for a dense row-major weight (PyTorch, C engines)
  Index column_stride = 1;  ///< rows for a dense column-major one (Eigen's default)
};

namespace detail {
/// A Weight, or any Eigen matrix, map or block of out × in in either storage order.
template <class W>
auto weight_view(W&& w) {
  using Type = std::remove_cvref_t<W>;
  if constexpr (std::is_base_of_v<Eigen::DenseBase<Type>, Type>) {
    static_assert((int{Type::Flags} & int{Eigen::DirectAccessBit}) != 0,
                  "tiedlora: a weight must lie in memory, in either storage order");
    using T = std::remove_pointer_t<decltype(w.derived().data())>;
    static_assert(!std::is_const_v<T>, "tiedlora: the weight must be writable");
    static_assert(std::is_lvalue_reference_v<W> || (int{Type::Flags} & int{Eigen::NestByRefBit}) == 0,
                  "tiedlora: the weight must outlive the call; this is a temporary matrix");
    return Weight<T>{w.derived().data(), w.rows(), w.cols(), w.derived().rowStride(),
                     w.derived().colStride()};
  } else {
    return Type(w);
  }
}

/// Whether no two elements share memory: each run along one side ends before the next begins.
inline bool elements_apart(Index rows, Index row_stride, Index columns, Index column_stride) {
  const auto runs_apart = [](Index inner, Index inner_stride, Index outer, Index outer_stride) {
    return (inner <= 1 || inner_stride > 0) && (outer <= 1 || outer_stride > (inner - 1) * inner_stride);
  };
  return rows <= 0 || columns <= 0 || runs_apart(columns, column_stride, rows, row_stride) ||
         runs_apart(rows, row_stride, columns, column_stride);
}

template <class P, class W>
void check_weight(const Factors<P>& f, const Weight<W>& w) {
  if (w.rows != f.out_features || w.columns != f.in_features)
    fail(message("module \"", f.name ? f.name : "?", "\": the weight is ", w.rows, "x", w.columns,
                 ", but the adapter is for ", f.out_features, "x", f.in_features,
                 " (out x in; wrong base model, or a transposed weight such as GPT-2's?)"));
  if (!w.data && w.rows > 0 && w.columns > 0)
    fail("module \"", f.name ? f.name : "?", "\": the weight is null");
  if (!elements_apart(w.rows, std::abs(w.row_stride), w.columns, std::abs(w.column_stride)))
    fail("module \"", f.name ? f.name : "?", "\": the weight's elements overlap: row_stride is ",
         w.row_stride, " and column_stride ", w.column_stride, " (a dense row-major weight has row_stride ",
         w.columns, " and column_stride 1)");
  if (f.rank > 0 && (!f.A || !f.B)) fail("module \"", f.name ? f.name : "?", "\": A or B is null");
}

// w += factor · ΔW, each element rounded once to the weight's type: docs/mathematics.md, E28.
template <class P, class W>
void add_delta(const Factors<P>& f, const Weight<W>& w, double factor) {
  using Acc = accumulator_t<P>;
  using Sum = sum_t<Acc, W>;
  check_weight(f, w);
  const Acc c = f.scaling * static_cast<Acc>(factor);
  if (!is_finite(c))
    fail("module \"", f.name ? f.name : "?", "\": the scale to merge with is ", factor,
         "; it must be finite, and so must its product with the scaling, ", f.scaling);
  for (Index i = 0; i < w.rows && f.rank > 0; ++i) {
    const Acc row_scale = f.v ? c * static_cast<Acc>(f.v[i]) : c;
    for (Index j = 0; j < w.columns; ++j) {
      Acc delta(0);
      for (Index k = 0; k < f.rank; ++k) {
        const Acc b = static_cast<Acc>(f.B[k * f.b_stride + i]),
                  a = static_cast<Acc>(f.A[k * f.a_stride + j]);
        delta += (f.u ? b * static_cast<Acc>(f.u[k]) : b) * a;
      }
      W& element = w.data[i * w.row_stride + j * w.column_stride];
      element = static_cast<W>(static_cast<Sum>(element) + static_cast<Sum>(row_scale * delta));
    }
  }
}

}  // namespace detail

/// W += scale · ΔW with ΔW = s · diag(v) B diag(u) A (docs/mathematics.md, E1), in any storage order and
/// type; every element is rounded once (from double to half or bfloat16 by way of float). Throws Error,
/// naming the module, if the shapes differ, elements of W overlap, or scale times the scaling is not finite.
template <class P, class W>
void merge(const Factors<P>& f, W&& w, double scale = 1) {
  detail::add_delta(f, detail::weight_view(std::forward<W>(w)), scale);
}

/// W -= scale · ΔW. Rounding keeps this from restoring W exactly (docs/mathematics.md, E29); where that
/// matters use MergedWeight.
template <class P, class W>
void unmerge(const Factors<P>& f, W&& w, double scale = 1) {
  detail::add_delta(f, detail::weight_view(std::forward<W>(w)), -scale);
}

/// A weight that is merged while this guard lives and then restored exactly, from a copy that the guard
/// keeps.
template <class W>
class MergedWeight {
 public:
  /// W += scale · ΔW until the guard dies; W is a Weight or an Eigen matrix. Throws Error, naming the
  /// module, if the shapes disagree.
  template <class P>
  MergedWeight(const Factors<P>& f, const Weight<W>& w, double scale = 1) : weight_(w) {
    detail::check_weight(f, w);
    detail::add_delta(f, saving(w), scale);
  }
  template <class P, class M>
    requires std::is_base_of_v<Eigen::DenseBase<M>, M>
  MergedWeight(const Factors<P>& f, M& w, double scale = 1)
      : MergedWeight(f, detail::weight_view(w), scale) {}
  MergedWeight(const MergedWeight&) = delete;
  MergedWeight& operator=(const MergedWeight&) = delete;
  ~MergedWeight() {
    std::size_t next = 0;
    for (Index i = 0; i < weight_.rows; ++i)
      for (Index j = 0; j < weight_.columns; ++j) at(i, j) = saved_[next++];
  }

 private:
  W& at(Index i, Index j) { return weight_.data[i * weight_.row_stride + j * weight_.column_stride]; }

  const Weight<W>& saving(const Weight<W>& w) {
    saved_.reserve(static_cast<std::size_t>(w.rows * w.columns));
    for (Index i = 0; i < w.rows; ++i)
      for (Index j = 0; j < w.columns; ++j) saved_.push_back(at(i, j));
    return w;
  }

  Weight<W> weight_;
  std::vector<W> saved_;
};
template <class P, class M>
MergedWeight(const Factors<P>&, M&, double = 1) -> MergedWeight<typename M::Scalar>;
template <class P, class W>
MergedWeight(const Factors<P>&, const Weight<W>&, double = 1) -> MergedWeight<W>;

/// One adapter's part in a sum.
template <class Source>
struct Weighted {
  const Source* adapter = nullptr;  ///< an Adapter or AdapterView
  double weight = 1;                ///< multiplies its ΔW
};

/// Σ weight · adapter as one plain LoRA of scaling 1, exact except for rounding each product once: ranks are
/// concatenated, A = [A_1; A_2; …], B = [w_1 s_1 diag(v_1) B_1 diag(u_1), …] (docs/mathematics.md, E25). In
/// the accumulator type. Throws Error unless all are for the same modules.
template <class Source>
auto combine(std::span<const Weighted<Source>> parts) {
  using Acc = accumulator_t<typename Source::Scalar>;
  if (parts.empty()) detail::fail("combine needs at least one adapter");
  for (const Weighted<Source>& part : parts)
    if (!part.adapter || !detail::is_finite(static_cast<Acc>(part.weight)))
      detail::fail("combine was given ", part.adapter ? "an adapter of weight " : "a null adapter of weight ",
                   part.weight, "; it needs adapters and finite weights");
  const ModuleList& modules = parts.front().adapter->layout().modules();
  LayoutOptions options;
  Index largest = 0;
  for (Index m = 0; m < modules.size(); ++m) {
    Index rank = 0;
    for (const Weighted<Source>& part : parts) {
      const ModuleList& others = part.adapter->layout().modules();
      if (m >= others.size() || !(others[m] == modules[m]) || others.size() != modules.size())
        detail::fail(
            detail::message("adapters of different module lists cannot be combined; they differ at module ",
                            detail::in_quotes(modules[m].name)));
      rank += part.adapter->layout().rank(m);
    }
    options.ranks.emplace_back(modules[m].name, rank);
    largest = std::max(largest, rank);
  }
  Adapter<Acc> sum(Layout(modules, schemes::lora(), largest, options));
  for (Index m = 0; m < modules.size(); ++m) {
    auto A = sum.A(m);
    auto B = sum.B(m);
    Index row = 0;
    for (const Weighted<Source>& part : parts) {
      const auto f = part.adapter->factors(m);
      const Acc c = f.scaling * static_cast<Acc>(part.weight);
      for (Index k = 0; k < f.rank; ++k, ++row) {
        for (Index j = 0; j < f.in_features; ++j) A(row, j) = static_cast<Acc>(f.A[k * f.a_stride + j]);
        const Acc cu = f.u ? c * static_cast<Acc>(f.u[k]) : c;
        for (Index i = 0; i < f.out_features; ++i) {
          const Acc b = cu * static_cast<Acc>(f.B[k * f.b_stride + i]);
          B(i, row) = f.v ? b * static_cast<Acc>(f.v[i]) : b;
        }
      }
    }
  }
  return sum;
}
template <class Source>
auto combine(std::initializer_list<Weighted<Source>> parts) {
  return combine(std::span<const Weighted<Source>>(parts.begin(), parts.size()));
}

/// The same function as plain LoRA, which every consumer reads: A_l = A, B_l = s · diag(v_l) B diag(u_l)
/// (docs/mathematics.md, E24), scaling 1, in the accumulator type. A is copied as it is, so that modules that
/// share A have equal rows in it.
template <class Source>
auto to_lora(const Source& adapter) {
  return combine({Weighted<Source>{&adapter, 1}});
}

TIEDLORA_END_NAMESPACE
