// The parity kit on the device, in mixtures of types in which every type of parameters meets every type of x,
// y and dx.
#include <cstddef>     // size_t
#include <cstdint>     // uint64_t
#include <functional>  // function

#include <tiedlora/verify/parity.hpp>

#include "backend.cuh"
#include "commands.hpp"

namespace gpu_cuda {

void check_parity(std::size_t cases, std::uint64_t seed,
                  const std::function<void(const ParityTable&)>& show) {
  using half = __half;
  using bfloat16 = __nv_bfloat16;
  const OwnStream stream;
  const CudaBackend backend(stream);
  const auto run = [&]<class P, class X, class Y, class Dx>(const char* types, P, X, Y, Dx) {
    const auto report = tiedlora::verify::parity<P, X, Y, Dx>(
        backend, {.cases = cases, .seed = seed, .require_determinism = true});
    show({types, report.table(), report.passed()});
  };
  constexpr float f = 0;
  const half h = static_cast<half>(f);
  const bfloat16 b = static_cast<bfloat16>(f);
  run("all float", f, f, f, f);
  run("float, x half, y bfloat16", f, h, b, h);
  run("float, x bfloat16, y half", f, b, h, b);
  run("half, x float, y bfloat16", h, f, b, f);
  run("all half", h, h, h, h);
  run("half, x bfloat16, y float", h, b, f, b);
  run("bfloat16, x float, y half", b, f, h, f);
  run("bfloat16, x half, y float", b, h, f, h);
  run("all bfloat16", b, b, b, b);
}

}  // namespace gpu_cuda
