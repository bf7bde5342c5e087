// Runs the finished program, as a user does.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include <tiedlora/adapter/merge.hpp>
#include <tiedlora/io/gguf.hpp>
#include <tiedlora/io/native.hpp>
#include <tiedlora/io/peft/load.hpp>

#include <finetune/data/files.hpp>
#include "run_program.hpp"
#include "settings.hpp"
#include "test_folder.hpp"
#include "tiny_run.hpp"

namespace finetune {
namespace {

TEST(Finetune, SmokeRunWritesEverything) {
  const TestFolder folder;
  const auto [status, output] = run(folder, tiny(folder, {}));
  ASSERT_EQ(status, 0) << output;
  const auto out = folder.path() / "out";
  for (const char* name : {"metrics.csv", "summary.csv", "summary.json", "samples.txt", "result.txt",
                           "text_splits.csv", "loss.gp", "test_loss_against_parameters.gp",
                           "adapters/tl6-r4-seed1.safetensors", "adapters/full-seed1/model.safetensors"})
    EXPECT_TRUE(std::filesystem::exists(out / name)) << name;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder.path()))
    EXPECT_NE(entry.path().extension(), ".partial") << entry.path();
  const auto json = nlohmann::json::parse(read_file(out / "summary.json"));
  EXPECT_EQ(json["runs"].size(), contenders(tiny_settings()).size());
  for (const auto& one : json["runs"]) {
    EXPECT_EQ(one["status"], "done");
    EXPECT_LT(one["test_bits_per_byte"].get<double>(), 9);
  }
  EXPECT_NE(output.find("LoRA r=4 on q,k,v,o,gate,up,down, untied"), std::string::npos) << output;
  EXPECT_NE(output.find("no evidence"), std::string::npos);
}

TEST(Finetune, IsRepeatableAndReadsTheBaseFromItsCache) {
  const TestFolder folder;
  ASSERT_EQ(run(folder, tiny(folder, {"--schemes", "tl6"})).status, 0);
  const std::string first = read_file(folder.path() / "out/adapters/tl6-r4-seed1.safetensors");
  const auto [status, output] = run(folder, tiny(folder, {"--schemes", "tl6"}));
  EXPECT_EQ(status, 0);
  EXPECT_NE(output.find("read from"), std::string::npos) << output;
  EXPECT_EQ(read_file(folder.path() / "out/adapters/tl6-r4-seed1.safetensors"), first);
}

TEST(Finetune, RunsAStudyAndAppendsItsRows) {
  const TestFolder folder;
  const auto [status, output] = run(folder, tiny(folder, {"--schemes", "lora,tl6", "--ranks", "2,4",
                                                          "--seeds", "1,2", "--targets", "q_proj,v_proj"}));
  ASSERT_EQ(status, 0) << output;
  const std::string summary = read_file(folder.path() / "out/summary.csv");
  EXPECT_EQ(std::count(summary.begin(), summary.end(), '\n'), 1 + 8);
}

TEST(Finetune, SweepsAndResumes) {
  const TestFolder folder;
  const auto arguments = tiny(folder, {"--sweep", "--schemes", "tl5", "--patience", "1"});
  const Outcome first = run(folder, arguments);
  EXPECT_TRUE(first.status == 0 || first.status == 1)
      << first.output;  // four steps need not have an interior optimum
  const std::string runs = read_file(folder.path() / "out/sweep.csv");
  EXPECT_GT(std::count(runs.begin(), runs.end(), '\n'), 3);
  EXPECT_EQ(runs.find(",0,0\n"), runs.npos)
      << runs;  // no steps in no seconds: patience, with nothing to wait for
  const Outcome second = run(folder, arguments);
  EXPECT_NE(first.output.find("seed 1  rate"), std::string::npos) << first.output;
  EXPECT_EQ(second.status, first.status);
  EXPECT_EQ(read_file(folder.path() / "out/sweep.csv"), runs);
  EXPECT_EQ(second.output.find("seed 1  rate"), std::string::npos) << second.output;  // nothing was run
  EXPECT_TRUE(std::filesystem::exists(folder.path() / "out/best_rates.csv"));
}

