// finetune train, eval, generate and compare on a small random model, run as a user does.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include <finetune/data/folder_lock.hpp>
#include <llama/tokenizer_golden.hpp>
#include <llama/write_hugging_face.hpp>

#include <tiedlora/adapter.hpp>
#include <tiedlora/io/native.hpp>

#include "tune_fixture.hpp"
#include "tuner.hpp"  // layout_of

namespace finetune {
namespace {

TEST_F(TuneTest, TrainsAndWritesOneAdapterInThreeFormats) {
  const Outcome outcome = train("out", {"--steps", "12", "--validation", path("chat.jsonl")});
  ASSERT_EQ(outcome.status, 0) << outcome.output;
  for (const char* name :
       {"adapter.safetensors", "peft/adapter_config.json", "peft/adapter_model.safetensors", "adapter.gguf",
        "README.md", "run.json", "metrics.csv", "loss.gp"})
    EXPECT_TRUE(std::filesystem::exists(folder_.path() / "out" / name)) << name;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_.path()))
    EXPECT_NE(entry.path().extension(), ".partial") << entry.path();
  const auto json = nlohmann::json::parse(read_file(path("out/run.json")));
  EXPECT_LT(json["validation_loss"].get<double>(), json["validation_loss_before"].get<double>());
  EXPECT_EQ(json["training"]["steps"], 12);
  EXPECT_EQ(json["data"]["examples"], 60);

  const std::vector<double> values =
      losses({path("out"), path("out/adapter.safetensors"), path("out/peft"), path("out/adapter.gguf")});
  ASSERT_EQ(values.size(), 5u);
  EXPECT_LT(values[1], values[0]);
  // What was measured in training, to the five digits that are printed.
  EXPECT_NEAR(values[0], json["validation_loss_before"].get<double>(), 0.6e-5);
  EXPECT_NEAR(values[1], json["validation_loss"].get<double>(), 0.6e-5);
  EXPECT_EQ(values[2], values[1]);
  // B times v and u is rounded once where the scheme is written out as LoRA, and five digits are printed.
  EXPECT_NEAR(values[3], values[1], 2e-5);
  EXPECT_NEAR(values[4], values[1], 2e-5);
}

TEST_F(TuneTest, NeitherThreadsNorMemoryChangeABit) {
  ASSERT_EQ(train("one", {"--steps", "5"}).status, 0);
  ASSERT_EQ(train("three", {"--steps", "5", "--threads", "3"}).status, 0);
  ASSERT_EQ(train("again", {"--steps", "5", "--recompute"}).status, 0);
  const std::string adapter = read_file(path("one/adapter.safetensors"));
  EXPECT_EQ(read_file(path("three/adapter.safetensors")), adapter);
  EXPECT_EQ(read_file(path("again/adapter.safetensors")), adapter);
}

// LoRA+. In the first step A does not move (B is zero), and Adam moves each number of B by its rate.
TEST_F(TuneTest, BLearnsAtARateOfItsOwn) {
  const Arguments first = {"--scheme", "lora",      "--steps", "1",          "--rate",
                           "1e-3",     "--warm-up", "0",       "--held-out", "0"};
  Arguments faster = first;
  faster.insert(faster.end(), {"--b-rate", "4e-3"});
  ASSERT_EQ(train("same", first).status, 0);
  const Outcome outcome = train("faster", faster);
  ASSERT_EQ(outcome.status, 0) << outcome.output;
  EXPECT_NE(outcome.output.find("rate 0.001 for A, 0.004 for B\n"), std::string::npos) << outcome.output;
  const auto run = nlohmann::json::parse(read_file(path("faster/run.json")));
  EXPECT_DOUBLE_EQ(run["training"]["b_rate"].get<double>(), 4e-3);
  const auto same = tiedlora::load_adapter<float>(path("same/adapter.safetensors"));
  const auto moved = tiedlora::load_adapter<float>(path("faster/adapter.safetensors"));
  EXPECT_TRUE(same.A(0) == moved.A(0));
  const float once = same.B(0).cwiseAbs().maxCoeff();
  EXPECT_GT(once, 0);
  EXPECT_NEAR(moved.B(0).cwiseAbs().maxCoeff() / once, 4, 1e-4);
}

