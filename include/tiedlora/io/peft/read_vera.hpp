// A VeRA's layout and parameters from its folder.
#pragma once

#include <algorithm>    // copy_n, max
#include <cstddef>      // size_t
#include <cstdint>      // uint64_t
#include <span>         // span
#include <string>       // string
#include <string_view>  // string_view
#include <utility>      // move, pair
#include <vector>       // vector

#include "../../adapter/adapter.hpp"
#include "../../adapter/aligned_array.hpp"
#include "../../adapter/initialize.hpp"
#include "../../adapter/layout.hpp"
#include "../../adapter/modules.hpp"
#include "../../adapter/quote.hpp"
#include "../../adapter/random.hpp"
#include "../../adapter/result.hpp"
#include "../../adapter/scheme.hpp"
#include "../../views/config.hpp"
#include "../../views/error.hpp"
#include "../safetensors/file.hpp"
#include "config.hpp"
#include "folder.hpp"
#include "host_modules.hpp"
#include "tensors.hpp"

TIEDLORA_BEGIN_NAMESPACE

namespace detail {

/// The layout of a PEFT VeRA, after a check of every shape. Without A and B in the file they follow from the
/// key and the largest shapes, so that none of its modules may be unknown.
inline Result<Layout> try_peft_vera_layout(const PeftFolder& folder, const PeftMatch& match,
                                           const ModuleList& modules) {
  const PeftConfig& config = folder.config;
  const PeftTensors& tensors = folder.tensors;
  LayoutOptions options;
  Index largest_in = 0, largest_out = 0;
  for (Index m = 0; m < modules.size(); ++m) {
    const Module& module = modules[m];
    const PeftModule* vectors = match.of_module[static_cast<std::size_t>(m)];
    if (!vectors) {
      options.ranks.emplace_back(module.name, 0);
      continue;
    }
    if (Status same = try_shape(*vectors->inner, {config.rank}, "r", module); !same) return same.failure();
    if (Status same = try_shape(*vectors->outer, {module.out_features}, "out", module); !same)
      return same.failure();
    largest_in = std::max(largest_in, module.in_features);
    largest_out = std::max(largest_out, module.out_features);
  }
  if (!config.has_projection) {
    if (tensors.A || tensors.B)
      return Failure{
          "has save_projection = false, but the file has vera_A or vera_B; the two files do not belong "
          "together"};
    constexpr std::string_view projections =
        "does not hold A and B (save_projection = false); they are generated for the largest shapes of all "
        "modules that it adapts, but ";
    // Left out with them, a module may be one of the largest.
    for (const auto& [name, reason] : tensors.left_out)
      if (name.find(".vera_lambda_") != name.npos)
        return Failure{message(projections, in_quotes(name), " was left out: ", reason)};
    for (const std::string& name : match.report.unused)
      if (name.find(".vera_lambda_") != name.npos)
        return Failure{message(projections, in_quotes(name), " is for no module in the host's list")};
  } else {
    if (!tensors.A || !tensors.B)
      return Failure{"has save_projection = true, but no \"base_model.vera_A\" and \"base_model.vera_B\""};
    const auto fits = [&](const safetensors::Tensor& t, std::size_t rank_at, Index least) {
      return t.shape.size() == 2 && t.shape[rank_at] == config.rank && t.shape[1 - rank_at] >= least;
    };
    // Larger ones than ours are right where modules of the file are not the host's.
    for (Index m = 0; m < modules.size(); ++m) {
      if (!match.of_module[static_cast<std::size_t>(m)]) continue;
      const auto wrong = [&](const safetensors::Tensor& tensor, const std::string& wanted) {
        return Failure{message("module ", in_quotes(modules[m].name), " of ", modules[m].out_features, "x",
                               modules[m].in_features, " (out x in) needs ", in_quotes(tensor.name),
                               " of at least ", wanted, ", but it is ", shape_text(tensor),
                               "; wrong base model?")};
      };
      if (!fits(*tensors.A, 0, modules[m].in_features))
        return wrong(*tensors.A, message(config.rank, "x", modules[m].in_features));
      if (!fits(*tensors.B, 1, modules[m].out_features))
        return wrong(*tensors.B, message(modules[m].out_features, "x", config.rank));
    }
  }
  return Layout::try_make(modules, schemes::vera(config.projection_key), config.rank, options);
}

/// Copies the top left rows × columns of a matrix, whose dtype and size were checked.
template <class P>
void read_corner(const safetensors::Tensor& tensor, Index rows, Index columns, bool transposed, P* to) {
  AlignedArray<P> all;
  const bool whole = tensor.shape[0] == rows && tensor.shape[1] == columns;
  P* numbers = to;
  if (!whole) {
    all = AlignedArray<P>::for_overwrite(tensor.count());
    numbers = all.data();
  }
  if (transposed)
    read_transposed(tensor, numbers);
  else
    (void)safetensors::try_read(tensor, std::span<P>(numbers, static_cast<std::size_t>(tensor.count())));
  if (whole) return;
  const Index lines = transposed ? columns : rows, length = transposed ? rows : columns;
  for (Index line = 0; line < lines; ++line)
    std::copy_n(numbers + line * tensor.shape[transposed ? 0 : 1], length, to + line * length);
}

/// Whether VeRA's A (r×in) and B (out×r) are the bits that torch draws with that key.
template <class P>
bool is_drawn_by_torch(std::uint64_t key, const P* A, const P* B, Index rank, Index in, Index out) {
  TorchUniform next(key);
  for (Index i = 0; i < rank * in; ++i)
    if (A[i] != static_cast<P>(next(in))) return false;
  for (Index i = 0; i < out; ++i)
    for (Index k = 0; k < rank; ++k)
      if (B[k * out + i] != static_cast<P>(next(rank))) return false;
  return true;
}

template <class P>
Result<Adapter<P>> try_read_peft_vera(const PeftFolder& folder, const PeftMatch& match,
                                      const ModuleList& modules, Index max_seeded_numbers) {
  Result<Layout> layout = try_peft_vera_layout(folder, match, modules);
  if (!layout) return layout.failure();
  if (!folder.config.has_projection && layout->frozen_count() > max_seeded_numbers)
    return Failure{message("needs ", layout->frozen_count(),
                           " values generated from projection_prng_key; the limit is ", max_seeded_numbers,
                           " (PeftLoadOptions::max_seeded_numbers)")};
  const Index rank = folder.config.rank;
  const Layout::Group A = layout->groups(FactorId::A)[0], B = layout->groups(FactorId::B)[0];
  auto frozen = AlignedArray<P>::for_overwrite(layout->frozen_count());
  P *const A_numbers = frozen.data() + A.offset, *const B_numbers = frozen.data() + B.offset;
  if (!folder.config.has_projection) {
    fill_factor(*layout, FactorId::A, 0, frozen.data());
    fill_factor(*layout, FactorId::B, 0, frozen.data());
  } else {
    read_corner(*folder.tensors.A, rank, A.features, false, A_numbers);
    read_corner(*folder.tensors.B, B.features, rank, true, B_numbers);
    const std::uint64_t key = folder.config.projection_key;
    if (!is_drawn_by_torch(key, A_numbers, B_numbers, rank, A.features, B.features)) {
      // Trained elsewhere, or drawn on another machine: the key does not give these values.
      Scheme scheme = layout->scheme();
      scheme.A.init = scheme.B.init = init::given();
      layout = Layout::try_make(modules, scheme, layout->rank(), layout->options());
      if (!layout) return layout.failure();
    }
  }
  auto trainable = AlignedArray<P>::for_overwrite(layout->trainable_count());
  for (Index m = 0; m < layout->size(); ++m) {
    const PeftModule* vectors = match.of_module[static_cast<std::size_t>(m)];
    if (!vectors) continue;
    for (const auto& [id, tensor] : {std::pair(FactorId::u, vectors->inner), {FactorId::v, vectors->outer}}) {
      const Layout::Group& group = *layout->group(id, m);
      const auto numbers = trainable.span().subspan(static_cast<std::size_t>(group.offset));
      Status read = safetensors::try_read(*tensor, numbers.first(static_cast<std::size_t>(group.count)));
      if (!read) return read.failure();
    }
  }
  return Adapter<P>(*layout, std::move(trainable), std::move(frozen));
}

}  // namespace detail

TIEDLORA_END_NAMESPACE
