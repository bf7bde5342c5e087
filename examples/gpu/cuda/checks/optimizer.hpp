// The optimiser on the device.
#pragma once

#include <cmath>   // abs
#include <limits>  // numeric_limits
#include <span>    // span
#include <string>  // to_string
#include <vector>  // vector

#include "../optimizer.cuh"
#include "support.hpp"

namespace gpu_cuda::checks {

class OptimizerCheck {
 public:
  /// Steps with clipping, of gradients of a loss that was scaled: the norm that counts is of the unscaled
  /// ones.
  void steps_and_clips() {
    constexpr double max_norm = 2;
    for (int step = 0; step < 4; ++step) {
      const std::string at = "step " + std::to_string(step) + ": ";
      const std::vector<float> gradients = draw(dice_, layout_.trainable_count());
      const double loss_scale = step % 2 == 0 ? 1 : 1024;
      std::vector<float> scaled = gradients;
      for (float& g : scaled) g *= static_cast<float>(loss_scale);
      upload(scaled);
      training_.begin_step({.rate_factor = 0.5, .gradient_scale = 1 / loss_scale});
      training_.update(max_norm);
      const auto expected = tiedlora::gradient_statistics(std::span<const float>(gradients));
      const auto statistics = training_.statistics();
      require(statistics.finite && std::abs(statistics.norm - loss_scale * expected.norm) <=
                                       1e-12 * loss_scale * expected.norm,
              at + "the norm of the gradients");
      require(expected.norm > max_norm, at + "there is nothing to clip");
      on_cpu_.step(adapter_.trainable(), gradients,
                   {.rate_factor = 0.5, .gradient_scale = tiedlora::clip_factor(expected.norm, max_norm)});
      const std::vector<float> parameters = training_.trainable().download(stream_);
      for (std::size_t i = 0; i < parameters.size(); ++i)
        // A step is below 1, of values below 2: some ten roundings each.
        require(std::abs(parameters[i] - adapter_.trainable()[i]) <=
                    static_cast<float>(step + 1) * 10 * 2 * 0x1p-24f,
                at + "parameter " + std::to_string(i));
      require_zero_gradients();
    }
  }
  void leaves_out_steps_that_are_not_finite() {
    for (const float wrong :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
      for (const double max_norm : {0.0, 1.0}) {
        std::vector<float> gradients = draw(dice_, layout_.trainable_count());
        gradients[77] = wrong;
        upload(gradients);
        const std::vector<float> before = training_.trainable().download(stream_);
        training_.begin_step();
        training_.update(max_norm);
        require(!training_.statistics().finite, "a NaN or an infinity was not seen");
        require(training_.trainable().download(stream_) == before, "a parameter has changed");
        require_zero_gradients();
      }
  }

 private:
  static tiedlora::Layout layout() {
    tiedlora::ModuleList modules;
    for (int l = 0; l < 3; ++l)
      modules.add({.name = "layers." + std::to_string(l), .layer = l, .in_features = 33, .out_features = 50});
    return {modules, tiedlora::schemes::tied_lora(), 4};
  }
  void upload(const std::vector<float>& values) const {
    copy_to_device(values.data(), training_.gradient_array().data(), values.size() * sizeof(float), stream_);
    synchronize(stream_);
  }
  void require_zero_gradients() const {
    for (const float g : training_.gradient_array().download(stream_))
      require(g == 0, "a gradient is not zero after the step");
  }

  static constexpr double decay = 0.1;
  OwnStream stream_;
  Dice dice_{5};
  tiedlora::Layout layout_ = layout();
  tiedlora::AdamWOptions options_ = {.learning_rate = 1e-2, .weight_decay = decay};
  tiedlora::Adapter<float> adapter_ = [this] {
    tiedlora::Adapter<float> a(layout_);
    a.initialize(1);
    return a;
  }();
  tiedlora::AdamW<float> on_cpu_{layout_, options_};
  DeviceTraining training_{adapter_, options_, stream_};
};

}  // namespace gpu_cuda::checks
