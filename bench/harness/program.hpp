// What the programs here share: options, the context they report, the run.
#pragma once

#include <benchmark/benchmark.h>

#include <cstdio>  // stderr
#include <regex>   // regex, regex_error
#include <string>  // string
#include <vector>  // vector

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "harness/cores.hpp"
#include "harness/plan.hpp"
#include "harness/table.hpp"

#include "../../examples/validators.hpp"

#include <tiedlora/tiedlora.hpp>

namespace bench {

/// Accepts what std::regex does.
inline CLI::Validator regular_expression() {
  return CLI::Validator(
      [](std::string& text) -> std::string {
        try {
          static_cast<void>(std::regex(text));
          return {};
        } catch (const std::regex_error& error) {
          return fmt::format("{} is not a regular expression: {}", examples::in_short(text), error.what());
        }
      },
      "");
}

/// Measures what `add` adds to the plan. Returns the exit status: 1 if a measurement failed.
template <class Add>
int run_program(int argc, char** argv, const std::string& what, const Add& add) {
  CLI::App app(what);
  Plan plan;
  bool quick = false, full = false;
  std::string filter;
  double milliseconds = 1e3 * plan.pace.seconds_per_turn;
  app.add_flag("--quick", quick, "A subset of the configurations");
  app.add_flag("--full", full, "More shapes, other schemes, cold data");
  app.add_flag("--alone", plan.alone, "Only the library, for comparison with another process");
  app.add_option("--filter", filter, "Only measurements whose name this regular expression matches")
      ->check(regular_expression());
  app.add_option("--rounds", plan.pace.rounds, "Rounds of each race")
      ->check(examples::positive_count())
      ->capture_default_str();
  app.add_option("--turn", milliseconds, "Milliseconds that the library or a baseline runs in a round")
      ->check(examples::number_from(1e-3, 1e6))
      ->capture_default_str();
  app.allow_extras();
  app.footer("Further options go to Google Benchmark, e.g. --benchmark_out=results.json");
  CLI11_PARSE(app, argc, argv);

  std::vector<std::string> rest = app.remaining();
  std::vector<char*> arguments = {argv[0]};
  for (std::string& argument : rest) arguments.push_back(argument.data());
  int count = static_cast<int>(arguments.size());
  benchmark::Initialize(&count, arguments.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return 2;

  plan.extent = quick ? Extent::quick : full ? Extent::full : Extent::core;
  plan.pace.seconds_per_turn = 1e-3 * milliseconds;
  plan.filter = filter;
  benchmark::AddCustomContext("kernels", tiedlora::kernel_isa());
  benchmark::AddCustomContext("compiler", BENCH_COMPILER);
  benchmark::AddCustomContext("flags", BENCH_FLAGS);
  benchmark::AddCustomContext("rounds", std::to_string(plan.pace.rounds));
  pin_this_thread(allowed_cores().front());
  add(plan);

  Table table(plan.measurements);
  benchmark::RunSpecifiedBenchmarks(&table);
  benchmark::Shutdown();
  if (table.has_errors()) fmt::print(stderr, "{}: something above was not measured\n", argv[0]);
  return table.has_errors() ? 1 : 0;
}

}  // namespace bench
