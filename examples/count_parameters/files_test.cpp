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
  json lacking = json::parse(tiny_llama);
  lacking.erase("intermediate_size");
  expect_error(lacking.dump(), {"lacks the key \"intermediate_size\"", "\"llama\""});
  // Where the default differs from family to family, a missing key is not guessed.
  expect_error(
      R"({"model_type": "mistral", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 160})",
      {"lacks the key \"num_key_value_heads\""});
  expect_error(R"({"hidden_size": 64})", {"lacks the key \"model_type\""});
  expect_error(R"({"model_type": "mamba", "hidden_size": 64})",
               {"model_type \"mamba\"", "it knows llama, mistral"});
  expect_error(R"({"model_type": "llava", "text_config": {}})", {"text_config"});
  expect_error("{\"model_type\": ", {"is not JSON"});
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

  const Result missing = run({"--config", (folder_ / "nowhere" / "config.json").string()});
  EXPECT_EQ(missing.code, 1);
  EXPECT_NE(missing.err.find("cannot read"), std::string::npos) << missing.err;
  EXPECT_EQ(run({"--config", folder_.string()}).code, 1);
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
  EXPECT_NE(result.err.find(file), std::string::npos) << result.err;
}

}  // namespace