TEST(Finetune, InterruptKeepsWhatWasTrained) {
  const TestFolder folder;
  const auto output = folder.path() / "output.txt", summary = folder.path() / "out/summary.json";
  // Wait until fine-tuning is on its way, then for some steps: on a busy machine longer, until there is one.
  for (int pause = 500; pause <= 32000 && !std::filesystem::exists(summary); pause *= 2) {
    Program program(tiny(folder, {"--schemes", "lora,tl6", "--steps", "1000000"}), output);
    const auto has_begun = [&] { return read_file(output).find("== Fine-tuning") != std::string::npos; };
    for (int i = 0; i < 600 && !has_begun(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(100));
    std::this_thread::sleep_for(std::chrono::milliseconds(pause));
    program.interrupt();
    ASSERT_EQ(program.wait(), 130) << read_file(output);
  }
  const auto json = nlohmann::json::parse(read_file(summary));
  ASSERT_EQ(json["runs"].size(), 1u);
  EXPECT_EQ(json["runs"][0]["status"], "interrupted");
  EXPECT_GT(json["runs"][0]["steps"], 0);
  EXPECT_TRUE(std::filesystem::exists(folder.path() / "out/adapters/lora-r4-seed1.safetensors"));
  EXPECT_NE(read_file(output).find("== Result"), std::string::npos);
}

// What two runs trained and measured must be the same, bit by bit.
void expect_same_results(const std::filesystem::path& a, const std::filesystem::path& b) {
  int files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(a / "adapters")) {
    if (!entry.is_regular_file()) continue;
    const auto relative = std::filesystem::relative(entry.path(), a);
    EXPECT_TRUE(read_file(entry.path()) == read_file(b / relative)) << relative;
    ++files;
  }
  EXPECT_EQ(files, 2 + 2);  // two adapters, and config and weights of the fully fine-tuned model
  const auto results = [](const std::filesystem::path& out) {
    auto json = nlohmann::json::parse(read_file(out / "summary.json"));
    for (auto& run : json["runs"]) run.erase("seconds_per_step");
    return json;
  };
  EXPECT_EQ(results(a), results(b));
  // All but the column with seconds, the last but one.
  const auto losses = [](const std::filesystem::path& out) {
    std::vector<CsvTable::Row> rows;
    const std::string text = read_file(out / "metrics.csv");
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = text.find('\n', begin);
      CsvTable::Row row;
      for (std::size_t at = begin; at < end;) {
        const std::size_t comma = std::min(text.find(',', at), end);
        row.push_back(text.substr(at, comma - at));
        at = comma + 1;
      }
      rows.push_back(std::move(row));
      begin = end + 1;
    }
    const auto seconds =
        std::find(rows.front().begin(), rows.front().end(), "seconds") - rows.front().begin();
    EXPECT_LT(seconds, static_cast<std::ptrdiff_t>(rows.front().size()));
    for (CsvTable::Row& row : rows) row.erase(row.begin() + seconds);
    return rows;
  };
  EXPECT_EQ(losses(a), losses(b));
}