TEST_F(TuneTest, AdaptsTheLayersThatAreNamed) {
  ASSERT_EQ(train("last", {"--steps", "2", "--layers", "1", "--targets", "v_proj,down_proj"}).status, 0);
  const auto adapter = tiedlora::load_adapter<float>(path("last/adapter.safetensors"));
  const tiedlora::ModuleList& list = adapter.layout().modules();
  ASSERT_EQ(list.size(), 2);
  EXPECT_EQ(list[0].name, "model.layers.1.self_attn.v_proj");
  EXPECT_EQ(list[1].name, "model.layers.1.mlp.down_proj");
  EXPECT_GT(adapter.B(0).cwiseAbs().maxCoeff(), 0);
  expect_error(train("out", {"--layers", "0,99"}), 1, "there is no layer 99; the model's are 0 to ");
  expect_error(train("out", {"--layers", "-1"}), 2, "--layers: \"-1\" is not a whole number");
}

// What a study compares in pairs: schemes that share a factor's tying begin with the same draw of it.
TEST_F(TuneTest, SchemesBeginWithTheSameDraw) {
  const auto start = [](const char* scheme) {
    const TuneOptions options = {.scheme = scheme, .rank = 4, .targets = {"q_proj", "v_proj"}};
    tiedlora::Adapter<float> adapter(layout_of(options, default_model()));
    adapter.initialize(7);
    return adapter;
  };
  EXPECT_TRUE(start("tl5").A(0) == start("tl6").A(0));
  EXPECT_TRUE(start("tl6_u").A(0) == start("tl6_v").A(0));
  EXPECT_TRUE(start("lora").A(1) == start("lora_fa").A(1));
}

// Not the bits: products of another type may be cut otherwise.
TEST_F(TuneTest, ACopyAsFloatsComputesTheSame) {
  ASSERT_EQ(train("mapped", {"--steps", "5"}).status, 0);
  ASSERT_EQ(train("copied", {"--steps", "5", "--base-type", "f32"}).status, 0);
  const std::vector<double> values = losses({path("mapped"), path("copied")});
  EXPECT_NEAR(values[1], values[2], 1e-4);
}

TEST_F(TuneTest, TrainsOnEverythingWhereNothingIsHeldOut) {
  folder_.write("one.jsonl", "{\"prompt\": \"a\", \"completion\": \"b\"}\n");
  expect_error(train("out", {"--data", path("one.jsonl")}), 1, "--held-out 0");
  const Outcome outcome = train("all", {"--data", path("one.jsonl"), "--held-out", "0", "--steps", "3"});
  EXPECT_EQ(outcome.status, 0) << outcome.output;
  EXPECT_NE(outcome.output.find("nothing was held out"), std::string::npos) << outcome.output;
  EXPECT_TRUE(std::filesystem::exists(path("all/adapter.gguf")));
  EXPECT_TRUE(nlohmann::json::parse(read_file(path("all/run.json")))["validation_loss"].is_null());
}

TEST_F(TuneTest, WhatNeedsALossIsRefusedWhereNothingIsMeasured) {
  const Arguments patient = {"--held-out", "0", "--patience", "1", "--steps", "3"};
  expect_error(train("out", patient), 2, "--patience: with --held-out 0 there is no loss to wait for; leave");
  expect_error(command("compare", {"--data", path("chat.jsonl"), "--held-out", "0", "--out", path("out")}), 2,
               "finetune compare needs validation examples: give --validation FILE or a --held-out above 0");
  EXPECT_FALSE(std::filesystem::exists(path("out")));
  Arguments measured = patient;
  measured.insert(measured.end(), {"--validation", path("chat.jsonl")});
  expect_error(train("out", measured), 0, "Validation loss");
}

