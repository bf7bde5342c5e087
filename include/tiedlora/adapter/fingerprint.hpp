// Which adapter this is, in 64 bits: for keys of caches whose contents depend on it.
#pragma once

#include <bit>          // bit_cast, endian
#include <cstddef>      // byte
#include <cstdint>      // uint64_t
#include <span>         // span, as_bytes
#include <string_view>  // string_view
#include <type_traits>  // is_same

#include "../views/config.hpp"
#include "../views/scalar.hpp"
#include "hash.hpp"
#include "layout.hpp"
#include "scheme.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace detail {
inline constexpr std::uint64_t fingerprint_version = 1;

/// The type of the parameters, as safetensors calls it.
template <class T>
constexpr std::string_view type_name() {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, double> || is_narrow<T>,
                "tiedlora: fingerprints are defined for float, double, half and bfloat16");
  if constexpr (std::is_same_v<T, float>) return "F32";
  if constexpr (std::is_same_v<T, double>) return "F64";
  return ScalarTraits<T>::format == Format::binary16 ? "F16" : "BF16";
}

inline void add_text(Xxh64& hash, std::string_view text) {
  hash.add(static_cast<std::uint64_t>(text.size()));
  hash.add(std::as_bytes(std::span(text)));
}

template <class T>
void add_numbers(Xxh64& hash, std::span<const T> numbers) {
  hash.add(static_cast<std::uint64_t>(numbers.size()));
  if constexpr (std::endian::native == std::endian::little) {
    hash.add(std::as_bytes(numbers));
  } else {
    for (const T& number : numbers) {
      std::byte bytes[sizeof(T)];
      for (std::size_t i = 0; i < sizeof(T); ++i)
        bytes[i] = reinterpret_cast<const std::byte*>(&number)[sizeof(T) - 1 - i];
      hash.add(bytes);
    }
  }
}

}  // namespace detail

/// A stable identity of an Adapter or AdapterView: XXH64, seed 0, of what it computes and with which
/// parameters: the same on every platform and instruction set, changed by any bit. Integers and doubles are 8
/// bytes, little-endian; a string is its length and its bytes. In this order:
/// - 1, the version of this definition;
/// - "F32", "F64", "F16" or "BF16", the type of the parameters, so that a cast has another fingerprint;
/// - for A, B, v and u: present (0 or 1), trained (0 or 1), Tying::layers, Across as a number; four zeros
///   where the factor is absent;
/// - the number of modules, and for each: name, layer, kind, input, in_features, out_features, rank, scaling;
/// - the number of trainable parameters, and these; the number of frozen ones, and these; in layout order.
///
/// How factors were initialised does not enter: a frozen factor that a file keeps as a seed counts by its
/// values.
template <class Source>
std::uint64_t fingerprint(const Source& adapter) {
  using Scalar = typename Source::Scalar;
  const Layout& layout = adapter.layout();
  detail::Xxh64 hash;
  const auto add = [&hash](auto number) { hash.add(static_cast<std::uint64_t>(number)); };
  add(detail::fingerprint_version);
  detail::add_text(hash, detail::type_name<Scalar>());
  for (const FactorId id : all_factors) {
    const Factor* factor = layout.scheme().find(id);
    add(factor ? 1 : 0), add(factor && factor->trained ? 1 : 0);
    add(factor ? factor->tying.layers : 0), add(factor ? static_cast<int>(factor->tying.modules) : 0);
  }
  add(layout.size());
  for (Index m = 0; m < layout.size(); ++m) {
    const Module& module = layout.modules()[m];
    detail::add_text(hash, module.name);
    add(module.layer);
    detail::add_text(hash, module.kind);
    detail::add_text(hash, module.input);
    add(module.in_features), add(module.out_features), add(layout.rank(m));
    add(std::bit_cast<std::uint64_t>(layout.scaling(m)));
  }
  detail::add_numbers<Scalar>(hash, adapter.trainable());
  detail::add_numbers<Scalar>(hash, adapter.frozen());
  return hash.value();
}

/// An adapter in use: its fingerprint and the scale of its calls (CallOptions::scale, times a token's own).
struct ActiveAdapter {
  std::uint64_t fingerprint = 0;  ///< of fingerprint()
  double scale = 1;               ///< 0: not in use
};

/// What to add to the key of a prompt cache, so that no request reads what was computed under other adapters.
/// Independent of the order of the uses; the same adapter twice differs from once. A use of scale 0 does not
/// count. 0 without uses.
inline std::uint64_t cache_key(std::span<const ActiveAdapter> uses) {
  std::uint64_t sum = 0, count = 0;
  for (const ActiveAdapter& use : uses) {
    if (use.scale == 0) continue;
    detail::Xxh64 hash;
    hash.add(use.fingerprint);
    hash.add(std::bit_cast<std::uint64_t>(use.scale));
    sum += hash.value();
    ++count;
  }
  if (count == 0) return 0;
  detail::Xxh64 hash;
  hash.add(count);
  hash.add(sum);
  return hash.value();
}

TIEDLORA_END_NAMESPACE
