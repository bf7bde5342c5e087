// What the program reads and writes: config.json, CSV, JSON, pictures.
#include <cstdlib>   // getenv, setenv, system
#include <iterator>  // istreambuf_iterator

#include <nlohmann/json.hpp>

#include "test_program.hpp"

namespace {

using count_parameters::test::CountParameters;
using count_parameters::test::Result;
using count_parameters::test::run;
using nlohmann::json;

const char* const tiny_llama = R"({"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 3,
  "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 160, "head_dim": null})";

/// PATH is that folder alone, for as long as this lives.
class PathVariable {
 public:
  explicit PathVariable(const std::filesystem::path& folder) : before_(std::getenv("PATH")) {
    setenv("PATH", folder.c_str(), 1);
  }
  ~PathVariable() { setenv("PATH", before_.c_str(), 1); }
  PathVariable(const PathVariable&) = delete;
  PathVariable& operator=(const PathVariable&) = delete;

 private:
  std::string before_;
};

TEST_F(CountParameters, ReadsALlamaConfig) {
  const std::string path = write("tiny/config.json", tiny_llama);
  const Result result =
      run({"--config", path, "--targets", "q,k,v,o,gate,up,down", "--ranks", "2", "--json"});
  ASSERT_EQ(result.code, 0) << result.err;
  const json model = json::parse(result.out).at(0);
  EXPECT_EQ(model.at("model"), "tiny");
  EXPECT_EQ(model.at("layers"), 3);
  EXPECT_EQ(model.at("query_width"), 64);
  EXPECT_EQ(model.at("key_width"), 32);
  EXPECT_EQ(model.at("feed_forward"), 160);
  EXPECT_EQ(model.at("gated"), true);
  // lora: the sum of in + out over the seven modules, times rank and layers.
  EXPECT_EQ(model.at("rows").at(0).at("trained"), 3 * 2 * (2 * 128 + 2 * 96 + 3 * 224));
}

TEST_F(CountParameters, ReadsAHeadSizeOfItsOwn) {
  const std::string text =
      R"({"model_type": "qwen3", "hidden_size": 64, "num_hidden_layers": 3, "head_dim": 32,
    "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 160})";
  const Result result = run_config(text);
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(json::parse(result.out).at(0).at("query_width"), 128);
  EXPECT_EQ(json::parse(result.out).at(0).at("key_width"), 64);
}

TEST_F(CountParameters, ReadsAGpt2Config) {
  const Result result = run_config(R"({"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12})");
  ASSERT_EQ(result.code, 0) << result.err;
  const json model = json::parse(result.out).at(0);
  EXPECT_EQ(model.at("layers"), 12);
  EXPECT_EQ(model.at("key_width"), 768);
  EXPECT_EQ(model.at("feed_forward"), 4 * 768);  // n_inner's default
  EXPECT_EQ(model.at("gated"), false);
  EXPECT_EQ(model.at("rows").at(0).at("trained"), 12 * 4 * 768 * 2);
}

TEST_F(CountParameters, ReadsOptAndBertConfigs) {
  const Result opt = run_config(R"({"model_type": "opt", "hidden_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "ffn_dim": 256})");
  ASSERT_EQ(opt.code, 0) << opt.err;
  EXPECT_EQ(json::parse(opt.out).at(0).at("feed_forward"), 256);
  const Result bert = run_config(R"({"model_type": "bert", "hidden_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "intermediate_size": 192})");
  ASSERT_EQ(bert.code, 0) << bert.err;
  EXPECT_EQ(json::parse(bert.out).at(0).at("feed_forward"), 192);
}

// Windows' editors write a mark of the byte order; Python's json.load() would refuse it.
TEST_F(CountParameters, ReadsAConfigWithAByteOrderMark) {
  const Result result = run_config(std::string("\xef\xbb\xbf") + tiny_llama);
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(json::parse(result.out).at(0).at("layers"), 3);
}

TEST_F(CountParameters, SaysWhichSizesAreDefaultsAndOfWhichPart) {
  const std::string path = write("gemma-3-4b/config.json", R"({"model_type": "gemma3", "text_config": {
    "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34}})");
  const Result result = run({"--config", path});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_NE(result.out.find("sizes: " + path +
                            " (text_config, a gemma3_text); by the defaults of transformers for gemma3_text: "
                            "num_attention_heads 8, head_dim 256, num_key_value_heads 4;"),
            std::string::npos)
      << result.out;
}

