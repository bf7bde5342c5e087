// The tensors of a PEFT adapter by the modules they belong to, and copying them into an adapter's factors.
#pragma once

#include <Eigen/Core>  // half, bfloat16

#include <algorithm>    // min, sort
#include <cstddef>      // byte, size_t
#include <cstring>      // memcpy
#include <map>          // map
#include <string>       // string
#include <string_view>  // string_view
#include <utility>      // move, pair
#include <vector>       // vector

#include "../../adapter/modules.hpp"
#include "../../adapter/quote.hpp"
#include "../../adapter/result.hpp"
#include "../../views/config.hpp"
#include "../../views/error.hpp"
#include "../module_names.hpp"
#include "../safetensors/file.hpp"
#include "config.hpp"
#include "unknown_tensor.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace detail {

/// The two tensors of one module: lora_A and lora_B, or VeRA's lambda_d (r values) and lambda_b (out).
struct PeftModule {
  std::string name = {};  ///< what stands after "base_model.model."
  const safetensors::Tensor* inner = nullptr;
  const safetensors::Tensor* outer = nullptr;
};

/// The tensors of a file: whole pairs, and what else may be there.
struct PeftTensors {
  std::vector<PeftModule> modules = {};  ///< layers in the order of their numbers
  const safetensors::Tensor* A = nullptr;
  const safetensors::Tensor* B = nullptr;  ///< VeRA's shared pair, where it is in the file
  /// PEFT saves the base's own lm_head and embedding beside an adapter of either: NAME.base_layer.weight of
  /// the adapted one, NAME.weight of the other.
  std::vector<const safetensors::Tensor*> base_weights = {};
  std::vector<std::pair<std::string, std::string>> left_out = {};  ///< where partial: names, and why
};

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

/// Sorts the tensors of a file by modules. What is not an adapter's is a Failure, or left out.
class PeftTensorsReader {
 public:
  PeftTensorsReader(const PeftConfig& config, const PeftConfigOptions& options)
      : config_(config), options_(options) {}

  Status try_add(const safetensors::Tensor& tensor) {
    const std::string plain = plain_name(tensor.name);
    std::string_view name = plain;
    if (config_.type == PeftConfig::Type::lora && is_base_weight(name)) {
      result_.base_weights.push_back(&tensor);
      return success();
    }
    if (config_.type == PeftConfig::Type::vera &&
        (name == "base_model.vera_A" || name == "base_model.vera_B"))
      return try_put(name.back() == 'A' ? result_.A : result_.B, tensor);
    const PeftSuffixes& suffixes = peft_suffixes(config_.type);
    const bool inner = name.ends_with(suffixes.inner);
    const std::string_view suffix = inner ? suffixes.inner : suffixes.outer;
    if (!name.starts_with(peft_prefix) || !name.ends_with(suffix) ||
        name.size() <= peft_prefix.size() + suffix.size())
      return leave_out(tensor, unknown_peft_tensor(name, config_));
    name = name.substr(peft_prefix.size(), name.size() - peft_prefix.size() - suffix.size());
    if (name.size() > longest_module_name)
      return Failure{message("has the tensor ", in_quotes(tensor.name), " of a module whose name has ",
                             name.size(), " bytes; at most ", longest_module_name, " are read")};
    if (std::string reason = wrong_module(name, tensor); !reason.empty()) return leave_out(tensor, reason);
    PeftModule& module = by_name_.try_emplace(std::string(name)).first->second;
    return try_put(inner ? module.inner : module.outer, tensor);
  }

  Result<PeftTensors> try_take() {
    const PeftSuffixes& suffixes = peft_suffixes(config_.type);
    for (auto& [name, module] : by_name_) {
      if (!module.inner || !module.outer) {
        const safetensors::Tensor& one = module.inner ? *module.inner : *module.outer;
        const std::string other = message(peft_prefix, name, module.inner ? suffixes.outer : suffixes.inner);
        Status left = leave_out(one, message("its counterpart ", in_quotes(other), " is missing"));
        if (!left) return left.failure();
        continue;
      }
      module.name = name;
      result_.modules.push_back(std::move(module));
    }
    std::vector<const safetensors::Tensor*> copies;
    const bool reads_whole = options_.compares_base_weights || adapts_vocabulary();
    for (const safetensors::Tensor* copy : result_.base_weights) {
      const bool is_copy =
          is_whole(copy->name) ? reads_whole : by_name_.contains(module_of_base_weight(copy->name));
      if (is_copy) {
        copies.push_back(copy);
        continue;
      }
      Status left = leave_out(*copy, unknown_peft_tensor(copy->name, config_));
      if (!left) return left.failure();
    }
    result_.base_weights = std::move(copies);
    std::sort(result_.modules.begin(), result_.modules.end(),
              [](const PeftModule& a, const PeftModule& b) { return natural_less(a.name, b.name); });
    if (result_.modules.empty()) return Failure{"holds no adapter: it has no tensors of any module"};
    return std::move(result_);
  }

