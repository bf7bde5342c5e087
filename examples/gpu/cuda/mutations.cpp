// The kernels that mutations.py has changed, under the emulation: returns 0 where the parity kit passes them.
#include <cstdio>     // puts
#include <exception>  // exception

#include <tiedlora/verify/parity.hpp>

#include "backend.cuh"

int main() {
  const gpu_cuda::CudaBackend backend;
  try {
    const auto report = tiedlora::verify::parity(backend, {.cases = 40, .stop_at_first = true});
    if (report.passed()) return 0;
    std::puts(report.first_failure() ? report.first_failure()->text().c_str() : "not deterministic");
  } catch (const std::exception& error) {
    std::puts(error.what());
  }
  return 1;
}
