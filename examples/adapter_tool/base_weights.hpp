// Copies of the base model's weights that an adapter's file carries, compared with the base's own.
#pragma once

#include <algorithm>    // min
#include <cstddef>      // byte, size_t
#include <cstring>      // memcmp
#include <filesystem>   // path
#include <string>       // string
#include <string_view>  // string_view
#include <vector>       // vector

#include <tiedlora/io.hpp>

namespace adapter_tool {

using tiedlora::safetensors::Dtype;

/// Whether both hold the same values, the base's rounded to the copy's type. In pieces: they may be large.
template <class P>
bool holds_the_same(const tiedlora::safetensors::Tensor& copy, const tiedlora::safetensors::Tensor& base) {
  constexpr std::size_t piece = 1 << 20;
  const std::size_t count = copy.bytes.size() / sizeof(P),
                    width = base.bytes.size() / (count == 0 ? 1 : count);
  std::vector<P> numbers;
  for (std::size_t at = 0; at < count; at += piece) {
    const std::size_t n = std::min(piece, count - at);
    numbers.resize(n);
    tiedlora::safetensors::Tensor part = base;
    part.shape = {static_cast<tiedlora::Index>(n)};
    part.bytes = base.bytes.subspan(at * width, n * width);
    if (!tiedlora::safetensors::try_read(part, std::span<P>(numbers))) return false;
    if (std::memcmp(numbers.data(), copy.bytes.data() + at * sizeof(P), n * sizeof(P)) != 0) return false;
  }
  return true;
}
inline bool equal_weights(const tiedlora::safetensors::Tensor& copy,
                          const tiedlora::safetensors::Tensor& base) {
  if (copy.shape != base.shape || base.dtype == Dtype::other) return false;
  if (copy.dtype == Dtype::F64) return holds_the_same<double>(copy, base);
  if (copy.dtype == Dtype::F32) return holds_the_same<float>(copy, base);
  if (copy.dtype == Dtype::F16) return holds_the_same<Eigen::half>(copy, base);
  if (copy.dtype == Dtype::BF16) return holds_the_same<Eigen::bfloat16>(copy, base);
  return false;
}

/// The base's name of "base_model.model.lm_head.base_layer.weight", and of "base_model.model.lm_head.weight":
/// "lm_head.weight".
inline std::string name_in_base(std::string name) {
  constexpr std::string_view prefix = "base_model.model.", part = ".base_layer";
  name.erase(0, prefix.size());
  const std::size_t at = name.rfind(part);
  return at == name.npos ? name : name.erase(at, part.size());
}

/// The names of those copies that differ from the base's weights, and why. A model whose lm_head is tied to
/// its embedding has that one for both.
inline std::vector<std::string> changed_weights(const std::filesystem::path& weights,
                                                const std::vector<std::string>& copies,
                                                const std::filesystem::path& base) {
  using tiedlora::detail::in_quotes;
  const auto file = tiedlora::safetensors::open(weights);
  std::vector<tiedlora::safetensors::File> files;
  for (const auto& path : tiedlora::detail::value_or_fail(tiedlora::detail::try_model_files(base)))
    files.push_back(tiedlora::safetensors::open(path));
  const auto find = [&files](const std::string& name) -> const tiedlora::safetensors::Tensor* {
    for (const auto& part : files)
      if (const auto* tensor = part.find(name)) return tensor;
    return nullptr;
  };
  std::vector<std::string> changed;
  for (const std::string& copy : copies) {
    const std::string name = name_in_base(copy);
    const auto* own = find(name);
    // A hub's file may lack the prefix of the whole model ("wte.weight").
    if (!own)
      tiedlora::detail::any_suffix(name, [&](std::string_view suffix) {
        own = suffix.find('.') == suffix.npos ? nullptr : find(std::string(suffix));
        return own != nullptr;
      });
    if (!own && name == "lm_head.weight")
      for (const char* embedding : {"model.embed_tokens.weight", "transformer.wte.weight", "wte.weight"})
        if (!own) own = find(embedding);
    if (!own)
      changed.push_back(in_quotes(copy) + ": the base model has no " + in_quotes(name));
    else if (own->dtype == Dtype::other)
      changed.push_back(in_quotes(copy) + ": the base model's " + in_quotes(own->name) + " is " +
                        own->dtype_name +
                        ", which cannot be compared; give the model before it was quantised");
    else if (!equal_weights(*file.find(copy), *own))
      changed.push_back(in_quotes(copy) + ": it is another than the base model's " + in_quotes(own->name));
  }
  return changed;
}

}  // namespace adapter_tool
