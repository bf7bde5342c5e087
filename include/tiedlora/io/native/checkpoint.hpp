// The checkpoint: a native file that also holds the optimiser's state and where training stands.
//
//   __metadata__["tiedlora_checkpoint"]   JSON: step, position, the optimiser's options and its step count
//   "optimizer.first_moment", "optimizer.second_moment"   AdamW's moments in layout order
#pragma once

#include <cstdint>     // int64_t
#include <filesystem>  // path
#include <limits>      // numeric_limits
#include <string>      // string
#include <utility>     // move

#include "../../adapter/adapter.hpp"
#include "../../adapter/optimizer.hpp"
#include "../../adapter/quote.hpp"
#include "../../adapter/result.hpp"
#include "../../views/config.hpp"
#include "../../views/error.hpp"
#include "../json/fields.hpp"
#include "../json/json.hpp"
#include "../safetensors/file.hpp"
#include "file.hpp"
#include "load.hpp"
#include "save.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// Where training stands.
struct TrainingPosition {
  std::int64_t step = 0;  ///< steps taken
  /// Where the host is in its data, in the host's own words (UTF-8): a random generator's state, an epoch and
  /// an index. Returned as it was.
  std::string data = {};
};

/// What training continues from, bit-identical to training without an interruption.
template <class P>
struct Checkpoint {
  Adapter<P> adapter;              ///< with the parameters of that step
  AdamW<P> optimizer;              ///< with both moments and the step count
  TrainingPosition position = {};  ///< as it was saved
  std::string base_model = {};     ///< likewise
};

namespace detail {
inline Json per_factor_to_json(const PerFactor& numbers) {
  return {{"A", numbers.A}, {"B", numbers.B}, {"u", numbers.u}, {"v", numbers.v}};
}
inline PerFactor per_factor_from_json(JsonFields& parent, const char* name, std::string& problem) {
  const Json* json = parent.value(name);
  if (!json) return {};
  JsonFields fields(*json, std::string("optimizer.") + name, problem);
  const PerFactor numbers = {
      .A = fields.number("A"), .B = fields.number("B"), .u = fields.number("u"), .v = fields.number("v")};
  fields.finish();
  return numbers;
}

/// The value of "tiedlora_checkpoint" in the file's __metadata__.
template <class P>
Result<std::string> try_checkpoint_text(const AdamW<P>& optimizer, const TrainingPosition& position) {
  if (position.step < 0)
    return Failure{message("the training position's step is ", position.step, "; steps are counted from 0")};
  const AdamWOptions& options = optimizer.options();
  Result<std::string> text = try_dump_json({{"step", position.step},
                                            {"data", position.data},
                                            {"optimizer",
                                             {{"kind", "adamw"},
                                              {"step_count", optimizer.step_count()},
                                              {"learning_rate", optimizer.rates().learning_rate},
                                              {"rates", per_factor_to_json(optimizer.rates().factors)},
                                              {"beta1", options.beta1},
                                              {"beta2", options.beta2},
                                              {"epsilon", options.epsilon},
                                              {"weight_decay", options.weight_decay},
                                              {"decays", per_factor_to_json(options.decays)}}}});
  if (!text) return Failure{"the training position or the optimizer's options: one of them " + text.error()};
  return text;
}

/// What "tiedlora_checkpoint" says.
struct CheckpointMetadata {
  TrainingPosition position = {};
  AdamWOptions optimizer = {};
  std::int64_t step_count = 0;
};

inline Result<CheckpointMetadata> try_parse_checkpoint_metadata(std::string_view text) {
  const Result<Json> json = try_parse_json(text);
  if (!json) return json.failure();
  std::string problem;
  CheckpointMetadata metadata;
  JsonFields fields(*json, "\"tiedlora_checkpoint\"", problem);
  metadata.position.step = fields.integer("step", 0);
  metadata.position.data = fields.text("data");
  if (const Json* value = fields.value("optimizer")) {
    JsonFields parts(*value, "optimizer", problem);
    constexpr std::string_view kinds[] = {"adamw"};
    parts.one_of("kind", kinds);
    metadata.step_count =
        parts.integer("step_count", 0, std::numeric_limits<std::int64_t>::max() - 1);  // a step follows
    metadata.optimizer = {.learning_rate = parts.number("learning_rate"),
                          .rates = per_factor_from_json(parts, "rates", problem),
                          .beta1 = parts.number("beta1"),
                          .beta2 = parts.number("beta2"),
                          .epsilon = parts.number("epsilon"),
                          .weight_decay = parts.number("weight_decay"),
                          .decays = per_factor_from_json(parts, "decays", problem)};
    parts.finish();
  }
  fields.finish();
  if (!problem.empty()) return Failure{problem};
  return metadata;
}

template <class P>
Result<Checkpoint<P>> try_read_checkpoint(const NativeFile& file, const NativeLoadOptions& options) {
  const auto text = file.file.metadata().find("tiedlora_checkpoint");
  if (text == file.file.metadata().end())
    return Failure{"holds an adapter but no training state; load it with load_adapter"};
  const Result<CheckpointMetadata> metadata = try_parse_checkpoint_metadata(text->second);
  if (!metadata) return Failure{"its metadata: " + metadata.error()};
  if (file.dtype() != safetensors::dtype_of<P>)
    return Failure{message("holds training state in ", to_string(file.dtype()), ", not ",
                           to_string(safetensors::dtype_of<P>),
                           "; training can only resume in its own type")};
  // Before memory is taken for the moments.
  for (const std::string_view name : optimizer_tensors) {
    const safetensors::Tensor* tensor = file.file.find(name);
    if (!tensor || tensor->dtype != file.dtype() || tensor->count() != file.layout().trainable_count())
      return Failure{message("tensor \"", name, "\" is missing or not of dtype ", to_string(file.dtype()),
                             " with ", file.layout().trainable_count(), " values")};
  }
  Result<AdamW<P>> optimizer = AdamW<P>::try_make(file.layout(), metadata->optimizer);
  if (!optimizer) return optimizer.failure();
  (void)safetensors::try_read(*file.file.find(optimizer_tensors[0]), optimizer->first_moment());
  (void)safetensors::try_read(*file.file.find(optimizer_tensors[1]), optimizer->second_moment());
  optimizer->set_step_count(metadata->step_count);
  Result<Adapter<P>> adapter = try_copy_adapter<P>(file, options);
  if (!adapter) return adapter.failure();
  if (options.check_finite) {
    const AdamW<P>& read = *optimizer;
    const Status finite = try_check_finite<P>({read.first_moment(), read.second_moment()},
                                              file.file.tensors(), ShapeOrder::slowest_first);
    if (!finite) return finite.failure();
  }
  return Checkpoint<P>{.adapter = *std::move(adapter),
                       .optimizer = *std::move(optimizer),
                       .position = metadata->position,
                       .base_model = file.metadata.base_model};
}

}  // namespace detail

