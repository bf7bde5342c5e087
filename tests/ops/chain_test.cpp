// Derivatives through several layers of several modules, in double: gradients of tied factors add up over all
// modules that share them, for every scheme.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <tiedlora/adapter.hpp>
#include <tiedlora/ops.hpp>
#include <tiedlora/verify/gradient_check.hpp>
#include <vector>

#include "support/reference.hpp"
#include "support/schemes.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

struct Sizes {
  int layers = 3;
  Index width = 3;
  Index outs[3] = {2, 4, 3};  ///< of the two experts and of "up"
  Index rank = 2;
  Index tokens = 2;
};

// A small model with base weights of its own. In every layer two experts of unequal shape and "up" read one x
// and write side by side into z; "down" reads z. A head without a layer reads the last x.
//   z = W1 x + [expert 0; expert 1; up](x)    x' = tanh(W2 z + down(z))    y = W3 x + head(x)    L = Σ dy ∘ y
class Chain {
 public:
  Chain(const Sizes& sizes, const Scheme& scheme, Dice& dice, const CallOptions& options)
      : s_(sizes),
        options_(options),
        adapter_(Layout(modules(), scheme, sizes.rank, {.scaling = 0.75})),
        gradients_(adapter_.layout()) {
    fill_factors(adapter_, dice);
    const double scale = 0.5;
    for (int layer = 0; layer < s_.layers; ++layer) {
      W1_.push_back(dice.matrix<double>(z_width(), s_.width, -scale, scale));
      W2_.push_back(dice.matrix<double>(s_.width, z_width(), -scale, scale));
    }
    W3_ = dice.matrix<double>(s_.width, s_.width);
    dy_ = dice.matrix<double>(s_.width, s_.tokens);
    x_.assign(static_cast<std::size_t>(s_.layers) + 1, dice.matrix<double>(s_.width, s_.tokens));
    z_.resize(static_cast<std::size_t>(s_.layers));
    h_.assign(static_cast<std::size_t>(adapter_.layout().size()), Matrix<double>(s_.rank, s_.tokens));
  }

  Adapter<double>& adapter() { return adapter_; }
  Gradients<double>& gradients() { return gradients_; }
  std::span<double> input() { return span(x_[0]); }
  std::span<double> input_gradient() { return span(dx_); }

  double loss() {
    for (std::size_t layer = 0; layer < z_.size(); ++layer) {
      Matrix<double>& z = z_[layer] = product(W1_[layer], x_[layer]);
      const Tokens<double> zs = tokens(z);
      for (Index n = 0, begin = 0; n < 3; begin += s_.outs[n++])
        run(layer, n, x_[layer], zs.features(begin, s_.outs[n]));
      Matrix<double> y = product(W2_[layer], z);
      run(layer, 3, z, y);
      for (Index i = 0; i < y.size(); ++i) y.data()[i] = std::tanh(y.data()[i]);
      x_[layer + 1] = y;
    }
    Matrix<double> y = product(W3_, x_.back());
    run(z_.size(), 0, x_.back(), y);
    double sum = 0;
    for (Index i = 0; i < y.size(); ++i) sum += dy_.data()[i] * y.data()[i];
    return sum;
  }

  // After loss(): x, z and h are still there.
  void backward_pass() {
    dx_ = product(W3_.transpose(), dy_);
    run_backward(z_.size(), 0, x_.back(), dy_, dx_);
    for (std::size_t layer = z_.size(); layer-- > 0;) {
      for (Index i = 0; i < dx_.size(); ++i) dx_.data()[i] *= 1 - std::pow(x_[layer + 1].data()[i], 2);
      Matrix<double> dz = product(W2_[layer].transpose(), dx_);
      run_backward(layer, 3, z_[layer], dx_, dz);
      dx_ = product(W1_[layer].transpose(), dz);
      const Tokens<const double> dzs = tokens(dz);
      for (Index n = 0, begin = 0; n < 3; begin += s_.outs[n++])
        run_backward(layer, n, x_[layer], dzs.features(begin, s_.outs[n]), dx_);
    }
  }

 private:
  static std::span<double> span(Matrix<double>& m) { return {m.data(), static_cast<std::size_t>(m.size())}; }
  static Tokens<double> tokens(Matrix<double>& m) { return {m.data(), m.rows(), m.cols(), m.rows()}; }
  Index z_width() const { return s_.outs[0] + s_.outs[1] + s_.outs[2]; }

  ModuleList modules() const {
    ModuleList list;
    for (int layer = 0; layer < s_.layers; ++layer) {
      const auto add = [&](const char* name, const char* kind, const char* input, Index in, Index out) {
        list.add({.name = "layers." + std::to_string(layer) + "." + name,
                  .layer = layer,
                  .kind = kind,
                  .input = input,
                  .in_features = in,
                  .out_features = out});
      };
      add("expert.0", "expert", "x", s_.width, s_.outs[0]);
      add("expert.1", "expert", "x", s_.width, s_.outs[1]);
      add("up", "up", "x", s_.width, s_.outs[2]);
      add("down", "down", "", z_width(), s_.width);
    }
    list.add({.name = "head", .kind = "down", .in_features = s_.width, .out_features = s_.width});
    return list;
  }

