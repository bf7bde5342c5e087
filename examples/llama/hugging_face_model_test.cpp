// What is not a Hugging Face folder of a model that is computed, and what is read although it is written
// otherwise.
#include "hugging_face_model.hpp"

#include <gtest/gtest.h>

#include <Eigen/Core>
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base_model.hpp"
#include "support/io_files.hpp"

namespace llama {
namespace {

namespace fs = std::filesystem;
using tiedlora::safetensors::Dtype;
using tiedlora::safetensors::Entry;
using tiedlora_test::read_text;
using tiedlora_test::write_text;

/// What opening the model says.
std::string problem(const fs::path& path) {
  try {
    const BaseModel base(path);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "no error";
}

void expect_part(const std::string& text, std::string_view part) {
  EXPECT_NE(text.find(part), std::string::npos) << "no \"" << part << "\" in: " << text;
}

/// Copies of the folders of tests/golden/base_model, to be spoilt.
class HuggingFaceModelTest : public ::testing::Test {
 protected:
  fs::path copy(const std::string& name) {
    const fs::path to = folder / (name + std::to_string(copies_++));
    fs::copy(fs::path(TIEDLORA_GOLDEN_DIR) / "base_model" / name, to);
    return to;
  }
  static Json config(const fs::path& model) { return Json::parse(read_text(model / "config.json")); }
  static void write_config(const fs::path& model, const Json& json) {
    write_text(model / "config.json", json.dump());
  }
  /// With a change to its config.json.
  fs::path changed(const std::string& name, const Json& changes) {
    const fs::path model = copy(name);
    Json json = config(model);
    json.update(changes);
    write_config(model, json);
    return model;
  }
  void expect_refused(const std::string& name, const Json& changes, std::string_view part) {
    const std::string text = problem(changed(name, changes));
    expect_part(text, part);
    expect_part(text, "config.json\"");
  }

  /// Writes the tensors of model.safetensors again after change(entries).
  template <class Change>
  static void rewrite(const fs::path& model, const Change& change) {
    const std::string bytes = read_text(model / "model.safetensors");
    const auto file = tiedlora::safetensors::try_parse(std::as_bytes(std::span(bytes.data(), bytes.size())));
    std::vector<Entry> entries;
    for (const auto& tensor : file->tensors())
      entries.push_back({.name = tensor.name,
                         .dtype = tensor.dtype,
                         .shape = tensor.shape,
                         .data = tensor.bytes.data(),
                         .dtype_name = tensor.dtype_name});
    change(entries);
    tiedlora::safetensors::save(model / "model.safetensors", entries);
  }
  static Entry& entry(std::vector<Entry>& entries, std::string_view name) {
    return *std::find_if(entries.begin(), entries.end(), [&](const Entry& e) { return e.name == name; });
  }

  tiedlora_test::Folder folder;

 private:
  int copies_ = 0;
};

TEST_F(HuggingFaceModelTest, RefusesOtherTypes) {
  expect_refused("llama3", {{"model_type", "mixtral"}},
                 "\"model_type\" is \"mixtral\"; models of type llama, mistral, qwen2, qwen3 are supported");
  expect_refused("llama3", {{"model_type", nullptr}}, "\"model_type\" is not a string");
  expect_refused(
      "llama3", {{"quantization_config", {{"bits", 4}}}},
      "\"quantization_config\" is set, and quantised weights are not supported; take the model as F32");
  expect_refused("llama3", {{"hidden_act", "gelu"}}, "\"hidden_act\" is \"gelu\"; \"silu\" is supported");
  expect_refused("llama3", {{"attention_bias", true}}, "\"attention_bias\" is true");
  expect_refused("qwen3", {{"attention_bias", true}}, "\"attention_bias\" is true");
  expect_refused("llama3", {{"mlp_bias", true}}, "\"mlp_bias\" is true");
}

TEST_F(HuggingFaceModelTest, RefusesSizesThatAreNone) {
  for (const char* key : {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
                          "num_key_value_heads", "intermediate_size", "max_position_embeddings", "head_dim"})
    for (const Json& value : {Json(0), Json(-4), Json(2.5), Json("32"), Json(1e18)})
      expect_refused("llama3", {{key, value}},
                     "\"" + std::string(key) + "\" must be a whole number from 1 to");
  expect_refused("qwen3", {{"head_dim", nullptr}}, "\"head_dim\" must be a whole number");
  expect_refused("qwen2", {{"num_key_value_heads", nullptr}},
                 "\"num_key_value_heads\" must be a whole number");
  expect_refused("llama3", {{"rms_norm_eps", -1}}, "\"rms_norm_eps\" must be a number from");
  expect_refused("llama3", {{"tie_word_embeddings", 1}}, "\"tie_word_embeddings\" is neither true nor false");
  expect_refused("llama3", {{"num_key_value_heads", 3}}, "heads 4 is not a multiple of kv_heads 3");
  expect_refused("llama3", {{"head_dim", 7}}, "heads are 7 wide; rotary position embedding needs an even");
  expect_refused("llama3", {{"num_attention_heads", 6}}, "width 32 is not a multiple of heads 6");
}

TEST_F(HuggingFaceModelTest, RefusesOtherRotaryEmbeddings) {
  const auto refused = [&](Json rope, std::string_view part) {
    expect_refused("llama3", {{"rope_scaling", std::move(rope)}}, part);
  };
  refused({{"rope_type", "yarn"}, {"factor", 4}},
          "\"rope_scaling.rope_type\" is \"yarn\", which is not supported here; \"default\", \"linear\" and");
  refused({{"type", "dynamic"}, {"factor", 4}}, "\"rope_scaling.type\" is \"dynamic\"");
  refused({{"type", "linear"}}, "\"rope_scaling.factor\" must be a number from");
  refused({{"rope_type", "llama3"}, {"factor", 8}}, "\"rope_scaling.low_freq_factor\" must be a number from");
  refused({{"rope_type", "llama3"},
           {"factor", 8},
           {"low_freq_factor", 4},
           {"high_freq_factor", 4},
           {"original_max_position_embeddings", 8192}},
          "\"rope_scaling.high_freq_factor\" is not above low_freq_factor");
  refused({{"full_attention", {{"rope_type", "default"}}}},
          "\"rope_scaling.full_attention\" differs by layer, which is not supported here");
  refused("linear", "\"rope_scaling\" is not an object");
  expect_refused("llama3", {{"rope_theta", "big"}}, "\"rope_theta\" must be a number from");
  expect_refused("llama3", {{"partial_rotary_factor", 0.5}}, "\"partial_rotary_factor\" is not 1");
}

TEST_F(HuggingFaceModelTest, RefusesWindowsThatAreShorterThanTexts) {
  expect_refused(
      "mistral", {{"sliding_window", 64}},
      "\"sliding_window\" is 64, less than the context of 256 (max_position_embeddings), and "
      "attention within a window is not supported here; for texts of up to 64 tokens, set it to null");
  expect_refused("qwen2", {{"use_sliding_window", true}}, "\"sliding_window\" is 32, less than");
  EXPECT_EQ(problem(changed("mistral", {{"sliding_window", 256}})), "no error");
  EXPECT_EQ(problem(changed("llama3", {{"sliding_window", 64}})), "no error");  // a Llama has none

  // Without the key transformers takes 4096.
  const fs::path model = copy("mistral");
  Json json = config(model);
  json.erase("sliding_window");
  write_config(model, json);
  EXPECT_EQ(problem(model), "no error");
  json["max_position_embeddings"] = 8192;
  write_config(model, json);
  expect_part(problem(model), "\"sliding_window\" is 4096, less than the context of 8192");
}

TEST_F(HuggingFaceModelTest, RefusesTensorsThatDoNotFit) {
  fs::path model = copy("llama3");
  rewrite(model, [](auto& entries) { entry(entries, "model.norm.weight").name = "model.norms.weight"; });
  expect_part(problem(model), "has no tensor \"model.norm.weight\"; is the folder complete");

  model = changed("llama3", {{"intermediate_size", 24}});
  expect_part(problem(model),
              "model.safetensors\" has a tensor \"model.layers.0.mlp.gate_proj.weight\" of [48, 32]; its "
              "config.json asks for [24, 32]");

  model = changed("qwen2", {{"model_type", "llama"}});
  expect_part(problem(model),
              "model.safetensors\" has a tensor \"model.layers.0.self_attn.k_proj.bias\", which its "
              "config.json does not account for; results would be wrong without it");

  model = changed("llama3", {{"model_type", "qwen2"}});
  expect_part(problem(model), "has no tensor \"model.layers.0.self_attn.q_proj.bias\"");

  model = copy("llama3");
  rewrite(model, [](auto& entries) {
    Entry& q = entry(entries, "model.layers.1.self_attn.q_proj.weight");
    q.dtype = Dtype::other, q.dtype_name = "I16";
  });
  expect_part(
      problem(model),
      "model.safetensors\" has a tensor \"model.layers.1.self_attn.q_proj.weight\" of type I16, which is "
      "not supported here; save it in F32, F16 or BF16");

  model = copy("llama3");
  rewrite(model, [](auto& entries) {
    Entry& norm = entry(entries, "model.norm.weight");
    norm.dtype = Dtype::other, norm.dtype_name = "I16";
  });
  expect_part(problem(model),
              "model.safetensors\" cannot be used: tensor \"model.norm.weight\" has dtype I16");
}

// A matrix of doubles, and one at an odd address.
TEST_F(HuggingFaceModelTest, TypesAndPlacesOfMatrices) {
  const fs::path model = copy("linear");
  std::vector<double> doubles(32 * 24);
  rewrite(model, [&](auto& entries) {
    Entry& down = entry(entries, "model.layers.1.mlp.down_proj.weight");
    down.dtype = Dtype::F64, down.data = doubles.data();
  });
  expect_part(problem(model),
              "\"model.layers.1.mlp.down_proj.weight\" of type F64, which is not supported here");

  const fs::path odd = copy("linear");
  std::string bytes = read_text(odd / "model.safetensors");
  std::uint64_t header = 0;
  std::memcpy(&header, bytes.data(), sizeof header);
  bytes.insert(sizeof header + static_cast<std::size_t>(header), 1, ' ');  // after it: it is a byte longer
  ++header;
  std::memcpy(bytes.data(), &header, sizeof header);
  write_text(odd / "model.safetensors", bytes);
  const BaseModel base(odd), even(fs::path(TIEDLORA_GOLDEN_DIR) / "base_model/linear");
  const Weight<float>&there = base.model().layers[1].down, &here = even.model().layers[1].down;
  EXPECT_EQ(there.numbers, nullptr);
  EXPECT_NE(here.numbers, nullptr);
  std::vector<float> a(24), b(24);
  there.copy(5, 0, 24, a.data()), here.copy(5, 0, 24, b.data());
  EXPECT_TRUE(a == b);
}

// What files have beside what is asked for, and what does no harm.
TEST_F(HuggingFaceModelTest, ReadsWhatOldFilesHaveTwice) {
  const fs::path model = copy("llama3");
  const std::vector<Eigen::bfloat16> numbers(61 * 32);
  rewrite(model, [&](auto& entries) {
    entries.push_back(
        {.name = "lm_head.weight", .dtype = Dtype::BF16, .shape = {61, 32}, .data = numbers.data()});
    entries.push_back({.name = "model.layers.0.self_attn.rotary_emb.inv_freq",
                       .dtype = Dtype::BF16,
                       .shape = {4},
                       .data = numbers.data()});
  });
  const BaseModel base(model);
  EXPECT_EQ(base.model().output.rows, base.model().embedding.rows);  // tied: the embedding counts
}

TEST_F(HuggingFaceModelTest, RefusesFoldersThatAreIncomplete) {
  expect_part(problem(folder / "nothing"), "there is no \"" + (folder / "nothing").string() +
                                               "\"; give a GGUF file or a Hugging Face folder");
  fs::path model = copy("llama3");
  fs::remove(model / "model.safetensors");
  expect_part(problem(model), "\" has neither model.safetensors nor model.safetensors.index.json; if its");
  fs::remove(model / "config.json");
  expect_part(problem(model), "config.json\"");

  model = copy("mistral");
  fs::remove(model / "model-00002-of-00002.safetensors");
  expect_part(problem(model), "model-00002-of-00002.safetensors\"");

  const auto map_entry = [&](const Json& to) {
    const fs::path spoilt = copy("mistral");
    Json index = Json::parse(read_text(spoilt / "model.safetensors.index.json"));
    index["weight_map"]["model.norm.weight"] = to;
    write_text(spoilt / "model.safetensors.index.json", index.dump());
    return problem(spoilt);
  };
  const bool is_in_second =
      Json::parse(
          read_text(copy("mistral") / "model.safetensors.index.json"))["weight_map"]["model.norm.weight"] ==
      "model-00002-of-00002.safetensors";
  expect_part(
      map_entry(is_in_second ? "model-00001-of-00002.safetensors" : "model-00002-of-00002.safetensors"),
      "which has no such tensor (files of different models?)");

  model = copy("mistral");
  Json index = Json::parse(read_text(model / "model.safetensors.index.json"));
  fs::copy(model / "model-00001-of-00002.safetensors", model / "again.safetensors");
  for (auto& entry : index["weight_map"].items())
    if (entry.value() == "model-00001-of-00002.safetensors") {
      entry.value() = "again.safetensors";  // move one entry only; the others keep their file
      break;
    }
  write_text(model / "model.safetensors.index.json", index.dump());
  expect_part(problem(model),
              "\"again.safetensors\" and \"model-00001-of-00002.safetensors\" both have the tensor \"");

  for (const char* out : {"../other.safetensors", "/etc/passwd", "a/b", ""})
    expect_part(map_entry(out), "the name of a file beside it is expected");
  expect_part(map_entry(3), "\"weight_map.model.norm.weight\" is not a string");
  model = copy("mistral");
  write_text(model / "model.safetensors.index.json", "{}");
  expect_part(problem(model), "model.safetensors.index.json\": \"weight_map\" is not an object");
}

}  // namespace
}  // namespace llama