/// Writes a checkpoint, which is also a native file: load_adapter and map_adapter read it. Whatever happens,
/// the path holds the old file or the new one. A Failure if it cannot be written, or if the optimizer's
/// layout is not the adapter's.
template <class P>
Status try_save_checkpoint(const std::filesystem::path& path, const Adapter<P>& adapter,
                           const AdamW<P>& optimizer, const TrainingPosition& position,
                           const NativeSaveOptions& options = {}) {
  const auto fail = [&path](const Failure& failure) {
    return Failure{detail::message(detail::in_quotes(detail::utf8(path)), ": ", failure.message)};
  };
  if (!(adapter.layout() == optimizer.layout()))
    return fail({"the adapter and its optimizer have different layouts"});
  auto native = detail::try_native_entries(adapter, options);
  if (!native) return fail(native.failure());
  Result<std::string> text = detail::try_checkpoint_text(optimizer, position);
  if (!text) return fail(text.failure());
  native->metadata["tiedlora_checkpoint"] = *std::move(text);
  const std::span<const P> moments[] = {optimizer.first_moment(), optimizer.second_moment()};
  for (int i = 0; i < 2; ++i)
    detail::append_aligned(native->entries, detail::optimizer_tensors[i], safetensors::dtype_of<P>,
                           moments[i].data(), static_cast<Index>(moments[i].size()));
  native->metadata[detail::checksum_name] = detail::checksum_of(native->entries, native->metadata);
  return safetensors::try_save_in_order(path, native->entries, native->metadata, detail::native_alignment);
}
template <class P>
void save_checkpoint(const std::filesystem::path& path, const Adapter<P>& adapter, const AdamW<P>& optimizer,
                     const TrainingPosition& position, const NativeSaveOptions& options = {}) {
  (void)detail::value_or_fail(try_save_checkpoint(path, adapter, optimizer, position, options));
}

/// Loads what try_save_checkpoint wrote. P must be the type in which it was trained.
template <class P>
Result<Checkpoint<P>> try_load_checkpoint(const std::filesystem::path& path,
                                          const NativeLoadOptions& options = {}) {
  const Result<NativeFile> file = try_open_native(path, options);
  if (!file) return file.failure();
  Result<Checkpoint<P>> checkpoint = detail::try_read_checkpoint<P>(*file, options);
  if (!checkpoint)
    return Failure{detail::message(detail::in_quotes(detail::utf8(path)), " ", checkpoint.error())};
  return checkpoint;
}
template <class P>
Checkpoint<P> load_checkpoint(const std::filesystem::path& path, const NativeLoadOptions& options = {}) {
  return detail::value_or_fail(try_load_checkpoint<P>(path, options));
}

TIEDLORA_END_NAMESPACE
