#include "program.hpp"

#include <cstddef>  // size_t
#include <cstdint>  // uint64_t
#include <ostream>  // ostream
#include <string>   // string

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <tiedlora/tiedlora.hpp>

#include "../../command_line.hpp"
#include "../../validators.hpp"
#include "../exit_status.hpp"
#include "../four_layers.hpp"
#include "../loss_table.hpp"
#include "bench_csv.hpp"
#include "commands.hpp"

namespace gpu_cuda {
namespace {

int parity(std::size_t cases, std::uint64_t seed, std::ostream& out) {
  bool passed = true;
  check_parity(cases, seed, [&](const ParityTable& t) {
    out << fmt::format("\n{}\n{}", t.types, t.table) << std::flush;
    passed = passed && t.passed;
  });
  return passed ? examples::success : examples::failure;
}

int check(std::ostream& out) {
  int failed = 0;
  for (const Check& c : all_checks()) {
    const std::string fault = fault_of(c);
    out << fmt::format("{:<50} {}\n", c.name, fault.empty() ? "passed" : "FAILED: " + fault) << std::flush;
    failed += fault.empty() ? 0 : 1;
  }
  return failed == 0 ? examples::success : examples::failure;
}

int train(std::ostream& out) {
  const gpu::FourLayers problem;
  const gpu::LossCurves curves = {train_on_device(problem, gpu::FourLayers::last_step),
                                  gpu::train_on_cpu<float>(problem), gpu::train_on_cpu<double>(problem)};
  const bool equal = gpu::print_curves(curves, out);
  out << fmt::format(
      "On the device lie {} parameters, as many gradients, and as many first and second moments: "
      "one flat array and one copy each\n",
      problem.layout.trainable_count());
  return equal ? examples::success : examples::failure;
}

}  // namespace

int run(int argc, const char* const* argv, std::ostream& out, std::ostream& err) {
  std::size_t cases = 240;
  std::uint64_t seed = 1;
  bool quick = false;
  CLI::App app(
      "The adapter's operations as CUDA kernels, as a backend of one's own: checked, trained with and "
      "measured.",
      "gpu_cuda");
  app.require_subcommand(1);
  CLI::App* parity_command =
      app.add_subcommand("parity", "every call against the library's loops, in random cases");
  parity_command->add_option("--cases", cases, "cases for each of nine mixtures of types")
      ->check(examples::whole_from(1, 100'000))
      ->capture_default_str()
      ->type_name("N");
  parity_command->add_option("--seed", seed, "of the cases")
      ->check(examples::whole_from(0, 1'000'000'000))
      ->capture_default_str()
      ->type_name("N");
  CLI::App* check_command = app.add_subcommand(
      "check", "the rest against the CPU: forward of several modules, graphs, batches, the optimiser");
  app.add_subcommand("train",
                     "the four-layer program of docs/adapters.md on the device and on the CPU, side by side");
  CLI::App* bench_command =
      app.add_subcommand("bench", "times of forward and backward, alone and for batches of adapters, as CSV");
  bench_command->add_flag("--quick", quick, "some of the sizes, in seconds");
  app.footer(
      "Exit codes: 0 all is right, 1 something is not, 2 wrong usage, 77 there is no device to run on.");
  return examples::run_command(app, argc, argv, out, err, [&]() -> int {
    if (app.get_subcommands().empty()) return examples::success;  // --help
    std::string why;
    const std::string device = find_device(why);
    if (device.empty()) {
      err << "gpu_cuda: there is no device that can run the kernels: " << why << '\n';
      return gpu::no_device;
    }
    if (*bench_command) {
      BenchOptions options;
      if (quick) options.sizes = {{576, 576}, {4096, 4096}}, options.ranks = {16};
      out << csv_header() << '\n';
      bench(options, [&](const BenchRow& row) { out << csv_line(row) << '\n' << std::flush; });
      return examples::success;
    }
    out << "device: " << device << std::endl;
    if (*check_command) return check(out);
    return *parity_command ? parity(cases, seed, out) : train(out);
  });
}

}  // namespace gpu_cuda