TEST(Finetune, AKilledRunGoesOnBitByBit) {
  const TestFolder folder;
  const auto begin = [&](const std::string& out) {
    auto arguments = tiny(folder, {"--schemes", "lora,tl6,full", "--base-steps", "200", "--steps", "100",
                                   "--patience", "1000"});
    *(std::find(arguments.begin(), arguments.end(), "--out") + 1) = folder.path() / out;
    *(std::find(arguments.begin(), arguments.end(), "--cache") + 1) = folder.path() / (out + "-cache");
    return arguments;
  };
  ASSERT_EQ(run(folder, begin("whole")).status, 0);

  // Killed in the pre-training, then in each of the three runs.
  const auto output = folder.path() / "output.txt";
  int kills = 0;
  for (const char* name : {"base", "lora-r4", "tl6-r4", "full"}) {
    std::vector<std::string> arguments = begin("part");
    if (kills > 0) arguments.push_back("--resume");
    Program program(arguments, output);
    const auto has_checkpoint = [&] {
      const std::string run = name == std::string_view("base") ? name : std::string(name) + "-seed1";
      return std::filesystem::exists(folder.path() / "part/checkpoints" / (run + ".safetensors"));
    };
    for (int i = 0; i < 60'000 && !has_checkpoint(); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    program.kill();
    EXPECT_EQ(program.wait(), -SIGKILL) << name << ": " << read_file(output);
    ++kills;
  }
  std::vector<std::string> arguments = begin("part");
  arguments.push_back("--resume");
  const Outcome resumed = run(folder, arguments);
  ASSERT_EQ(resumed.status, 0) << resumed.output;
  EXPECT_NE(resumed.output.find("lora r=4          continues after 100 of 100 steps"), std::string::npos)
      << resumed.output;
  EXPECT_NE(resumed.output.find("full              continues after"), std::string::npos) << resumed.output;
  expect_same_results(folder.path() / "whole", folder.path() / "part");
}

TEST(Finetune, ExportsToPeftWhatItTrained) {
  const TestFolder folder;
  const auto [status, output] =
      run(folder, tiny(folder, {"--schemes", "tl6", "--export", "native,peft,gguf"}));
  ASSERT_EQ(status, 0) << output;
  const auto out = folder.path() / "out";
  const auto native = tiedlora::load_adapter<float>(out / "adapters/tl6-r4-seed1.safetensors");
  const auto peft = tiedlora::load_peft<float>(out / "adapters/tl6-r4-seed1", native.layout().modules());
  const tiedlora::Adapter<float> expected = tiedlora::to_lora(native);
  for (tiedlora::Index m = 0; m < native.layout().size(); ++m) {
    EXPECT_EQ(peft.adapter.A(m), expected.A(m));
    EXPECT_TRUE((peft.adapter.B(m) * static_cast<float>(peft.adapter.layout().scaling(m)))
                    .isApprox(expected.B(m) * static_cast<float>(expected.layout().scaling(m))));
  }
  EXPECT_TRUE(std::filesystem::exists(out / "adapters/tl6-r4-seed1.gguf"));
  const auto model = tiedlora::gguf::open(out / "base.gguf");
  const auto base = tiedlora::safetensors::open(out / "base/model.safetensors");
  EXPECT_EQ(model.tensors().size(), base.tensors().size());
  EXPECT_EQ(model.find_value("tokenizer.ggml.tokens")->texts()->size(), 256);
  // Within a head of 2n rows the second in GGUF is transformers' row n.
  const auto q = model.find_tensor("blk.0.attn_q.weight")->bytes;
  const auto weight = base.find("model.layers.0.self_attn.q_proj.weight");
  const std::size_t row = weight->bytes.size() / static_cast<std::size_t>(weight->shape[0]);
  const std::size_t half = static_cast<std::size_t>(weight->shape[0]) / 2 / 2;  // of two heads
  EXPECT_TRUE(std::ranges::equal(q.subspan(row, row), weight->bytes.subspan(half * row, row)));
  EXPECT_TRUE(tiedlora::safetensors::open(out / "base/model.safetensors").find("model.norm.weight"));
  EXPECT_EQ(nlohmann::json::parse(read_file(out / "base/config.json"))["model_type"], "llama");
}

TEST(Finetune, RefusesToGoOnWithOtherSettings) {
  const TestFolder folder;
  ASSERT_EQ(run(folder, tiny(folder, {"--schemes", "tl6"})).status, 0);
  const auto [status, output] =
      run(folder, tiny(folder, {"--schemes", "tl6", "--resume", "--learning-rate", "tl6=0.5"}));
  EXPECT_EQ(status, 1) << output;
  EXPECT_NE(output.find("tl6-r4-seed1.safetensors belongs to a run with different settings"),
            std::string::npos)
      << output;
}

TEST(Finetune, ExplainsItself) {
  const TestFolder folder;
  const auto [status, output] = run(folder, {"--help"});
  EXPECT_EQ(status, 0);
  EXPECT_NE(output.find("Examples:"), std::string::npos);
}

}  // namespace
}  // namespace finetune
