// What the programs of the GPU examples return beside examples/exit_code.hpp.
#pragma once

namespace gpu {

/// There is no device that can be used: what automake, Meson and script/gpu take for "skipped".
inline constexpr int no_device = 77;

}  // namespace gpu
