// What the checks have in common: values on the host and the same on the device, and a comparison of them.
#pragma once

#include <cmath>      // abs
#include <cstddef>    // size_t
#include <span>       // span
#include <stdexcept>  // runtime_error
#include <string>     // string, to_string
#include <vector>     // vector

#include <tiedlora/tiedlora.hpp>
#include <tiedlora/verify/dice.hpp>
#include <tiedlora/verify/tolerance.hpp>

#include "../memory.hpp"

namespace gpu_cuda::checks {

using tiedlora::verify::Dice;

inline void require(bool holds, const std::string& what) {
  if (!holds) throw std::runtime_error(what);
}

inline std::vector<float> draw(Dice& dice, Index count) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = static_cast<float>(dice.uniform());
  return values;
}

/// `count` tokens of `width` values, on the host and on the device.
struct OnBoth {
  std::vector<float> host;
  Array<float> device;
  Index width;

  OnBoth(std::vector<float> values, Index width_of_token)
      : host(std::move(values)), device(host), width(width_of_token) {}
  OnBoth(Dice& dice, Index width_of_token, Index tokens)
      : OnBoth(draw(dice, width_of_token * tokens), width_of_token) {}

  Tokens<float> of(float* data) const {
    return {.data = data, .width = width, .count = static_cast<Index>(host.size()) / width, .stride = width};
  }
  Tokens<float> here() { return of(host.data()); }
  Tokens<float> there() const { return of(device.data()); }

  /// Throws where the device's values differ from the host's.
  void require_equal(const std::string& what, double bound, Stream stream) const {
    const std::vector<float> values = device.download(stream);
    for (std::size_t i = 0; i < host.size(); ++i)
      if (!(std::abs(static_cast<double>(values[i]) - static_cast<double>(host[i])) <= bound))
        throw std::runtime_error(what + ": number " + std::to_string(i) + " is " + std::to_string(values[i]) +
                                 " on the device, " + std::to_string(host[i]) + " on the CPU");
  }
};

/// Of sums of `length` products of values below 1, where the terms themselves are such sums of `inner`.
inline double bound(Index length, Index inner) {
  return 2 * tiedlora::verify::random_rounding_bound<float>(length + inner + 8,
                                                            static_cast<double>(length * inner));
}

}  // namespace gpu_cuda::checks
