// A backend as a user would first write it: correct, and slow.
#pragma once

#include <span>
#include <tiedlora/ops.hpp>

namespace tiedlora_test {

using namespace tiedlora;

// A user's own: the formulas, in four plain loops.
struct Plain {
  using F = Factors<const float>;
  using In = Tokens<const float>;
  using Out = Tokens<float>;
  using O = CallOptions;

  static float c(const F& f, const O& o, Index t) {
    return f.scaling * static_cast<float>(o.scale) * (o.token_scale ? o.token_scale[t] : 1);
  }
  static float u(const F& f, Index k) { return f.u ? f.u[k] : 1; }
  static float v(const F& f, Index j) { return f.v ? f.v[j] : 1; }

  void shrink(const F& f, const In& x, const Out& h, const O&) const {
    for (Index t = 0; t < x.count; ++t)
      for (Index k = 0; k < f.rank; ++k) {
        float sum = 0;
        for (Index i = 0; i < f.in_features; ++i) sum += f.A[k * f.a_stride + i] * x[t][i];
        h[t][k] = sum;
      }
  }

  void expand(const F& f, const In& h, const Out& y, const O& o) const {
    for (Index t = 0; t < y.count; ++t)
      for (Index j = 0; j < f.out_features; ++j) {
        float sum = 0;
        for (Index k = 0; k < f.rank; ++k) sum += f.B[k * f.b_stride + j] * u(f, k) * h[t][k];
        sum *= c(f, o, t) * v(f, j);
        y[t][j] = o.overwrite ? sum : y[t][j] + sum;
      }
  }

  void expand_backward(const F& f, const In& h, const In& dy, const Factors<float>& g, const Out& dh,
                       const O& o) const {
    for (Index t = 0; t < dy.count; ++t) {
      for (Index j = 0; j < f.out_features; ++j) {
        float sum = 0;
        for (Index k = 0; k < f.rank; ++k) {
          const float uh = u(f, k) * h[t][k];
          sum += f.B[k * f.b_stride + j] * uh;
          if (g.B) g.B[k * g.b_stride + j] += c(f, o, t) * v(f, j) * dy[t][j] * uh;
        }
        if (g.v) g.v[j] += c(f, o, t) * dy[t][j] * sum;
      }
      if (dh.is_none()) continue;
      for (Index k = 0; k < f.rank; ++k) {
        float d = 0;
        for (Index j = 0; j < f.out_features; ++j) d += f.B[k * f.b_stride + j] * v(f, j) * dy[t][j];
        d *= c(f, o, t);
        if (g.u) g.u[k] += h[t][k] * d;
        dh[t][k] = u(f, k) * d;
      }
    }
  }

  void shrink_backward(const F& f, const In& x, const In& dh, const Factors<float>& g, const Out& dx,
                       const O& o) const {
    for (Index t = 0; t < (dx.is_none() ? dh : In(dx)).count; ++t)
      for (Index i = 0; i < f.in_features; ++i) {
        float sum = 0;
        for (Index k = 0; k < f.rank; ++k) {
          if (g.A) g.A[k * g.a_stride + i] += dh[t][k] * x[t][i];
          sum += f.A[k * f.a_stride + i] * dh[t][k];
        }
        if (!dx.is_none()) dx[t][i] = o.overwrite ? sum : dx[t][i] + sum;
      }
  }
};

// Calls for several modules, one after the other.
struct PlainModules : Plain {
  using Plain::shrink, Plain::shrink_backward;

  void shrink(std::span<const F> modules, const In& x, std::span<const Out> h, const O& o) const {
    for (std::size_t m = 0; m < modules.size(); ++m)
      if (modules[m].rank > 0) shrink(modules[m], x, h[m], o);
  }
  void shrink_backward(std::span<const F> modules, const In& x, std::span<const In> dh,
                       std::span<const Factors<float>> g, const Out& dx, O o) const {
    for (std::size_t m = 0; m < modules.size(); ++m) {
      if (modules[m].rank == 0) continue;
      shrink_backward(modules[m], x, dh[m], g[m], dx, o);
      o.overwrite = false;
    }
  }
};

}  // namespace tiedlora_test
