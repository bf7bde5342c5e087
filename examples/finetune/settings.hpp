// Everything a run depends on, as the command line gives it: schemes, learning rates, sizes.
#pragma once

#include <algorithm>   // find, stable_sort
#include <cstdint>     // int64_t, uint64_t
#include <filesystem>  // path
#include <map>         // map
#include <stdexcept>   // invalid_argument
#include <string>      // string
#include <utility>     // pair
#include <vector>      // vector

#include <llama/config.hpp>
#include <tiedlora/adapter/layout.hpp>  // Scheme, Index
#include <tiedlora/adapter/scheme.hpp>
#include <tiedlora/adapter/scheme_names.hpp>

#include "../numbers.hpp"

namespace finetune {

/// TL6 with one of its vectors: u or v alone tells the layers apart.
inline tiedlora::Scheme tl6_with(bool u, bool v) {
  tiedlora::Scheme scheme = tiedlora::schemes::tl6();
  if (!u) scheme.u.reset();
  if (!v) scheme.v.reset();
  return scheme;
}

/// TL6 with A and u of each kind's own: q, k and v share no A.
inline tiedlora::Scheme tl6_by_kind() {
  tiedlora::Scheme scheme = tiedlora::schemes::tl6();
  scheme.A.tying.modules = tiedlora::Across::kind;
  if (scheme.u) scheme.u->tying.modules = tiedlora::Across::module;
  return scheme;
}

/// A new scheme is one line here.
inline const std::vector<std::pair<std::string, tiedlora::Scheme>>& named_schemes() {
  static const auto named = [] {
    namespace schemes = tiedlora::schemes;
    std::vector<std::pair<std::string, tiedlora::Scheme>> all;
    for (const auto& [name, scheme] : schemes::all_named()) all.emplace_back(name, scheme);
    all.emplace_back("tl6_u", tl6_with(true, false));
    all.emplace_back("tl6_v", tl6_with(false, true));
    all.emplace_back("tl6_kind", tl6_by_kind());
    for (const int layers : {2, 3, 4, 5, 10, 15})
      all.emplace_back("grouped" + std::to_string(layers), schemes::grouped(layers));
    return all;
  }();
  return named;
}

/// "lora, lora_fused, …, full"
inline std::string known_names() {
  std::string names;
  for (const auto& [name, scheme] : named_schemes()) names += name + ", ";
  return names + "full";
}

inline tiedlora::Scheme scheme_named(const std::string& wanted) {
  for (const auto& [name, scheme] : named_schemes())
    if (name == wanted) return scheme;
  throw std::invalid_argument("--schemes: " + examples::in_short(wanted) + " is not one of " + known_names());
}

/// Whether A or B and also u or v are trained: then u and v have a rate of their own.
inline bool has_uv_rate(const tiedlora::Scheme& scheme) {
  const bool uv = (scheme.u && scheme.u->trained) || (scheme.v && scheme.v->trained);
  return uv && (scheme.A.trained || scheme.B.trained);
}

/// Whether A and B are both trained: then B may have a rate of its own.
inline bool has_b_rate(const tiedlora::Scheme& scheme) { return scheme.A.trained && scheme.B.trained; }

/// A and B (or, in full fine-tuning, the weights) learn at `rate`; u and v at rate × uv_multiple. With u and
/// v the only trained factors (VeRA), `rate` is theirs and the multiple is 1. B's own rate is rate ×
/// b_multiple, that of A `rate` (LoRA+, arXiv 2402.12354).
struct Rates {
  double rate = 0;
  double uv_multiple = 1;
  double b_multiple = 1;
  bool operator==(const Rates&) const = default;
};

/// Rates for the demo's model, by name of scheme; a name may end in a rank: LoRA's optimum rises as the rank
/// falls. From results/sweep.csv, at rank 16 where there is no other.
inline std::map<std::string, Rates> default_rates() {
  std::map<std::string, Rates> rates = {
      {"base", {2e-3, 1}},  // chosen by hand: pre-training is not what is compared
      {"full", {1.8e-3, 1}},
      {"lora:1", {1.8e-2, 1}},
      {"lora:2", {1.8e-2, 1}},
  };
  for (const auto& [name, scheme] : named_schemes()) {
    const bool ties =
        scheme.A.tying.layers != tiedlora::each_layer || scheme.B.tying.layers != tiedlora::each_layer;
    if (!scheme.A.trained && !scheme.B.trained)
      rates[name] = {5.6e-2};
    else
      rates[name] = has_uv_rate(scheme) ? Rates{3.2e-3, 32} : Rates{ties ? 1e-2 : 5.6e-3};
  }
  return rates;
}

using tiedlora::Index;

/// Those of the rank ("lora:1") if there are any, else those of the scheme.
inline const Rates& rates_of(const std::map<std::string, Rates>& rates, const std::string& scheme,
                             Index rank) {
  const auto own = rates.find(scheme + ":" + std::to_string(rank));
  return own != rates.end() ? own->second : rates.at(scheme);
}

inline const std::vector<std::string>& all_targets() {
  static const std::vector<std::string> targets = {"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                                   "gate_proj", "up_proj", "down_proj"};
  return targets;
}

/// Deep, so that tying over layers shows, and narrow: in minutes, many steps of a small model teach more than
/// a few of a larger one.
inline llama::Config default_model() {
  llama::Config model;
  model.layers = 12;
  model.width = 64;
  model.heads = 4;
  model.kv_heads = 2;
  model.feed_forward = 192;
  return model;
}

struct Settings {
  std::vector<std::filesystem::path> base_text, task_text;  ///< empty: the default text
  llama::Config model = default_model();
  std::vector<std::string> targets = all_targets();
  std::vector<std::string> schemes = {"lora", "lora:1", "lora:2", "vera",
                                      "tl5",  "tl6",    "full"};  ///< "name" or "name:rank"
  std::vector<Index> ranks = {16};                                ///< for schemes without a rank of their own
  std::vector<std::uint64_t> seeds = {1};
  Index batch = 4;              ///< sequences per batch
  Index length = 128;           ///< bytes per sequence
  Index accumulate = 1;         ///< batches in a step, which the processes of a run share
  std::int64_t base_steps = 0;  ///< of pre-training; 0: as many as `minutes` allow
  std::int64_t steps = 0;       ///< of fine-tuning; 0: as many as `minutes` allow
  double minutes = 3.5;
  int patience = 0;     ///< evaluations without a better select loss before a run ends; 0: never ends early
  Index windows = 256;  ///< of `length` bytes each, in the test evaluations; select uses an eighth
  std::map<std::string, Rates> rates = default_rates();
  int threads = 1;
  std::filesystem::path out = "out/finetune";
  std::filesystem::path cache = "out/cache";
  bool sweep = false;                     ///< search learning rates instead of comparing
  bool resume = false;                    ///< continue from the checkpoints in `out`
  std::vector<std::string> exports = {};  ///< formats of adapters: "native", "peft", "gguf"
};

/// What a sweep runs with unless told otherwise: about as many steps as the demo makes on two cores of a
/// server, but fixed, so that it can be continued and repeated elsewhere.
inline void use_sweep_defaults(Settings& settings, bool out_given) {
  if (settings.base_steps == 0) settings.base_steps = 3000;
  if (settings.steps == 0) settings.steps = 400;
  if (!out_given) settings.out = "out/sweep";
}

/// The sizes of --smoke: every path of the program in seconds.
inline Settings tiny_settings() {
  Settings settings;
  settings.model.layers = 2;
  settings.model.width = 32;
  settings.model.heads = 2;
  settings.model.kv_heads = 1;
  settings.model.feed_forward = 48;
  settings.ranks = {4};
  settings.batch = 2;
  settings.length = 32;
  settings.base_steps = 4;
  settings.steps = 4;
  settings.windows = 16;
  return settings;
}

inline constexpr double clip_norm = 1.0;      ///< largest gradient norm that a step takes as it is
inline constexpr double weight_decay = 0.01;  ///< AdamW's, on matrices

/// The base is one model, whatever the seeds of the fine-tuning runs.
inline constexpr std::uint64_t base_seed = 1;

/// One thing to train: a scheme at a rank. Full fine-tuning has rank 0.
struct Contender {
  std::string scheme;
  Index rank = 0;
  bool operator==(const Contender&) const = default;

  bool is_full() const { return scheme == "full"; }
  /// "tl6 r=16"
  std::string label() const { return is_full() ? scheme : scheme + " r=" + std::to_string(rank); }
  /// "tl6-r16", for file names
  std::string slug() const { return is_full() ? scheme : scheme + "-r" + std::to_string(rank); }
};

/// The product of schemes and ranks, in the order given; what both give ("lora:4" and rank 4) counts once.
/// Throws std::invalid_argument for a name that is not in known_names() and for an invalid rank.
inline std::vector<Contender> contenders(const Settings& settings) {
  std::vector<Contender> all;
  const auto add = [&](const Contender& one) {
    if (!one.is_full()) scheme_named(one.scheme);
    if (!one.is_full() && (one.rank < 1 || one.rank > examples::largest_rank))
      throw std::invalid_argument("--schemes: " + one.scheme + ":" + std::to_string(one.rank) +
                                  " has no rank from 1 to " + std::to_string(examples::largest_rank));
    if (std::find(all.begin(), all.end(), one) == all.end()) all.push_back(one);
  };
  for (const std::string& text : settings.schemes) {
    const std::size_t colon = text.find(':');
    const std::string name = text.substr(0, colon);
    if (text == "full") {
      add({name, 0});
    } else if (colon != std::string::npos) {
      const auto rank = examples::to_whole<Index>(std::string_view(text).substr(colon + 1));
      if (!rank || name == "full")
        throw std::invalid_argument("--schemes: " + examples::in_short(text) +
                                    (rank ? " has a rank, but full fine-tuning has none"
                                          : " does not end in a rank; write for example lora:1"));
      add({name, *rank});
    } else {
      for (const Index rank : settings.ranks) add({name, rank});
    }
  }
  return all;
}

inline const Rates& rates_of(const Settings& settings, const Contender& contender) {
  return rates_of(settings.rates, contender.scheme, contender.rank);
}

/// "lora=0.01" sets the rate of A and B (and scales that of u and v with it); "tl6.uv=0.3" sets the rate of u
/// and v, at every rank; "lora:1=0.03" and "tl6:4.uv=0.3" are for that rank alone.
inline void override_rate(std::map<std::string, Rates>& rates, const std::string& text) {
  const std::size_t equals = std::min(text.find('='), text.size());
  std::string key = text.substr(0, equals);
  const bool uv = key.ends_with(".uv");
  if (uv) key.erase(key.size() - 3);
  const std::string scheme = key.substr(0, key.find(':'));
  const bool is_full = scheme == "base" || scheme == "full";  // a single rate, without a rank
  const auto rank = key == scheme ? 1 : examples::to_whole<Index>(key.substr(scheme.size() + 1));
  const auto value = examples::to_number(text.substr(std::min(equals + 1, text.size())));
  const bool is_name = rates.contains(scheme) && rank && *rank >= 1 && *rank <= examples::largest_rank &&
                       (!is_full || (key == scheme && !uv)) && (!uv || has_uv_rate(scheme_named(scheme)));
  if (!is_name || !value || *value < examples::smallest_number || *value > examples::largest_number)
    throw std::invalid_argument("--learning-rate: " + examples::in_short(text) +
                                " is not NAME=RATE with a positive rate and a name among base, " +
                                known_names() + ", one with a rank like lora:1, or tl6.uv for u and v");
  Rates& own = rates.try_emplace(key, rates.at(scheme)).first->second;
  if (!uv) {
    own.rate = *value;
    return;
  }
  for (auto& [name, one] : rates)
    if (name == key || name.starts_with(key + ":")) one.uv_multiple = *value / one.rate;
}

/// All of them, the same in whatever order they are given: rates of u and v are kept as multiples of the
/// others, and what is said of a rank counts before what is said of its scheme.
inline void override_rates(std::map<std::string, Rates>& rates, std::vector<std::string> texts) {
  const auto turn = [](const std::string& text) {
    const std::string name = text.substr(0, text.find('='));
    return std::pair(name.ends_with(".uv"), name.find(':') != name.npos);
  };
  std::stable_sort(texts.begin(), texts.end(),
                   [&](const std::string& a, const std::string& b) { return turn(a) < turn(b); });
  for (const std::string& text : texts) override_rate(rates, text);
}

}  // namespace finetune
