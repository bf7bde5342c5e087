// The best this core can do with vectors as wide as the instruction set has them: multiply-add, read memory,
// update memory (read and write back).
#pragma once

#include <cstddef>  // size_t
#include <cstring>  // memcpy
#include <span>     // span

namespace bench {

#if defined(__AVX512F__)
inline constexpr std::size_t lanes = 16;
#elif defined(__AVX__)
inline constexpr std::size_t lanes = 8;
#else
inline constexpr std::size_t lanes = 4;
#endif
using Vector = float __attribute__((vector_size(lanes * sizeof(float))));

inline Vector load(const float* p) {
  Vector v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline void store(float* p, const Vector& v) { std::memcpy(p, &v, sizeof v); }

/// Values that the compiler does not know, so that no loop below can be computed in advance.
inline volatile float unknown_zero = 0.0f, unknown_half = 0.5f, sink = 0.0f;

/// Floating-point operations of one multiply_add_loop(n): twelve chains, enough to cover the latency of any
/// multiply-add unit, and few enough for 16 registers.
constexpr std::size_t chains = 12;
constexpr double multiply_add_flops(std::size_t n) { return 2.0 * static_cast<double>(n * chains * lanes); }

__attribute__((noinline)) inline void multiply_add_loop(std::size_t n) {
  const Vector factor = Vector{} + unknown_half, term = Vector{} + unknown_half;
  Vector a[chains];
  for (std::size_t i = 0; i < chains; ++i) a[i] = term + static_cast<float>(i);
  for (; n > 0; --n) {
#pragma GCC unroll 12
    for (std::size_t i = 0; i < chains; ++i) a[i] = a[i] * factor + term;
  }
  Vector sum = a[0];
  for (std::size_t i = 1; i < chains; ++i) sum += a[i];
  sink = sum[0];
}

/// Reads every value once.
__attribute__((noinline)) inline void read(std::span<const float> data) {
  constexpr std::size_t unrolled = 4;
  const float* p = data.data();
  const float* const end = p + data.size();
  Vector sum[unrolled] = {};
  for (; end - p >= static_cast<std::ptrdiff_t>(unrolled * lanes); p += unrolled * lanes) {
#pragma GCC unroll 4
    for (std::size_t i = 0; i < unrolled; ++i) sum[i] += load(p + i * lanes);
  }
  for (; end - p >= static_cast<std::ptrdiff_t>(lanes); p += lanes) sum[0] += load(p);
  for (std::size_t i = 1; i < unrolled; ++i) sum[0] += sum[i];
  float rest = sum[0][0];
  for (; p != end; ++p) rest += *p;
  sink = rest;
}

/// Reads every value once and writes it back, unchanged. All loads of a block come before its stores: that is
/// the faster order.
__attribute__((noinline)) inline void update(std::span<float> data) {
  constexpr std::size_t unrolled = 8;
  const float zero = unknown_zero;
  float* p = data.data();
  float* const end = p + data.size();
  for (; end - p >= static_cast<std::ptrdiff_t>(unrolled * lanes); p += unrolled * lanes) {
    Vector v[unrolled];
#pragma GCC unroll 8
    for (std::size_t i = 0; i < unrolled; ++i) v[i] = load(p + i * lanes) + zero;
#pragma GCC unroll 8
    for (std::size_t i = 0; i < unrolled; ++i) store(p + i * lanes, v[i]);
  }
  for (; end - p >= static_cast<std::ptrdiff_t>(lanes); p += lanes) store(p, load(p) + zero);
  for (; p != end; ++p) *p += zero;
}

}  // namespace bench
