// AdamW over an adapter's flat array, in one launch.
#pragma once

#include <tiedlora/adapter.hpp>

#include "backend.hpp"

namespace gpu_opencl {

/// AdamW::step for parameters, gradients and moments in the device's memory, layout.trainable_count() values
/// each. Counts the step in the optimizer, whose own moments stay as they are.
inline void adamw_step(const Backend& backend, tiedlora::AdamW<float>& optimizer, float* parameters,
                       const float* gradients, float* first_moment, float* second_moment,
                       const tiedlora::StepOptions& step = {}) {
  const tiedlora::StepPlan<float> plan = optimizer.step_plan(step);
  static_assert(sizeof plan == 4 * 56 + 8);  // as adamw.cl declares it
  backend.kernels<float, float, float>().start_items("adamw", optimizer.layout().trainable_count(), 1,
                                                     parameters, gradients, first_moment, second_moment,
                                                     plan);
  optimizer.set_step_count(optimizer.step_count() + 1);
}

}  // namespace gpu_opencl
