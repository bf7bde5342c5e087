// What a GGUF adapter says of where it comes from.
#pragma once

#include <string>       // string
#include <string_view>  // string_view
#include <utility>      // pair

#include "../../adapter/result.hpp"
#include "../../views/config.hpp"
#include "../../views/error.hpp"
#include "../provenance.hpp"
#include "architectures.hpp"
#include "file.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace gguf {

/// Where this library keeps what GGUF has no key for (see try_provenance_text).
inline constexpr const char* source_key = "tiedlora.source";

/// What llama.cpp has keys of its own for.
inline constexpr std::pair<const char*, std::string Provenance::*> adapter_texts[] = {
    {"adapter.lora.task_name", &Provenance::task_name},
    {"adapter.lora.prompt_prefix", &Provenance::prompt_prefix}};

/// A Failure where the text under source_key is damaged.
inline Result<Provenance> try_source(const File& file) {
  const auto text = [&file](std::string_view key) {
    const Value* value = file.find_value(key);
    return std::string(value ? value->text().value_or("") : "");
  };
  Provenance source;
  if (const std::string said = text(source_key); !said.empty())
    if (Status read = tiedlora::detail::try_parse_provenance(said, source); !read)
      return Failure{tiedlora::detail::message("has ", source_key, ", which ", read.error())};
  source.architecture = text("general.architecture");
  // llama.cpp's converter splits "Qwen/Qwen2.5-0.5B" into words and keeps the path in the address.
  source.base_model = text("general.base_model.0.name");
  constexpr std::string_view hub = "https://huggingface.co/";
  if (const std::string address = text("general.base_model.0.repo_url");
      address.starts_with(hub) && address.size() > hub.size())
    source.base_model = address.substr(hub.size());
  for (const auto& [key, member] : adapter_texts)
    if (const std::string said = text(key); !said.empty()) source.*member = said;
  if (const Architecture* known = find_architecture(source.architecture))
    source.fan_in_fan_out = source.fan_in_fan_out || known->fan_in_fan_out;
  return source;
}

}  // namespace gguf
TIEDLORA_END_NAMESPACE
