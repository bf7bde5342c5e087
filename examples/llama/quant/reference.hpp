// One number of a row at a time, as the formats are described: slow, and what the fast code is tested
// against.
#pragma once

#include <bit>      // bit_cast
#include <cmath>    // ldexp
#include <cstddef>  // byte
#include <cstdint>  // int8_t, uint32_t
#include <limits>   // numeric_limits

#include "number_type.hpp"  // NumberType, info

namespace llama::quant {

/// A little-endian integer of `bytes` bytes.
inline std::uint32_t integer_at(const std::byte* from, int bytes) {
  std::uint32_t value = 0;
  for (int i = 0; i < bytes; ++i) value |= std::to_integer<std::uint32_t>(from[i]) << (8 * i);
  return value;
}

/// A sign, 5 bits of exponent, 10 of the significand.
inline float reference_half(std::uint32_t bits) {
  const int exponent = static_cast<int>(bits >> 10 & 31);
  const auto fraction = static_cast<float>(bits & 1023);
  float magnitude;
  if (exponent == 31)
    magnitude =
        fraction != 0 ? std::numeric_limits<float>::quiet_NaN() : std::numeric_limits<float>::infinity();
  else if (exponent == 0)
    magnitude = std::ldexp(fraction, -24);
  else
    magnitude = std::ldexp(1024 + fraction, exponent - 25);
  return (bits >> 15) != 0 ? -magnitude : magnitude;
}

/// Number i of a block, from its first byte.
class ReferenceBlock {
 public:
  ReferenceBlock(NumberType type, const std::byte* block) : type_(type), block_(block) {}

  float number(int i) const {
    using enum NumberType;
    switch (type_) {
      case F32:
        return std::bit_cast<float>(integer_at(block_, 4));
      case F16:
        return half(0);
      case BF16:
        return std::bit_cast<float>(integer_at(block_, 2) << 16);
      case Q8_0:
        return half(0) * static_cast<float>(signed_byte(2 + i));
      case Q4_0:
        return half(0) * static_cast<float>(nibble_32(2, i) - 8);
      case Q4_1:
        return half(0) * static_cast<float>(nibble_32(4, i)) + half(2);
      case Q5_0:
        return half(0) * static_cast<float>((nibble_32(6, i) | bit(2, i) << 4) - 16);
      case Q5_1:
        return half(0) * static_cast<float>(nibble_32(8, i) | bit(4, i) << 4) + half(2);
      case Q4_K:
        return scaled_256(nibble_256(16, i, 32), i);
      case Q5_K:
        return scaled_256(nibble_256(48, i, 32) | (byte(16 + i % 32) >> i / 32 & 1) << 4, i);
      case Q6_K: {
        const int q = nibble_256(0, i, 64) | (byte(128 + i / 128 * 32 + i % 32) >> i / 32 % 4 * 2 & 3) << 4;
        return half(208) * static_cast<float>(signed_byte(192 + i / 16)) * static_cast<float>(q - 32);
      }
    }
    return 0;
  }

 private:
  int byte(int at) const { return std::to_integer<int>(block_[at]); }
  int signed_byte(int at) const { return static_cast<std::int8_t>(byte(at)); }
  float half(int at) const { return reference_half(integer_at(block_ + at, 2)); }
  int bit(int at, int i) const { return byte(at + i / 8) >> i % 8 & 1; }

  /// 16 bytes have weights 0 ... 15 in their lower nibbles, then 16 ... 31 in their upper ones.
  int nibble_32(int at, int i) const { return byte(at + i % 16) >> i / 16 * 4 & 15; }
  /// The same with runs of `run` bytes, one run after the other.
  int nibble_256(int at, int i, int run) const {
    return byte(at + i / (2 * run) * run + i % run) >> i / run % 2 * 4 & 15;
  }

  /// Scales and offsets of the groups of 32 weights of Q4_K and Q5_K lie in bytes 4 ... 15.
  float scaled_256(int q, int i) const {
    const int g = i / 32;
    int s, t;
    if (g < 4) {
      s = byte(4 + g) & 63;
      t = byte(8 + g) & 63;
    } else {
      s = (byte(8 + g) & 15) | byte(g) >> 6 << 4;
      t = byte(8 + g) >> 4 | byte(4 + g) >> 6 << 4;
    }
    return half(0) * static_cast<float>(s) * static_cast<float>(q) - half(2) * static_cast<float>(t);
  }

  NumberType type_;
  const std::byte* block_;
};

/// Number i of a row.
inline float reference_number(NumberType type, const std::byte* row, Index i) {
  const NumberTypeInfo& layout = info(type);
  return ReferenceBlock(type, row + i / layout.block * layout.bytes)
      .number(static_cast<int>(i % layout.block));
}

}  // namespace llama::quant
