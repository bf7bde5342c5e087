// How an adapter is tied: a scheme says for each factor A, B, u, v which modules share it, whether it is
// trained and how it is initialised. What a tied gradient is, and how many parameters a scheme trains:
// docs/mathematics.md, E20 and E22.
#pragma once

#include <cmath>     // sqrt
#include <cstdint>   // uint64_t, uint8_t
#include <limits>    // numeric_limits
#include <optional>  // optional

#include "../views/config.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// The four factors of y += s · diag(v) · B · diag(u) · A · x (docs/mathematics.md, E2), in the order in
/// which they stand in the flat arrays.
enum class FactorId : std::uint8_t { A, B, v, u };
/// In the order in which they stand in the flat arrays.
inline constexpr FactorId all_factors[] = {FactorId::A, FactorId::B, FactorId::v, FactorId::u};
/// "A", "B", "v" or "u".
constexpr const char* to_string(FactorId id) {
  constexpr const char* names[] = {"A", "B", "v", "u"};
  return names[static_cast<int>(id)];
}

/// Which modules of one layer share a factor.
enum class Across : std::uint8_t {
  module,  ///< none. If layers are tied, the n-th module of a kind shares with the n-th of that kind in the
           ///< others
  kind,    ///< all of one kind
  input,   ///< all that read the same x
  model    ///< all
};

inline constexpr Index each_layer = 1;                                  ///< no tying over layers
inline constexpr Index all_layers = std::numeric_limits<Index>::max();  ///< one copy for the whole model

/// Tying on both axes. `layers` consecutive layers (by their order in the module list) share one copy;
/// modules without a layer are a group of their own. Where shapes differ, the largest is stored and each
/// module takes the first in_features columns of A and the first out_features rows of B, as VeRA does
/// (docs/mathematics.md, E21).
struct Tying {
  Index layers = each_layer;        ///< each_layer, a number g for groups of g, or all_layers
  Across modules = Across::module;  ///< which modules of those layers share it
  bool operator==(const Tying&) const = default;
};

/// How a factor is initialised. Use the functions of tiedlora::init.
struct Init {
  /// One for each function of tiedlora::init.
  enum class Kind : std::uint8_t { constant, kaiming, normal, torch_vera, given };
  Kind kind = Kind::constant;  ///< zeros and ones are constants
  double value = 0;            ///< constant: the value; kaiming: the gain; normal: the standard deviation
  std::uint64_t key = 0;       ///< torch_vera: PEFT's projection_prng_key
  bool operator==(const Init&) const = default;

  /// Whether all values start at zero.
  bool is_zero() const { return kind != Kind::torch_vera && kind != Kind::given && value == 0; }
};

namespace init {
/// All values the same.
constexpr Init constant(double value) { return {Init::Kind::constant, value, 0}; }
constexpr Init zeros() { return constant(0); }
constexpr Init ones() { return constant(1); }
/// Uniform in ±gain·√(3 / fan_in) (docs/mathematics.md, E34); fan_in is the length of a row: in_features for
/// A, rank for B, 1 for u and v. The default gain is that of torch's kaiming_uniform_(a=√5), PEFT's choice
/// for A: ±1/√in_features.
inline Init kaiming(double gain = std::sqrt(1.0 / 3.0)) { return {Init::Kind::kaiming, gain, 0}; }
/// Normal with mean 0, from integers alone: the sum of twelve uniform variates (so at most 6 standard
/// deviations).
constexpr Init normal(double standard_deviation) { return {Init::Kind::normal, standard_deviation, 0}; }
/// A and B only: the bits that PEFT's VeRA draws on the CPU from torch's generator with this key, uniform in
/// ±√(6 / fan_in).
constexpr Init torch_vera(std::uint64_t key) { return {Init::Kind::torch_vera, 0, key}; }
/// Values that come from elsewhere: a file, or an adapter that was trained before (see freeze).
constexpr Init given() { return {Init::Kind::given, 0, 0}; }

}  // namespace init

/// What a scheme says about one factor.
struct Factor {
  Tying tying = {};     ///< what shares one copy of it
  bool trained = true;  ///< else frozen: no gradient, no optimiser state
  Init init = {};       ///< how it is initialised
  bool operator==(const Factor&) const = default;
};

/// An adaptation method, as a value. A and B are always present; an absent u or v is the identity.
struct Scheme {
  Factor A = {};                           ///< r×in; shrinks x to h
  Factor B = {};                           ///< out×r; expands h to y
  std::optional<Factor> u = std::nullopt;  ///< r values, times h; absent: ones
  std::optional<Factor> v = std::nullopt;  ///< out values, times y; absent: ones
  bool operator==(const Scheme&) const = default;

