// One vector of floats, as wide as the instruction set has them: compiler vector extensions, so one source
// for all.
#pragma once

#include <cstring>  // memcpy

#include "../config.hpp"

#if defined(__GNUC__)
#define TIEDLORA_HAS_KERNELS 1
#else
#define TIEDLORA_HAS_KERNELS 0
#endif

#if TIEDLORA_HAS_KERNELS

// GCC 12 re-loads a tile's operands inside the loop, at half the speed, unless its induction variables are
// left alone.
#if defined(__clang__)
#define TIEDLORA_KERNEL __attribute__((noinline))
#else
#define TIEDLORA_KERNEL __attribute__((noinline, optimize("no-ivopts", "no-tree-slp-vectorize")))
#endif
#define TIEDLORA_INLINE inline __attribute__((always_inline))
#define TIEDLORA_UNROLL _Pragma("GCC unroll 32")

namespace tiedlora {
inline namespace v1 {
namespace kernels {
inline namespace TIEDLORA_ISA {

#if defined(__AVX512F__)
inline constexpr unsigned lanes = 16;
#elif defined(__AVX__)
inline constexpr unsigned lanes = 8;
#else
inline constexpr unsigned lanes = 4;
#endif

// 32 vector registers hold tiles twice as large as 16 do.
#if defined(__AVX512F__) || defined(__aarch64__)
inline constexpr bool many_registers = true;
#else
inline constexpr bool many_registers = false;
#endif

using Vector = float __attribute__((vector_size(lanes * sizeof(float))));
using Vector4 = float __attribute__((vector_size(4 * sizeof(float))));

TIEDLORA_INLINE Vector load(const float* p) {
  Vector v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
TIEDLORA_INLINE void store(float* p, Vector v) { std::memcpy(p, &v, sizeof v); }

/// The first n < lanes elements, then zeros.
TIEDLORA_INLINE Vector load_part(const float* p, Index n) {
  float buffer[lanes] = {};
  for (Index i = 0; i < n; ++i) buffer[i] = p[i];
  return load(buffer);
}
TIEDLORA_INLINE void store_part(float* p, Vector v, Index n) {
  float buffer[lanes];
  store(buffer, v);
  for (Index i = 0; i < n; ++i) p[i] = buffer[i];
}

/// Rounds a product before something is added to it. Left alone, GCC fuses the two where it likes: in one
/// tile and not in the next, so that bits would depend on the tile that a feature falls into.
TIEDLORA_INLINE void round_product(Vector& v) {
#if defined(__AVX512F__)
  asm("" : "+v"(v));
#elif defined(__SSE__)
  asm("" : "+x"(v));
#elif defined(__aarch64__)
  asm("" : "+w"(v));
#else
  asm("" : "+m"(v));
#endif
}

/// Adds quarter upon quarter until four lanes are left.
TIEDLORA_INLINE Vector4 fold(Vector v) {
  float lane[lanes];
  store(lane, v);
  Vector4 sum;
  std::memcpy(&sum, lane, sizeof sum);
  TIEDLORA_UNROLL for (unsigned i = 4; i < lanes; i += 4) {
    Vector4 next;
    std::memcpy(&next, lane + i, sizeof next);
    sum += next;
  }
  return sum;
}

/// The sum of all lanes, in one fixed order whoever asks: (0 + 2) + (1 + 3) of the folded vector.
TIEDLORA_INLINE float sum(Vector v) {
  const Vector4 a = fold(v);
  return (a[0] + a[2]) + (a[1] + a[3]);
}

}  // namespace TIEDLORA_ISA
}  // namespace kernels
}  // namespace v1
}  // namespace tiedlora

#endif  // TIEDLORA_HAS_KERNELS
