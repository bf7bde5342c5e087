// Whether all values are finite: one pass at the speed of memory, by bits, for every type that files hold.
#pragma once

#include <cstddef>      // byte, size_t
#include <cstdint>      // uint16_t, uint32_t, uint64_t
#include <cstring>      // memcpy
#include <optional>     // optional
#include <span>         // span
#include <type_traits>  // conditional, is_same

#include "../views/config.hpp"
#include "../views/scalar.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// Values that are NaN or infinite.
struct NotFinite {
  Index first = 0;   ///< place of the first of them
  double value = 0;  ///< NaN, or an infinity
  Index count = 0;   ///< how many there are
};

namespace detail {

/// The types that files hold.
template <class P>
inline constexpr bool has_float_bits = std::is_same_v<P, double> || std::is_same_v<P, float> || is_narrow<P>;

/// A type's bits. The exponent of a value that is not finite is all ones: then, and only then, adding one to
/// it carries into the sign bit.
template <class P>
struct FloatBits {
  static_assert(has_float_bits<P>);
  using Bits = std::conditional_t<sizeof(P) == 8, std::uint64_t,
                                  std::conditional_t<sizeof(P) == 4, std::uint32_t, std::uint16_t>>;
  static constexpr int mantissa() {
    if constexpr (sizeof(P) == 8) return 52;
    if constexpr (sizeof(P) == 4) return 23;
    return ScalarTraits<P>::format == Format::binary16 ? 10 : 7;
  }
  static constexpr Bits sign = static_cast<Bits>(Bits{1} << (8 * sizeof(P) - 1));
  static constexpr Bits one = static_cast<Bits>(Bits{1} << mantissa());
  static constexpr Bits carry(Bits bits) {
    return static_cast<Bits>((bits & static_cast<Bits>(~sign)) + one);
  }
};

/// The bytes hold values of type P one after the other, at any alignment.
template <class P>
bool all_finite(std::span<const std::byte> bytes) {
  using Bits = typename FloatBits<P>::Bits;
  constexpr std::size_t block =
      256 / sizeof(Bits);  // a constant count, which compilers make vectors of at -O2
  Bits carries[block] = {}, numbers[block];
  std::size_t at = 0;
  for (; bytes.size() - at >= sizeof numbers; at += sizeof numbers) {
    std::memcpy(numbers, bytes.data() + at, sizeof numbers);
    for (std::size_t i = 0; i < block; ++i) carries[i] |= FloatBits<P>::carry(numbers[i]);
  }
  Bits all = 0;
  for (const Bits bits : carries) all |= bits;
  for (; bytes.size() - at >= sizeof(Bits); at += sizeof(Bits)) {
    Bits bits;
    std::memcpy(&bits, bytes.data() + at, sizeof bits);
    all |= FloatBits<P>::carry(bits);
  }
  return (all & FloatBits<P>::sign) == 0;
}

template <class P>
std::optional<NotFinite> find_not_finite(std::span<const std::byte> bytes) {
  if (all_finite<P>(bytes)) return std::nullopt;
  NotFinite found;
  for (std::size_t i = 0; i < bytes.size() / sizeof(P); ++i) {
    P number;
    std::memcpy(&number, bytes.data() + i * sizeof number, sizeof number);
    typename FloatBits<P>::Bits bits;
    std::memcpy(&bits, &number, sizeof bits);
    if ((FloatBits<P>::carry(bits) & FloatBits<P>::sign) == 0) continue;
    if (found.count++ == 0)
      found.first = static_cast<Index>(i),
      found.value = static_cast<double>(static_cast<accumulator_t<P>>(number));
  }
  return found;
}

}  // namespace detail

/// Nothing if all are finite. P is float, double, half or bfloat16.
template <class P>
std::optional<NotFinite> find_not_finite(std::span<const P> numbers) {
  return detail::find_not_finite<P>(std::as_bytes(numbers));
}

TIEDLORA_END_NAMESPACE
