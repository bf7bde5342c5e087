// What an adapter costs: one row per scheme and rank, computed from layouts alone.
#pragma once

#include <algorithm>  // is_permutation, min
#include <limits>     // numeric_limits
#include <stdexcept>  // invalid_argument, runtime_error
#include <string>     // string
#include <utility>    // pair
#include <vector>     // vector

#include <fmt/format.h>
#include <tiedlora/adapter/layout.hpp>              // Layout
#include <tiedlora/adapter/recommended_scheme.hpp>  // try_recommended_scheme
#include <tiedlora/adapter/scheme_names.hpp>        // Scheme, schemes

#include "../numbers.hpp"  // in_short
#include "model.hpp"

namespace count_parameters {

/// The scheme of that name. Throws invalid_argument, listing all, if there is none.
inline tiedlora::Scheme scheme_named(const std::string& name) {
  if (const auto scheme = tiedlora::schemes::named(name)) return *scheme;
  throw std::invalid_argument(fmt::format("--schemes: {} is not one of {}, G a positive number of layers",
                                          examples::in_short(name), tiedlora::schemes::names()));
}

/// What one scheme costs at one rank.
struct Row {
  std::string scheme = {};
  Index rank = 0;
  Index trained = 0;           ///< trainable parameters
  Index frozen = 0;            ///< frozen parameters
  Index per_tenant = 0;        ///< parameters that each tenant adds to the A and B that all share
  double percent_of_lora = 0;  ///< trainable, of scheme lora (PEFT's) at the same rank
  double percent_of_lora_fused =
      0;  ///< trainable, of scheme lora_fused (the Tied-LoRA paper's) at the same rank
  double percent_of_lora_r8 = 0;  ///< trainable, of scheme lora of rank 8

  static constexpr Index f32 = 4, bf16 = 2;  ///< bytes of a parameter
  Index file_bytes(Index bytes_per_number) const { return trained * bytes_per_number; }
  Index tenant_bytes(Index bytes_per_number) const { return per_tenant * bytes_per_number; }
  /// Parameters, gradients and AdamW's two moments, all float32.
  Index training_bytes() const { return 4 * trained * f32; }
};

/// Counts without allocating an adapter. Throws runtime_error where a count in bytes overflows.
inline Row count(const tiedlora::ModuleList& modules, const std::string& scheme_name, Index rank) {
  using tiedlora::FactorId;
  const tiedlora::Layout layout(modules, scheme_named(scheme_name), rank);
  Row row;
  row.scheme = scheme_name;
  row.rank = rank;
  row.trained = layout.trainable_count();
  row.frozen = layout.frozen_count();
  if (row.trained > std::numeric_limits<Index>::max() / (4 * Row::f32))
    throw std::runtime_error(
        fmt::format("scheme {} at rank {} has more bytes than can be counted", scheme_name, rank));
  // Where there are u and v, tenants can share a frozen A and B; else each has everything of its own.
  const bool has_uv = layout.scheme().u || layout.scheme().v;
  row.per_tenant =
      has_uv ? layout.trainable_count(FactorId::u) + layout.trainable_count(FactorId::v) : row.trained;
  const auto percent_of = [&](const tiedlora::Scheme& lora) {
    return 100.0 * static_cast<double>(row.trained) /
           static_cast<double>(layout.with_scheme(lora).trainable_count());
  };
  row.percent_of_lora = percent_of(tiedlora::schemes::lora());
  row.percent_of_lora_fused = percent_of(tiedlora::schemes::lora_fused());
  // LoRA's count is linear in the rank.
  row.percent_of_lora_r8 = row.percent_of_lora * static_cast<double>(rank) / 8;
  return row;
}

/// All rows of one model, by scheme and then by rank.
struct Table {
  Model model = {};
  std::vector<std::string> targets = {};
  std::vector<std::string> schemes = {};
  std::vector<Index> ranks = {};
  std::vector<Row> rows = {};
  bool is_recommended = false;  ///< the one row is, for a budget
};

inline Table count(const Model& model, const std::vector<std::string>& targets,
                   const std::vector<std::string>& schemes, const std::vector<Index>& ranks) {
  Table table = {.model = model, .targets = targets, .schemes = schemes, .ranks = ranks};
  const tiedlora::ModuleList modules = modules_of(model, targets);
  for (const std::string& scheme : schemes)
    for (const Index rank : ranks) table.rows.push_back(count(modules, scheme, rank));
  return table;
}

/// The one row of the scheme and rank that the library recommends for at most `budget` trainable parameters.
inline Table count_recommended(const Model& model, const std::vector<std::string>& targets, Index budget) {
  const auto found = tiedlora::try_recommended_scheme(modules_of(model, targets), budget);
  if (!found) throw std::invalid_argument(fmt::format("--budget: {}: {}", model.name, found.error()));
  Table table = count(model, targets, {std::string(found->name)}, {found->rank});
  table.is_recommended = true;
  return table;
}

/// Modules that the study found better than q, k and v, with as many parameters or fewer than were picked: v
/// and down with one A for all layers, else v alone. Empty where the study says nothing: of other targets
/// than q, k and v, of a v as wide as q, and of ranks above its own.
inline std::string advice_of_other_modules(const Table& table) {
  const Model& model = table.model;
  const std::vector<std::string>& targets = table.targets;
  const std::vector<std::string> apart = {"q", "k", "v"}, fused = {"qkv"};
  if (targets != fused && !std::is_permutation(targets.begin(), targets.end(), apart.begin(), apart.end()))
    return "";
  if (model.fused_attention || model.key_width >= model.query_width) return "";
  const Row& row = table.rows.front();
  if (model.feed_forward > model.width) {
    constexpr Index largest_studied_rank = 3;
    const tiedlora::ModuleList modules = modules_of(model, {"v", "down"});
    const Index one = count(modules, "share_lora_a", 1).trained;  // rank r has r times as many
    if (const Index rank = std::min(row.trained / one, largest_studied_rank); rank > 0)
      return fmt::format(
          "{}: share_lora_a of rank {} on v and down has {} trainable parameters; in the study it kept more "
          "than "
          "lora on q, k and v (docs/choosing.md): --targets v,down --schemes share_lora_a --ranks {}\n\n",
          model.name, rank, rank * one, rank);
  }
  if (row.scheme == "lora" || (row.scheme == "share_lora_a" && row.rank > 1)) return "";
  constexpr Index largest_studied_rank = 4;
  const auto on_v = tiedlora::try_recommended_scheme(modules_of(model, {"v"}), row.trained);
  if (!on_v || on_v->name == "tl5" || on_v->rank > largest_studied_rank) return "";
  return fmt::format(
      "{}: {} of rank {} on v alone has {} trainable parameters; in the study v alone kept {} "
      "(docs/choosing.md): --targets v\n\n",
      model.name, on_v->name, on_v->rank, on_v->trainable,
      row.scheme == "tl5" ? "more than tl5 of that size on translation, where tl5 ran"
                          : "about as much for no more parameters, but less on code at rank 1");
}

}  // namespace count_parameters
