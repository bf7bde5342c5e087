#include "program.hpp"

#include <cstddef>  // size_t
#include <ostream>  // ostream

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <tiedlora/eigen.hpp>
#include <tiedlora/verify.hpp>

#include "../../command_line.hpp"
#include "../../validators.hpp"
#include "../exit_status.hpp"
#include "../loss_table.hpp"
#include "train.hpp"

namespace gpu_opencl {
namespace {

/// The parity kit for these types. False where it found something.
template <class P, class X, class Y>
bool has_parity(const Backend& backend, const char* types, std::size_t cases, std::ostream& out) {
  const auto report =
      tiedlora::verify::parity<P, X, Y>(backend, {.cases = cases, .require_determinism = true});
  out << fmt::format("\n{}\n{}", types, report.table()) << std::flush;
  return report.passed();
}

int check_parity(const Backend& backend, std::size_t cases, std::ostream& out) {
  using Eigen::half, Eigen::bfloat16;
  bool passed = has_parity<float, float, float>(backend, "All in float", cases, out);
  passed &= has_parity<bfloat16, bfloat16, bfloat16>(backend, "All in bfloat16, h and gradients in float",
                                                     cases, out);
  passed &=
      has_parity<half, float, bfloat16>(backend, "Parameters in half, x in float, y in bfloat16", cases, out);
  return passed ? examples::success : examples::failure;
}

int train_beside_cpu(const Backend& backend, std::ostream& out) {
  const gpu::LossCurves curves = train_side_by_side(backend, gpu::FourLayers());
  return gpu::print_curves(curves, out) ? examples::success : examples::failure;
}

}  // namespace

int run(int argc, const char* const* argv, std::ostream& out, std::ostream& err) {
  std::size_t cases = 240;
  CLI::App app("The adapter's operations in OpenCL C, as a backend of one's own: checked, and trained with.",
               "gpu_opencl");
  app.require_subcommand(1);
  CLI::App* parity = app.add_subcommand("parity", "every call against the library's loops, in random cases");
  parity->add_option("--cases", cases, "cases for each of three mixtures of types")
      ->check(examples::whole_from(1, 100'000))
      ->capture_default_str()
      ->type_name("N");
  CLI::App* training = app.add_subcommand(
      "train", "the four-layer program of docs/adapters.md on the device and on the CPU, side by side");
  app.footer(
      "Exit codes: 0 all is right, 1 something is not, 2 wrong usage, 77 there is no device to run on.");
  return examples::run_command(app, argc, argv, out, err, [&]() -> int {
    if (!*parity && !*training) return examples::success;  // --help
    try {
      Device device;
      out << "device: " << device.description() << std::endl;
      const Backend backend(device);
      return *parity ? check_parity(backend, cases, out) : train_beside_cpu(backend, out);
    } catch (const NoDevice& error) {
      err << "gpu_opencl: " << error.what() << '\n';
      return gpu::no_device;
    }
  });
}

}  // namespace gpu_opencl