TEST_F(TuneTest, SaysWhatIsWrong) {
  expect_error(run(folder_, {"train", "--model", path("none.gguf"), "--data", path("chat.jsonl"), "--out",
                             path("out")}),
               1, "none.gguf");
  expect_error(train("out", {"--rate", "nan"}), 2, "\"nan\" is not a positive number");
  expect_error(train("out", {"--rate", "inf"}), 2, "\"inf\" is not a positive number");
  expect_error(train("out", {"--scheme", "loar"}), 2, "is not one of lora");
  expect_error(train("out", {"--scheme", "lora", "--uv-rate", "1"}), 2,
               "does not train u or v together with A or B");
  expect_error(train("out", {"--scheme", "lora_fa", "--b-rate", "1"}), 2, "does not train both A and B");
  expect_error(train("out", {"--window", "1000"}), 2, "more than the 128 that the model was made for");
  expect_error(train("out", {"--epochs", "1", "--steps", "2"}), 2, "--epochs");
  folder_.write("bad.jsonl", "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"a\"}\n");
  const Outcome bad = command("train", {"--data", path("bad.jsonl"), "--out", path("out")});
  expect_error(bad, 1, "bad.jsonl");
  EXPECT_NE(bad.output.find("2"), std::string::npos);
  folder_.write("file", "");
  expect_error(train("file/out"), 1, "--out: \"" + path("file/out") + "\" cannot be made");
  EXPECT_FALSE(std::filesystem::exists(path("out/adapter.safetensors")));
}

TEST_F(TuneTest, EveryArgumentIsCheckedBeforeAnyWork) {
  for (const char* value : {"0", "-1", "2000000000", "99999999999999999999999", "1.5"})
    expect_error(train("new", {"--rank", value}), 2,
                 "--rank: \"" + std::string(value) + "\" is not a whole number from 1 to 4096");
  for (const std::string option : {"--scaling", "--rate", "--uv-rate", "--clip"})
    for (const char* value : {"0", "nan", "inf", "-1", "1e30", "1e-30", ""})
      expect_error(train("new", {option, value}), 2, option + ": \"" + value + "\" is not a positive number");
  for (const std::string option : {"--warm-up", "--held-out", "--dropout", "--weight-decay"})
    for (const char* value : {"nan", "inf", "-1", "1e30"})
      expect_error(train("new", {option, value}), 2,
                   option + ": \"" + value + "\" is not a number from 0 to ");
  for (const std::string option :
       {"--steps", "--accumulate", "--evaluations", "--batch-tokens", "--threads", "--window"})
    for (const char* value : {"0", "-1", "nan", "99999999999999999999999"})
      expect_error(train("new", {option, value}), 2, option + ": \"" + value + "\" is not a whole number");
  for (const char* value : {"-1", "99999999999999999999999"})
    expect_error(train("new", {"--seed", value}), 2, "is not a whole number from 0 to 18446744073709551615");
  folder_.write("broken.gguf", "no model");
  expect_error(run(folder_, {"train", "--model", path("broken.gguf"), "--data", path("chat.jsonl"), "--out",
                             path("new"), "--scheme", "vera", "--uv-rate", "0.1"}),
               2, "--uv-rate: the scheme vera does not train u or v together with A or B");
  expect_error(train("new", {"--targets", "q_proj,q_proj"}), 2, "\"q_proj\" is given twice");
  expect_error(train("new", {"--out", ""}), 2, "--out: the path is empty");
  expect_error(train("new", {"--data", path("nothing")}), 1,
               "--data: \"" + path("nothing") + "\" cannot be read");
  expect_error(train("new", {"--validation", path("no")}), 1,
               "--validation: \"" + path("no") + "\" cannot be read");
  expect_error(command("generate", {"--prompt", "caf\xe9"}), 2,
               "--prompt: the text is not UTF-8: byte 3 is 0xe9");
  for (const char* value : {"nan", "inf", "-1"})
    expect_error(command("generate", {"--prompt", "a", "--temperature", value}), 2,
                 "is not a number from 0 to 1e15");
  expect_error(command("compare",
                       {"--data", path("chat.jsonl"), "--out", path("new"), "--candidates", "lora:1,lora:1"}),
               2, "\"lora:1\" is given twice");
  EXPECT_FALSE(std::filesystem::exists(path("new")));
}

TEST_F(TuneTest, TwoRunsDoNotShareAFolder) {
  const FolderLock lock(path("out"));
  expect_error(train("out", {"--steps", "2"}), 1, "another run is writing into");
  EXPECT_TRUE(std::filesystem::is_empty(path("out")));
}

