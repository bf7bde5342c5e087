// Which cases are run: sizes on, just below and just above what vectors, tiles and blocks hold, sizes of real
// models, and every way to call.
#pragma once

#include <cstdint>  // uint64_t
#include <limits>   // numeric_limits
#include <string>   // string
#include <utility>  // move
#include <vector>   // vector

#include "../views/config.hpp"
#include "dice.hpp"
#include "parity_case.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace verify {
inline namespace TIEDLORA_ISA {

using Sizes = std::vector<Index>;

/// first, …, last.
inline Sizes range(Index first, Index last) {
  Sizes result;
  for (Index n = first; n <= last; ++n) result.push_back(n);
  return result;
}
inline Sizes joined(std::initializer_list<Sizes> parts) {
  Sizes all;
  for (const Sizes& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

inline Sizes usual_tokens() { return joined({range(1, 17), range(31, 33), range(63, 65)}); }
inline Sizes usual_ranks() {
  return joined(
      {range(1, 17), {24}, range(31, 33), {48}, range(63, 65), {100}, range(127, 129), range(255, 257)});
}
inline Sizes usual_widths() {
  return joined(
      {range(1, 34), range(47, 49), range(63, 65), range(127, 129), range(255, 257), range(511, 513), {577}});
}

/// Those of models, and on, just below and just above what a group of work-items, the CPU's blocks
/// (backends/cpu/blocking.hpp) and a block's tokens hold. In ascending order: what fails first is then the
/// size nearest to the one where the fault begins.
inline Sizes large_widths() { return {1023, 1024, 1025, 2049, 4097, 11008}; }
inline Sizes large_tokens() { return {127, 128, 129, 257, 513, 1025}; }

/// Draws cases. Whatever is not given is drawn from a deck, so that each of its values occurs.
class ParitySampler {
 public:
  explicit ParitySampler(std::uint64_t seed, const Sizes& widths = usual_widths())
      : seed_(seed), dice_(seed), in_(widths), out_(widths) {}

  ParityCase draw(Index tokens, Index rank) {
    ParityCase c = {.in = in_.draw(dice_),
                    .out = out_.draw(dice_),
                    .rank = rank,
                    .tokens = tokens,
                    .present = present_.draw(dice_),
                    .trained = trained_.draw(dice_)};
    c.wants_dx = dice_.integer(0, 3) != 0;
    for (View* view : {&c.x, &c.h, &c.y, &c.dx, &c.dh, &c.dy}) *view = static_cast<View>(dice_.integer(0, 4));
    for (View* view : {&c.factors, &c.gradients}) *view = dice_.coin() ? View::dense : View::padded;
    c.overwrite = dice_.coin(), c.token_scale = dice_.coin();
    c.scaling = dice_.coin() ? 1.5 : 1, c.scale = dice_.coin() ? 0.625 : 1;
    c.dropout = dropout_.draw(dice_);
    c.slices = slices_.draw(dice_);
    c.shared_x = dice_.integer(0, 3) == 0, c.tenants = dice_.integer(0, 3) == 0;
    c.wide_range = dice_.integer(0, 7) == 0;
    c.seed = ++seed_;
    return c;
  }

  /// Cases in which every one of these numbers of tokens and every rank occurs.
  std::vector<ParityCase> draw_all(const Sizes& tokens, const Sizes& ranks, std::size_t count) {
    Deck<Index> token_deck(tokens), rank_deck(ranks);
    std::vector<ParityCase> cases;
    while (cases.size() < count) {
      const Index t = token_deck.draw(dice_);
      cases.push_back(draw(t, rank_deck.draw(dice_)));
    }
    return cases;
  }

  /// Every large size alone: the others are small, so that a case costs little, and all is trained and
  /// wanted, by calls for several modules and for tenants too, so that every call meets each size. Widths
  /// come with few tokens and with more than eight, for which backends have kernels of their own.
  std::vector<ParityCase> draw_large() {
    std::vector<ParityCase> cases;
    const auto add = [&](Index ParityCase::* const dimension, Index size, Index tokens) {
      ParityCase c = draw(tokens, small_.draw(dice_));
      c.in = small_.draw(dice_), c.out = small_.draw(dice_);
      c.*dimension = size;
      c.present = c.trained = "ABuv";
      c.wants_dx = c.shared_x = c.tenants = true;
      cases.push_back(c);
    };
    for (Index ParityCase::* const dimension : {&ParityCase::in, &ParityCase::out})
      for (const Index size : large_widths()) {
        add(dimension, size, small_.draw(dice_));
        add(dimension, size, size % 2 == 0 ? 9 : 10);
      }
    for (const Index size : large_tokens()) add(&ParityCase::tokens, size, size);
    return cases;
  }

  /// The same with a NaN or an infinity in one operand.
  ParityCase spoilt(ParityCase c) {
    c.spoilt = spoilt_.draw(dice_);
    if (dice_.coin()) c.spoiling_value = std::numeric_limits<double>::infinity();
    c.present = "ABuv", c.dropout = 0;
    return c;
  }

  /// The same where everything it is multiplied by is zero: it must show in the result nevertheless.
  ParityCase spoilt_beside_zeros(ParityCase c) {
    c = spoilt(std::move(c));
    c.trained = "ABuv", c.wants_dx = c.token_scale = true;
    c.zeros = ParityCase::all_zeros;
    return c;
  }

 private:
  static std::vector<std::string> subsets(const std::string& always, const std::string& letters) {
    std::vector<std::string> result = {always};
    for (const char letter : letters)
      for (std::size_t n = result.size(); n-- > 0;) result.push_back(result[n] + letter);
    return result;
  }

  static std::vector<std::string> with_all(std::vector<std::string> choices, std::size_t more) {
    choices.insert(choices.end(), more, "ABuv");
    return choices;
  }

  std::uint64_t seed_;
  Dice dice_;
  Deck<Index> in_, out_;
  Deck<Index> small_{{1, 2, 3, 4, 5}};
  Deck<Index> slices_{{1, 2, 3, 5}};
  Deck<double> dropout_{{0, 0, 0, 0, 0, 0, 0, 0.3}};
  // All four more often than any other subset, or du and dv would seldom be checked.
  Deck<std::string> present_{with_all(subsets("AB", "uv"), 2)}, trained_{with_all(subsets("", "ABuv"), 8)};
  Deck<Spoilt> spoilt_{{Spoilt::A, Spoilt::B, Spoilt::u, Spoilt::v, Spoilt::x, Spoilt::dy}};
};

/// What parity() runs by default: `count` cases, then a fifth as many with a NaN or an infinity, half as many
/// of those beside zeros, some without tokens, some without features (a module cut into more parts than it
/// has features), some of rank 0, and those of the large sizes, once and for every further 240 cases.
inline std::vector<ParityCase> usual_cases(std::uint64_t seed, std::size_t count) {
  ParitySampler sampler(seed);
  std::vector<ParityCase> cases = sampler.draw_all(usual_tokens(), usual_ranks(), count);
  for (const ParityCase& c : sampler.draw_all(range(1, 17), range(1, 17), count / 5 + 12))
    cases.push_back(sampler.spoilt(c));
  for (const ParityCase& c : sampler.draw_all(range(1, 17), range(1, 17), count / 10 + 12))
    cases.push_back(sampler.spoilt_beside_zeros(c));
  for (const Index rank : {1, 3, 8, 16}) cases.push_back(sampler.draw(0, rank));
  for (Index ParityCase::* const width : {&ParityCase::in, &ParityCase::out})
    for (const Index tokens : {1, 9}) {
      cases.push_back(sampler.draw(tokens, 3));
      cases.back().*width = 0;
    }
  for (const Index tokens : {1, 2, 5, 17}) {
    cases.push_back(sampler.draw(tokens, 0));
    cases.back().overwrite = cases.back().wants_dx = true;
  }
  for (std::size_t round = 0; round == 0 || round < count / 240; ++round)
    for (const ParityCase& c : sampler.draw_large()) cases.push_back(c);
  return cases;
}

}  // namespace TIEDLORA_ISA
}  // namespace verify
TIEDLORA_END_NAMESPACE
