// A backend with all that a backend may have: slices, dropout, the calls for several modules and for tenants.
// Right, by the reference loops; each function can be replaced by a wrong one.
#pragma once

#include <functional>
#include <span>
#include <tiedlora/ops.hpp>
#include <vector>

#include "support/plain_backend.hpp"

namespace tiedlora_test {

struct FullBackend {
  using F = Plain::F;
  using In = Plain::In;
  using Out = Plain::Out;
  using O = Plain::O;
  using G = Factors<float>;
  template <class T>
  using Many = std::span<const T>;
  static constexpr bool runs_slices = true, masks_x = true;

  void shrink(const F& f, const In& x, const Out& h, const O& o) const { one.shrink(f, x, h, o); }
  void expand(const F& f, const In& h, const Out& y, const O& o) const { one.expand(f, h, y, o); }
  void expand_backward(const F& f, const In& h, const In& dy, const G& g, const Out& dh, const O& o) const {
    one.expand_backward(f, h, dy, g, dh, o);
  }
  void shrink_backward(const F& f, const In& x, const In& dh, const G& g, const Out& dx, const O& o) const {
    one.shrink_backward(f, x, dh, g, dx, o);
  }
  void shrink(Many<F> f, const In& x, Many<Out> h, const O& o) const { many.shrink(f, x, h, o); }
  void expand(Many<F> f, Many<In> h, Many<Out> y, const O& o) const { many.expand(f, h, y, o); }
  void expand_backward(Many<F> f, Many<In> h, Many<In> dy, Many<G> g, Many<Out> dh, const O& o) const {
    many.expand_backward(f, h, dy, g, dh, o);
  }
  void shrink_backward(Many<F> f, const In& x, Many<In> dh, Many<G> g, const Out& dx, const O& o) const {
    many.shrink_backward(f, x, dh, g, dx, o);
  }
  void expand(const F& f, const Tenants<float>& tenants, const In& h, const Out& y, const O& o) const {
    for_tenants(f, tenants, h, y, o);
  }

  struct One {
    std::function<void(const F&, In, Out, O)> shrink = [](const F& f, In x, Out h, O o) {
      ReferenceBackend().shrink(f, x, h, o);
    };
    std::function<void(const F&, In, Out, O)> expand = [](const F& f, In h, Out y, O o) {
      ReferenceBackend().expand(f, h, y, o);
    };
    std::function<void(const F&, In, In, const G&, Out, O)> expand_backward = [](const F& f, In h, In dy,
                                                                                 const G& g, Out dh, O o) {
      ReferenceBackend().expand_backward(f, h, dy, g, dh, o);
    };
    std::function<void(const F&, In, In, const G&, Out, O)> shrink_backward = [](const F& f, In x, In dh,
                                                                                 const G& g, Out dx, O o) {
      ReferenceBackend().shrink_backward(f, x, dh, g, dx, o);
    };
  };
  struct Modules {
    std::function<void(Many<F>, In, Many<Out>, O)> shrink = [](Many<F> f, In x, Many<Out> h, O o) {
      for (std::size_t m = 0; m < f.size(); ++m)
        if (f[m].rank > 0) One().shrink(f[m], x, h[m], o);
    };
    std::function<void(Many<F>, Many<In>, Many<Out>, O)> expand = [](Many<F> f, Many<In> h, Many<Out> y,
                                                                     O o) {
      for (std::size_t m = 0; m < f.size(); ++m)
        if (f[m].rank > 0 || o.overwrite) One().expand(f[m], h[m], y[m], o);
    };
    std::function<void(Many<F>, Many<In>, Many<In>, Many<G>, Many<Out>, O)> expand_backward =
        [](Many<F> f, Many<In> h, Many<In> dy, Many<G> g, Many<Out> dh, O o) {
          for (std::size_t m = 0; m < f.size(); ++m)
            if (f[m].rank > 0) One().expand_backward(f[m], h[m], dy[m], g[m], dh[m], o);
        };
    std::function<void(Many<F>, In, Many<In>, Many<G>, Out, O)> shrink_backward =
        [](Many<F> f, In x, Many<In> dh, Many<G> g, Out dx, O o) {
          for (std::size_t m = 0; m < f.size(); ++m) {
            if (f[m].rank == 0) continue;
            One().shrink_backward(f[m], x, dh[m], g[m], dx, o);
            o.overwrite = false;
          }
        };
  };
  One one;
  Modules many;
  std::function<void(const F&, const Tenants<float>&, In, Out, O)> for_tenants =
      [](const F& f, const Tenants<float>& tenants, In h, Out y, O o) {
        for (Index t = 0; t < y.count; ++t) {
          F own = f;
          if (tenants.u >= 0) own.u = tenants.arrays[t] + tenants.u;
          if (tenants.v >= 0) own.v = tenants.arrays[t] + tenants.v;
          CallOptions of_token = o;
          if (o.token_scale) of_token.token_scale = o.token_scale + t;
          One().expand(own, h.tokens(t, 1), y.tokens(t, 1), of_token);
        }
      };
};

}  // namespace tiedlora_test
