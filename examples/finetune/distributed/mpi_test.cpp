// finetune in several processes, as a user runs it.
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <thread>

#include <finetune/tiny_run.hpp>
#include <finetune/tune/tune_fixture.hpp>
#include <nlohmann/json.hpp>

namespace finetune {
namespace {

/// Ranks on one machine, more than it has cores, maybe as root. Their session's directories are under
/// `sessions`: of two mpiruns that share Open MPI 4's default one, the first to end removes it while the
/// other begins, which fails then (https://github.com/open-mpi/ompi/issues/8510).
void allow_ranks(const std::filesystem::path& sessions) {
  setenv("OMPI_MCA_orte_tmpdir_base", sessions.c_str(), 1);
  for (const char* name : {"OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"}) setenv(name, "1", 1);
  for (const char* name : {"OMPI_MCA_rmaps_base_oversubscribe", "OMPI_MCA_mpi_yield_when_idle"})
    setenv(name, "1", 1);
  setenv("OMPI_MCA_hwloc_base_binding_policy", "none", 1);
  setenv("LSAN_OPTIONS", "detect_leaks=0", 1);  // Open MPI has some
  setenv("MPIEXEC_TIMEOUT", "300", 1);          // of processes that wait for each other
}

/// The arguments of mpirun for the same command line in each of several processes, or for one of each's own.
Arguments ranks(int count, const Arguments& arguments) {
  Arguments all = {"-n", std::to_string(count), FINETUNE_PROGRAM};
  all.insert(all.end(), arguments.begin(), arguments.end());
  return all;
}
Arguments ranks(const Arguments& first, const Arguments& second) {
  Arguments all = ranks(1, first);
  all.emplace_back(":");
  const Arguments rest = ranks(1, second);
  all.insert(all.end(), rest.begin(), rest.end());
  return all;
}

std::size_t count_of(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

struct ProcessStatus {
  char state = 0;  ///< 0: there is no such process
  pid_t parent = 0;
};
ProcessStatus status_of(const std::string& process) {
  std::ifstream file("/proc/" + process + "/stat");
  std::string text;
  std::getline(file, text);
  const std::size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return {};
  return {text[name_end + 2], std::atoi(text.c_str() + name_end + 4)};
}

/// Processes that `parent` has started.
std::vector<pid_t> children_of(pid_t parent) {
  std::vector<pid_t> children;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string process = entry.path().filename();
    const ProcessStatus status = status_of(process);
    if (status.state != 0 && status.parent == parent) children.push_back(std::atoi(process.c_str()));
  }
  return children;
}

/// A zombie has ended; somebody will look at it.
bool has_ended(pid_t process) {
  for (int i = 0; i < 500; ++i) {
    const char state = status_of(std::to_string(process)).state;
    if (state == 0 || state == 'Z') return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

/// Steps of five batches, which no number of processes divides.
class MpiTest : public TuneTest {
 protected:
  MpiTest() { allow_ranks(folder_.path()); }

  Arguments command_line(const std::string& out, Arguments more = {}) const {
    more.insert(more.end(), {"--accumulate", "5"});
    const auto has = [&](const char* name) {
      return std::find(more.begin(), more.end(), name) != more.end();
    };
    if (!has("--steps")) more.insert(more.end(), {"--steps", "6"});
    if (!has("--batch-tokens")) more.insert(more.end(), {"--batch-tokens", "64"});
    if (!has("--dropout")) more.insert(more.end(), {"--dropout", "0.1"});
    Arguments all = {"train", "--model", path("model.gguf")};
    const Arguments rest = training(out, more);
    all.insert(all.end(), rest.begin(), rest.end());
    return all;
  }
  std::filesystem::path output() const { return folder_.path() / "mpi.txt"; }
  Outcome mpirun(const Arguments& arguments) const {
    const int status = Program(MPIRUN, arguments, output()).wait();
    return {status, read_file(output())};
  }
  std::string adapter(const std::string& out) const { return read_file(path(out + "/adapter.safetensors")); }
  void wait_for(const std::string& name) const {
    for (int i = 0; i < 6000 && !std::filesystem::exists(path(name)); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
};

TEST_F(MpiTest, AnyNumberOfProcessesAndThreadsMakesTheSameBits) {
  for (const std::string scheme : {"tl6", "lora"}) {
    ASSERT_EQ(run(folder_, command_line("alone", {"--scheme", scheme})).status, 0);
    for (const auto& [processes, threads] : {std::pair(1, "2"), {2, "1"}, {2, "2"}, {3, "1"}}) {
      const std::string out = std::to_string(processes) + "x" + threads;
      const Outcome outcome =
          mpirun(ranks(processes, command_line(out, {"--scheme", scheme, "--threads", threads})));
      ASSERT_EQ(outcome.status, 0) << outcome.output;
      EXPECT_EQ(adapter(out), adapter("alone")) << scheme << ' ' << out;
      EXPECT_EQ(read_file(path(out + "/checkpoint.safetensors")).size(),
                read_file(path("alone/checkpoint.safetensors")).size());
      EXPECT_EQ(count_of(outcome.output, "Base: "), 1u) << outcome.output;
      const auto json = nlohmann::json::parse(read_file(path(out + "/run.json")));
      EXPECT_EQ(json["training"]["processes"], processes);
      EXPECT_EQ(json["training"]["fast_reduce"], false);
      EXPECT_EQ(json["validation_loss"],
                nlohmann::json::parse(read_file(path("alone/run.json")))["validation_loss"]);
      std::filesystem::remove_all(path(out));
    }
    std::filesystem::remove_all(path("alone"));
  }
}

TEST_F(MpiTest, TheToyMakesTheSameBits) {
  const auto files = [&](const std::string& out) {
    std::string all;
    for (const char* name : {"adapters/tl6-r4-seed1.safetensors", "adapters/full-seed1/model.safetensors"})
      all += read_file(path(out) + "/" + name);
    return all;
  };
  const auto command_of = [&](const std::string& out) {
    Arguments all = tiny(folder_, {"--schemes", "tl6,full", "--accumulate", "3", "--threads", "1"});
    *(std::find(all.begin(), all.end(), "--out") + 1) = path(out);
    *(std::find(all.begin(), all.end(), "--cache") + 1) = path(out + "-cache");
    return all;
  };
  ASSERT_EQ(run(folder_, command_of("alone")).status, 0) << read_file(folder_.path() / "output.txt");
  for (const int processes : {2, 3}) {
    const std::string out = std::to_string(processes);
    const Outcome outcome = mpirun(ranks(processes, command_of(out)));
    ASSERT_EQ(outcome.status, 0) << outcome.output;
    EXPECT_TRUE(files(out) == files("alone")) << processes;
  }
}

TEST_F(MpiTest, GoesOnWithAnotherNumberOfProcessesAfterAStop) {
  const Arguments steps = {"--steps", "120", "--evaluations", "40"};
  Arguments resumed = steps;
  resumed.emplace_back("--resume");
  ASSERT_EQ(run(folder_, command_line("whole", steps)).status, 0);
  {
    Program program(MPIRUN, ranks(2, command_line("out", steps)), output());
    wait_for("out/checkpoint.safetensors");
    const std::vector<pid_t> processes = children_of(program.id());
    ASSERT_EQ(processes.size(), 2u);
    ::kill(processes[1], SIGTERM);  // one is told, all stop
    EXPECT_EQ(program.wait(), 130) << read_file(output());
    EXPECT_NE(read_file(output()).find("Interrupted"), std::string::npos) << read_file(output());
  }
  const Outcome outcome = mpirun(ranks(3, command_line("out", resumed)));
  ASSERT_EQ(outcome.status, 0) << outcome.output;
  EXPECT_NE(outcome.output.find("continues after"), std::string::npos) << outcome.output;
  EXPECT_EQ(adapter("out"), adapter("whole"));
}

TEST_F(MpiTest, AKilledProcessEndsTheJobAndTheCheckpointIsGood) {
  const Arguments steps = {"--steps", "120", "--evaluations", "40"};
  ASSERT_EQ(run(folder_, command_line("whole", steps)).status, 0);
  {
    Program program(MPIRUN, ranks(2, command_line("out", steps)), output());
    wait_for("out/checkpoint.safetensors");
    const std::vector<pid_t> processes = children_of(program.id());
    ASSERT_EQ(processes.size(), 2u);
    ::kill(processes[1], SIGKILL);
    EXPECT_NE(program.wait(), 0);
    const std::string said = read_file(output());
    EXPECT_NE(said.find("exited on signal 9 (Killed)"), std::string::npos) << said;
    for (const pid_t process : processes) EXPECT_TRUE(has_ended(process));
  }
  Arguments resumed = steps;
  resumed.emplace_back("--resume");
  const Outcome outcome = run(folder_, command_line("out", resumed));
  ASSERT_EQ(outcome.status, 0) << outcome.output;
  EXPECT_NE(outcome.output.find("continues after"), std::string::npos) << outcome.output;
  EXPECT_EQ(adapter("out"), adapter("whole"));
}

TEST_F(MpiTest, OtherModelsAndDataAreNamedBeforeTheFirstStep) {
  std::string lines = read_file(path("chat.jsonl"));
  lines[lines.rfind("world")] = 'W';
  folder_.write("other.jsonl", lines);
  Outcome outcome = mpirun(ranks(command_line("out"), command_line("out", {"--data", path("other.jsonl")})));
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.output.find("finetune train: process 1 on "), std::string::npos) << outcome.output;
  EXPECT_NE(outcome.output.find("in \"data\": "), std::string::npos) << outcome.output;
  EXPECT_EQ(count_of(outcome.output, "copy those of process 0"), 1u) << outcome.output;
  EXPECT_FALSE(std::filesystem::exists(path("out/checkpoint.safetensors")));

  // A bit of one weight, in a row that tells no models apart.
  std::filesystem::create_directories(path("there"));
  std::string model = read_file(path("model.gguf"));
  model[model.size() - 100] = static_cast<char>(model[model.size() - 100] ^ 1);
  folder_.write("there/model.gguf", model);
  Arguments other = command_line("out");
  *std::find(other.begin(), other.end(), path("model.gguf")) = path("there/model.gguf");
  outcome = mpirun(ranks(command_line("out"), other));
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.output.find("in \"weights\": "), std::string::npos) << outcome.output;
  EXPECT_FALSE(std::filesystem::exists(path("out/checkpoint.safetensors")));
}

TEST_F(MpiTest, ErrorsAreSaidOnceWithWhoseTheyAre) {
  Outcome outcome = mpirun(ranks(command_line("out"), command_line("out", {"--data", path("none.jsonl")})));
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.output.find("finetune train: process 1 on "), std::string::npos) << outcome.output;
  EXPECT_EQ(count_of(outcome.output, "none.jsonl\" cannot be read"), 1u) << outcome.output;

  const Arguments missing = command_line("out", {"--data", path("none.jsonl")});
  outcome = mpirun(ranks(2, missing));
  EXPECT_EQ(count_of(outcome.output, "none.jsonl\" cannot be read"), 1u) << outcome.output;
  EXPECT_EQ(outcome.output.find("process 1 on"), std::string::npos) << outcome.output;

  Arguments few = command_line("out");
  *(std::find(few.begin(), few.end(), "--accumulate") + 1) = "1";
  outcome = mpirun(ranks(2, few));
  EXPECT_EQ(outcome.status, 2);
  EXPECT_EQ(count_of(outcome.output, "too few batches for 2 processes; give --accumulate 2"), 1u)
      << outcome.output;

  outcome = mpirun(ranks(2, {"eval", "--model", path("model.gguf"), "--data", path("chat.jsonl")}));
  EXPECT_EQ(outcome.status, 2);
  EXPECT_EQ(count_of(outcome.output, "finetune eval runs in one process"), 1u) << outcome.output;
}

// None may wait for one that has ended, nor take part in another sum.
TEST_F(MpiTest, OtherCommandLinesAreNamed) {
  Outcome outcome = mpirun(ranks(command_line("out"), command_line("out", {"--rank", "none"})));
  EXPECT_NE(outcome.status, 0);
  EXPECT_NE(outcome.output.find("finetune train: process 1 on "), std::string::npos) << outcome.output;
  EXPECT_NE(outcome.output.find("--rank"), std::string::npos) << outcome.output;
  outcome = mpirun(ranks(command_line("out", {"--rank", "none"}), command_line("out")));
  EXPECT_NE(outcome.status, 0);
  EXPECT_EQ(count_of(outcome.output, "--rank: "), 1u) << outcome.output;
  outcome = mpirun(ranks(2, command_line("out", {"--rank", "none"})));
  EXPECT_NE(outcome.status, 0);
  EXPECT_EQ(count_of(outcome.output, "--rank: "), 1u) << outcome.output;
  EXPECT_EQ(outcome.output.find("process 1 on"), std::string::npos) << outcome.output;

  outcome = mpirun(ranks(command_line("out"), command_line("out", {"--fast-reduce"})));
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.output.find("in \"fast_reduce\": 2 instead of none"), std::string::npos)
      << outcome.output;
}

TEST_F(MpiTest, FastReduceTrains) {
  const Outcome outcome = mpirun(ranks(2, command_line("out", {"--fast-reduce"})));
  ASSERT_EQ(outcome.status, 0) << outcome.output;
  EXPECT_FALSE(adapter("out").empty());
  EXPECT_EQ(nlohmann::json::parse(read_file(path("out/run.json")))["training"]["fast_reduce"], true);
  // Its bits depend on the number of processes, so that it continues with the same number only.
  const Outcome other = mpirun(ranks(3, command_line("out", {"--fast-reduce", "--resume"})));
  EXPECT_EQ(other.status, 1);
  EXPECT_NE(other.output.find("belongs to a run with different settings"), std::string::npos) << other.output;
}

// The steps of a plan that is too short are two in each round, for any number of processes.
TEST_F(MpiTest, AComparisonComesToTheSame) {
  const auto arguments = [&](const std::string& out) {
    return Arguments{"compare",
                     "--model",
                     path("model.gguf"),
                     "--data",
                     path("chat.jsonl"),
                     "--window",
                     "64",
                     "--minutes",
                     "0.001",
                     "--held-out",
                     "0.2",
                     "--threads",
                     "1",
                     "--candidates",
                     "lora:1,lora:1:0.0001,tl5:2,tl6:4,vera:8",
                     "--out",
                     path(out),
                     "--resume"};
  };
  const auto files = [&](const std::string& out) {
    std::string all = read_file(path(out + "/result.txt"));
    auto plan = nlohmann::json::parse(read_file(path(out + "/plan.json")));
    for (auto& round : plan["rounds"])
      for (auto& one : round) one.erase("seconds");
    for (const char* candidate : {"lora-1", "tl5-2", "tl6-4", "vera-8", "lora-1-0.0001"})
      if (const std::string adapter = path(out + "/adapters/" + candidate + "/adapter.safetensors");
          std::filesystem::exists(adapter))
        all += candidate + read_file(adapter);
    return all + plan["rounds"].dump();
  };
  ASSERT_EQ(run(folder_, arguments("alone")).status, 0) << read_file(folder_.path() / "output.txt");
  Outcome outcome = mpirun(ranks(2, arguments("2")));
  ASSERT_EQ(outcome.status, 0) << outcome.output;
  EXPECT_EQ(count_of(outcome.output, "5 candidates in 2 processes"), 1u) << outcome.output;
  EXPECT_EQ(count_of(outcome.output, "== Round 1 of"), 1u) << outcome.output;
  EXPECT_TRUE(files("2") == files("alone")) << outcome.output << read_file(path("alone/result.txt"));

  // One that was stopped continues in another number of processes, with the plan that it has.
  auto plan = nlohmann::ordered_json::parse(read_file(path("2/plan.json")));
  plan["rounds"].erase(plan["rounds"].size() - 1);
  folder_.write("2/plan.json", plan.dump());
  outcome = mpirun(ranks(3, arguments("2")));
  ASSERT_EQ(outcome.status, 0) << outcome.output;
  EXPECT_EQ(count_of(outcome.output, ", done before"), 2u) << outcome.output;
  EXPECT_TRUE(files("2") == files("alone")) << outcome.output;

  outcome = mpirun(ranks(arguments("apart"), arguments("elsewhere")));
  EXPECT_EQ(outcome.status, 1);
  EXPECT_EQ(count_of(outcome.output, "elsewhere is not the folder of the first process"), 1u)
      << outcome.output;
  Arguments other = arguments("other");
  *std::find(other.begin(), other.end(), "0.001") = "0.002";
  outcome = mpirun(ranks(arguments("other"), other));
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.output.find("in \"minutes\": 0.002 instead of 0.001"), std::string::npos)
      << outcome.output;
}

// Open MPI does not know what MPICH's mpirun tells: each process would be alone.
TEST_F(MpiTest, AnMpirunOfAnotherMpiIsRefused) {
  setenv("PMI_SIZE", "2", 1);
  const Outcome outcome = run(folder_, command_line("out"));
  unsetenv("PMI_SIZE");
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.output.find("several processes (PMI_SIZE=2), but each would run alone"),
            std::string::npos)
      << outcome.output;
  EXPECT_FALSE(std::filesystem::exists(path("out")));
}

}  // namespace
}  // namespace finetune