/// While it lives, files that programs write end at `bytes` bytes, as on a full disk.
class SmallDisk {
 public:
  explicit SmallDisk(rlim_t bytes) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{.rlim_cur = bytes, .rlim_max = before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
    handler_ = std::signal(SIGXFSZ, SIG_IGN);  // the write fails instead
  }
  ~SmallDisk() {
    std::signal(SIGXFSZ, handler_);
    setrlimit(RLIMIT_FSIZE, &before_);
  }

 private:
  rlimit before_ = {};
  void (*handler_)(int) = nullptr;
};

TEST_F(TuneTest, AFullDiskIsNamedAndTheRunGoesOnLater) {
  const Arguments steps = {"--steps", "8", "--evaluations", "4", "--rank", "16"};
  ASSERT_EQ(train("whole", steps).status, 0);
  {
    const SmallDisk disk(16 * 1024);
    expect_error(train("out", steps), 1, "out/checkpoint.safetensors");
  }
  for (const auto& entry : std::filesystem::recursive_directory_iterator(path("out")))
    EXPECT_NE(entry.path().extension(), ".partial") << entry.path();
  Arguments resumed = steps;
  resumed.push_back("--resume");
  ASSERT_EQ(train("out", resumed).status, 0);
  EXPECT_EQ(read_file(path("out/adapter.safetensors")), read_file(path("whole/adapter.safetensors")));
}

// JSON and safetensors take nothing else, and all is trained before they are written.
TEST_F(TuneTest, NamesAndPathsNeedNotBeUtf8) {
  std::filesystem::copy(path("model.gguf"), path("caf\xe9.gguf"));
  std::filesystem::copy(path("chat.jsonl"), path("caf\xe9.jsonl"));
  Arguments arguments = {"train", "--model", path("caf\xe9.gguf")};
  const Arguments rest = training("caf\xe9", {"--steps", "2", "--data", path("caf\xe9.jsonl")});
  arguments.insert(arguments.end(), rest.begin(), rest.end());
  expect_error(run(folder_, arguments), 0, "adapter.gguf");
  const auto record = nlohmann::json::parse(read_file(path("caf\xe9/run.json")));
  EXPECT_EQ(record["data"]["paths"][0], path("caf\xef\xbf\xbd.jsonl"));
  EXPECT_TRUE(std::filesystem::exists(path("caf\xe9/README.md")));
}

TEST_F(TuneTest, AnAdapterOfAnotherBaseIsNamed) {
  tiedlora::ModuleList modules;
  modules.add({.name = "model.layers.0.self_attn.q_proj",
               .layer = 0,
               .kind = "q_proj",
               .input = "attn_input",
               .in_features = 128,
               .out_features = 64});
  tiedlora::save_adapter(path("wide.safetensors"),
                         tiedlora::Adapter<float>(tiedlora::Layout(modules, tiedlora::schemes::lora(), 2)));
  expect_error(command("eval", {"--data", path("chat.jsonl"), "--adapter", path("wide.safetensors")}), 1,
               "\"" + path("wide.safetensors") + "\" does not fit \"" + path("model.gguf") + "\": ");
  folder_.write("wrong.safetensors", "not an adapter");
  expect_error(command("eval", {"--data", path("chat.jsonl"), "--adapter", path("wrong.safetensors")}), 1,
               "wrong.safetensors");
  expect_error(command("eval", {"--data", path("chat.jsonl"), "--adapter", path("nothing")}), 1,
               "--adapter: \"" + path("nothing") + "\" cannot be read: No such file or directory");
}

TEST_F(TuneTest, SaysWhatAnAdapterLacks) {
  const auto save = [&](const std::string& name, int layer) {
    tiedlora::ModuleList modules;
    modules.add({.name = "model.layers." + std::to_string(layer) + ".self_attn.q_proj",
                 .layer = layer,
                 .kind = "q_proj",
                 .input = "attn_input",
                 .in_features = 64,
                 .out_features = 64});
    tiedlora::save_adapter(path(name),
                           tiedlora::Adapter<float>(tiedlora::Layout(modules, tiedlora::schemes::lora(), 2)));
  };
  save("one.safetensors", 1);
  expect_error(command("eval", {"--data", path("chat.jsonl"), "--adapter", path("one.safetensors")}), 0,
               "adapts nothing in 1 of the modules whose kind it adapts in other layers: "
               "model.layers.0.self_attn.q_proj\n");
  save("two.safetensors", 2);
  expect_error(command("eval", {"--data", path("chat.jsonl"), "--adapter", path("two.safetensors")}), 1,
               "\"model.layers.2.self_attn.q_proj\" is not one of the model's 2 layers");
}

