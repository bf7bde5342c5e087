// Eight values at a time: how they are loaded, stored and converted to float.
//
// Eight bfloat16 or half are one load of 16 bytes, eight floats two. What is not aligned for that, and the
// end of a row, go element by element: each load looks at its address, so that views need no promise, a token
// of one's own pointer is as fast as a row, and scales are as fast as rows.
#pragma once

#include <cstdint>      // uint16_t, uint32_t, uintptr_t
#include <type_traits>  // is_same

#include <tiedlora/ops.hpp>

#include "../device.cuh"

namespace gpu_cuda {

using tiedlora::Index, tiedlora::Tokens;

inline constexpr unsigned full_warp = 0xffffffffu;
inline constexpr int lanes = 32;

/// As they lie in memory.
template <class T>
struct Eight {
  std::uint32_t words[2 * sizeof(T)];
};

template <class T>
__device__ inline float element(const Eight<T>& e, int i) {
  if constexpr (std::is_same_v<T, float>) return __uint_as_float(e.words[i]);
  const std::uint32_t word = e.words[i / 2 % (2 * sizeof(T))];
  if constexpr (std::is_same_v<T, __nv_bfloat16>)
    return __uint_as_float(i % 2 ? word & 0xffff0000u : word << 16);
  if constexpr (std::is_same_v<T, __half>) return half_to_float(i % 2 ? word >> 16 : word & 0xffffu);
}

template <class T>
__device__ inline Eight<T> zeros() {
  Eight<T> e;
#pragma unroll
  for (std::uint32_t& word : e.words) word = 0;
  return e;
}

template <class T>
__device__ inline bool is_aligned_to_16(const T* data) {
  return reinterpret_cast<std::uintptr_t>(data) % 16 == 0;
}

/// The values [0, count) at `from`, zeros after them; count may be less than none. The branch is the same for
/// nearly all threads of a warp.
template <class T>
__device__ inline Eight<T> load(const T* from, int count) {
  Eight<T> e = zeros<T>();
  if (count >= 8 && is_aligned_to_16(from)) {
#pragma unroll
    for (int i = 0; i < static_cast<int>(sizeof(T)) / 2; ++i) {
      const uint4 v = load_16(reinterpret_cast<const char*>(from) + 16 * i);
      e.words[4 * i] = v.x, e.words[4 * i + 1] = v.y, e.words[4 * i + 2] = v.z, e.words[4 * i + 3] = v.w;
    }
    return e;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (i >= count) continue;
    if constexpr (sizeof(T) == 4)
      e.words[i] = reinterpret_cast<const std::uint32_t*>(from)[i];
    else
      e.words[i / 2] |= static_cast<std::uint32_t>(reinterpret_cast<const std::uint16_t*>(from)[i])
                        << (i % 2 * 16);
  }
  return e;
}

/// Two neighbours, in one load where they are aligned for that.
__device__ inline float2 load_pair(const float* from) {
  if (reinterpret_cast<std::uintptr_t>(from) % 8 == 0) return *reinterpret_cast<const float2*>(from);
  return {from[0], from[1]};
}

/// to[0, count) = values, or += values; rounded once.
template <class T>
__device__ inline void store(const float (&values)[8], T* to, int count, bool overwrite) {
  float sums[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) sums[i] = values[i];
  if (!overwrite) {
    const Eight<T> before = load(to, count);
#pragma unroll
    for (int i = 0; i < 8; ++i) sums[i] += element(before, i);
  }
  if (count >= 8 && is_aligned_to_16(to)) {
    Eight<T> e = zeros<T>();
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const T rounded = static_cast<T>(sums[i]);
      if constexpr (sizeof(T) == 4)
        e.words[i] = __float_as_uint(rounded);
      else
        e.words[i / 2] |= static_cast<std::uint32_t>(reinterpret_cast<const std::uint16_t&>(rounded))
                          << (i % 2 * 16);
    }
#pragma unroll
    for (int i = 0; i < static_cast<int>(sizeof(T)) / 2; ++i)
      store_16(reinterpret_cast<char*>(to) + 16 * i,
               {e.words[4 * i], e.words[4 * i + 1], e.words[4 * i + 2], e.words[4 * i + 3]});
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i)
    if (i < count) to[i] = static_cast<T>(sums[i]);
}

/// The warp's sum, in every lane; the order is fixed.
__device__ inline float warp_sum(float value) {
#pragma unroll
  for (int distance = lanes / 2; distance > 0; distance /= 2)
    value += __shfl_xor_sync(full_warp, value, distance);
  return value;
}

}  // namespace gpu_cuda
