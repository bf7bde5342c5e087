// What the program does on the device, for a compiler without CUDA.
#pragma once

#include <cstddef>     // size_t
#include <cstdint>     // uint64_t
#include <functional>  // function
#include <string>      // string
#include <vector>      // vector

#include <tiedlora/views/config.hpp>

namespace gpu {
struct FourLayers;
}

namespace gpu_cuda {

/// The device's name; empty where there is none that runs the kernels, and why.
std::string find_device(std::string& why);

struct ParityTable {
  std::string types, table;
  bool passed = false;
};
/// The parity kit, for every mixture of types in turn.
void check_parity(std::size_t cases, std::uint64_t seed, const std::function<void(const ParityTable&)>& show);

/// One of what the parity kit does not look at: forward of several modules, graphs, batches, the optimiser.
struct Check {
  std::string name;
  std::function<void()> run;  ///< throws what is wrong
};
std::vector<Check> all_checks();
/// Runs it; empty: all is right.
std::string fault_of(const Check& check);

/// The loss before each of the steps 0, …, last_step of the four-layer program, on the device.
std::vector<double> train_on_device(const gpu::FourLayers& problem, int last_step);

/// One line of the table.
struct BenchRow {
  std::string what, type;
  tiedlora::Index in = 0, out = 0, rank = 0, tokens = 0, tenants = 1;
  bool cold = false;
  double seconds = 0;
  double bytes = 0, flops = 0;  ///< that have to be moved and done
};
/// What is measured: forward and backward of every size, rank and number of tokens, then batches of tenants.
struct BenchOptions {
  struct Size {
    tiedlora::Index in, out;
  };
  std::vector<Size> sizes = {{576, 576}, {2048, 2048}, {4096, 4096}, {4096, 11008}};
  std::vector<tiedlora::Index> ranks = {8, 16, 64}, tokens = {1, 8, 64, 512, 4096}, tenants = {1, 8, 64};
  tiedlora::Index width_of_tenants = 4096;
  double cold_bytes = 120e6;  ///< twice an H100's L2
  int calls = 20;             ///< in a graph, at least
};
void bench(const BenchOptions& options, const std::function<void(const BenchRow&)>& show);

}  // namespace gpu_cuda
