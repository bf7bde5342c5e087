// tiedlora_bench [--benchmark_filter=REGEX] [any option of Google Benchmark]
//
//   forward, backward / scheme / r / d / T / tiedlora, eigen    one module against an Eigen user's
//   expressions layers / r / d / T / scheme                                 32 layers' adapters alone: tied
//   against LoRA decode / r / d / T / scheme                                 the same, with the base model's
//   weights between
//
// Without a filter a subset runs, about two minutes long; --benchmark_filter=all runs everything.
#include <benchmark/benchmark.h>

#include <cstdio>       // fputs
#include <exception>    // exception
#include <iterator>     // begin, end
#include <string>       // string
#include <string_view>  // string_view
#include <vector>       // vector

#include "comparison.hpp"
#include "layers_bench.hpp"
#include "module_bench.hpp"

namespace {

// Contenders take turns, so that another program's load falls on all of them, and medians count. Whatever the
// user gives comes later and prevails.
const char* const defaults[] = {
    "--benchmark_enable_random_interleaving=true",
    "--benchmark_repetitions=5",
    "--benchmark_display_aggregates_only=true",
    "--benchmark_min_time=0.1",
    "--benchmark_time_unit=us",
};
const char* const default_filter =
    "--benchmark_filter="
    "^(forward|backward)/(lora|tl6)/r:(8|64)/d:(576|4096)/T:(1|64|512)/"
    "|^(forward|backward)/(vera|tl5)/r:8/d:4096/T:64/"
    "|^(layers|decode)/r:(8|64)/d:4096/T:1/";

// Whether standard output is for people: then it may also hold a table.
bool is_for_people(const std::vector<std::string>& arguments) {
  constexpr std::string_view format = "--benchmark_format=";
  bool result = true;
  for (const std::string& argument : arguments)
    if (argument.starts_with(format)) result = argument.substr(format.size()) == "console";
  return result;
}

int run(std::vector<std::string> arguments) {
  const bool for_people = is_for_people(arguments);
  arguments.insert(arguments.begin() + 1, std::begin(defaults), std::end(defaults));
  arguments.insert(arguments.begin() + 1, default_filter);
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  int argc = static_cast<int>(argv.size());
  benchmark::Initialize(&argc, argv.data());
  if (benchmark::ReportUnrecognizedArguments(argc, argv.data())) return 2;

  if (!bench::peers_agree()) {
    std::fputs("tiedlora_bench: the library and the Eigen expressions disagree; nothing was measured\n",
               stderr);
    return 1;
  }
  benchmark::AddCustomContext("kernels", tiedlora::kernel_isa());
  benchmark::AddCustomContext(
      "eigen", std::string(Eigen::SimdInstructionSetsInUse()) + ", " + std::to_string(EIGEN_WORLD_VERSION) +
                   "." + std::to_string(EIGEN_MAJOR_VERSION) + "." + std::to_string(EIGEN_MINOR_VERSION));
  benchmark::AddCustomContext("compiler", __VERSION__);

  std::vector<std::string> names;
  const auto add_name = [&](const std::string& name) { names.push_back(name); };
  bench::register_modules(add_name);
  bench::register_layers(add_name);
  bench::Comparison comparison;
  benchmark::RunSpecifiedBenchmarks(for_people ? &comparison : nullptr);
  comparison.print(names);
  benchmark::Shutdown();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run({argv, argv + argc});
  } catch (const std::exception& error) {
    std::fputs(error.what(), stderr);
    return 1;
  }
}