TEST_F(CountParameters, NamesWhatAModelHasNot) {
  const auto refuses = [&](const std::string& text, const std::string& targets, const std::string& phrase) {
    const Result result = run({"--config", write("model/config.json", text), "--targets", targets});
    EXPECT_EQ(result.code, 2);
    EXPECT_NE(result.err.find(phrase), std::string::npos) << result.err;
  };
  const std::string phi3 = R"({"model_type": "phi3", "hidden_size": 64, "num_hidden_layers": 2})";
  const std::string llama4 = R"({"model_type": "llama4", "text_config": {"num_local_experts": 16}})";
  refuses(phi3, "q,v", "q, k and v of model are one module; name qkv instead of \"q\"");
  refuses(phi3, "qkv,up", "gate and up of model are one module; name gate_up instead of \"up\"");
  refuses(llama4, "q,up", "the feed-forward part of model holds experts (num_local_experts)");
  refuses(R"({"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4})", "gate_up", "has no gate");
  refuses(tiny_llama, "gate_up,gate", "gate_up already holds gate and up");
}

TEST_F(CountParameters, CountsWhatPeftTrains) {
  std::ifstream file(std::filesystem::path(TIEDLORA_GOLDEN_DIR) / "counts.json");
  const json golden = json::parse(file);
  int counted = 0;
  const auto count = [&](const json& config, const std::string& target) {
    const Result result = run({"--config", write("config.json", config.dump()), "--targets", target,
                               "--schemes", "lora", "--ranks", golden.at("rank").dump(), "--json"});
    return result.code == 0 ? json::parse(result.out).at(0).at("rows").at(0).at("trained") : json(result.err);
  };
  for (const json& one : golden.at("cases")) {
    const std::string name = one.at("name");
    if (!one.contains("error")) {
      for (const auto& [target, trained] : one.at("counts").items()) {
        EXPECT_EQ(count(one.at("config"), target), trained) << name << ": " << target;
        ++counted;
      }
      continue;
    }
    // What transformers refuses is refused, but that some of its types have a default and stumble over null.
    const json refused = count(one.at("config"), "qkv");
    json config = one.at("config");
    if (refused.is_string() || !name.ends_with("head_dim null")) {
      EXPECT_TRUE(refused.is_string()) << name << ": " << refused;
      EXPECT_NE(refused.dump().find("config.json"), std::string::npos) << refused;
    } else {
      config.erase("head_dim");
      EXPECT_EQ(refused, count(config, "qkv")) << name;
    }
  }
  EXPECT_GT(counted, 900);
}