  CallOptions options_of(Index m) const {
    CallOptions options = options_;
    options.dropout.input = adapter_.layout().input_id(m);
    return options;
  }
  template <class Y>
  void run(std::size_t layer, Index n, const Matrix<double>& x, Y&& y) {
    const Index m = 4 * static_cast<Index>(layer) + n;
    forward(adapter_.factors(m), x, y, h_[static_cast<std::size_t>(m)], options_of(m));
  }
  template <class Dy>
  void run_backward(std::size_t layer, Index n, const Matrix<double>& x, const Dy& dy, Matrix<double>& dx) {
    const Index m = 4 * static_cast<Index>(layer) + n;
    const auto f = adapter_.factors(m);
    const Matrix<double>& h = h_[static_cast<std::size_t>(m)];
    if (adapter_.layout().backward_needs_x(m))
      backward(f, x, h, dy, gradients_.factors(m), dx, options_of(m));
    else
      backward(f, none, h, dy, gradients_.factors(m), dx, options_of(m));
  }

  Sizes s_;
  CallOptions options_;
  Adapter<double> adapter_;
  Gradients<double> gradients_;
  std::vector<Matrix<double>> W1_, W2_, x_, z_, h_;
  Matrix<double> W3_, dy_, dx_;
};

// The definition: ∂L/∂p = lim (L(p + h) - L(p - h)) / 2h, where a p that several modules share moves in all
// of them. With h = 3e-5 the difference errs by h² L'''/6 ~ 1e-10 and by ε L / h ~ 1e-11.
void expect_derivatives(const Sizes& sizes, const Scheme& scheme, std::uint64_t seed,
                        const CallOptions& options) {
  SCOPED_TRACE("seed " + std::to_string(seed) + ", " + describe(scheme));
  Dice dice(seed);
  Chain chain(sizes, scheme, dice, options);
  const auto loss = [&] { return chain.loss(); };
  (void)loss();
  chain.backward_pass();
  const verify::GradientCheckOptions check = {.step = 3e-5, .most_per_name = 24, .seed = seed};
  const auto factors = verify::check_gradients(chain.adapter(), chain.gradients(), loss, check);
  EXPECT_LT(factors.relative_error(), 1e-7) << factors.table();
  const verify::Variables x = {"x", chain.input(), chain.input_gradient()};
  const auto input = verify::check_gradients(std::span(&x, 1), loss, check);
  EXPECT_LT(input.relative_error(), 1e-7) << input.table();
}

TEST(Chain, EveryPreset) {
  std::uint64_t seed = 100;
  for (const NamedScheme& preset : presets()) {
    SCOPED_TRACE(preset.name);
    expect_derivatives({}, preset.scheme, ++seed, {});
    expect_derivatives({.layers = 2, .width = 5, .outs = {7, 1, 2}, .rank = 3, .tokens = 1}, preset.scheme,
                       ++seed, {});
  }
}

TEST(Chain, EveryTyingOfEachFactor) {
  std::uint64_t seed = 200;
  for (const Index layers : layer_tyings)
    for (const Across modules : module_tyings)
      for (const char* factor : {"A", "B", "u", "v"}) {
        Dice dice(++seed);
        Scheme scheme = random_scheme(dice);
        const Factor trained = {{layers, modules}, true, {}};
        if (*factor == 'A') scheme.A = trained;
        if (*factor == 'B') scheme.B = trained;
        if (*factor == 'u') scheme.u = trained;
        if (*factor == 'v') scheme.v = trained;
        expect_derivatives({}, scheme, seed, {});
      }
}

TEST(Chain, RandomSchemesSizesAndOptions) {
  std::uint64_t seed = 300;
  const float token_scale[] = {0.5f, 2, -1};
  for (int n = 0; n < 60; ++n) {
    Dice dice(++seed);
    const Sizes sizes = {.layers = static_cast<int>(dice.integer(1, 4)),
                         .width = dice.integer(1, 5),
                         .outs = {dice.integer(1, 4), dice.integer(1, 4), dice.integer(1, 4)},
                         .rank = dice.integer(1, 4),
                         .tokens = dice.integer(1, 3)};
    CallOptions options;
    if (dice.coin()) options.scale = 1.25;
    if (dice.coin()) options.token_scale = token_scale;
    if (dice.coin()) options.dropout = {.probability = 0.25, .seed = seed, .step = 3};
    expect_derivatives(sizes, random_scheme(dice), seed, options);
  }
}

}  // namespace
}  // namespace tiedlora_test
