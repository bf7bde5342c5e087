// Comparing and naming values bit by bit.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <span>
#include <tiedlora/views/config.hpp>

namespace tiedlora_test {

template <class T>
testing::AssertionResult same_bits(std::span<const T> a, std::span<const T> b) {
  if (a.size() != b.size()) return testing::AssertionFailure() << a.size() << " values against " << b.size();
  if (a.empty() || std::memcmp(a.data(), b.data(), a.size_bytes()) == 0) return testing::AssertionSuccess();
  for (std::size_t i = 0; i < a.size(); ++i)
    if (std::memcmp(&a[i], &b[i], sizeof(T)) != 0)
      return testing::AssertionFailure()
             << "number " << i << " of " << a.size() << ": " << static_cast<double>(a[i]) << " against "
             << static_cast<double>(b[i]);
  return testing::AssertionSuccess();
}

/// Of two dense Eigen matrices of one type.
template <class M>
testing::AssertionResult same_bits(const M& a, const M& b) {
  using T = typename M::Scalar;
  return same_bits(std::span<const T>(a.data(), static_cast<std::size_t>(a.size())),
                   std::span<const T>(b.data(), static_cast<std::size_t>(b.size())));
}

/// 64-bit FNV-1a over the bytes of the values in order (little endian machines only, as all we test on).
template <class T>
std::uint64_t fnv1a(std::span<const T> values) {
  std::uint64_t state = 0xcbf29ce484222325u;
  for (const T& value : values) {
    unsigned char bytes[sizeof(T)];
    std::memcpy(bytes, &value, sizeof(T));
    for (const unsigned char byte : bytes) state = (state ^ byte) * 0x100000001b3u;
  }
  return state;
}

}  // namespace tiedlora_test
