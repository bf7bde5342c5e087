// The two hash functions of this program.
#pragma once

#include <cstdint>      // uint64_t
#include <string_view>  // string_view

#include <llama/random.hpp>  // Random

namespace finetune {

/// FNV-1a of some bytes: the same on every compiler, and good enough to notice that a file or a setting
/// changed. `state` continues an earlier hash.
inline std::uint64_t fnv1a(std::string_view bytes, std::uint64_t state = 0xcbf29ce484222325u) {
  for (const char byte : bytes) state = (state ^ static_cast<unsigned char>(byte)) * 0x100000001b3u;
  return state;
}

/// The finaliser of SplitMix64: a bijection that spreads every input bit over the whole result.
inline std::uint64_t mix(std::uint64_t x) { return llama::Random(x).bits(); }

}  // namespace finetune
