// What the units of several instruction sets share: views and a scalar type, no arithmetic.
#pragma once

#include <cstdint>
#include <cstring>
#include <tiedlora/ops.hpp>

/// bfloat16 as a host may have it. Inlined wherever it is used, as the library's own members: a body of it
/// would be one that all units share.
struct Short {
  std::uint16_t bits = 0;

  Short() = default;
  __attribute__((always_inline)) explicit Short(float number) {
    std::uint32_t word;
    std::memcpy(&word, &number, sizeof word);
    bits = static_cast<std::uint16_t>((word + 0x7fff + (word >> 16 & 1)) >> 16);
  }
  __attribute__((always_inline)) explicit operator float() const {
    const std::uint32_t word = std::uint32_t{bits} << 16;
    float number;
    std::memcpy(&number, &word, sizeof number);
    return number;
  }
};
template <>
struct tiedlora::ScalarTraits<Short> : tiedlora::Scalar16<tiedlora::Format::bfloat16> {};

/// Operands of every call on one module, in the baseline's memory.
template <class P>
struct Operands {
  tiedlora::Factors<const P> f;
  tiedlora::Factors<float> gradient;
  tiedlora::Tokens<const P> x, dy;
  tiedlora::Tokens<P> y, dx;
  tiedlora::Tokens<float> h, dh;
  const float* token_scale;
  std::span<std::byte> scratch;
  std::span<float> blocks;
};

/// What each unit offers.
#define TIEDLORA_DECLARE_UNIT(unit)                                              \
  namespace unit {                                                               \
  const char* isa();                                                             \
  void use(const Operands<float>& operands);                                     \
  void use(const Operands<Short>& operands);                                     \
  void fail(const Operands<float>& operands); /* throws what a wrong x throws */ \
  }
TIEDLORA_DECLARE_UNIT(baseline)
TIEDLORA_DECLARE_UNIT(avx2)
TIEDLORA_DECLARE_UNIT(avx512)
