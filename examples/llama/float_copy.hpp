// A base model's matrices as floats: more memory than in their file's type, and no dequantisation.
#pragma once

#include <tiedlora/adapter/aligned_array.hpp>

#include "model.hpp"
#include "thread_pool.hpp"

namespace llama {

/// Calls work(weight) for every matrix; the embedding and an output that is the same one are one.
template <class AnyModel, class Work>
void for_weights(AnyModel& model, const Work& work) {
  const bool tied = model.config.tied_embedding;
  work(model.embedding);
  if (tied)
    model.output = model.embedding;
  else
    work(model.output);
  for (auto& layer : model.layers) {
    for (auto& weight : layer.qkv) work(weight);
    work(layer.o);
    for (auto& weight : layer.gate_up) work(weight);
    work(layer.down);
  }
}

class FloatCopy {
 public:
  /// Of all matrices that are not floats already. Norms and biases stay where they are: `model` must outlive
  /// this.
  FloatCopy(const Model<float>& model, ThreadPool& pool) : model_(model) {
    Index size = 0;
    for_weights(model_, [&](const Weight<float>& weight) {
      if (!weight.numbers) size += weight.out * weight.in;
    });
    numbers_ = tiedlora::AlignedArray<float>::for_overwrite(size);
    float* to = numbers_.data();
    for_weights(model_, [&](Weight<float>& weight) {
      if (weight.numbers) return;
      for_tasks(pool, weight.out,
                [&](int, Index row) { weight.copy(row, 0, weight.in, to + row * weight.in); });
      const Index count = weight.out * weight.in;
      weight = Weight<float>::plain(to, weight.out, weight.in);
      to += count;
    });
  }

  const Model<float>& model() const { return model_; }
  /// What a copy of `model` takes.
  static Index bytes(Model<float> model) {
    Index size = 0;
    for_weights(model, [&](const Weight<float>& weight) {
      if (!weight.numbers) size += weight.out * weight.in;
    });
    return size * static_cast<Index>(sizeof(float));
  }

 private:
  Model<float> model_;
  tiedlora::AlignedArray<float> numbers_;
};

}  // namespace llama
