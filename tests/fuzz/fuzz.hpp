// What a fuzz target is: tiedlora_fuzz, called with arbitrary bytes. libFuzzer finds them (preset `fuzz`);
// other builds replay the seeds in corpus/ (replay.cpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string_view>

/// One input. Must neither crash nor throw nor take memory or time out of proportion.
void tiedlora_fuzz(std::span<const std::byte> bytes);

/// As assert, in every build.
inline void require(bool condition) {
  if (!condition) std::abort();
}

inline std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
