// One vector of floats, as wide as the instruction set has them: compiler vector extensions, one source for
// all instruction sets.
#pragma once

#include <bit>      // bit_cast
#include <cstdint>  // int32_t, uint64_t
#include <cstring>  // memcpy

#include "../../views/config.hpp"

#if !defined(__GNUC__) && !defined(__clang__)  // clang-cl has the one and not the other
#error "tiedlora needs a compiler with GNU vector extensions: GCC 12 or Clang 14, or later ones"
#endif

#if defined(__aarch64__)
#include <arm_neon.h>
#elif defined(__AVX__)
#include <immintrin.h>  // masked loads and stores, fused multiply-add
#endif

// Each tile is a function of its own. GCC 12 re-loads a tile's operands inside the loop, at half the speed,
// unless its induction-variable pass is off. Structures are passed by reference and copied inside: by value
// the compilers move them through memory sixteen bytes at a time, and since they were written in smaller
// pieces, store-to-load forwarding fails: a tile stalls until the previous one has drained. (Epilogues are
// passed by value: by reference, GCC 12 makes a loop that takes a sixth longer.)
#if defined(__clang__)
#define TIEDLORA_KERNEL __attribute__((noinline))
#else
#define TIEDLORA_KERNEL __attribute__((noinline, optimize("no-ivopts", "no-tree-slp-vectorize")))
#endif
#define TIEDLORA_INLINE inline __attribute__((always_inline))
#if defined(__CUDACC__)  // whose front end lacks the pragma: fast CPU code belongs in a .cpp file
#define TIEDLORA_UNROLL
#else
#define TIEDLORA_UNROLL _Pragma("GCC unroll 32")
#endif

TIEDLORA_BEGIN_NAMESPACE
namespace cpu {
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

/// The cache line of all these machines is 64 bytes.
inline constexpr unsigned vectors_per_line = 16 / lanes;

using Vector = float __attribute__((vector_size(lanes * sizeof(float))));
using Vector4 = float __attribute__((vector_size(16)));
using Vector8 = float __attribute__((vector_size(32)));

/// The value at p, of any alignment.
template <class T>
TIEDLORA_INLINE T read(const void* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}
template <class T>
TIEDLORA_INLINE void write(void* p, T value) {
  std::memcpy(p, &value, sizeof value);
}

TIEDLORA_INLINE Vector load(const float* p) { return read<Vector>(p); }
TIEDLORA_INLINE void store(float* p, Vector v) { write(p, v); }

/// v, kept in a register: GCC would load an operand from memory again for each product that uses it.
TIEDLORA_INLINE Vector in_register(Vector v) {
#if defined(__x86_64__) && !defined(__clang__)
  __asm__("" : "+v"(v));
#endif
  return v;
}

/// p, opaque to the compiler: GCC would keep p + 64, p + 128, … for each output of a tile, far more than it
/// has registers for.
template <class T>
TIEDLORA_INLINE T* opaque(T* p) {
#if !defined(__clang__)
  __asm__("" : "+r"(p));
#endif
  return p;
}

/// x in all lanes.
TIEDLORA_INLINE Vector broadcast(float x) { return x - Vector{}; }

/// a b + c, rounded once where the instruction set has a fused multiply-add. Explicit, because GCC splits
/// some such sums when it tunes for Zen (chains of one accumulator), and then the tail of a row would differ
/// in its bits from a whole vector.
TIEDLORA_INLINE Vector multiply_add(Vector a, Vector b, Vector c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#elif defined(__aarch64__)
  return std::bit_cast<Vector>(
      vfmaq_f32(std::bit_cast<float32x4_t>(c), std::bit_cast<float32x4_t>(a), std::bit_cast<float32x4_t>(b)));
#else
  return a * b + c;
#endif
}
TIEDLORA_INLINE Vector multiply_add(Vector a, float b, Vector c) { return multiply_add(a, broadcast(b), c); }

#if !defined(__AVX__)
/// Copies the first n <= 4 floats in pieces of fixed size, which compilers do not turn into calls.
TIEDLORA_INLINE void copy_part(const float* from, float* to, Index n) {
  if (n == 4) return write(to, read<Vector4>(from));
  if (n & 2) write(to, read<std::uint64_t>(from));
  if (n & 1) to[n & 2] = from[n & 2];
}
#endif

/// The first n <= lanes elements, then zeros.
TIEDLORA_INLINE Vector load_part(const float* p, Index n) {
#if defined(__AVX512F__)
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1u), p);
#elif defined(__AVX__)
  static constexpr std::int32_t mask[2 * lanes] = {-1, -1, -1, -1, -1, -1, -1, -1};
  return _mm256_maskload_ps(p, read<__m256i>(mask + (static_cast<Index>(lanes) - n)));
