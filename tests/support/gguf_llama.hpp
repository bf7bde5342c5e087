// Adapters of a small Llama, for GGUF files of them.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <tiedlora/adapter.hpp>
#include <tiedlora/adapter/merge.hpp>
#include <tiedlora/io/gguf/naming.hpp>

#include "support/dice.hpp"

namespace tiedlora_test::gguf_llama {

using namespace tiedlora;
using gguf::Order;

/// Two layers as transformers names Llama's: q 8 → 12 (3 heads of 4), k 8 → 4 (1 head), down 6 → 8.
inline ModuleList llama_modules() {
  ModuleList modules;
  for (int layer = 0; layer < 2; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer);
    const auto add = [&](const std::string& name, const char* input, Index in, Index out) {
      modules.add(
          {.name = prefix + name, .layer = layer, .input = input, .in_features = in, .out_features = out});
    };
    add(".self_attn.q_proj", "x", 8, 12), add(".self_attn.k_proj", "x", 8, 4),
        add(".mlp.down_proj", "", 6, 8);
  }
  return modules;
}

inline gguf::Naming naming(Order order) { return gguf::llama({.heads = 3, .kv_heads = 1, .weights = order}); }

inline Adapter<float> filled(const ModuleList& modules, const Scheme& scheme, Dice& dice,
                             LayoutOptions options = {}, Index rank = 3) {
  const Layout layout(modules, scheme, rank, options);
  AlignedArray<float> trainable(layout.trainable_count()), frozen(layout.frozen_count());
  dice.fill(trainable), dice.fill(frozen);
  return {layout, std::move(trainable), std::move(frozen)};
}

/// ΔW of module m, scale and all.
inline Eigen::MatrixXd delta(const Adapter<float>& adapter, Index m) {
  const Module& module = adapter.layout().modules()[m];
  Eigen::MatrixXd w = Eigen::MatrixXd::Zero(module.out_features, module.in_features);
  if (adapter.layout().rank(m) > 0) merge(adapter.cast<double>().factors(m), w);
  return w;
}

// Each number of B is rounded once to float (ε = 2^-24, relative), so each of ΔW's by at most
// ε · Σ |B_ik| |A_kj|, bounded here by the product of the norms; llama.cpp's alpha / r by one more rounding.
inline void expect_same_function(const Adapter<float>& a, const Adapter<float>& b, double epsilon = 0x1p-23) {
  ASSERT_EQ(a.layout().size(), b.layout().size());
  for (Index m = 0; m < a.layout().size(); ++m) {
    const Eigen::MatrixXd difference = delta(a, m) - delta(b, m);
    double scale = 0;
    if (a.layout().rank(m) > 0)
      scale = static_cast<double>(b.A(m).norm()) * static_cast<double>(b.B(m).norm()) * b.layout().scaling(m);
    EXPECT_LE(difference.cwiseAbs().maxCoeff(), epsilon * std::abs(scale)) << a.layout().modules()[m].name;
    EXPECT_EQ(delta(a, m).norm() > 0, a.layout().rank(m) > 0);
  }
}

}  // namespace tiedlora_test::gguf_llama