TEST_F(CountParameters, ConfigErrorsNameFileAndKey) {
  const auto expect_error = [&](const std::string& text, const std::vector<std::string>& phrases) {
    const Result result = run_config(text);
    EXPECT_EQ(result.code, 1) << text;
    EXPECT_EQ(result.out, "") << text;
    for (const std::string& phrase : phrases)
      EXPECT_NE(result.err.find(phrase), std::string::npos) << phrase << "\nis not in\n" << result.err;
    EXPECT_NE(result.err.find("config.json"), std::string::npos) << result.err;
  };
  const auto llama_with = [](const std::string& key, const json& value) {
    json config = json::parse(tiny_llama);
    config[key] = value;
    return config.dump();
  };
  for (const char* key : {"hidden_size", "num_hidden_layers"}) {
    json lacking = json::parse(tiny_llama);
    lacking.erase(key);
    expect_error(lacking.dump(), {"lacks the key \"" + std::string(key) + "\"", "of type llama"});
  }
  // Where the default is a number, null is not that.
  expect_error(
      R"({"model_type": "mistral", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 160, "num_key_value_heads": null})",
      {"has null at the key \"num_key_value_heads\"", "of type mistral"});
  expect_error(R"({"hidden_size": 64})", {"lacks the key \"model_type\""});
  expect_error(R"({"model_type": "mamba", "hidden_size": 64})",
               {"model_type \"mamba\": it has no attention"});
  expect_error(R"({"model_type": "llamma", "hidden_size": 64})",
               {"model_type \"llamma\"", "it knows llama, mistral"});
  expect_error(R"({"model_type": "unheard_of", "text_config": {"model_type": "mamba"}})",
               {"text_config.model_type \"mamba\": it has no attention"});
  expect_error(R"({"model_type": "unheard_of", "text_config": {}})",
               {"lacks the key \"text_config.model_type\""});
  expect_error(R"({"model_type": "llava", "text_config": null})",
               {"\"text_config\", which is not an object"});
  expect_error(R"({"model_type": "llava", "text_config": {"hidden_size": -1}})",
               {"\"text_config.hidden_size\": -1"});
  expect_error(R"({"model_type": "deepseek_v3", "hidden_size": 64})",
               {"\"deepseek_v3\": its q, k and v are latent attention"});
  expect_error(R"({"peft_type": "LORA", "r": 8})", {"is the configuration of an adapter"});
  expect_error("{\"model_type\": \"\\u001b[31mred\"}",
               {"\"\\u001b[31mred\", which this program does not know"});
  expect_error("{\"model_type\": ", {"is not JSON: parse error at line 1, column "});
  expect_error("", {"is empty"});
  expect_error("{\n\"model_type\": \"llama\",\n}",
               {"is not JSON: parse error at line 3, column 1", "trailing commas"});
  expect_error("{\"model_type\": \"llama\", \"hidden_size\": NaN}", {"is not JSON", "column 40", "NaN"});
  expect_error("{\"model_type\": \"llama\", \"model_type\": \"gpt2\"}", {"\"model_type\" twice"});
  expect_error("{\"model_type\": \"\xff\"}", {"is not JSON", "ill-formed UTF-8"});
  expect_error(std::string(1000, '['), {"nested deeper"});
  expect_error(R"({"model_type": "gpt2", "n_embd": 64, "hidden_size": 96, "n_layer": 2})",
               {"\"n_embd\": 64 and \"hidden_size\": 96, which should be the same"});
  expect_error(
      R"({"model_type": "falcon", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "multi_query": "yes"})",
      {"\"multi_query\": \"yes\", which is neither true nor false"});
  expect_error("[]", {"not an object"});
  expect_error(llama_with("hidden_size", -64), {"\"hidden_size\": -64"});
  expect_error(llama_with("hidden_size", 64.5), {"\"hidden_size\": 64.5"});
  expect_error(llama_with("hidden_size", "64"), {"\"hidden_size\": \"64\""});
  expect_error(llama_with("num_hidden_layers", 9000000), {"9000000 layers"});
  expect_error(llama_with("num_attention_heads", 18446744073709551615u),
               {"\"num_attention_heads\": 18446744073709551615"});
  expect_error(llama_with("num_key_value_heads", 3), {"4 attention heads", "3 key-value heads"});
  expect_error(R"({"model_type": "gpt2", "n_embd": 770, "n_layer": 12, "n_head": 12})",
               {"width 770", "12 attention heads"});

  expect_error(
      R"({"model_type": "llama", "hidden_size": 770, "num_hidden_layers": 2, "num_attention_heads": 12})",
      {"width 770", "12 attention heads"});

  const Result missing = run({"--config", (folder_ / "nowhere" / "config.json").string()});
  EXPECT_EQ(missing.code, 1);
  EXPECT_NE(missing.err.find("cannot be read: No such file"), std::string::npos) << missing.err;
  const Result folder = run({"--config", folder_.string()});
  EXPECT_EQ(folder.code, 1);
  EXPECT_NE(folder.err.find("is a folder; --config takes the path of the config.json in it"),
            std::string::npos)
      << folder.err;
}

// Splits a line of CSV whose fields may be quoted.
std::vector<std::string> csv_fields(const std::string& line) {
  std::vector<std::string> fields(1);
  bool quoted = false;
  for (std::size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '"') {
      if (quoted && i + 1 < line.size() && line[i + 1] == '"')
        fields.back() += line[i++];
      else
        quoted = !quoted;
    } else if (line[i] == ',' && !quoted) {
      fields.emplace_back();
    } else {
      fields.back() += line[i];
    }
  }
  EXPECT_FALSE(quoted) << line;
  return fields;
}