// A loss at another window is another loss.
TEST_F(TuneTest, EvalMeasuresWithTheWindowOfTheRun) {
  ASSERT_EQ(train("out", {"--steps", "2", "--window", "47", "--validation", path("chat.jsonl")}).status, 0);
  const auto json = nlohmann::json::parse(read_file(path("out/run.json")));
  const std::vector<double> values = losses({path("out")});
  EXPECT_NEAR(values.at(0), json["validation_loss_before"].get<double>(), 0.6e-5);
  EXPECT_GT(std::abs(losses({path("out/adapter.safetensors")}).at(0) - values[0]), 1e-4);
}

TEST_F(TuneTest, EvalLeavesTheBaseOutIfAsked) {
  ASSERT_EQ(train("out", {"--steps", "2"}).status, 0);
  const Arguments both = {"--data", path("chat.jsonl"), "--adapter", path("out")};
  Arguments alone = both;
  alone.push_back("--no-base");
  std::string output = command("eval", both).output;
  const std::size_t begin = output.find("base "), end = output.find('\n', begin);
  EXPECT_EQ(command("eval", alone).output, output.erase(begin, end + 1 - begin));
  expect_error(command("eval", {"--data", path("chat.jsonl"), "--no-base"}), 2,
               "--no-base requires --adapter");
}

TEST_F(TuneTest, EvalTakesBatchesThatHoldTheWindow) {
  llama_test::TinyModel model(llama_test::TinyModel::Numbers::blocks);
  model.context = 2048;
  model.write(folder_.path() / "model.gguf");
  folder_.write("long.jsonl", "{\"text\": \"" + std::string(1200, 'x') + "\"}\n");
  ASSERT_EQ(train("out", {"--data", path("long.jsonl"), "--held-out", "0", "--window", "1100",
                          "--batch-tokens", "1100", "--steps", "1"})
                .status,
            0);
  Arguments arguments = {"--data", path("long.jsonl"), "--adapter", path("out"), "--threads", "1"};
  EXPECT_EQ(command("eval", arguments).status, 0) << read_file(path("output.txt"));
  arguments.insert(arguments.end(), {"--batch-tokens", "1024"});
  expect_error(command("eval", arguments), 2,
               "has 1100 tokens and does not fit into batches of 1024; give --batch-tokens 1100 or more, or "
               "--window 1024\n");
}

// What needs no template works without one that is known.
TEST_F(TuneTest, AnUnknownTemplateIsNamedWhereItIsNeeded) {
  llama_test::TinyModel model(llama_test::TinyModel::Numbers::blocks);
  model.chat_template = "{{ messages }}";
  model.write(folder_.path() / "model.gguf");
  folder_.write("text.jsonl", "{\"text\": \"hello world\"}\n{\"text\": \"hello there\"}\n");
  const Outcome outcome = train("out", {"--data", path("text.jsonl"), "--held-out", "0", "--steps", "1"});
  ASSERT_EQ(outcome.status, 0) << outcome.output;
  EXPECT_NE(read_file(path("out/README.md")).find(" --raw --prompt 'Hello'"), std::string::npos);
  expect_error(train("new", {"--steps", "1"}), 1,
               "chat.jsonl\", line 1: needs a template, but the model's chat template is not one of ChatML");
  EXPECT_EQ(command("eval", {"--data", path("text.jsonl"), "--adapter", path("out")}).status, 0);
  Arguments prompt = {"--adapter", path("out"), "--prompt", "hello", "--tokens", "2", "--threads", "1"};
  expect_error(command("generate", prompt), 1, "the model's chat template is not one of ChatML");
  prompt.push_back("--raw");
  expect_error(command("generate", prompt), 0, "-- base\n");
}

