// Blocks of 32 weights that share a scale. With d and m in half precision,
//
//   Q8_0  d, 32 signed bytes q                                    w = d q
//   Q4_0  d, 16 bytes: the nibbles of weights i and i + 16        w = d (q - 8)
//   Q4_1  d, m, 16 such bytes                                     w = d q + m
//   Q5_0  d, 32 fifth bits, 16 such bytes                         w = d (q - 16)
//   Q5_1  d, m, 32 fifth bits, 16 such bytes                      w = d q + m
//
// A half has 11 bits and q at most 8: d q is exact in a float, which has 24. So all these round at most once,
// in the addition, and are the same bits however they are computed, with fused multiply-adds or without.
#pragma once

#include <cstddef>  // byte
#include <cstdint>  // uint32_t
#include <cstring>  // memcpy

#include "bytes.hpp"   // Bytes, load_bytes, store
#include "halves.hpp"  // half_at

namespace llama::quant {

// Each has a block's bytes and weights, and writes its weights.

struct BlockQ80 {
  static constexpr Index bytes = 34, numbers = 32;
  static void unpack(const std::byte* block, float* out) {
    const float d = half_at(block);
    store(load_bytes(block + 2), d, out);
    store(load_bytes(block + 18), d, out + 16);
  }
};

struct BlockQ40 {
  static constexpr Index bytes = 18, numbers = 32;
  static void unpack(const std::byte* block, float* out) {
    const float d = half_at(block);
    const Bytes q = load_bytes(block + 2);
    store(lower_nibbles(q) - 8, d, out);
    store(upper_nibbles(q) - 8, d, out + 16);
  }
};

struct BlockQ41 {
  static constexpr Index bytes = 20, numbers = 32;
  static void unpack(const std::byte* block, float* out) {
    const float d = half_at(block), m = half_at(block + 2);
    const Bytes q = load_bytes(block + 4);
    store(lower_nibbles(q), d, m, out);
    store(upper_nibbles(q), d, m, out + 16);
  }
};

/// What the fifth bits add to 32 weights: 16 where a bit is set.
struct FifthBits {
  Bytes first, second;

  explicit FifthBits(const std::byte* from) {
    std::int32_t packed;
    std::memcpy(&packed, from, sizeof packed);
    // Each byte twice, four times, eight times: every copy keeps another bit.
    const Bytes one = reinterpret_cast<Bytes>(Ints{packed});
    const Words two = reinterpret_cast<Words>(
        __builtin_shufflevector(one, one, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7));
    const Ints four = reinterpret_cast<Ints>(__builtin_shufflevector(two, two, 0, 0, 1, 1, 2, 2, 3, 3));
    first = set(reinterpret_cast<Bytes>(__builtin_shufflevector(four, four, 0, 0, 1, 1)));
    second = set(reinterpret_cast<Bytes>(__builtin_shufflevector(four, four, 2, 2, 3, 3)));
  }

 private:
  static Bytes set(Bytes repeated) {
    constexpr Bytes bit = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    return reinterpret_cast<Bytes>((repeated & bit) == bit) & 16;
  }
};

struct BlockQ50 {
  static constexpr Index bytes = 22, numbers = 32;
  static void unpack(const std::byte* block, float* out) {
    const float d = half_at(block);
    const FifthBits fifth(block + 2);
    const Bytes q = load_bytes(block + 6);
    store((lower_nibbles(q) | fifth.first) - 16, d, out);
    store((upper_nibbles(q) | fifth.second) - 16, d, out + 16);
  }
};

struct BlockQ51 {
  static constexpr Index bytes = 24, numbers = 32;
  static void unpack(const std::byte* block, float* out) {
    const float d = half_at(block), m = half_at(block + 2);
    const FifthBits fifth(block + 4);
    const Bytes q = load_bytes(block + 8);
    store(lower_nibbles(q) | fifth.first, d, m, out);
    store(upper_nibbles(q) | fifth.second, d, m, out + 16);
  }
};

}  // namespace llama::quant
