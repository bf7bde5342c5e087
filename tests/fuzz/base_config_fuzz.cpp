// Any bytes as what a base model says of itself, a config.json or the metadata of a GGUF file: a model that
// is computed, or a reason.
#include <llama/gguf_config.hpp>
#include <llama/hugging_face_config.hpp>

#include "fuzz.hpp"

namespace {

template <class Read>
void accept_or_refuse(const Read& read) {
  try {
    const llama::BaseConfig config = read();
    llama::validate(config.sizes);  // throws tiedlora::Error, which a reader must not
    require(config.context > 0 && !config.architecture.empty());
  } catch (const std::runtime_error& error) {
    require(std::string_view(error.what()).starts_with("\"fuzz\""));
  }
}

}  // namespace

void tiedlora_fuzz(std::span<const std::byte> bytes) {
  if (const auto json = tiedlora::try_parse_json(as_text(bytes), 64))
    accept_or_refuse([&] { return llama::HuggingFaceConfig(llama::JsonNode(&*json, "fuzz", "")).result(); });
  const std::filesystem::path path = "fuzz";
  if (const auto file = tiedlora::gguf::try_parse(bytes))
    accept_or_refuse([&] { return llama::GgufConfig(llama::GgufMetadata(path, *file)).result(); });
}
