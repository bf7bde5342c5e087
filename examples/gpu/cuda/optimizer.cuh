// An adapter in training on the device: parameters, gradients and both moments are flat arrays of
// layout.trainable_count() floats, one copy each; from step to step 300 bytes change.
#pragma once

#include <cstddef>  // size_t
#include <vector>   // vector

#include <tiedlora/adapter.hpp>

#include "kernels/adamw.cuh"
#include "memory.hpp"

namespace gpu_cuda {

class DeviceTraining {
 public:
  /// Copies the adapter to the device. Throws Error for a scheme that cannot learn.
  DeviceTraining(const tiedlora::Adapter<float>& adapter, const tiedlora::AdamWOptions& options,
                 Stream stream = {})
      : layout_(adapter.layout()),
        optimizer_(layout_, options),
        stream_(stream),
        trainable_(to_vector(adapter.trainable())),
        frozen_(to_vector(adapter.frozen())),
        gradients_(zeros()),
        first_moment_(zeros()),
        second_moment_(zeros()),
        plan_(1),
        statistics_(std::vector<statistics_shape::State>(1)) {}

  tiedlora::Factors<const float> factors(Index m) const {
    return tiedlora::factors_at<float>(layout_, m, trainable_.data(), frozen_.data());
  }
  tiedlora::Factors<float> gradients(Index m) const {
    return tiedlora::gradients_at(layout_, m, gradients_.data());
  }

  /// Counts a step and sends its constants. Before the step, outside of a captured graph.
  void begin_step(const tiedlora::StepOptions& step = {}) {
    const tiedlora::StepPlan<float> plan = optimizer_.step_plan(step);
    optimizer_.set_step_count(optimizer_.step_count() + 1);
    copy_to_device(&plan, plan_.data(), sizeof plan, stream_);
  }
  /// The update, and gradients to zero: two launches, which a graph can hold. Gradients that are not finite
  /// change nothing; max_norm 0: no clipping.
  void update(double max_norm = 0) const {
    using namespace statistics_shape;
    const auto count = static_cast<Index>(trainable_.size());
    launch({{blocks, 1, 1}, threads, sizeof(Shared), stream_}, gradient_statistics_kernel, gradients_.data(),
           count, plan_.data(), max_norm, statistics_.data());
    constexpr unsigned threads_of_step = 256;
    launch({{static_cast<unsigned>((count + threads_of_step - 1) / threads_of_step), 1, 1},
            threads_of_step,
            0,
            stream_},
           adamw_kernel, plan_.data(), trainable_.data(), gradients_.data(), first_moment_.data(),
           second_moment_.data(), count, statistics_.data());
  }

  /// Of the last update's gradients, before their scale.
  tiedlora::GradientStatistics statistics() const {
    const double square = statistics_.download(stream_)[0].square;
    return {std::sqrt(square), std::isfinite(square)};
  }
  const Array<float>& trainable() const { return trainable_; }
  const Array<float>& gradient_array() const { return gradients_; }

 private:
  template <class Span>
  static std::vector<float> to_vector(const Span& span) {
    return {span.begin(), span.end()};
  }
  std::vector<float> zeros() const {
    return std::vector<float>(static_cast<std::size_t>(layout_.trainable_count()));
  }

  tiedlora::Layout layout_;
  tiedlora::AdamW<float> optimizer_;
  Stream stream_;
  Array<float> trainable_, frozen_, gradients_, first_moment_, second_moment_;
  Array<tiedlora::StepPlan<float>> plan_;
  Array<statistics_shape::State> statistics_;
};

}  // namespace gpu_cuda
