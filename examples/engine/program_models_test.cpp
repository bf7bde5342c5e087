// The program with models other than a Llama in a GGUF file.
#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <vector>

#include <llama/base_adapter.hpp>
#include <llama/tiny_model.hpp>
#include <llama/write_gguf.hpp>
#include <llama/write_hugging_face.hpp>
#include <nlohmann/json.hpp>
#include <tiedlora/io.hpp>
#include "program.hpp"
#include "support/io_files.hpp"

namespace engine {
namespace {

class ProgramModelsTest : public ::testing::Test {
 protected:
  std::string run(std::vector<std::string> arguments, int expected_code = success) const {
    arguments.insert(arguments.begin(), {"engine", "--tokens", "8", "--context", "100"});
    std::vector<const char*> argv;
    for (const std::string& argument : arguments) argv.push_back(argument.c_str());
    std::istringstream in;
    std::ostringstream out, err;
    EXPECT_EQ(engine::run(static_cast<int>(argv.size()), argv.data(), in, out, err), expected_code)
        << err.str();
    return expected_code == success ? out.str() : err.str();
  }
  /// A random one of all modules.
  static tiedlora::Adapter<float> adapter_for(const llama::BaseModel& base) {
    tiedlora::Adapter<float> adapter(
        tiedlora::Layout(llama::all_modules(base.model().config), tiedlora::schemes::lora(), 4));
    tiedlora_test::Dice dice(1);
    dice.fill(adapter.trainable(), -0.8, 0.8);
    return adapter;
  }

  tiedlora_test::Folder folder;
};

// Rows of Qwen's q and k stand as in transformers: nobody has to say in which order an adapter has them.
TEST_F(ProgramModelsTest, Qwen2WithAdaptersOfEveryFormat) {
  llama_test::TinyModel tiny(llama_test::TinyModel::Numbers::blocks);
  tiny.architecture = "qwen2";
  for (const std::string layer : {"blk.0.", "blk.1."}) {
    tiny.floats[layer + "attn_q.bias"].assign(64, 0);
    tiny.floats[layer + "attn_k.bias"].assign(32, 0);
    tiny.floats[layer + "attn_v.bias"].assign(32, 0);
  }
  const std::string path = folder / "qwen2.gguf";
  tiny.write(path);
  const std::string unbiased = run({path, "--prompt", "hello"});
  tiedlora_test::Dice dice(2);
  for (auto& [name, numbers] : tiny.floats)
    if (name.ends_with(".bias")) dice.fill(numbers, -2, 2);
  tiny.write(path);
  const std::string bare = run({path, "--prompt", "hello"});
  EXPECT_NE(bare, unbiased);

  const llama::BaseModel base(path);
  const auto adapter = adapter_for(base);
  tiedlora::save_adapter(folder / "a.safetensors", adapter);
  tiedlora::save_peft(adapter, folder / "peft", {.base_model = "tiny", .task_type = "CAUSAL_LM"});
  tiedlora::export_gguf(adapter, folder / "a.gguf", llama::gguf_naming(base));
  const std::string native = run({path, "--prompt", "hello", "--adapter", folder / "a.safetensors"});
  EXPECT_NE(native, bare);
  EXPECT_EQ(run({path, "--prompt", "hello", "--adapter", folder / "peft"}), native);
  EXPECT_EQ(run({path, "--prompt", "hello", "--adapter", folder / "a.gguf"}), native);
  EXPECT_EQ(run({path, "--prompt", "hello", "--adapter", folder / "peft", "--order", "gguf"}), native);
  // An adapter for a Llama has rows in another order.
  tiedlora::export_gguf(adapter, folder / "llama.gguf",
                        tiedlora::gguf::llama({.weights = tiedlora::gguf::Order::gguf}));
  EXPECT_NE(run({path, "--prompt", "hello", "--adapter", folder / "llama.gguf"}, failure).find("qwen2"),
            std::string::npos);
}

TEST_F(ProgramModelsTest, AFolderAndItsGgufFileGiveOneText) {
  llama::Weights<float> weights(llama::Config{.vocabulary = 256,
                                              .width = 24,
                                              .layers = 2,
                                              .heads = 4,
                                              .kv_heads = 2,
                                              .own_head_width = 10,
                                              .feed_forward = 40,
                                              .tied_embedding = false});
  tiedlora_test::Dice dice(3);
  dice.fill(weights.values(), -0.5, 0.5);
  const std::string gguf = folder / "tiny.gguf", hugging_face = folder / "tiny";
  llama::save_gguf(gguf, weights, "tiny");
  llama::save_hugging_face(hugging_face, weights);
  nlohmann::json vocabulary;
  for (const std::string& token : llama::byte_tokens()) vocabulary[token] = vocabulary.size();
  tiedlora_test::write_text(
      hugging_face + "/tokenizer.json",
      nlohmann::json(
          {{"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", nlohmann::json::array()}}},
           {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
           {"decoder", {{"type", "ByteLevel"}}}})
          .dump());

  tiedlora::save_adapter(folder / "a.safetensors", adapter_for(llama::BaseModel(gguf)));
  const std::vector<std::string> arguments = {
      "--raw", "--prompt", "hello", "--adapter", folder / "a.safetensors", "--order", "hugging-face"};
  const auto answer = [&](const std::string& model, std::vector<std::string> more) {
    more.insert(more.begin(), model);
    return run(more);
  };
  const std::string text = answer(gguf, arguments);
  EXPECT_EQ(answer(hugging_face, arguments), text);
  EXPECT_EQ(answer(hugging_face, {"--raw", "--prompt", "hello"}),
            answer(gguf, {"--raw", "--prompt", "hello"}));
  EXPECT_NE(answer(gguf, {"--raw", "--prompt", "hello"}), text);
  for (const std::string& model : {gguf, hugging_face})
    EXPECT_NE(run({model, "--prompt", "hello"}, failure).find("has no chat template; use --raw"),
              std::string::npos);
}

}  // namespace
}  // namespace engine
