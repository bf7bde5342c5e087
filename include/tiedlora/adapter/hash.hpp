// XXH64: a fast hash of 64 bits with a published specification, the same on every machine.
#pragma once

#include <bit>      // rotl
#include <cstddef>  // byte, size_t
#include <cstdint>  // uint32_t, uint64_t
#include <cstring>  // memcpy
#include <span>     // span

#include "../views/config.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace detail {
/// XXH64 of the bytes given so far, in whatever pieces (Y. Collet, xxHash fast digest algorithm, XXH64,
/// version 0.1.1; https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md).
class Xxh64 {
 public:
  explicit Xxh64(std::uint64_t seed = 0)
      : sums_{seed + prime1 + prime2, seed + prime2, seed, seed - prime1}, seed_(seed) {}

  void add(std::span<const std::byte> bytes) {
    length_ += bytes.size();
    if (held_ > 0) {
      const std::size_t more = bytes.size() < stripe - held_ ? bytes.size() : stripe - held_;
      hold(bytes.first(more));
      bytes = bytes.subspan(more);
      if (held_ < stripe) return;
      mix_stripe(buffer_);
      held_ = 0;
    }
    for (; bytes.size() >= stripe; bytes = bytes.subspan(stripe)) mix_stripe(bytes.data());
    hold(bytes);
  }
  /// Eight bytes, the lowest first.
  void add(std::uint64_t number) {
    std::byte bytes[8];
    for (unsigned i = 0; i < 8; ++i) bytes[i] = static_cast<std::byte>(number >> 8 * i & 0xff);
    add(bytes);
  }

  std::uint64_t value() const {
    std::uint64_t hash = seed_ + prime5;
    if (length_ >= stripe) {
      hash =
          std::rotl(sums_[0], 1) + std::rotl(sums_[1], 7) + std::rotl(sums_[2], 12) + std::rotl(sums_[3], 18);
      for (const std::uint64_t sum : sums_) hash = (hash ^ round(0, sum)) * prime1 + prime4;
    }
    hash += length_;
    std::size_t i = 0;
    for (; i + 8 <= held_; i += 8)
      hash = std::rotl(hash ^ round(0, read(buffer_ + i, 8)), 27) * prime1 + prime4;
    if (i + 4 <= held_) {
      hash = std::rotl(hash ^ read(buffer_ + i, 4) * prime1, 23) * prime2 + prime3;
      i += 4;
    }
    for (; i < held_; ++i) hash = std::rotl(hash ^ read(buffer_ + i, 1) * prime5, 11) * prime1;
    hash = (hash ^ hash >> 33) * prime2;
    hash = (hash ^ hash >> 29) * prime3;
    return hash ^ hash >> 32;
  }

 private:
  static constexpr std::uint64_t prime1 = 0x9e3779b185ebca87u, prime2 = 0xc2b2ae3d27d4eb4fu,
                                 prime3 = 0x165667b19e3779f9u, prime4 = 0x85ebca77c2b2ae63u,
                                 prime5 = 0x27d4eb2f165667c5u;
  static constexpr std::size_t stripe = 32;

  static std::uint64_t round(std::uint64_t sum, std::uint64_t lane) {
    return std::rotl(sum + lane * prime2, 31) * prime1;
  }
  /// `count` bytes as a number, the lowest first.
  static std::uint64_t read(const std::byte* bytes, unsigned count) {
    std::uint64_t number = 0;
    if constexpr (std::endian::native == std::endian::little)
      std::memcpy(&number, bytes, count);
    else
      for (unsigned i = 0; i < count; ++i) number |= std::to_integer<std::uint64_t>(bytes[i]) << 8 * i;
    return number;
  }
  void mix_stripe(const std::byte* bytes) {
    for (unsigned lane = 0; lane < 4; ++lane) sums_[lane] = round(sums_[lane], read(bytes + 8 * lane, 8));
  }
  void hold(std::span<const std::byte> bytes) {
    if (bytes.empty()) return;
    std::memcpy(buffer_ + held_, bytes.data(), bytes.size());
    held_ += bytes.size();
  }

  std::uint64_t sums_[4];
  std::uint64_t seed_;
  std::uint64_t length_ = 0;
  std::size_t held_ = 0;  // bytes of a stripe that is not full yet
  std::byte buffer_[stripe] = {};
};

}  // namespace detail
TIEDLORA_END_NAMESPACE
