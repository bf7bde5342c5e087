// One module with random factors, and random operands of its calls.
#pragma once

#include <string>
#include <tiedlora/adapter.hpp>
#include <tiedlora/ops.hpp>
#include <vector>

#include "support/one_module.hpp"
#include "support/reference.hpp"

namespace tiedlora_test {

/// Parameters P, x and dx in X, y and dy in Y.
template <class P, class X, class Y>
struct ModuleRun {
  using Acc = tiedlora::accumulator_t<P>;

  ModuleRun(const OneModule& what, Index tokens, std::uint64_t seed)
      : text("in " + std::to_string(what.in) + ", out " + std::to_string(what.out) + ", rank " +
             std::to_string(what.rank) + ", tokens " + std::to_string(tokens) + ", present " +
             std::string(what.present) + ", trained " + std::string(what.trained) + ", seed " +
             std::to_string(seed)),
        adapter(one_module_layout(what)),
        count(tokens) {
    Dice dice(seed);
    fill_factors(adapter, dice);
    x = dice.matrix<X>(what.in, count), dx = dice.matrix<X>(what.in, count);
    y = dice.matrix<Y>(what.out, count), dy = dice.matrix<Y>(what.out, count);
    token_scale.resize(static_cast<std::size_t>(count));
    dice.fill(token_scale);
    options = {.scale = 0.7, .token_scale = token_scale.data(), .overwrite = dice.coin()};
  }
  ModuleRun(const ModuleRun&) = delete;
  ModuleRun& operator=(const ModuleRun&) = delete;

  tiedlora::Factors<const P> factors() const { return adapter.factors(0); }
  tiedlora::CallOptions part(Index ith, Index nth) const {
    tiedlora::CallOptions result = options;
    result.slice = {ith, nth};
    return result;
  }

  std::string text;  ///< for SCOPED_TRACE
  tiedlora::Adapter<P> adapter;
  Index count;
  Matrix<X> x, dx;
  Matrix<Y> y, dy;
  std::vector<float> token_scale;
  tiedlora::CallOptions options;
};

}  // namespace tiedlora_test
