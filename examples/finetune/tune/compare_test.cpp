// finetune compare, run as a user does.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>
#include <tiedlora/io/native.hpp>

#include "compare.hpp"
#include "tune_fixture.hpp"

namespace finetune {
namespace {

TEST_F(TuneTest, ComparesCandidatesAndGoesOn) {
  const Arguments arguments = {"--data",         path("chat.jsonl"),
                               "--out",          path("cmp"),
                               "--window",       "64",
                               "--batch-tokens", "256",
                               "--threads",      "1",
                               "--minutes",      "0.05",
                               "--held-out",     "0.2",
                               "--candidates",   "lora:1,tl6:4,tl5:2@v_proj+q_proj"};
  const Outcome outcome = command("compare", arguments);
  ASSERT_EQ(outcome.status, 0) << outcome.output;
  EXPECT_NE(outcome.output.find("Take "), std::string::npos) << outcome.output;
  for (const char* name : {"compare.csv", "result.txt", "compare.gp", "plan.json"})
    EXPECT_TRUE(std::filesystem::exists(folder_.path() / "cmp" / name)) << name;
  const std::string table = read_file(path("cmp/compare.csv"));
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 4);

  // What was trained is not trained again: the checkpoints are at their ends.
  Arguments resumed = arguments;
  resumed.push_back("--resume");
  EXPECT_EQ(command("compare", resumed).status, 0);
  Arguments changed = resumed;
  changed.insert(changed.end(), {"--dropout", "0.1"});
  expect_error(command("compare", changed), 1,
               "belongs to a comparison with different options or data (dropout: 0 there, 0.1 here); use");
  EXPECT_EQ(read_file(path("cmp/compare.csv")), table);
  expect_error(command("compare", arguments), 1, "holds a comparison already");
  expect_error(
      command("compare", {"--data", path("chat.jsonl"), "--out", path("cmp2"), "--candidates", "lora:1,tl6"}),
      2, "has no rank");
}

// Stopped in round 2, when one of two had come to the end: its loss in round 1 is not that of now.
TEST_F(TuneTest, AComparisonThatGoesOnComesToTheSame) {
  const auto plan = [&](const std::string& out) {
    return nlohmann::ordered_json::parse(read_file(path(out + "/plan.json")));
  };
  const Arguments arguments = {"--data",       path("chat.jsonl"),
                               "--window",     "64",
                               "--threads",    "1",
                               "--minutes",    "0.001",
                               "--held-out",   "0.2",
                               "--candidates", "lora:1,lora:1:0.0001,tl5:2",
                               "--out",        path("whole"),
                               "--resume"};
  expect_error(command("compare", arguments), 0, "begins at step 0");
  nlohmann::ordered_json stopped = plan("whole");
  ASSERT_EQ(stopped["rounds"].size(), 2u);
  const std::string table = read_file(path("whole/compare.csv")),
                    result = read_file(path("whole/result.txt"));
  const nlohmann::ordered_json second = stopped["rounds"][1];
  ASSERT_EQ(second.size(), 2u);
  stopped["rounds"].erase(1);
  // What round 1 says decides, not what the checkpoints have become.
  folder_.write("whole/plan.json", stopped.dump());
  const auto resumed = command("compare", arguments);
  expect_error(resumed, 0, "== Round 1 of 2: 3 candidates to 2 steps, done before");
  EXPECT_EQ(read_file(path("whole/compare.csv")), table);
  EXPECT_EQ(read_file(path("whole/result.txt")), result);
  EXPECT_EQ(plan("whole")["rounds"][1], second);

  // And a new comparison begins at its beginning, though there are checkpoints.
  Arguments anew = arguments;
  anew.pop_back();
  std::filesystem::remove(path("whole/plan.json"));
  const auto again = command("compare", anew);
  expect_error(again, 0, "== Round 1 of 2: 3 candidates to 2 steps\n");
  EXPECT_EQ(again.output.find("continues after 4"), again.output.npos) << again.output;

  auto& losses = stopped["rounds"][0][0]["losses"];
  std::vector<double> longer = losses.get<std::vector<double>>();
  longer.resize(1000, 1.0);
  for (const std::vector<double>& wrong : {std::vector<double>{1.0}, longer}) {
    losses = wrong;
    folder_.write("whole/plan.json", stopped.dump());
    expect_error(command("compare", arguments), 1, "plan.json is damaged; to start over, remove");
  }
}

// The last of three is the second again. What it comes to is what finetune train comes to, bit for bit.
TEST_F(TuneTest, CandidatesMayDifferByTheRateOfBAlone) {
  const auto compare = [&](const std::string& candidates) {
    return command("compare",
                   {"--data", path("chat.jsonl"), "--window", "64", "--threads", "1", "--held-out", "0.2",
                    "--minutes", "0.001", "--out", path("cmp"), "--candidates", candidates, "--resume"});
  };
  const std::string candidates = "lora:1:0.001:0.004,lora:1:0.001,lora:1:0.001:0.001";
  expect_error(compare(candidates), 0, "2 candidates, 1 rounds of ");
  const std::string table = read_file(path("cmp/compare.csv"));
  for (const char* row : {"candidate,scheme,rank,rate,b_rate,trained,", "\nlora:1:0.001,lora,1,0.001,0.001,",
                          "\nlora:1:0.001:0.004,lora,1,0.001,0.004,"})
    EXPECT_NE(table.find(row), table.npos) << row << " is not in\n" << table;

  const Arguments steps = {"--scheme",   "lora", "--rank",         "1",    "--rate",        "0.001",
                           "--window",   "64",   "--batch-tokens", "1024", "--evaluations", "1",
                           "--held-out", "0.2",  "--steps",        "2"};
  Arguments faster = steps;
  faster.insert(faster.end(), {"--b-rate", "0.004"});
  ASSERT_EQ(train("one-rate", steps).status, 0);
  ASSERT_EQ(train("two-rates", faster).status, 0);
  const auto numbers = [&](const std::string& folder) {
    const auto adapter = tiedlora::load_adapter<float>(path(folder + "/adapter.safetensors"));
    const auto values = adapter.trainable();
    return std::vector<float>(values.begin(), values.end());
  };
  EXPECT_EQ(numbers("cmp/adapters/lora-1-0.001"), numbers("one-rate"));
  EXPECT_EQ(numbers("cmp/adapters/lora-1-0.001-0.004"), numbers("two-rates"));
  EXPECT_NE(numbers("one-rate"), numbers("two-rates"));

  EXPECT_EQ(compare(candidates).status, 0);
  EXPECT_EQ(read_file(path("cmp/compare.csv")), table);
  expect_error(compare("lora:1:0.001:0.002,lora:1:0.001"), 1,
               "belongs to a comparison with different options or data (");
  expect_error(compare("lora:1:0.001,lora:1:0.001:0.001"), 2,
               "all are the same with these --targets and the default rates");
  expect_error(compare("lora:1,vera:8:0.1:0.2"), 2, "the scheme vera does not train both A and B");
}

TEST(Compare, ThePageHasTheCandidatesOfTheHelp) {
  const TestFolder folder;
  const CompareOptions defaults;
  const std::string candidates = fmt::format("{}", fmt::join(defaults.candidates, ","));
  const std::string minutes = fmt::format("{:g}", defaults.minutes);
  const auto [status, help] = run(folder, {"compare", "--help"});
  EXPECT_EQ(status, 0);
  EXPECT_NE(help.find(candidates), help.npos) << help;
  const std::string page = read_file(std::string(TIEDLORA_GOLDEN_DIR) + "/../../docs/finetune.md");
  EXPECT_NE(page.find("    " + candidates + "\n"), page.npos) << candidates;
  EXPECT_NE(page.find("`--minutes` [" + minutes + "]"), page.npos);
  for (const std::string& candidate : defaults.candidates)
    EXPECT_NO_THROW(parse_candidate(candidate, {})) << candidate;
}

TEST_F(TuneTest, AComparisonLeavesRunsAlone) {
  ASSERT_EQ(train("out", {"--steps", "2"}).status, 0);
  expect_error(command("compare", {"--data", path("chat.jsonl"), "--out", path("out")}), 1,
               "holds a run of finetune train");
}

}  // namespace
}  // namespace finetune
