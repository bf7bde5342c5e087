// engine from its arguments to its text.
#include "program.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <sstream>
#include <tiedlora/io.hpp>

#include <llama/base_model.hpp>
#include <llama/modules.hpp>
#include <llama/tiny_model.hpp>
#include "support/io_files.hpp"

namespace engine {
namespace {

using llama_test::TinyModel;

struct Outcome {
  int code = 0;
  std::string out, err;
};

class ProgramTest : public ::testing::Test {
 protected:
  ProgramTest() { model.write(path); }

  Outcome run(const std::vector<std::string>& arguments, const std::string& input = "") const {
    std::vector<const char*> argv = {"engine"};
    for (const std::string& argument : arguments) argv.push_back(argument.c_str());
    std::istringstream in(input);
    std::ostringstream out, err;
    const int code = engine::run(static_cast<int>(argv.size()), argv.data(), in, out, err);
    return {code, out.str(), err.str()};
  }
  /// On the model, eight tokens long.
  Outcome run_model(std::vector<std::string> arguments, const std::string& input = "") const {
    arguments.insert(arguments.begin(), {path, "--context", "128", "--tokens", "8"});
    return run(arguments, input);
  }
  std::string text(const std::vector<std::string>& arguments) const {
    const Outcome outcome = run_model(arguments);
    EXPECT_EQ(outcome.code, success) << outcome.err;
    return outcome.out;
  }
  static void expect(const Outcome& outcome, int code, std::string_view part) {
    EXPECT_EQ(outcome.code, code) << outcome.err;
    EXPECT_NE(outcome.err.find(part), outcome.err.npos) << "no \"" << part << "\" in: " << outcome.err;
    EXPECT_EQ(outcome.out, "");
  }

  /// A random adapter of all modules.
  std::string adapter(const std::string& name, std::uint64_t seed) const {
    const llama::BaseModel opened(path);
    const auto modules = llama::all_modules(opened.model().config);
    tiedlora::Adapter<float> made(tiedlora::Layout(modules, tiedlora::schemes::tied_lora(), 4));
    made.initialize(seed);
    tiedlora_test::Dice dice(seed);
    dice.fill(made.trainable());
    return save(made, name);
  }
  /// In the format that the name asks for.
  std::string save(const tiedlora::Adapter<float>& made, const std::string& name) const {
    const std::string to = folder / name;
    if (to.ends_with(".gguf"))
      tiedlora::export_gguf(made, to, tiedlora::gguf::llama({.weights = tiedlora::gguf::Order::gguf}));
    else if (to.ends_with(".safetensors"))
      tiedlora::save_adapter(to, made);
    else
      tiedlora::save_peft(made, to, {.base_model = "tiny", .task_type = "CAUSAL_LM"});
    return to;
  }

