// What finetune train leaves where a run ends early, and what it continues from.
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <thread>

#include <finetune/train/trainer.hpp>  // Interrupt

#include "train.hpp"
#include "tune_fixture.hpp"

namespace finetune {
namespace {

TEST_F(TuneTest, GoesOnAfterAKillToTheSameBits) {
  const Arguments steps = {"--steps", "400", "--evaluations", "40"};
  ASSERT_EQ(train("whole", steps).status, 0);
  Arguments arguments = {"train", "--model", path("model.gguf")};
  const Arguments rest = training("killed", steps);
  arguments.insert(arguments.end(), rest.begin(), rest.end());
  {
    Program program(arguments, folder_.path() / "killed.txt");
    while (!std::filesystem::exists(path("killed/checkpoint.safetensors")))
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    program.kill();
    program.wait();
  }
  Arguments resumed = steps;
  resumed.push_back("--resume");
  const Outcome outcome = train("killed", resumed);
  ASSERT_EQ(outcome.status, 0) << outcome.output;
  EXPECT_EQ(read_file(path("killed/adapter.safetensors")), read_file(path("whole/adapter.safetensors")));
  EXPECT_NE(outcome.output.find("continues after"), std::string::npos) << outcome.output;

  expect_error(train("killed", {"--steps", "400", "--evaluations", "40", "--resume", "--seed", "2"}), 1,
               "belongs to a run with different settings");
  expect_error(train("killed", steps), 1, "holds a run already");
}

TEST_F(TuneTest, ARunThatDivergesLeavesNoRuinedAdapter) {
  const Outcome outcome =
      train("out", {"--steps", "60", "--scheme", "lora", "--rate", "1e12", "--warm-up", "0"});
  expect_error(outcome, 1, "take a lower --rate");
  EXPECT_FALSE(std::filesystem::exists(path("out/adapter.safetensors")));
}

TEST_F(TuneTest, ADivergenceWithoutValidationSaysWhatIsLeft) {
  const Arguments arguments = {"--steps", "60",        "--scheme", "lora",       "--rate",
                               "1e12",    "--warm-up", "0",        "--held-out", "0"};
  const Outcome outcome = train("out", arguments);
  expect_error(outcome, 1, "no adapter was written: nothing was held out to tell a good one by");
  expect_error(outcome, 1, path("out/metrics.csv"));
  EXPECT_TRUE(std::filesystem::exists(path("out/metrics.csv")));
  EXPECT_FALSE(std::filesystem::exists(path("out/adapter.safetensors")));
}

TEST_F(TuneTest, EveryRefusalSaysHowToGoOn) {
  ASSERT_EQ(train("out", {"--steps", "2"}).status, 0);
  const std::string anew = "to start over, remove " + path("out/checkpoint.safetensors") + " and " +
                           path("out/run.json") + ", or give another --out";
  expect_error(train("out", {"--steps", "2", "--rate", "1e-4"}), 1, "--resume; " + anew);
  expect_error(train("out", {"--steps", "2", "--rate", "1e-4", "--resume"}), 1,
               " there, 0.0001 here); use the same ones; " + anew);
  expect_error(train("out", {"--steps", "3", "--seed", "2", "--resume"}), 1,
               "different settings (run: 2 steps there, 3 steps here; seed: 1 there, 2 here); use the same");
  expect_error(train("out", {"--steps", "2", "--scheme", "lora", "--resume"}), 1,
               "another scheme or rank; to continue from it, use those it was started with");
  std::filesystem::remove(path("out/checkpoint.safetensors"));
  expect_error(train("out", {"--steps", "2", "--resume"}), 1, "not the checkpoint.safetensors");
  std::filesystem::remove(path("out/run.json"));
  expect_error(train("out", {"--steps", "2", "--rate", "1e-4", "--resume"}), 0, "this begins at step 0");
}

TEST_F(TuneTest, MinutesAreThoseOfThePlan) {
  const auto plan = [&](const std::string& out) {
    return nlohmann::ordered_json::parse(read_file(path(out + "/plan.json")));
  };
  std::filesystem::create_directories(path("out"));
  folder_.write("out/plan.json", R"({"kind": "train", "minutes": 5, "steps": 3})");
  expect_error(train("out", {"--minutes", "30", "--resume"}), 0,
               "The 3 steps are those that were planned for 5 minutes, not for 30");
  EXPECT_EQ(plan("out")["minutes"], 5);
  expect_error(train("out", {"--minutes", "5", "--resume", "--seed", "2"}), 1, "different settings");
  EXPECT_EQ(plan("out")["steps"], 3);

  // Where there is no checkpoint, a plan for other options says nothing.
  std::filesystem::create_directories(path("other"));
  folder_.write("other/plan.json", R"({"kind": "train", "minutes": 5, "steps": 3, "key": {"seed": 2}})");
  expect_error(train("other", {"--minutes", "0.05", "--resume"}), 0, "For 0.05 minutes: ");
  EXPECT_EQ(plan("other")["key"]["seed"], 1);

  ASSERT_EQ(train("steps", {"--steps", "2"}).status, 0);
  expect_error(train("steps", {"--minutes", "5", "--resume"}), 1, "was started with --steps or --epochs");
  EXPECT_FALSE(std::filesystem::exists(path("steps/plan.json")));

  folder_.write("cmp/plan.json", R"({"kind": "compare"})");
  expect_error(train("cmp", {"--minutes", "5"}), 1, "holds a plan of finetune compare");
  EXPECT_EQ(plan("cmp")["kind"], "compare");
  folder_.write("damaged/plan.json", R"({"kind": "train", "steps": "3"})");
  expect_error(train("damaged", {"--minutes", "5", "--resume"}), 1, "plan.json is damaged; to start over");
}

// Evaluations take a quarter of the time at most, and there is one at the end.
TEST(RunLength, HoldsWhatFitsIntoTheTime) {
  const auto length = [](double seconds, const StepCost& cost, std::int64_t asked) {
    const RunLength fitting = length_in(seconds, cost, asked);
    return std::pair(fitting.steps, fitting.evaluations);
  };
  using Pair = std::pair<std::int64_t, std::int64_t>;
  EXPECT_EQ(length(128, {.step = 0.5, .evaluation = 1}, 7), Pair(240, 7));
  EXPECT_EQ(length(128, {.step = 0.5, .evaluation = 4}, 10), Pair(192, 7));  // 8 of 4 s, of 32 s
  EXPECT_EQ(length(128, {.step = 0.5, .evaluation = 32}, 10), Pair(128, 1));
  EXPECT_EQ(length(128, {.step = 0.5, .evaluation = 100}, 10), Pair(1, 1));
  EXPECT_EQ(length(-1, {.step = 0.5, .evaluation = 1}, 10), Pair(1, 1));
  EXPECT_EQ(length(128, {.step = 0.5, .evaluation = 0}, 10), Pair(256, 10));
  EXPECT_EQ(length(-1, {.step = 0.5, .evaluation = 0}, 10), Pair(1, 10));
}

// Three seconds are what is set aside for files, so that nothing is left for evaluations.
TEST_F(TuneTest, EvaluationsThatUseUpTheTimeAreNamed) {
  const Arguments arguments = {"--minutes", "0.05", "--evaluations", "4"};
  const Outcome outcome = train("out", arguments);
  expect_error(outcome, 0, " 2 evaluations of ");
  expect_error(outcome, 0, ", not 5: they are to take a quarter of the time\n");
  expect_error(outcome, 0, "a smaller --held-out or --validation) or give more --minutes\n");
  const auto plan = nlohmann::json::parse(read_file(path("out/plan.json")));
  EXPECT_EQ(plan["steps"], 1);
  EXPECT_EQ(plan["evaluations"], 1);
  // One more step than that plan has: it begins again.
  for (const char* file : {"out/checkpoint.safetensors", "out/run.json"}) std::filesystem::remove(path(file));
  folder_.write("out/plan.json", R"({"kind": "train", "minutes": 5, "steps": 4, "evaluations": 2})");
  Arguments resumed = arguments;
  resumed.push_back("--resume");
  expect_error(train("out", resumed), 0, "The 4 steps are those that were planned for 5 minutes");
  const auto run = nlohmann::json::parse(read_file(path("out/run.json")));
  ASSERT_EQ(run["log"].size(), 3u);
  EXPECT_EQ(run["log"][1]["step"], 2);
  EXPECT_EQ(run["log"][2]["step"], 4);
  EXPECT_EQ(run["training"]["planned_steps"], 4);
  EXPECT_EQ(run["training"]["evaluations"], 2);
  // As many steps, but measured, and the best looked for, in other places.
  expect_error(train("out", {"--steps", "4", "--evaluations", "4", "--resume"}), 1,
               "(evaluations: 2 there, 4 here)");
  // What is kept beside the checkpoint is part of it.
  std::filesystem::remove(path("out/checkpoint.safetensors.best"));
  expect_error(
      train("out", {"--steps", "4", "--evaluations", "2", "--resume"}), 1,
      "checkpoint.safetensors.best is missing, which belongs to checkpoint.safetensors; to start over");
  folder_.write("damaged/plan.json", R"({"kind": "train", "minutes": 5, "steps": 3, "evaluations": 0})");
  expect_error(train("damaged", resumed), 1, "plan.json is damaged; to start over");
}

// As a user may change a model's template, and then go on.
TEST_F(TuneTest, AnotherTemplateIsAnotherRun) {
  ASSERT_EQ(train("out", {"--steps", "2"}).status, 0);
  llama_test::TinyModel other(llama_test::TinyModel::Numbers::blocks);
  other.chat_template.replace(other.chat_template.find("Be brief"), 8, "Be long.");
  other.write(folder_.path() / "model.gguf");
  expect_error(train("out", {"--steps", "2", "--resume"}), 1, "belongs to a run with different settings");
}

TEST_F(TuneTest, RefusedDataLeaveNoFolder) {
  folder_.write("bad.jsonl", "{\"prompt\": \"a\"}\n");
  EXPECT_EQ(train("out", {"--data", path("bad.jsonl")}).status, 1);
  EXPECT_FALSE(std::filesystem::exists(path("out")));
  EXPECT_EQ(command("compare", {"--data", path("bad.jsonl"), "--out", path("out")}).status, 1);
  EXPECT_FALSE(std::filesystem::exists(path("out")));
}

// 0.07 · 100 is a little more than 7 in doubles.
TEST_F(TuneTest, PartsOfAnEpochAreWholeSteps) {
  std::string lines;
  for (int i = 0; i < 100; ++i) lines += "{\"text\": \"" + std::to_string(1000 + i) + "\"}\n";
  folder_.write("text.jsonl", lines);
  expect_error(train("out", {"--data", path("text.jsonl"), "--held-out", "0", "--batch-tokens", "5",
                             "--epochs", "0.07"}),
               0, "Training: 7 steps");
}

/// Ctrl-C before the first step, in a process of its own.
int train_interrupted(const TrainOptions& options) {
  dup2(STDERR_FILENO, STDOUT_FILENO);
  const Interrupt interrupt;
  ::kill(getpid(), SIGINT);
  return train(options);
}

TEST_F(TuneTest, AnInterruptBeforeAnyBetterStepWritesNoAdapter) {
  TrainOptions options;
  options.model.path = path("model.gguf");
  options.data.paths = {path("chat.jsonl")};
  options.data.batch_tokens = 256;
  options.tune.rank = 4;
  options.steps = 5;
  for (const double held_out : {0.0, 0.2}) {
    options.data.held_out = held_out;
    options.out = path("out" + std::to_string(held_out));
    EXPECT_EXIT(std::exit(train_interrupted(options)), testing::ExitedWithCode(130),
                "Interrupted after 0 steps, so no adapter was written: --resume continues from here\n$");
    EXPECT_FALSE(std::filesystem::exists(options.out / "adapter.safetensors"));
    EXPECT_FALSE(std::filesystem::exists(options.out / "run.json"));
    EXPECT_TRUE(std::filesystem::exists(options.out / "checkpoint.safetensors"));
  }
}

}  // namespace
}  // namespace finetune
