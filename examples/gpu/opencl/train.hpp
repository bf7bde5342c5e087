// The four-layer program of docs/adapters.md on the device.
#pragma once

#include <vector>  // vector

#include "../four_layers.hpp"
#include "backend.hpp"

namespace gpu_opencl {

/// The loss before each of the steps 0, …, last_step.
std::vector<double> train(const Backend& backend, const gpu::FourLayers& problem);

/// The same, compared with the CPU's.
gpu::LossCurves train_side_by_side(const Backend& backend, const gpu::FourLayers& problem);

}  // namespace gpu_opencl
