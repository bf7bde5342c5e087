// Writes a folder for PEFT: a config, and tensors that are made one after the other.
#pragma once

#include <Eigen/Core>  // half, bfloat16

#include <algorithm>     // sort
#include <cmath>         // isfinite
#include <cstddef>       // byte, size_t
#include <cstdint>       // uintmax_t
#include <filesystem>    // create_directories, path
#include <functional>    // function
#include <span>          // as_bytes, span
#include <string>        // string
#include <system_error>  // error_code
#include <type_traits>   // is_same
#include <utility>       // move
#include <vector>        // vector

#include "../../adapter/quote.hpp"
#include "../../adapter/result.hpp"
#include "../../views/config.hpp"
#include "../../views/error.hpp"
#include "../file.hpp"
#include "../json/json.hpp"
#include "../safetensors/file.hpp"
#include "folder.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace detail {

/// A tensor to be written, and how its values are made when its turn comes.
template <class Acc>
struct PeftEntry {
  std::string name = {};
  std::vector<Index> shape = {};
  std::function<void(Acc*)> fill = {};
};

/// Writes the tensors in canonical order, each made only when it is written: no adapter needs its expansion
/// in memory.
template <class Out, class Acc>
Result<std::uintmax_t> try_write_peft_tensors(AtomicFile& file, std::vector<PeftEntry<Acc>> tensors) {
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  std::vector<safetensors::Entry> entries;
  for (const PeftEntry<Acc>& tensor : tensors)
    entries.push_back({.name = tensor.name, .dtype = safetensors::dtype_of<Out>, .shape = tensor.shape});
  const Result<std::string> header = safetensors::try_header(entries, {{"format", "pt"}});
  if (!header) return header.failure();
  if (Status done = file.try_append(*header); !done) return done.failure();
  std::uintmax_t bytes = header->size();
  std::vector<Acc> numbers;
  std::vector<Out> converted;
  for (const PeftEntry<Acc>& tensor : tensors) {
    std::size_t count = 1;
    for (const Index size : tensor.shape) count *= static_cast<std::size_t>(size);
    numbers.assign(count, Acc(0));
    tensor.fill(numbers.data());
    std::span<const std::byte> raw = std::as_bytes(std::span<const Acc>(numbers));
    if constexpr (!std::is_same_v<Out, Acc>) {
      converted.resize(count);
      for (std::size_t i = 0; i < count; ++i) {
        converted[i] = static_cast<Out>(numbers[i]);
        if (std::isfinite(static_cast<double>(numbers[i])) &&
            !std::isfinite(static_cast<double>(converted[i])))
          return Failure{message("tensor ", in_quotes(tensor.name), ": the value ",
                                 static_cast<double>(numbers[i]),
                                 " is too large for the type; choose BF16 or F32")};
      }
      raw = std::as_bytes(std::span<const Out>(converted));
    }
    if (Status done = file.try_append(raw); !done) return done.failure();
    bytes += raw.size();
  }
  return bytes;
}

/// Writes both files. An older config goes before the new weights take their place: a folder without one is
/// refused by every reader, while new weights beside it could pass for its own. A reason reads as if after
/// the folder's name.
template <class Acc>
Result<std::uintmax_t> try_write_peft_folder(const std::filesystem::path& folder, const Json& config,
                                             std::vector<PeftEntry<Acc>> tensors, safetensors::Dtype dtype) {
  Result<std::string> text = try_dump_json(config);
  if (!text) return Failure{"the base model, task type or a module's name " + text.error()};
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return Failure{"the folder cannot be created: " + error.message()};
  Result<AtomicFile> weights = AtomicFile::try_create(folder / peft_weights_name);
  if (!weights) return weights.failure();
  Result<AtomicFile> config_file = AtomicFile::try_create(folder / peft_config_name);
  if (!config_file) return config_file.failure();
  if (Status done = config_file->try_append(*text); !done) return done.failure();
  const Result<std::uintmax_t> bytes = [&]() -> Result<std::uintmax_t> {
    using safetensors::Dtype;
    switch (dtype) {
      case Dtype::F64:
        return try_write_peft_tensors<double>(*weights, std::move(tensors));
      case Dtype::F32:
        return try_write_peft_tensors<float>(*weights, std::move(tensors));
      case Dtype::F16:
        return try_write_peft_tensors<Eigen::half>(*weights, std::move(tensors));
      case Dtype::BF16:
        return try_write_peft_tensors<Eigen::bfloat16>(*weights, std::move(tensors));
      case Dtype::other:
        break;
    }
    return Failure{"PEFT files can be written as F64, F32, F16 and BF16"};
  }();
  if (!bytes) return bytes.failure();
  // Whatever can fail does so while the old folder is whole.
  if (Status done = weights->try_flush(); !done) return done.failure();
  if (Status done = config_file->try_flush(); !done) return done.failure();
  if (Status done = config_file->try_remove_old(); !done) return done.failure();
  if (Status done = weights->try_commit(); !done) return done.failure();
  if (Status done = config_file->try_commit(); !done) return done.failure();
  return *bytes + text->size();
}

}  // namespace detail
TIEDLORA_END_NAMESPACE