  tiedlora_test::Folder folder;
  TinyModel model{TinyModel::Numbers::blocks};
  std::string path = folder / "model.gguf";
};

TEST_F(ProgramTest, WritesTheSameTextForAnyThreads) {
  const std::string one = text({"--prompt", "hello"});
  EXPECT_GT(one.size(), 1u);
  EXPECT_EQ(text({"--prompt", "hello", "--threads", "3"}), one);
  EXPECT_NE(text({"--prompt", "hello world"}), one);
  const auto read = [this](const char* system) {
    const std::string err = run_model({"--prompt", "hello", "--system", system}).err;
    return err.substr(0, err.find(" in "));
  };
  EXPECT_EQ(read("Be brief"),
            "38 tokens read");  // "<|im_start|>system\nBe brief<|im_end|>\n" and the message
  EXPECT_EQ(read(""), "20 tokens read");
  EXPECT_EQ(text({"--prompt", "hello", "--system", "Be brief"}), one);
  EXPECT_EQ(text({"--raw", "--prompt",
                  "<|im_start|>system\nBe "
                  "brief<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"}),
            one);
}

TEST_F(ProgramTest, TheSeedDecides) {
  const auto warm = [this](const char* seed) {
    return text({"--prompt", "hello", "--temperature", "2", "--seed", seed});
  };
  EXPECT_EQ(warm("5"), warm("5"));
  EXPECT_NE(warm("5"), warm("6"));
  EXPECT_NE(warm("5"), text({"--prompt", "hello"}));
}

TEST_F(ProgramTest, AdaptersOfEveryFormatAreOne) {
  const std::string native =
      text({"--prompt", "hello", "--adapter", adapter("a.safetensors", 3), "--order", "gguf"});
  EXPECT_NE(native, text({"--prompt", "hello"}));
  EXPECT_EQ(text({"--prompt", "hello", "--adapter", adapter("a.gguf", 3)}), native);
  EXPECT_EQ(text({"--prompt", "hello", "--adapter", adapter("folder", 3), "--order", "gguf"}), native);
  EXPECT_NE(text({"--prompt", "hello", "--adapter", adapter("folder", 3), "--order", "hugging-face"}),
            native);
  EXPECT_EQ(text({"--prompt", "hello", "--adapter", folder / "a.gguf", "--use", "a:0"}),
            text({"--prompt", "hello"}));
}

TEST_F(ProgramTest, PromptsOfDifferentAdaptersInOneBatch) {
  const std::string a = adapter("a.safetensors", 3), b = adapter("b.safetensors", 4);
  const auto alone = [&](const char* prompt, const char* use) {
    return "== " + std::string(prompt) + "\n" +
           text({"--prompt", prompt, "--adapter", a, "--adapter", b, "--order", "gguf", "--use", use});
  };
  const std::string mixed = text(
      {"--adapter", a,      "--adapter", "other=" + b, "--order", "gguf",      "--prompt", "hello",
       "--use",     "a",    "--prompt",  "hello",      "--use",   "other:0.5", "--prompt", "a longer prompt",
       "--use",     "none", "--prompt",  "hello",      "--use",   "a"});
  EXPECT_EQ(mixed, alone("hello", "a") + alone("hello", "b:0.5") + alone("a longer prompt", "none") +
                       alone("hello", "a"));
  EXPECT_NE(alone("hello", "a"), alone("hello", "b"));
}

// Of 2048 tokens and what the model was trained for, the fewer.
TEST_F(ProgramTest, HasAContextThatTheModelCanRead) {
  const Outcome outcome = run({path, "--prompt", "hello", "--tokens", "8"});
  EXPECT_EQ(outcome.code, success) << outcome.err;
  EXPECT_EQ(outcome.out, text({"--prompt", "hello"}));
  expect(run({path, "--prompt", "hello", "--tokens", "100"}), usage, "do not fit the context of 128");
}

TEST_F(ProgramTest, APathMayHaveAnEqualsSign) {
  const std::string plain = adapter("a.gguf", 3), other = adapter("r=4.gguf", 3);
  EXPECT_EQ(text({"--prompt", "hello", "--adapter", other, "--use", "r=4"}),
            text({"--prompt", "hello", "--adapter", plain}));
  EXPECT_EQ(text({"--prompt", "hello", "--adapter", "b=" + other, "--use", "b"}),
            text({"--prompt", "hello", "--adapter", plain}));
}

TEST_F(ProgramTest, ConversesOverLines) {
  const Outcome outcome = run_model({}, "hello\n\nworld\n");
  EXPECT_EQ(outcome.code, success) << outcome.err;
  const std::string first = text({"--prompt", "hello"});
  EXPECT_EQ(outcome.out.substr(0, first.size()), first);
  EXPECT_GT(outcome.out.size(), first.size() + 1);
  EXPECT_NE(outcome.out.substr(first.size()), text({"--prompt", "world"}));  // it knows what was said before
}

TEST_F(ProgramTest, SaysWhatIsWrongWithAModel) {
  expect(run({folder / "nothing.gguf", "--prompt", "a"}), failure, "nothing.gguf");
  expect(run({adapter("a.gguf", 1), "--prompt", "a"}), failure,
         "is not a model: its general.type is \"adapter\"");
  const auto expect_model = [&](const TinyModel& other, std::string_view part) {
    other.write(folder / "other.gguf");
    expect(run({folder / "other.gguf", "--prompt", "a", "--context", "128"}), failure, part);
  };
  TinyModel other = model;
  other.architecture = "gpt2";
  expect_model(other, "is a model of architecture \"gpt2\"; llama, qwen2, qwen3 are supported");
  other = model, other.blocks.erase("blk.1.ffn_up");
  expect_model(other, "has no tensor \"blk.1.ffn_up.weight\"");
  other = model, other.floats["blk.0.attn_q.bias"].resize(64);
  expect_model(other, "\"blk.0.attn_q.bias\", which is unknown for architecture \"llama\"");
  other = model, other.matrices["blk.0.attn_k"] = {32, 64};
  expect_model(other, "\"blk.0.attn_k.weight\" of {32, 64}; {64, 32} is expected");
  other = model, other.tokens.pop_back(), other.token_types.pop_back(), other.merges.pop_back();
  expect_model(other, "has a tokenizer of 266 tokens, but embeddings of 267");
}

TEST_F(ProgramTest, RefusesAdaptersWithNan) {
  const auto modules = llama::all_modules(llama::BaseModel(path).model().config);
  tiedlora::Adapter<float> broken(tiedlora::Layout(modules, tiedlora::schemes::tied_lora(), 4));
  broken.initialize(1);
  broken.trainable()[3] = std::numeric_limits<float>::quiet_NaN();
  for (const char* name : {"nan.gguf", "nan.safetensors", "nan"}) {
    SCOPED_TRACE(name);
    const std::string to = save(broken, name);
    std::vector<std::string> arguments = {"--prompt", "a", "--adapter", to, "--order", "gguf"};
    expect(run_model(arguments), failure, "has NaN at [");
    arguments.push_back("--no-check-finite");
    EXPECT_EQ(run_model(arguments).code, success);
  }
}

TEST_F(ProgramTest, SaysWhatIsInPlaceOfAnAdapter) {
  tiedlora_test::write_text(folder / "a.gguf",
                            "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 5\n");
  expect(run_model({"--prompt", "a", "--adapter", folder / "a.gguf"}), failure, "Git LFS pointer");
  expect(run({folder / "a.gguf", "--prompt", "a"}), failure, "Git LFS pointer");
}

TEST_F(ProgramTest, SaysWhatIsWrongWithAnAdapter) {
  expect(run_model({"--prompt", "a", "--adapter", folder / "nothing.gguf"}), failure, "nothing.gguf");
  expect(run_model({"--prompt", "a", "--adapter", adapter("a.safetensors", 1)}), usage, "--order must say");
  tiedlora::ModuleList modules;
  modules.add({.name = "model.layers.7.self_attn.q_proj", .layer = 7, .in_features = 64, .out_features = 64});
  modules.add({.name = "model.layers.0.self_attn.q_proj", .layer = 0, .in_features = 64, .out_features = 64});
  modules.add({.name = "model.layers.9.mlp.up_proj", .layer = 9, .in_features = 64, .out_features = 96});
  tiedlora::Adapter<float> deeper(tiedlora::Layout(modules, tiedlora::schemes::lora(), 2));
  tiedlora::save_adapter(folder / "deeper.safetensors", deeper);
  const Outcome outcome =
      run_model({"--prompt", "a", "--adapter", folder / "deeper.safetensors", "--order", "gguf"});
  expect(outcome, failure, "deeper.safetensors");
  for (const char* name : {"model.layers.7.self_attn.q_proj", "model.layers.9.mlp.up_proj"})
    EXPECT_NE(outcome.err.find(name), outcome.err.npos) << outcome.err;
  tiedlora::ModuleList wider;
  wider.add({.name = "model.layers.0.self_attn.q_proj", .layer = 0, .in_features = 128, .out_features = 64});
  tiedlora::save_adapter(folder / "wider.safetensors",
                         tiedlora::Adapter<float>(tiedlora::Layout(wider, tiedlora::schemes::lora(), 2)));
  expect(run_model({"--prompt", "a", "--adapter", folder / "wider.safetensors", "--order", "gguf"}), failure,
         "64x128");
}

TEST_F(ProgramTest, ALineThatIsWrongDoesNotEndAConversation) {
  const Outcome right = run_model({}, "hello\nworld\n");
  ASSERT_EQ(right.code, success) << right.err;
  for (const std::string wrong : {"ab\xff", "\xed\xa0\x80"}) {
    const Outcome outcome = run_model({}, wrong + "\nhello\n" + wrong + "\nworld\n");
    EXPECT_EQ(outcome.code, success) << outcome.err;
    EXPECT_EQ(outcome.out, right.out);
    EXPECT_NE(outcome.err.find("the text is not UTF-8: byte "), outcome.err.npos) << outcome.err;
  }
  EXPECT_NE(run_model({}, "ab\xff\n").err.find("byte 2 is 0xff"), std::string::npos);
  const Outcome longer = run_model({}, "hello\n" + std::string(300, 'x') + "\nworld\n");
  EXPECT_EQ(longer.code, success) << longer.err;
  EXPECT_EQ(longer.out, right.out);
  EXPECT_NE(longer.err.find("do not fit the context of 128"), longer.err.npos) << longer.err;
}

TEST_F(ProgramTest, AResultThatCannotBeWrittenIsAFailure) {
  for (const std::vector<std::string>& more : {std::vector<std::string>{"--prompt", "hello"}, {"--help"}}) {
    std::vector<const char*> argv = {"engine", path.c_str(), "--context", "128", "--tokens", "8"};
    for (const std::string& argument : more) argv.push_back(argument.c_str());
    std::istringstream in;
    std::ostringstream out, err;
    out.setstate(std::ios::badbit);
    EXPECT_EQ(engine::run(static_cast<int>(argv.size()), argv.data(), in, out, err), failure);
    EXPECT_NE(err.str().find("cannot write to standard output"), std::string::npos) << err.str();
  }
}

TEST_F(ProgramTest, SaysWhatIsWrongWithTheArguments) {
  const std::string a = adapter("a.gguf", 1), b = adapter("b.gguf", 2);
  expect(run({}), usage, "model is required");
  expect(run_model({"--prompt", std::string(300, 'x')}), usage,
         "do not fit the context of 128; take a larger --context (the model has up to 128)");
  expect(run({path, "--prompt", "a", "--context", "129"}), usage,
         "--context 129: the model was trained for at most 128 tokens");
  expect(run_model({"--prompt", "caf\xe9 noir"}), usage, "--prompt: the text is not UTF-8: byte 3 is 0xe9");
  expect(run_model({"--raw", "--prompt", "a", "--prompt", "ab\xff"}), usage, "byte 2 is 0xff");
  expect(run_model({"--prompt", "a", "--system", "\xc3"}), usage,
         "--system: the text is not UTF-8: byte 0 is 0xc3");
  expect(run_model({"--raw", "--prompt", ""}), usage, "a prompt is empty");
  expect(run_model({"--raw"}), usage, "--raw needs --prompt");
  expect(run_model({"--prompt", "a", "--adapter", a, "--adapter", b}), usage, "--use must name");
  expect(run_model({"--prompt", "a", "--adapter", a, "--use", "c"}), usage,
         "there is no adapter of that name (there are: none, a)");
  for (const char* scale : {"x", "nan", "inf", "-inf", "1e39", "0x1p3", "", "1 ", "1e-400", "2:3"})
    expect(run_model({"--prompt", "a", "--adapter", a, "--use", "a:" + std::string(scale)}), usage,
           "the scale after ':' is not a number from -1000000 to 1000000");
  for (const char* value : {"nan", "-nan", "inf", "-1", "101", "", "0x1", "1e999", "0.5x", "+-1", " 1"})
    expect(run_model({"--prompt", "a", "--temperature", value}), usage,
           "--temperature: \"" + std::string(value) + "\" is not a number from 0 to 100");
  for (const std::string option : {"--tokens", "--threads", "--context"})
    for (const char* value : {"0", "-1", "nan", "1.5", "1e3", "", "99999999999999999999999", "2000000000"})
      expect(run({path, "--prompt", "a", option, value}), usage,
             option + ": \"" + value + "\" is not a whole number from ");
  for (const char* value : {"-1", "99999999999999999999999", "1.5", ""})
    expect(run_model({"--prompt", "a", "--seed", value}), usage,
           "is not a whole number from 0 to 18446744073709551615");
  expect(run({"", "--prompt", "a"}), usage, "the path is empty");
  expect(run_model({"--prompt", "a", "--adapter", a, "--use", "a", "--use", "a"}), usage,
         "--use is given 2 times, but there are 1 prompts");
  expect(run_model({"--prompt", "a", "--adapter", a, "--adapter", a}), usage, "the name \"a\" is taken");
  EXPECT_EQ(run({"--help"}).code, success);
}

}  // namespace
}  // namespace engine
