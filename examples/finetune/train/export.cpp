// Trained adapters and the base model in the formats of others.
#include "export.hpp"

#include <algorithm>    // find
#include <filesystem>   // path, absolute
#include <stdexcept>    // invalid_argument
#include <string_view>  // string_view

#include <llama/write_gguf.hpp>
#include <llama/write_hugging_face.hpp>
#include <tiedlora/io/gguf/export.hpp>
#include <tiedlora/io/native.hpp>
#include <tiedlora/io/peft/save.hpp>

namespace finetune {

namespace {

bool exports(const Settings& settings, std::string_view format) {
  return std::find(settings.exports.begin(), settings.exports.end(), format) != settings.exports.end();
}

}  // namespace

void check_exports(const Settings& settings) {
  if ((exports(settings, "peft") || exports(settings, "gguf")) && settings.model.fused_qkv)
    throw std::invalid_argument(
        "--export peft, gguf: a Llama has no qkv_proj there; adapt q_proj, k_proj and v_proj");
}

void export_base(const Settings& settings, const Base& base) {
  if (exports(settings, "peft")) llama::save_hugging_face(settings.out / "base", base.weights);
  if (exports(settings, "gguf")) llama::save_gguf(settings.out / "base.gguf", base.weights, base.name);
}

void export_run(const Settings& settings, const Base& base, const std::string& name, const Trainee& trainee) {
  const std::filesystem::path stem = settings.out / "adapters" / name;
  const Adapter* adapter = trainee.adapter();
  if (!adapter) return llama::save_hugging_face(stem, trainee.weights());
  std::filesystem::create_directories(stem.parent_path());
  tiedlora::save_adapter(stem.string() + ".safetensors", *adapter, {.base_model = base.name});
  if (exports(settings, "peft"))
    tiedlora::save_peft(
        *adapter, stem,
        {.base_model = std::filesystem::absolute(settings.out / "base").string(), .task_type = "CAUSAL_LM"});
  if (exports(settings, "gguf"))
    tiedlora::export_gguf(*adapter, stem.string() + ".gguf", llama::gguf_naming(settings.model),
                          {.base_model = base.name});
}

}  // namespace finetune
