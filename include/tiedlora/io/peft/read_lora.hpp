// A LoRA's layout and parameters from its folder.
#pragma once

#include <cmath>    // sqrt
#include <cstddef>  // size_t
#include <utility>  // move
#include <vector>   // vector

#include "../../adapter/adapter.hpp"
#include "../../adapter/aligned_array.hpp"
#include "../../adapter/layout.hpp"
#include "../../adapter/modules.hpp"
#include "../../adapter/result.hpp"
#include "../../adapter/scheme.hpp"
#include "../../views/config.hpp"
#include "../../views/error.hpp"
#include "../safetensors/file.hpp"
#include "config.hpp"
#include "folder.hpp"
#include "host_modules.hpp"
#include "match.hpp"
#include "tensors.hpp"

TIEDLORA_BEGIN_NAMESPACE

namespace detail {

/// The layout of a PEFT LoRA, after a check of every shape.
inline Result<Layout> try_peft_lora_layout(const PeftFolder& folder, const PeftMatch& match,
                                           const ModuleList& modules) {
  const PeftConfig& config = folder.config;
  const auto scaling = [&config](double alpha, Index rank) {
    const auto r = static_cast<double>(rank);
    return alpha / (config.rank_stabilized ? std::sqrt(r) : r);
  };
  const auto alphas = PeftPatterns<double>::try_make(
      "alpha_pattern", config.alpha_pattern, folder.tensors.modules.size(), characters_of(folder.tensors));
  if (!alphas) return Failure{message(peft_config_name, " ", alphas.error())};
  LayoutOptions options = {.scaling = scaling(config.alpha, config.rank)};
  for (Index m = 0; m < modules.size(); ++m) {
    const Module& module = modules[m];
    const PeftModule* tensors = match.of_module[static_cast<std::size_t>(m)];
    if (!tensors) {
      options.ranks.emplace_back(module.name, 0);
      continue;
    }
    const std::vector<Index>& inner = tensors->inner->shape;
    const bool transposed =
        inner.size() == 2 && inner[1] != module.in_features && inner[0] == module.in_features;
    const Index rank = inner.size() == 2 ? inner[transposed ? 1 : 0] : config.rank;
    if (Status same = try_shape(*tensors->inner, {rank, module.in_features}, "rank x in", module); !same)
      return same.failure();
    if (Status same = try_shape(*tensors->outer, {module.out_features, rank}, "out x rank", module); !same)
      return same.failure();
    if (rank != config.rank) options.ranks.emplace_back(module.name, rank);
    const double s = scaling(alphas->of(tensors->name, config.alpha), rank);
    if (s != options.scaling) options.scalings.emplace_back(module.name, s);
  }
  return Layout::try_make(modules, schemes::lora(), config.rank, options);
}

template <class P>
Result<Adapter<P>> try_read_peft_lora(const PeftFolder& folder, const PeftMatch& match,
                                      const ModuleList& modules) {
  const Result<Layout> layout = try_peft_lora_layout(folder, match, modules);
  if (!layout) return layout.failure();
  // Every number has its tensor: no two modules share a factor.
  auto trainable = AlignedArray<P>::for_overwrite(layout->trainable_count());
  for (Index m = 0; m < layout->size(); ++m) {
    const PeftModule* tensors = match.of_module[static_cast<std::size_t>(m)];
    if (!tensors) continue;
    const Layout::Group& A = *layout->group(FactorId::A, m);
    const auto numbers = trainable.span().subspan(static_cast<std::size_t>(A.offset));
    Status read = safetensors::try_read(*tensors->inner, numbers.first(static_cast<std::size_t>(A.count)));
    if (!read) return read.failure();
    read_transposed(*tensors->outer, trainable.data() + layout->group(FactorId::B, m)->offset);
  }
  return Adapter<P>(*layout, std::move(trainable), {});
}

}  // namespace detail

TIEDLORA_END_NAMESPACE
