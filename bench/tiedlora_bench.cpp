// tiedlora_bench: the library against its baselines, the machine and itself. --help has the options,
// --benchmark_list_tests names all measurements.
#include <benchmark/benchmark.h>
#include <cblas.h>

#include <string>  // string

#include <fmt/format.h>

#include "baselines/machine.hpp"
#include "cases/alone.hpp"
#include "cases/batch.hpp"
#include "cases/grid.hpp"
#include "cases/halves.hpp"
#include "cases/layers.hpp"
#include "cases/threads.hpp"
#include "cases/variants.hpp"
#include "harness/program.hpp"

int main(int argc, char** argv) {
  return bench::run_program(
      argc, argv, "Measures the library against its baselines, the machine and itself.",
      [](bench::Plan& plan) {
        openblas_set_num_threads(1);
        benchmark::AddCustomContext("eigen",
                                    fmt::format("{}.{}.{}, {}", EIGEN_WORLD_VERSION, EIGEN_MAJOR_VERSION,
                                                EIGEN_MINOR_VERSION, Eigen::SimdInstructionSetsInUse()));
        benchmark::AddCustomContext(
            "openblas", fmt::format("{}, core {}", openblas_get_config(), openblas_get_corename()));
        if (plan.alone) return bench::add_alone(plan);
        bench::add_machine(plan);
        bench::add_grid(plan);
        bench::add_halves(plan);
        bench::add_variants(plan);
        bench::add_layers(plan);
        bench::add_threads(plan);
        bench::add_batches(plan);
      });
}