  /// Null where the factor is absent.
  const Factor* find(FactorId id) const {
    switch (id) {
      case FactorId::A:
        return &A;
      case FactorId::B:
        return &B;
      case FactorId::v:
        return v ? &*v : nullptr;
      case FactorId::u:
        return u ? &*u : nullptr;
    }
    return nullptr;
  }
};

/// The methods of the literature, with their counts in the table below docs/mathematics.md, E22. A new
/// relative is one such function; counts, training and files follow from it.
namespace schemes {
/// No tying: every module has its own.
inline constexpr Tying own = {each_layer, Across::module};

/// LoRA as PEFT has it (arXiv 2106.09685): every module has its own A and B.
inline Scheme lora() { return {.A = {own, true, init::kaiming()}, .B = {own, true, init::zeros()}}; }

/// The LoRA that the Tied-LoRA paper counts (4dr a layer): modules that read the same x share A.
inline Scheme lora_fused() {
  return {.A = {{each_layer, Across::input}, true, init::kaiming()}, .B = {own, true, init::zeros()}};
}

/// VeRA (arXiv 2310.11454): one frozen random pair for the model, trained u (PEFT's lambda_d) and v
/// (lambda_b).
inline Scheme vera(std::uint64_t key = 0) {
  const Factor frozen = {{all_layers, Across::model}, false, init::torch_vera(key)};
  return {.A = frozen,
          .B = frozen,
          .u = Factor{own, true, init::constant(0.1)},
          .v = Factor{own, true, init::zeros()}};
}

/// TL5 of the Tied-LoRA paper (arXiv 2311.09578): A and B tied over the layers and trained; no u, v.
inline Scheme tied_lora_ab() {
  return {.A = {{all_layers, Across::input}, true, init::kaiming()},
          .B = {{all_layers, Across::kind}, true, init::zeros()}};
}
inline Scheme tl5() { return tied_lora_ab(); }

/// TL6 of the Tied-LoRA paper: TL5 with each layer's own trained u (per input) and v (per module).
inline Scheme tied_lora() {
  Scheme scheme = tied_lora_ab();
  scheme.u = Factor{{each_layer, Across::input}, true, init::ones()};
  scheme.v = Factor{own, true, init::ones()};
  return scheme;
}
inline Scheme tl6() { return tied_lora(); }

/// TL6 that starts as VeRA does, at v = 0 with a random B, not at B = 0: the first steps move what is each
/// layer's own, and the shared B and A follow. Better than tl6 at rank 32 on one task of the study, not told
/// apart on another (docs/results.md). Its u and v want VeRA's learning rate. Why: docs/mathematics.md, E33.
inline Scheme tl6_v0() {
  Scheme scheme = tied_lora();
  scheme.B.init = init::kaiming();
  scheme.v = Factor{own, true, init::zeros()};
  return scheme;
}

/// LoRA-FA (arXiv 2308.03303): LoRA with A frozen, so that backward needs no x.
inline Scheme lora_fa() {
  Scheme scheme = lora();
  scheme.A.trained = false;
  return scheme;
}

/// ShareLoRA (arXiv 2406.10785): A, B or both shared by the modules of one kind over all layers.
inline Scheme share_lora_a() {
  Scheme scheme = lora();
  scheme.A.tying = {all_layers, Across::kind};
  return scheme;
}
inline Scheme share_lora_b() {
  Scheme scheme = lora();
  scheme.B.tying = {all_layers, Across::kind};
  return scheme;
}
inline Scheme share_lora_ab() {
  Scheme scheme = share_lora_a();
  scheme.B.tying = {all_layers, Across::kind};
  return scheme;
}

/// A scheme in which what was tied over all layers is tied over each `layers` consecutive ones instead:
/// between LoRA (1) and full tying (the number of layers).
inline Scheme grouped(Index layers, Scheme scheme = tied_lora()) {
  const auto regroup = [layers](Factor& factor) {
    if (factor.tying.layers == all_layers) factor.tying.layers = layers;
  };
  regroup(scheme.A);
  regroup(scheme.B);
  if (scheme.u) regroup(*scheme.u);
  if (scheme.v) regroup(*scheme.v);
  return scheme;
}

}  // namespace schemes
TIEDLORA_END_NAMESPACE
