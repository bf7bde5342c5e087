// XXH64 against its published test vectors.
#include <gtest/gtest.h>

#include <cstdint>
#include <span>
#include <string_view>
#include <tiedlora/adapter/hash.hpp>
#include <vector>

namespace {

using tiedlora::detail::Xxh64;

std::uint64_t hash_of(std::span<const std::byte> bytes, std::uint64_t seed = 0) {
  Xxh64 hash(seed);
  hash.add(bytes);
  return hash.value();
}
std::uint64_t hash_of(std::string_view text) { return hash_of(std::as_bytes(std::span(text))); }

constexpr std::uint64_t prime32 = 2654435761u, prime64 = 11400714785074694797u;

// The buffer of xxHash's own sanity check.
std::vector<std::byte> sanity_bytes(std::size_t size) {
  std::vector<std::byte> bytes(size);
  std::uint64_t generator = prime32;
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(generator >> 56), generator *= prime64;
  return bytes;
}

TEST(Xxh64, PublishedVectors) {
  // XSUM_XXH64_testdata of xxHash's cli/xsum_sanity_check.c: length, seed, hash.
  const struct {
    std::size_t size;
    std::uint64_t seed, hash;
  } vectors[] = {{0, 0, 0xef46db3751d8e999u},        {0, prime32, 0xac75fda2929b17efu},
                 {1, 0, 0xe934a84adb052768u},        {1, prime32, 0x5014607643a9b4c3u},
                 {4, 0, 0x9136a0dca57457eeu},        {14, 0, 0x8282dcc4994e35c8u},
                 {14, prime32, 0xc3bd6bf63deb6df0u}, {222, 0, 0xb641ae8cb691c174u},
                 {222, prime32, 0x20cb8ab7ae10c14au}};
  for (const auto& vector : vectors)
    EXPECT_EQ(hash_of(sanity_bytes(vector.size), vector.seed), vector.hash) << vector.size;
  EXPECT_EQ(hash_of("a"), 0xd24ec4f1a98c6e5bu);
  EXPECT_EQ(hash_of("abc"), 0x44bc2cf5ad770999u);
}

TEST(Xxh64, PiecesMakeNoDifference) {
  const std::vector<std::byte> bytes = sanity_bytes(150);
  for (std::size_t size = 0; size <= bytes.size(); ++size)
    for (const std::size_t piece : {1u, 7u, 31u, 32u, 33u, 100u}) {
      Xxh64 pieces;
      const std::span<const std::byte> all = std::span(bytes).first(size);
      for (std::size_t at = 0; at < size; at += piece)
        pieces.add(all.subspan(at, std::min(piece, size - at)));
      ASSERT_EQ(pieces.value(), hash_of(all)) << size << " in pieces of " << piece;
    }
}

TEST(Xxh64, ANumberIsItsBytesTheLowestFirst) {
  Xxh64 number;
  number.add(std::uint64_t{0x6867666564636261u});
  EXPECT_EQ(number.value(), hash_of("abcdefgh"));
}

}  // namespace
