// Blocks of 256 weights in 8 or 16 groups, each with a scale of its own, itself a small integer:
//
//   Q4_K  half D and M, 8 scales s and 8 offsets t of 6 bits, 256 nibbles q         w = (D s) q - (M t)
//   Q5_K  likewise, and 256 fifth bits                                              w = (D s) q - (M t)
//   Q6_K  256 nibbles and 256 pairs of bits, 16 signed bytes s, half D              w = (D s) (q - 32)
//
// A float has room for all products, so that only the subtraction rounds: the bits are the same with fused
// multiply-adds or without.
#pragma once

#include <cstddef>  // byte
#include <cstdint>  // int32_t
#include <cstring>  // memcpy

#include "bytes.hpp"   // Bytes, bits, load_bytes, store
#include "halves.hpp"  // half_at

namespace llama::quant {

/// The largest significands of a half, a scale and a q: their product is exact.
static_assert(2047 * 63 * 31 < 1 << 24, "Q4_K and Q5_K");
static_assert(2047 * 128 * 32 < 1 << 24, "Q6_K");

/// The factors of the eight groups of Q4_K and Q5_K: w = scale[g] q + offset[g].
struct GroupFactors {
  float scale[16], offsets[16];
  const float* offset = offsets + 8;

  /// Bytes 0-3 hold the lower six bits of s_0 ... s_3, bytes 4-7 those of t_0 ... t_3; bytes 8-11 the lower
  /// four bits of s_4 ... s_7 and, in their upper nibbles, of t_4 ... t_7, whose bits 4 and 5 are the
  /// uppermost of bytes 0-3 and 4-7.
  explicit GroupFactors(const std::byte* block) {
    std::int32_t a, b, c;
    std::memcpy(&a, block + 4, sizeof a);
    std::memcpy(&b, block + 8, sizeof b);
    std::memcpy(&c, block + 12, sizeof c);
    constexpr std::int32_t six = 0x3f3f3f3f, four = 0x0f0f0f0f, upper = 0x30303030;
    const Ints parts = {a & six, (c & four) | ((a >> 2) & upper),  //
                        b & six, ((c >> 4) & four) | ((b >> 2) & upper)};
    store(reinterpret_cast<Bytes>(parts), half_at(block), scale);
    store(reinterpret_cast<Bytes>(parts), -half_at(block + 2), offsets);
  }
  GroupFactors(const GroupFactors&) = delete;
  GroupFactors& operator=(const GroupFactors&) = delete;
};

struct BlockQ4K {
  static constexpr Index bytes = 144, numbers = 256;
  static void unpack(const std::byte* block, float* out) {
    const GroupFactors group(block);
    const std::byte* nibbles = block + 16;
    // 32 bytes have the weights of one group in their lower nibbles and those of the next in their upper
    // ones.
    for (int g = 0; g < 8; g += 2, nibbles += 32, out += 64)
      for (int i = 0; i < 32; i += 16) {
        const Bytes q = load_bytes(nibbles + i);
        store(lower_nibbles(q), group.scale[g], group.offset[g], out + i);
        store(upper_nibbles(q), group.scale[g + 1], group.offset[g + 1], out + 32 + i);
      }
  }
};

struct BlockQ5K {
  static constexpr Index bytes = 176, numbers = 256;
  static void unpack(const std::byte* block, float* out) {
    const GroupFactors group(block);
    const std::byte* nibbles = block + 48;
    // Bit g of byte i is the fifth of weight i of group g.
    const Bytes fifth[2] = {load_bytes(block + 16), load_bytes(block + 32)};
    for (int g = 0; g < 8; g += 2, nibbles += 32, out += 64)
      for (int i = 0; i < 32; i += 16) {
        const Bytes q = load_bytes(nibbles + i), high = fifth[i / 16];
        store(lower_nibbles(q) | bits(high, g, 1, 4), group.scale[g], group.offset[g], out + i);
        store(upper_nibbles(q) | bits(high, g + 1, 1, 4), group.scale[g + 1], group.offset[g + 1],
              out + 32 + i);
      }
  }
};

struct BlockQ6K {
  static constexpr Index bytes = 210, numbers = 256;
  static void unpack(const std::byte* block, float* out) {
    const std::byte *nibbles = block, *pairs = block + 128;
    float scales[16];
    store(load_bytes(block + 192), half_at(block + 208), scales);
    // 64 bytes of nibbles and 32 of pairs make 128 weights: the lower nibbles come first, and byte i of the
    // pairs has the upper bits of weights i, i + 32, i + 64 and i + 96.
    const float* scale = scales;
    for (int half = 0; half < 2; ++half, nibbles += 64, pairs += 32, out += 128, scale += 8)
      for (int i = 0; i < 32; i += 16) {
        const Bytes high = load_bytes(pairs + i), a = load_bytes(nibbles + i),
                    b = load_bytes(nibbles + 32 + i);
        const int s = i / 16;
        store((lower_nibbles(a) | bits(high, 0, 3, 4)) - 32, scale[s], out + i);
        store((lower_nibbles(b) | bits(high, 2, 3, 4)) - 32, scale[s + 2], out + 32 + i);
        store((upper_nibbles(a) | bits(high, 4, 3, 4)) - 32, scale[s + 4], out + 64 + i);
        store((upper_nibbles(b) | bits(high, 6, 3, 4)) - 32, scale[s + 6], out + 96 + i);
      }
  }
};

}  // namespace llama::quant
