// The counts that the program prints, and how it refuses.
#include <nlohmann/json.hpp>

#include "test_program.hpp"

namespace {

using count_parameters::test::CountParameters;
using count_parameters::test::Result;
using count_parameters::test::run;
using nlohmann::json;

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

TEST(Counts, ABudgetChoosesSchemeAndRank) {
  const auto chosen = [](const std::string& budget) {
    return only_row({"--model", "SmolLM2-135M", "--targets", "q,k,v", "--budget", budget});
  };
  EXPECT_EQ(chosen("645120").at("scheme"), "lora");
  EXPECT_EQ(chosen("645120").at("rank"), 8);
  EXPECT_EQ(chosen("80639").at("scheme"), "share_lora_a");
  EXPECT_EQ(chosen("80639").at("trained"), 61056);
  // Each model has its own.
  const json both =
      json::parse(run({"--model", "SmolLM2-135M,LLaMA2-7B", "--budget", "524288", "--json"}).out);
  EXPECT_EQ(both.at(0).at("rows").at(0).at("rank"), 11);
  EXPECT_EQ(both.at(1).at("rows").at(0).at("rank"), 1);
}

// The unit of docs/choosing.md, whatever the rank that was chosen.
TEST(Counts, ABudgetIsComparedWithLoraOfRank8) {
  const std::vector<std::string> arguments = {"--model", "SmolLM2-135M", "--targets", "q,k,v"};
  const auto with = [&](const std::vector<std::string>& more) {
    std::vector<std::string> all = arguments;
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  EXPECT_NEAR(only_row(with({"--budget", "80639"})).at("percent_of_lora_r8"), 100.0 * 61056 / 645120, 1e-9);
  const std::string text = run(with({"--budget", "80639"})).out;
  EXPECT_NE(text.find("% of lora r=8"), text.npos) << text;
  EXPECT_EQ(table_line(text, "share_lora_a", 2)[5], "9.464");
  EXPECT_EQ(run(with({"--ranks", "2"})).out.find("% of lora r=8"), text.npos);
}

/// What is said of other modules with that budget; empty where nothing is.
std::string advice(const std::string& model, const std::string& targets, const std::string& budget) {
  const Result result = run({"--model", model, "--targets", targets, "--budget", budget});
  EXPECT_EQ(result.code, 0) << result.err;
  const std::size_t end = result.out.find(" (docs/choosing.md): --targets ");
  if (end == std::string::npos) return "";
  const std::size_t begin = result.out.rfind('\n', end) + 1;  // 0 where there is no line before it
  return result.out.substr(begin, end - begin);
}

// Rank r has 25152 r there; the picked ones 30528, 61056, 80640 and 645120.
TEST(AdviceOfOtherModules, NamesWhatVAndDownAfford) {
  for (const char* targets : {"q,k,v", "v,q,k", "qkv"})
    EXPECT_EQ(
        advice("SmolLM2-135M", targets, "45000"),
        "SmolLM2-135M: share_lora_a of rank 1 on v and down has 25152 trainable parameters; in the study "
        "it kept more than lora on q, k and v")
        << targets;
  for (const auto& [budget, names] : {std::pair("80639", "rank 2 on v and down has 50304 "),
                                      {"80640", "rank 3 on v and down has 75456 "},
                                      {"700000", "rank 3 on v and down has 75456 "}})
    EXPECT_NE(advice("SmolLM2-135M", "q,k,v", budget).find(names), std::string::npos) << budget;
}

TEST(AdviceOfOtherModules, ComesFirstInPlaceOfTl5) {
  const auto out = [](const char* budget) {
    return run({"--model", "SmolLM2-135M", "--targets", "q,k,v", "--budget", budget}).out;
  };
  const std::string tl5 = out("15000"), other = out("45000");
  EXPECT_TRUE(tl5.starts_with(
      "SmolLM2-135M: share_lora_a of rank 2 on v alone has 12672 trainable parameters; in the "
      "study v alone kept more than tl5 of that size on translation, where tl5 ran "
      "(docs/choosing.md): --targets v\n\nSmolLM2-135M: 30 layers"))
      << tl5;
  EXPECT_EQ(tl5.find("on v alone"), tl5.rfind("on v alone")) << tl5;
  EXPECT_TRUE(other.starts_with("SmolLM2-135M: 30 layers")) << other;
}

// With 13000, tl5 of rank 8 has 12288, and share_lora_a of rank 2 on v 12672.
TEST(AdviceOfOtherModules, HasNoMoreParametersThanWhatItReplaces) {
  EXPECT_NE(advice("SmolLM2-135M", "q,k,v", "13000").find("share_lora_a of rank 1 on v alone has 6336 "),
            std::string::npos);
  // tl5 of rank 4 has 6144, share_lora_a of rank 1 on v 6336.
  EXPECT_EQ(advice("SmolLM2-135M", "q,k,v", "6400"), "");
}

TEST_F(CountParameters, AdvisesWhatTheStudyTried) {
  // All seven, others, and v itself.
  for (const char* targets : {"q,k,v,o,gate,up,down", "q,v", "v,o", "q,k,v,o", "qkv,o", "v", "q,k"})
    for (const char* budget : {"15000", "45000"})
      EXPECT_EQ(advice("SmolLM2-135M", targets, budget), "") << targets << " " << budget;
  // v as wide as q.
  EXPECT_EQ(advice("LLaMA2-7B", "q,k,v", "300000"), "");
  // One key-value head of 64 makes v small: share_lora_a there has rank 2, or one above the study's.
  const std::string narrow = write("narrow/config.json", R"({"model_type": "llama", "hidden_size": 4096,
    "num_hidden_layers": 32, "num_attention_heads": 64, "num_key_value_heads": 1, "intermediate_size": 160})");
  const auto advice_for_narrow = [&](const char* budget) {
    const Result result = run({"--config", narrow, "--targets", "q,k,v", "--budget", budget});
    EXPECT_NE(result.out.find("\ntl5 "), result.out.npos) << result.out << result.err;
    return result.out.substr(0, result.out.find(" on v alone"));
  };
  EXPECT_EQ(advice_for_narrow("26000"), "narrow: share_lora_a of rank 4");
  EXPECT_EQ(advice_for_narrow("34000").find("share_lora_a"), std::string::npos);
  // q, k and v that are one module cannot be adapted apart.
  const std::string fused = write("fused/config.json", R"({"model_type": "phi3", "hidden_size": 64,
    "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 160})");
  const Result result = run({"--config", fused, "--targets", "qkv", "--budget", "400"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.out.find("on v alone"), result.out.npos) << result.out;
}

TEST(Usage, ErrorsNameTheOption) {
  const auto expect_usage = [](const std::vector<std::string>& arguments, const std::string& phrase) {
    const Result result = run(arguments);
    EXPECT_EQ(result.code, 2) << phrase;
    EXPECT_NE(result.err.find(phrase), std::string::npos) << phrase << "\nis not in\n" << result.err;
    EXPECT_EQ(result.out, "");
  };
  expect_usage({"--model", "LLaMA9"}, "--model: \"LLaMA9\" is not one of LLaMA2-7B");
  expect_usage({"--schemes", "lore"}, "--schemes: \"lore\" is not one of lora");
  for (const char* scheme :
       {"grouped:0", "grouped:", "grouped:4x", "grouped:-2", "grouped", "grouped:99999999999999999999999"})
    expect_usage({"--schemes", scheme}, scheme);
  for (const char* rank : {"0", "-1", "x", "nan", "2.5", "0x8", "2000000000", "99999999999999999999999"})
    expect_usage({"--ranks", "8," + std::string(rank)},
                 "--ranks: \"" + std::string(rank) + "\" is not a whole number from 1 to 1000000");
  expect_usage({"--ranks", std::string(300, '9')}, "9...\" is not a whole number");
  expect_usage({"--ranks", "8,,16"}, "--ranks: something in the list is empty");
  expect_usage({"--ranks", "8,08"}, "--ranks: \"8\" is given twice");
  expect_usage({"--schemes", "lora,tl6,lora"}, "--schemes: \"lora\" is given twice");
  expect_usage({"--model", "GPT-2,GPT-2"}, "--model: \"GPT-2\" is given twice");
  expect_usage({"--config", "a", "--config", "a"}, "--config: the same file is given twice");
  expect_usage({"--config", ""}, "--config: the path is empty");
  expect_usage({"--plot", ""}, "--plot: the path is empty");
  expect_usage({"--targets", "qkw"}, "--targets: \"qkw\" is not one of qkv");
  expect_usage({"--targets", "qkv,v"}, "already holds");
  expect_usage({"--targets", "q,q"}, "twice");
  expect_usage({"--model", "GPT-2", "--targets", "gate"}, "has no gate");
  expect_usage({"--model", "GPT-2B-001", "--targets", "up"}, "not known");
  expect_usage(
      {"--budget", "1000"},
      "--budget: LLaMA2-7B: 1000 trainable parameters are fewer than tl5 of rank 1 has, 16384; allow "
      "more, or adapt fewer kinds of modules");
  expect_usage({"--budget", "1000", "--ranks", "8"}, "--ranks excludes --budget");
  expect_usage({"--budget", "1000", "--schemes", "tl6"}, "--schemes excludes --budget");
  expect_usage({"--budget", "-1"}, "--budget");
  expect_usage({"--csv", "--json"}, "--csv");
  expect_usage({"--nonsense"}, "--nonsense");
}

TEST_F(CountParameters, OverflowIsAnErrorAndNoCount) {
  const std::string config = write("config.json", R"({"model_type": "llama", "hidden_size": 10000000,
    "num_hidden_layers": 10000, "num_attention_heads": 10000000, "head_dim": 10000000})");
  const Result result = run({"--config", config, "--ranks", "1000000"});
  EXPECT_EQ(result.code, 1);
  EXPECT_EQ(result.out, "");
  EXPECT_NE(result.err.find("overflow"), std::string::npos) << result.err;
}

TEST_F(CountParameters, AResultThatCannotBeWrittenIsAFailure) {
  for (const char* argument : {"--csv", "--json", "--list", "--help"}) {
    const char* const argv[] = {"count_parameters", argument};
    std::ostringstream out, err;
    out.setstate(std::ios::badbit);
    EXPECT_EQ(count_parameters::run(2, argv, out, err), 1) << argument;
    EXPECT_NE(err.str().find("cannot write to standard output"), std::string::npos) << err.str();
  }
}

TEST(Usage, HelpAndList) {
  const Result help = run({"--help"});
  EXPECT_EQ(help.code, 0);
  EXPECT_NE(help.out.find("Examples:"), std::string::npos);
  const Result list = run({"--list"});
  EXPECT_EQ(list.code, 0);
  EXPECT_NE(list.out.find("SmolLM2-135M"), std::string::npos);
}

}  // namespace