 private:
  /// ".lora_A.default.weight" is what state_dict() calls it; PEFT loads that as well.
  static std::string plain_name(const std::string& name) {
    constexpr std::pair<std::string_view, std::string_view> names[] = {
        {".lora_A.default.weight", ".lora_A.weight"},
        {".lora_B.default.weight", ".lora_B.weight"},
        {".vera_lambda_d.default", ".vera_lambda_d"},
        {".vera_lambda_b.default", ".vera_lambda_b"},
        {"base_model.vera_A.default", "base_model.vera_A"},
        {"base_model.vera_B.default", "base_model.vera_B"}};
    for (const auto& [with, without] : names)
      if (name.ends_with(with)) return name.substr(0, name.size() - with.size()) + std::string(without);
    return name;
  }
  static bool is_base_weight(std::string_view name) {
    if (!name.starts_with(peft_prefix)) return false;
    return is_whole(name) || name.ends_with(".base_layer.weight") || name.ends_with(".base_layer.bias");
  }

  static bool is_vocabulary(std::string_view module) {
    const std::string_view last = module.substr(module.rfind('.') + 1);
    return last == "lm_head" || is_embedding(last);
  }
  /// "….embed_tokens.weight": of a layer that stands between the tokens and the model.
  static bool is_whole(std::string_view name) {
    constexpr std::string_view end = ".weight";
    return name.ends_with(end) && is_vocabulary(name.substr(0, name.size() - end.size()));
  }
  bool adapts_vocabulary() const {
    return std::any_of(by_name_.begin(), by_name_.end(),
                       [](const auto& module) { return is_vocabulary(module.first); });
  }

  static std::string module_of_base_weight(const std::string& name) {
    return name.substr(peft_prefix.size(), name.rfind(".base_layer.") - peft_prefix.size());
  }

  /// Why a pair of that module is not a linear module's; empty if it is one.
  std::string wrong_module(std::string_view module, const safetensors::Tensor& tensor) const {
    const std::string_view last = module.substr(module.rfind('.') + 1);
    if (last == "base_layer" || last == "experts")
      return "it adapts a parameter that is not a linear module's weight, such as all experts at once "
             "(target_parameters), which is not supported";
    if (config_.weight_tying && is_vocabulary(module))
      return "it is tied to the embedding (ensure_weight_tying), and adapters of embeddings are not "
             "supported";
    if (tensor.count() == 0)
      return message(
          "it has shape [", shape_text(tensor),
          "] and no elements: it was saved empty. DeepSpeed's ZeRO stage 3 and FSDP do that where the parts "
          "of a weight are not gathered before save_pretrained; set "
          "stage3_gather_16bit_weights_on_model_save (or save inside GatheredParameters), or rebuild the "
          "weights from the checkpoint with zero_to_fp32.py");
    return {};
  }

  Status try_put(const safetensors::Tensor*& place, const safetensors::Tensor& tensor) {
    if (place)
      return Failure{message("has both ", in_quotes(place->name), " and ", in_quotes(tensor.name),
                             ", which name the same matrix")};
    place = &tensor;
    if (tensor.dtype == safetensors::Dtype::other)
      return Failure{message("has the tensor ", in_quotes(tensor.name), " of dtype ", tensor.dtype_name,
                             "; F64, F32, F16 and BF16 can be read")};
    return success();
  }
  Status leave_out(const safetensors::Tensor& tensor, const std::string& reason) {
    if (!options_.partial) return Failure{message("has the tensor ", in_quotes(tensor.name), ": ", reason)};
    result_.left_out.emplace_back(tensor.name, reason);
    return success();
  }

  const PeftConfig& config_;
  const PeftConfigOptions& options_;
  PeftTensors result_ = {};
  std::map<std::string, PeftModule, std::less<>> by_name_ = {};
};

/// Messages read as if after the file's name.
inline Result<PeftTensors> try_peft_tensors(const safetensors::File& file, const PeftConfig& config,
                                            const PeftConfigOptions& options = {}) {
  PeftTensorsReader reader(config, options);
  for (const safetensors::Tensor& tensor : file.tensors())
    if (Status added = reader.try_add(tensor); !added) return added.failure();
  return reader.try_take();
}

/// Copies a tensor of rows × columns so that its columns follow each other, each value converted once. In
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
