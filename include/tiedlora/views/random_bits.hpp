// Random bits as a pure function of a counter.
#pragma once

#include <cstdint>  // uint64_t

#include "config.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace detail {
inline namespace TIEDLORA_ISA {

/// The finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): every input bit reaches every output bit.
constexpr std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

/// 64 random bits as a pure function of a key and a counter.
constexpr std::uint64_t random_bits(std::uint64_t key, std::uint64_t counter) {
  return mix(mix(key) ^ counter);
}

}  // namespace TIEDLORA_ISA
}  // namespace detail
TIEDLORA_END_NAMESPACE
