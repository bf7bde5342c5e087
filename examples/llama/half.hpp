// Half-precision numbers: what GGUF's blocks and a KV cache hold. They are Eigen's; but Eigen 3.4 does not
// use the processor's conversions when GCC compiles it, and an engine spends a fifth of its time in them
// then.
#pragma once

#include <Eigen/Core>

#include <cstdint>  // uint16_t

#if defined(__F16C__)
#include <immintrin.h>
#endif

namespace llama {

using Half = Eigen::half;

/// Exact.
inline float to_float(Half half) {
#if defined(__F16C__)
  return _cvtsh_ss(half.x);
#else
  return static_cast<float>(half);
#endif
}

/// To nearest, ties to even; what is too large becomes infinite.
inline Half to_half(float value) {
#if defined(__F16C__)
  const int bits = _mm_cvtsi128_si32(_mm_cvtps_ph(_mm_set_ss(value), _MM_FROUND_TO_NEAREST_INT));
  return Eigen::numext::bit_cast<Half>(static_cast<std::uint16_t>(bits));
#else
  return Half(value);
#endif
}

}  // namespace llama
