// The curves of a loss on a device and on the CPU, side by side.
#pragma once

#include <cstddef>  // size_t
#include <ostream>  // ostream

#include <fmt/format.h>

#include "four_layers.hpp"

namespace gpu {

/// A line for every 25th step. Returns whether the device's curve is the CPU's within rounding.
inline bool print_curves(const LossCurves& curves, std::ostream& out) {
  out << fmt::format("\n{:>4}  {:>10}  {:>10}  {:>12}  {:>17}\n", "step", "device", "CPU", "CPU, double",
                     "error / rounding");
  for (std::size_t step = 0; step < curves.device.size(); step += 25)
    out << fmt::format("{:4}  {:10.7f}  {:10.7f}  {:12.9f}  {:17.2g}\n", step, curves.device[step],
                       curves.cpu[step], curves.exact[step], curves.ratio(step));
  const bool equal = curves.worst() <= 1;
  out << fmt::format("{} at all {} steps: the largest error is {:.2g} of what rounding explains\n",
                     equal ? "Equal" : "NOT EQUAL", curves.device.size(), curves.worst());
  return equal;
}

}  // namespace gpu
