// The tensors of a PEFT adapter by the modules they belong to, and copying them into an adapter's factors.
#pragma once

#include <Eigen/Core>  // half, bfloat16

#include <algorithm>    // min, sort
#include <cstddef>      // byte, size_t
#include <cstdint>      // uint8_t
#include <cstring>      // memcpy
#include <map>          // map
#include <optional>     // optional, nullopt
#include <span>         // span
#include <string>       // string
#include <string_view>  // string_view
#include <utility>      // move, pair
#include <vector>       // vector

#include "../../adapter/modules.hpp"
#include "../../adapter/result.hpp"
#include "../../views/config.hpp"
#include "../../views/error.hpp"
#include "../module_names.hpp"
#include "../quote.hpp"
#include "../safetensors/file.hpp"
#include "config.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace detail {

/// The two tensors of one module: lora_A and lora_B, or VeRA's lambda_d (r numbers) and lambda_b (out).
struct PeftModule {
  std::string name = {};  ///< what stands after "base_model.model."
  const safetensors::Tensor* inner = nullptr;
  const safetensors::Tensor* outer = nullptr;
};

/// The tensors of a file, all of them known and whole pairs.
struct PeftTensors {
  std::vector<PeftModule> modules = {};  ///< layers in the order of their numbers
  const safetensors::Tensor* A = nullptr;
  const safetensors::Tensor* B = nullptr;  ///< VeRA's shared pair, where it is in the file
  /// Copies of weights that the adapted modules have in the base model, under "NAME.base_layer.weight": what
  /// PEFT adds where a model's output is adapted.
  std::vector<std::pair<std::string, const safetensors::Tensor*>> base_weights = {};  ///< by module
};

inline constexpr std::string_view peft_prefix = "base_model.model.";

struct PeftSuffixes {
  std::string_view inner, outer;
};
inline constexpr PeftSuffixes peft_lora_suffixes = {".lora_A.weight", ".lora_B.weight"};
inline constexpr PeftSuffixes peft_vera_suffixes = {".vera_lambda_d", ".vera_lambda_b"};
constexpr const PeftSuffixes& peft_suffixes(PeftConfig::Type type) {
  return type == PeftConfig::Type::lora ? peft_lora_suffixes : peft_vera_suffixes;
}

/// "4x16" for a message.
inline std::string shape_text(const safetensors::Tensor& tensor) {
  std::string text;
  for (const Index size : tensor.shape) text += (text.empty() ? "" : "x") + std::to_string(size);
  return text.empty() ? "a single number" : text;
}

/// Why a tensor is none of an adapter that can be read.
inline std::string unknown_peft_tensor(std::string_view name) {
  const auto has = [name](std::string_view part) { return name.find(part) != name.npos; };
  const std::string head = message("has the tensor ", in_quotes(name), ": ");
  for (const std::string_view factor : {".lora_A.", ".lora_B."}) {
    const std::size_t at = name.find(factor);
    if (at == name.npos || !name.ends_with(".weight")) continue;
    const std::string_view rest = name.substr(at + factor.size());
    if (rest.size() > std::string_view(".weight").size())
      return message(
          head, "such names carry the name of an adapter, ",
          in_quotes(rest.substr(0, rest.size() - std::string_view(".weight").size())),
          ", as a model's state_dict() has them. PEFT loads them under the name \"default\" alone. "
          "Save the adapter with PEFT's save_pretrained, or take that part out of the names");
    if (!name.starts_with(peft_prefix))
      return message(head, "it lacks PEFT's prefix ", in_quotes(peft_prefix),
                     ", so that PEFT would load nothing of this file. Save the adapter with PEFT's "
                     "save_pretrained, or put the prefix before each name");
  }
  const char* reason = "it is none of an adapter's tensors";
  if (has("lora_embedding_"))
    reason = "adapters of embeddings are not supported";
  else if (has(".lora_B.bias"))
    reason = "a bias behind B (lora_bias) is not supported";
  else if (has("lora_magnitude_vector"))
    reason = "DoRA's magnitudes are not supported";
  else if (name.ends_with(".weight") || name.ends_with(".bias"))
    reason =
        "it is a whole weight of the base model (modules_to_save, trained biases or a resized embedding), "
        "which no adapter can express";
  return head + reason;
}

/// What a tensor's name says: the module, and which of its tensors it is.
struct PeftTensorName {
  enum class Part : std::uint8_t { inner, outer, base_weight };
  std::string_view module = {};
  Part part = Part::inner;
};
/// Nothing for names that are none of an adapter's.
inline std::optional<PeftTensorName> peft_tensor_name(std::string_view name, PeftConfig::Type type) {
  using Part = PeftTensorName::Part;
  constexpr std::pair<std::string_view, Part> lora[] = {{".lora_A.weight", Part::inner},
                                                        {".lora_B.weight", Part::outer},
                                                        {".lora_A.default.weight", Part::inner},
                                                        {".lora_B.default.weight", Part::outer},
                                                        {".base_layer.weight", Part::base_weight}};
  constexpr std::pair<std::string_view, Part> vera[] = {{peft_vera_suffixes.inner, Part::inner},
                                                        {peft_vera_suffixes.outer, Part::outer},
                                                        {".base_layer.weight", Part::base_weight}};
  if (!name.starts_with(peft_prefix)) return std::nullopt;
  name.remove_prefix(peft_prefix.size());
  const auto suffixes = type == PeftConfig::Type::lora
                            ? std::span<const std::pair<std::string_view, Part>>(lora)
                            : std::span(vera);
  for (const auto& [suffix, part] : suffixes)
    if (name.size() > suffix.size() && name.ends_with(suffix))
      return PeftTensorName{name.substr(0, name.size() - suffix.size()), part};
  return std::nullopt;
}