TEST_F(CountParameters, CsvAndJsonHoldTheSame) {
  // A name that CSV must quote.
  const std::string path = write("a \"tiny\", odd one/config.json", tiny_llama);
  const std::vector<std::string> arguments = {"--model", "LLaMA2-70B", "--config", path, "--targets", "q,v"};
  auto with = [&](const char* flag) {
    std::vector<std::string> all = arguments;
    all.push_back(flag);
    return run(all).out;
  };
  const json models = json::parse(with("--json"));
  std::istringstream lines(with("--csv"));
  std::string line;
  std::getline(lines, line);
  const std::vector<std::string> header = csv_fields(line);
  ASSERT_EQ(models.size(), 2u);
  EXPECT_EQ(models.at(1).at("model"), "a \"tiny\", odd one");
  for (const json& model : models)
    for (const json& row : model.at("rows")) {
      ASSERT_TRUE(std::getline(lines, line));
      const std::vector<std::string> fields = csv_fields(line);
      ASSERT_EQ(fields.size(), header.size()) << line;
      EXPECT_EQ(fields[0], model.at("model").get<std::string>());
      EXPECT_EQ(fields[1], "q v");
      for (std::size_t i = 2; i < fields.size(); ++i) {
        const json& value = row.at(header[i]);
        EXPECT_EQ(fields[i], value.is_string() ? value.get<std::string>() : value.dump()) << header[i];
      }
    }
  EXPECT_FALSE(std::getline(lines, line));
}

TEST_F(CountParameters, PlotsIntoAFolder) {
  if (std::system("command -v gnuplot >/dev/null") != 0) GTEST_SKIP() << "gnuplot is not installed";
  const std::string folder = (folder_ / "it's plots").string();
  const std::string path = write("llama2-7b/config.json", tiny_llama);  // a second model of that name
  const Result result = run({"--model", "LLaMA2-7B", "--config", path, "--plot", folder, "--csv"});
  ASSERT_EQ(result.code, 0) << result.err;
  for (const char* name : {"llama2-7b", "llama2-7b-2"}) {
    const std::filesystem::path base = std::filesystem::path(folder) / name;
    std::ifstream png(base.string() + ".png", std::ios::binary);
    std::string signature(8, ' ');
    png.read(signature.data(), 8);
    EXPECT_EQ(signature, "\x89PNG\r\n\x1a\n");
    std::ifstream svg(base.string() + ".svg");
    const std::string text((std::istreambuf_iterator<char>(svg)), std::istreambuf_iterator<char>());
    EXPECT_NE(text.find("</svg>"), std::string::npos);
    for (const char* scheme : {"lora", "vera", "tl5", "tl6"}) EXPECT_NE(text.find(scheme), std::string::npos);
  }
}

TEST_F(CountParameters, WithoutGnuplotThereIsANote) {
  const PathVariable path(folder_);
  const Result result = run({"--plot", folder_.string(), "--csv"});
  EXPECT_EQ(result.code, 0);
  EXPECT_NE(result.err.find("gnuplot is not installed"), std::string::npos) << result.err;
  std::ifstream csv(folder_ / "llama2-7b.csv");
  const std::string text((std::istreambuf_iterator<char>(csv)), std::istreambuf_iterator<char>());
  EXPECT_EQ(text, result.out);
}

TEST_F(CountParameters, AFailingGnuplotLeavesNoPicture) {
  const std::filesystem::path gnuplot = write("bin/gnuplot", "#!/bin/sh\nexit 3\n");
  std::filesystem::permissions(gnuplot, std::filesystem::perms::owner_all);
  write("llama2-7b.png", "half a picture");
  const PathVariable path(gnuplot.parent_path());
  const Result result = run({"--plot", folder_.string()});
  EXPECT_EQ(result.code, 1);
  EXPECT_NE(result.err.find("gnuplot failed on"), std::string::npos) << result.err;
  EXPECT_FALSE(std::filesystem::exists(folder_ / "llama2-7b.png"));
}

TEST_F(CountParameters, AFolderThatCannotBeMadeIsAnError) {
  const std::string file = write("file", "");
  const Result result = run({"--plot", file + "/plots"});
  EXPECT_EQ(result.code, 1);
  EXPECT_EQ(result.out, "");
  EXPECT_NE(result.err.find("--plot: \"" + file + "/plots\" cannot be made"), std::string::npos)
      << result.err;
}

}  // namespace