// Whichever way it is named, the card says what other programs open, and how to ask a base without a
// template.
TEST_F(TuneTest, TheCardNamesTheFolderOfAHuggingFaceModel) {
  const llama_test::GoldenTokenizer tokenizer("gpt2");
  tokenizer.write_folder(folder_.path() / "base");
  const llama::Config config = {.vocabulary = static_cast<Index>(tokenizer.tokens.size()),
                                .width = 32,
                                .layers = 2,
                                .heads = 4,
                                .kv_heads = 2,
                                .feed_forward = 64,
                                .tied_embedding = false};
  llama::Weights<float> weights(config);
  weights.initialize(1);
  llama::save_hugging_face(folder_.path() / "base", weights);
  folder_.write("tasks.jsonl", "{\"instruction\": \"Add\", \"output\": \"3\"}\n");
  int number = 0;
  for (const char* name : {"base", "base/", "base/config.json"}) {
    const std::string out = "out" + std::to_string(number++);
    Arguments arguments = {"train", "--model", path(name)};
    for (const std::string& one :
         training(out, {"--data", path("tasks.jsonl"), "--held-out", "0", "--steps", "1"}))
      arguments.push_back(one);
    expect_error(run(folder_, arguments), 0, "The instructions (1) are put into the words of Alpaca");
    const std::string card = read_file(path(out + "/README.md"));
    EXPECT_NE(card.find(" --outfile base.gguf #"), card.npos) << card;
    EXPECT_NE(card.find("AutoModelForCausalLM.from_pretrained(\"" + path("base")), card.npos) << card;
    EXPECT_EQ(card.find("config.json"), card.npos) << card;
    EXPECT_NE(card.find("```\nBelow is an instruction"), card.npos) << card;
    EXPECT_NE(card.find("### Instruction:\n...\n\n### Response:\n```\n"), card.npos) << card;
  }
}

// 0.012 · rank^-0.4 · (64 / 576)^-0.25.
TEST_F(TuneTest, RatesAreThoseOfRankAndWidth) {
  expect_error(train("one", {"--steps", "2", "--scheme", "lora", "--rank", "1"}), 0, "; rate 0.0207846\n");
  expect_error(train("four", {"--steps", "2", "--scheme", "lora", "--rank", "4"}), 0, "; rate 0.0119376\n");
}

TEST_F(TuneTest, GeneratesBeforeAndAfter) {
  ASSERT_EQ(
      train("out", {"--steps", "200", "--scheme", "lora", "--rank", "16", "--validation", path("chat.jsonl")})
          .status,
      0);
  const Arguments prompt = {"--adapter", path("out"), "--prompt", "say 7", "--threads", "1"};
  Arguments arguments = prompt;
  arguments.insert(arguments.end(), {"--tokens", "8"});
  const Outcome outcome = command("generate", arguments);
  ASSERT_EQ(outcome.status, 0) << outcome.output;
  const std::size_t base = outcome.output.find("-- base\n"),
                    after = outcome.output.find("-- " + path("out") + "\n");
  ASSERT_NE(base, std::string::npos) << outcome.output;
  ASSERT_NE(after, std::string::npos) << outcome.output;
  // What a model of random weights learns depends on the last bits; that it learns something does not.
  EXPECT_EQ(outcome.output.substr(base, after - base).find("hell"), std::string::npos) << outcome.output;
  EXPECT_NE(outcome.output.find("hell", after), std::string::npos) << outcome.output;

  arguments = prompt;
  arguments.insert(arguments.end(), {"--tokens", "500"});
  expect_error(command("generate", arguments), 2, "do not fit into the model's context of 128");
}

// Without --system, the template says the message that it said in training.
TEST_F(TuneTest, GenerateAsksAsTrainingDid) {
  const auto answer = [&](const Arguments& more) {
    Arguments arguments = {"--prompt", "say 7", "--tokens", "8", "--threads", "1"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = command("generate", arguments);
    EXPECT_EQ(outcome.status, 0) << outcome.output;
    return outcome.output;
  };
  EXPECT_EQ(answer({}), answer({"--system", "Be brief"}));
  EXPECT_NE(answer({}), answer({"--system", ""}));
}

}  // namespace
}  // namespace finetune