/// Messages read as if after the file's name.
inline Result<PeftTensors> try_peft_tensors(const safetensors::File& file, const PeftConfig& config) {
  PeftTensors result;
  const PeftSuffixes& suffixes = peft_suffixes(config.type);
  std::map<std::string, PeftModule, std::less<>> by_name;
  for (const safetensors::Tensor& tensor : file.tensors()) {
    std::string_view name = tensor.name;
    if (config.type == PeftConfig::Type::vera &&
        (name == "base_model.vera_A" || name == "base_model.vera_B")) {
      (name.back() == 'A' ? result.A : result.B) = &tensor;
    } else {
      const std::optional<PeftTensorName> known = peft_tensor_name(name, config.type);
      if (!known) return Failure{unknown_peft_tensor(name)};
      if (tensor.count() == 0)
        return Failure{
            message("has the tensor ", in_quotes(name), " of shape [", shape_text(tensor),
                    "]: it was saved without its numbers. DeepSpeed's ZeRO stage 3 leaves that where "
                    "the parts of a weight are not gathered before save_pretrained; set "
                    "stage3_gather_16bit_weights_on_model_save, or make the weights anew with "
                    "zero_to_fp32.py from the checkpoint")};
      if (known->part == PeftTensorName::Part::base_weight) {
        result.base_weights.emplace_back(std::string(known->module), &tensor);
        continue;
      }
      PeftModule& module = by_name.try_emplace(std::string(known->module)).first->second;
      const safetensors::Tensor*& place =
          known->part == PeftTensorName::Part::inner ? module.inner : module.outer;
      if (place)
        return Failure{message("has both ", in_quotes(place->name), " and ", in_quotes(name),
                               ", which PEFT loads as one")};
      place = &tensor;
    }
    if (tensor.dtype == safetensors::Dtype::other)
      return Failure{message("has the tensor ", in_quotes(tensor.name), " of dtype ", tensor.dtype_name,
                             "; F64, F32, F16 and BF16 can be read")};
  }
  for (const auto& [name, tensor] : result.base_weights)
    if (!by_name.contains(name)) return Failure{unknown_peft_tensor(tensor->name)};
  for (auto& [name, module] : by_name) {
    if (!module.inner || !module.outer)
      return Failure{
          message("has ", in_quotes((module.inner ? module.inner : module.outer)->name), " without ",
                  in_quotes(message(peft_prefix, name, module.inner ? suffixes.outer : suffixes.inner)))};
    module.name = name;
    result.modules.push_back(std::move(module));
  }
  std::sort(result.modules.begin(), result.modules.end(),
            [](const PeftModule& a, const PeftModule& b) { return natural_less(a.name, b.name); });
  if (result.modules.empty()) return Failure{"holds no adapter: it has no tensors of any module"};
  return result;
}

/// Copies a tensor of rows × columns so that its columns follow each other, each number converted once. In
/// blocks, so that both sides are read and written by whole cache lines.
template <class P, class From>
void copy_transposed(const std::byte* from, Index rows, Index columns, P* to) {
  constexpr Index block = 16;
  for (Index row = 0; row < rows; row += block) {
    const Index row_end = std::min(rows, row + block);
    for (Index column = 0; column < columns; column += block) {
      const Index column_end = std::min(columns, column + block);
      for (Index k = column; k < column_end; ++k)
        for (Index i = row; i < row_end; ++i) {
          From number;
          std::memcpy(&number, from + static_cast<std::size_t>(i * columns + k) * sizeof number,
                      sizeof number);
          if constexpr (std::is_same_v<P, From> || std::is_same_v<P, double>)
            to[k * rows + i] = static_cast<P>(number);
          else
            to[k * rows + i] = static_cast<P>(static_cast<float>(number));
        }
    }
  }
}

/// As safetensors::try_read, of a matrix whose dtype and size were checked, transposed.
template <class P>
void read_transposed(const safetensors::Tensor& tensor, P* to) {
  const Index rows = tensor.shape[0], columns = tensor.shape[1];
  const std::byte* from = tensor.bytes.data();
  using safetensors::Dtype;
  if (tensor.dtype == Dtype::F64) copy_transposed<P, double>(from, rows, columns, to);
  if (tensor.dtype == Dtype::F32) copy_transposed<P, float>(from, rows, columns, to);
  if (tensor.dtype == Dtype::F16) copy_transposed<P, Eigen::half>(from, rows, columns, to);
  if (tensor.dtype == Dtype::BF16) copy_transposed<P, Eigen::bfloat16>(from, rows, columns, to);
}

}  // namespace detail
TIEDLORA_END_NAMESPACE
