// A base model as the transformer reads it: its sizes and where its weights are, whoever owns them.
#pragma once

#include <array>   // array
#include <vector>  // vector

#include "config.hpp"
#include "weight.hpp"

namespace llama {

template <class T>
struct ModelLayer {
  const T* attention_norm = nullptr;      // W
  std::array<Weight<T>, 3> qkv = {};      // HD and twice KD rows of W
  std::array<const T*, 3> qkv_bias = {};  // HD and twice KD; null: none
  const T* q_norm = nullptr;              // D, of each head; where the config has head_norms
  const T* k_norm = nullptr;              // likewise
  Weight<T> o = {};                       // W×HD
  const T* mlp_norm = nullptr;            // W
  std::array<Weight<T>, 2> gate_up = {};  // F×W each
  Weight<T> down = {};                    // W×F
};

template <class T>
struct Model {
  Config config = {};
  Weight<T> embedding = {};  // V×W
  std::vector<ModelLayer<T>> layers = {};
  const T* final_norm = nullptr;  // W
  Weight<T> output = {};          // V×W: the embedding where tied
};

}  // namespace llama