#else
  float buffer[lanes] = {};
  copy_part(p, buffer, n);
  return load(buffer);
#endif
}
/// Stores the first n <= lanes elements. (AVX's masked stores are forty micro-operations on AMD's cores.)
TIEDLORA_INLINE void store_part(float* p, Vector v, Index n) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1u), v);
#elif defined(__AVX__)
  if (n == static_cast<Index>(lanes)) return store(p, v);
  __m128 rest = _mm256_castps256_ps128(v);
  if (n & 4) _mm_storeu_ps(p, rest), rest = _mm256_extractf128_ps(v, 1), p += 4;
  if (n & 2) _mm_storel_pi(reinterpret_cast<__m64*>(p), rest), rest = _mm_movehl_ps(rest, rest), p += 2;
  if (n & 1) _mm_store_ss(p, rest);
#else
  float buffer[lanes];
  store(buffer, v);
  copy_part(buffer, p, n);
#endif
}

/// Adds the upper half to the lower until four lanes are left.
TIEDLORA_INLINE Vector4 fold(Vector4 v) { return v; }
#if defined(__AVX__)
TIEDLORA_INLINE Vector4 fold(Vector8 v) {
  return __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
}
#endif
#if defined(__AVX512F__)
TIEDLORA_INLINE Vector4 fold(Vector v) {
  return fold(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
              __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15));
}
#endif

/// In each group of four lanes: a0 + a2, b0 + b2, a1 + a3, b1 + b3. (GCC 12 warns about AVX-512's plain
/// intrinsics, in its own header.)
TIEDLORA_INLINE Vector add_halves(Vector a, Vector b) {
#if defined(__AVX512F__)
  return _mm512_maskz_unpacklo_ps(0xffff, a, b) + _mm512_maskz_unpackhi_ps(0xffff, a, b);
#elif defined(__AVX__)
  return _mm256_unpacklo_ps(a, b) + _mm256_unpackhi_ps(a, b);
#else
  return __builtin_shufflevector(a, b, 0, 4, 1, 5) + __builtin_shufflevector(a, b, 2, 6, 3, 7);
#endif
}
/// In each group of four lanes: a0 + a2, a1 + a3, b0 + b2, b1 + b3.
TIEDLORA_INLINE Vector add_pairs(Vector a, Vector b) {
#if defined(__AVX512F__)
  return _mm512_maskz_shuffle_ps(0xffff, a, b, 0x44) + _mm512_maskz_shuffle_ps(0xffff, a, b, 0xee);
#elif defined(__AVX__)
  return _mm256_shuffle_ps(a, b, 0x44) + _mm256_shuffle_ps(a, b, 0xee);
#else
  return __builtin_shufflevector(a, b, 0, 1, 4, 5) + __builtin_shufflevector(a, b, 2, 3, 6, 7);
#endif
}

/// The sums of all lanes of four vectors: in each group of four lanes (0 + 2) + (1 + 3), then halves until
/// four lanes are left. The fewest shuffles.
TIEDLORA_INLINE Vector4 sums(Vector a, Vector b, Vector c, Vector d) {
  return fold(add_pairs(add_halves(a, b), add_halves(c, d)));
}

/// The sum of all lanes, always in the same order.
TIEDLORA_INLINE float sum(Vector v) {
  const Vector4 a = fold(v);
  return (a[0] + a[2]) + (a[1] + a[3]);
}

TIEDLORA_INLINE void prefetch(const void* p) { __builtin_prefetch(p, 0, 3); }
/// Into L2 only: data from beyond L2 need not wait for a place in L1.
TIEDLORA_INLINE void prefetch_from_afar(const void* p) { __builtin_prefetch(p, 0, 2); }

}  // namespace TIEDLORA_ISA
}  // namespace cpu
TIEDLORA_END_NAMESPACE
