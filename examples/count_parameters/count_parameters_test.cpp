// Runs the program as its main() does and reads what it prints.
#include <gtest/gtest.h>

#include <cstdlib>     // getenv, setenv, system
#include <filesystem>  // path, remove_all
#include <fstream>     // ifstream, ofstream
#include <sstream>     // ostringstream, istringstream
#include <string>      // string
#include <vector>      // vector

#include <nlohmann/json.hpp>

#include "program.hpp"

namespace {

using nlohmann::json;

struct Result {
  int code;
  std::string out, err;
};

Result run(std::vector<std::string> arguments) {
  std::vector<const char*> argv = {"count_parameters"};
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  std::ostringstream out, err;
  const int code = count_parameters::run(static_cast<int>(argv.size()), argv.data(), out, err);
  return {code, out.str(), err.str()};
}

/// The cells of the table's line that begins with that scheme and rank.
std::vector<std::string> table_line(const std::string& text, const std::string& scheme, long rank) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::vector<std::string> cells;
    for (std::string word; words >> word;) cells.push_back(word);
    if (cells.size() > 2 && cells[0] == scheme && cells[1] == std::to_string(rank)) return cells;
  }
  ADD_FAILURE() << "no line for " << scheme << " " << rank << " in\n" << text;
  return std::vector<std::string>(4);
}

json only_row(std::vector<std::string> arguments) {
  arguments.push_back("--json");
  const Result result = run(arguments);
  EXPECT_EQ(result.code, 0) << result.err;
  const json models = json::parse(result.out);
  EXPECT_EQ(models.size(), 1u);
  EXPECT_EQ(models.at(0).at("rows").size(), 1u);
  return models.at(0).at("rows").at(0);
}

long trained(const std::string& model, const std::string& targets, const std::string& scheme, long rank) {
  return only_row(
             {"--model", model, "--targets", targets, "--schemes", scheme, "--ranks", std::to_string(rank)})
      .at("trained");
}

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

