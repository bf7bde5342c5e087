// The dropout mask, from a counter: nothing is stored, and backward asks again.
#pragma once

#include <cstdint>  // uint64_t

#include "../views/config.hpp"
#include "../views/options.hpp"
#include "../views/random_bits.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace detail {
inline namespace TIEDLORA_ISA {

/// The mask of one token.
class DropoutMask {
 public:
  DropoutMask(const Dropout& dropout, Index token)
      : threshold_(static_cast<std::uint64_t>(dropout.probability * 0x1p32)),
        kept_(1 / (1 - dropout.probability)),
        key_(random_bits(random_bits(random_bits(dropout.seed, dropout.step), dropout.input),
                         static_cast<std::uint64_t>(dropout.first_token + token))) {}

  /// 0 with that probability, else 1 / (1 - probability).
  double operator()(Index feature) const {
    return random_bits(key_, static_cast<std::uint64_t>(feature)) >> 32 < threshold_ ? 0 : kept_;
  }

 private:
  std::uint64_t threshold_;
  double kept_;
  std::uint64_t key_;
};

}  // namespace TIEDLORA_ISA
}  // namespace detail
TIEDLORA_END_NAMESPACE