/// A folder of the test's own, removed at its end.
class CountParameters : public testing::Test {
 protected:
  void SetUp() override {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = std::filesystem::path(testing::TempDir()) / (std::string("count_parameters_") + test->name());
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string write(const std::string& name, const std::string& text) const {
    const std::filesystem::path path = folder_ / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
    return path.string();
  }
  Result run_config(const std::string& text) const {
    return run({"--config", write("config.json", text), "--json"});
  }

  std::filesystem::path folder_;
};

const char* const tiny_llama = R"({"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 3,
  "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 160, "head_dim": null})";

// The Tied-LoRA paper's tables (arXiv 2311.09578), by its closed forms: LoRA 4Ldr, VeRA L(r + 3d), TL5 4dr,
// TL6 4dr + L(r + 3d).
struct PaperLine {
  long rank;
  const char *lora, *vera, *tl5, *tl6;
};

TEST(PaperTables, Llama2With7B) {
  const Result result = run({});
  EXPECT_EQ(result.code, 0);
  const char* const percents[][3] = {{"37.506", "3.125", "40.631"},
                                     {"9.381", "3.125", "12.506"},
                                     {"2.350", "3.125", "5.475"},
                                     {"0.592", "3.125", "3.717"}};
  const PaperLine lines[] = {{2, "1,048,576", "393,280", "32,768", "426,048"},
                             {8, "4,194,304", "393,472", "131,072", "524,544"},
                             {32, "16,777,216", "394,240", "524,288", "918,528"},
                             {128, "67,108,864", "397,312", "2,097,152", "2,494,464"}};
  for (std::size_t i = 0; i < 4; ++i) {
    const PaperLine& line = lines[i];
    EXPECT_EQ(table_line(result.out, "lora", line.rank)[2], line.lora);
    EXPECT_EQ(table_line(result.out, "vera", line.rank)[2], line.vera);
    EXPECT_EQ(table_line(result.out, "tl5", line.rank)[2], line.tl5);
    EXPECT_EQ(table_line(result.out, "tl6", line.rank)[2], line.tl6);
    EXPECT_EQ(table_line(result.out, "lora", line.rank)[3], "100.000");
    EXPECT_EQ(table_line(result.out, "vera", line.rank)[3], percents[i][0]);
    EXPECT_EQ(table_line(result.out, "tl5", line.rank)[3], percents[i][1]);
    EXPECT_EQ(table_line(result.out, "tl6", line.rank)[3], percents[i][2]);
  }
}

TEST(PaperTables, Gpt2BIsMarkedAsInferred) {
  const Result result = run({"--model", "gpt-2b-001"});
  EXPECT_EQ(result.code, 0);
  EXPECT_NE(result.out.find("inferred"), std::string::npos);
  const PaperLine lines[] = {{2, "393,216", "147,504", "16,384", "163,888"},
                             {8, "1,572,864", "147,648", "65,536", "213,184"},
                             {32, "6,291,456", "148,224", "262,144", "410,368"},
                             {128, "25,165,824", "150,528", "1,048,576", "1,199,104"}};
  for (const PaperLine& line : lines) {
    EXPECT_EQ(table_line(result.out, "lora", line.rank)[2], line.lora);
    EXPECT_EQ(table_line(result.out, "vera", line.rank)[2], line.vera);
    EXPECT_EQ(table_line(result.out, "tl5", line.rank)[2], line.tl5);
    EXPECT_EQ(table_line(result.out, "tl6", line.rank)[2], line.tl6);
  }
}

// Counts that other papers print for the same methods.
TEST(PaperTables, OtherPapers) {
  EXPECT_EQ(trained("LLaMA2-7B", "qkv", "tl6", 256), 4595712);    // PRoLoRA's 4.60M
  EXPECT_EQ(trained("LLaMA2-7B", "qkv", "tl6", 280), 4989696);    // PRoLoRA's 4.99M
  EXPECT_EQ(trained("GPT-3-175B", "q,v", "lora", 16), 75497472);  // VeRA's 75.5M
  EXPECT_EQ(trained("RoBERTa-base", "q,v", "lora", 8), 294912);   // 0.295M
}

TEST(Counts, FusedAndSeparateAttentionAgreeWhereTied) {
  for (const char* scheme : {"tl5", "tl6", "lora_fused"})
    EXPECT_EQ(trained("LLaMA2-7B", "q,k,v", scheme, 8), trained("LLaMA2-7B", "qkv", scheme, 8)) << scheme;
  EXPECT_EQ(trained("LLaMA2-7B", "q,k,v", "lora", 8), 32 * 6 * 4096 * 8);  // 6dr a layer: A thrice
  EXPECT_EQ(trained("LLaMA2-7B", "qkv", "lora", 8), 32 * 4 * 4096 * 8);    // 4dr
}

TEST(Counts, PercentagesNameTheirLora) {
  const json row = only_row({"--targets", "q,k,v", "--schemes", "tl6", "--ranks", "8"});
  EXPECT_DOUBLE_EQ(row.at("percent_of_lora"), 100.0 * 524544 / (32 * 6 * 4096 * 8));
  EXPECT_DOUBLE_EQ(row.at("percent_of_lora_fused"), 100.0 * 524544 / (32 * 4 * 4096 * 8));
  EXPECT_NE(run({"--targets", "q,k,v"}).out.find("% of lora_fused"), std::string::npos);
  // With qkv fused the two are one, and one column will do.
  const std::string fused = run({}).out;
  EXPECT_EQ(fused.substr(0, fused.find("\n\n% of lora ")).find("% of lora_fused"), std::string::npos);
}

// k and v are narrower than q: 8 heads of 128 beside 32 of Llama-3-8B.
TEST(Counts, GroupedQueryAttention) {
  const long d = 4096, k = 1024, f = 14336, layers = 32, r = 8;
  EXPECT_EQ(trained("Llama-3-8B", "k", "lora", r), layers * r * (d + k));
  EXPECT_EQ(trained("Llama-3-8B", "qkv", "lora", r), layers * r * (d + d + 2 * k));
  EXPECT_EQ(trained("Llama-3-8B", "q,k,v,o,gate,up,down", "lora", r),
            layers * r * (2 * d + 2 * (d + k) + 2 * d + 3 * (d + f)));
}

TEST(Counts, GroupsLieBetweenOneLayerAndAll) {
  const long d = 4096, r = 8, layers = 32, uv = layers * (r + 3 * d);
  EXPECT_EQ(trained("LLaMA2-7B", "qkv", "grouped:4", r), layers / 4 * 4 * d * r + uv);
  EXPECT_EQ(trained("LLaMA2-7B", "qkv", "grouped:32", r), trained("LLaMA2-7B", "qkv", "tl6", r));
}

TEST(Counts, FrozenNumbers) {
  EXPECT_EQ(only_row({"--schemes", "vera", "--ranks", "8"}).at("frozen"), 4 * 4096 * 8);
  EXPECT_EQ(only_row({"--schemes", "lora_fa", "--ranks", "8"}).at("frozen"), 32 * 4096 * 8);
  EXPECT_EQ(only_row({"--schemes", "tl6", "--ranks", "8"}).at("frozen"), 0);
}

TEST(Counts, Bytes) {
  const json tl6 = only_row({"--schemes", "tl6", "--ranks", "8"});
  EXPECT_EQ(tl6.at("file_bytes_f32"), 524544 * 4);
  EXPECT_EQ(tl6.at("file_bytes_bf16"), 524544 * 2);
  EXPECT_EQ(tl6.at("tenant_bytes_f32"), 393472 * 4);  // u and v: as many as VeRA's
  EXPECT_EQ(tl6.at("tenant_bytes_bf16"), 393472 * 2);
  EXPECT_EQ(tl6.at("training_bytes"), 524544 * 16);  // parameter, gradient, two moments
  const json lora = only_row({"--schemes", "lora", "--ranks", "8"});
  EXPECT_EQ(lora.at("tenant_bytes_f32"), lora.at("file_bytes_f32"));
}

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

TEST(Usage, ErrorsNameTheOption) {
  const auto expect_usage = [](const std::vector<std::string>& arguments, const std::string& phrase) {
    const Result result = run(arguments);
    EXPECT_EQ(result.code, 2) << phrase;
    EXPECT_NE(result.err.find(phrase), std::string::npos) << phrase << "\nis not in\n" << result.err;
    EXPECT_EQ(result.out, "");
  };
  expect_usage({"--model", "LLaMA9"}, "--model: \"LLaMA9\" is none of LLaMA2-7B");
  expect_usage({"--schemes", "lore"}, "--schemes: \"lore\" is none of lora");
  for (const char* scheme : {"grouped:0", "grouped:", "grouped:4x", "grouped:-2", "grouped"})
    expect_usage({"--schemes", scheme}, scheme);
  expect_usage({"--ranks", "0"}, "--ranks");
  expect_usage({"--ranks", "8,x"}, "--ranks");
  expect_usage({"--targets", "qkw"}, "--targets: \"qkw\" is none of qkv");
  expect_usage({"--targets", "qkv,v"}, "already holds");
  expect_usage({"--targets", "q,q"}, "twice");
  expect_usage({"--model", "GPT-2", "--targets", "gate"}, "has no gate");
  expect_usage({"--model", "GPT-2B-001", "--targets", "up"}, "not known");
  expect_usage({"--csv", "--json"}, "--csv");
  expect_usage({"--nonsense"}, "--nonsense");
}

TEST(Usage, OverflowIsAnErrorAndNoCount) {
  const Result result = run({"--ranks", "9000000000000000"});
  EXPECT_EQ(result.code, 1);
  EXPECT_EQ(result.out, "");
  EXPECT_NE(result.err.find("overflow"), std::string::npos) << result.err;
}

TEST(Usage, HelpAndList) {
  const Result help = run({"--help"});
  EXPECT_EQ(help.code, 0);
  EXPECT_NE(help.out.find("Examples:"), std::string::npos);
  const Result list = run({"--list"});
  EXPECT_EQ(list.code, 0);
  EXPECT_NE(list.out.find("SmolLM2-135M"), std::string::npos);
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
      EXPECT_EQ(fields[0], model.at("model"));
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
