// The parity kit on the device, in mixtures of types in which every type of parameters meets every type of x,
// y and dx.
#include <cstddef>     // size_t
#include <cstdint>     // uint64_t
#include <functional>  // function

#include <tiedlora/verify.hpp>

#include "backend.cuh"
#include "commands.hpp"

namespace gpu_cuda {

std::string find_device(std::string& why) { return device_name(why); }

void check_parity(std::size_t cases, std::uint64_t seed, const std::function<void(const ParityTable&)>& show) {
  using half = __half;
  using bfloat16 = __nv_bfloat16;
  const OwnStream stream;
  const CudaBackend backend(stream);
  const auto check = [&]<class P, class X, class Y, class Dx>(const char* types, P, X, Y, Dx) {
    const auto report =
        tiedlora::verify::parity<P, X, Y, Dx>(backend, {.cases = cases, .seed = seed, .require_determinism = true});
    show({types, report.table(), report.passed()});
  };
  constexpr float f = 0;
  const half h = static_cast<half>(f);
  const bfloat16 b = static_cast<bfloat16>(f);
  check("all float", f, f, f, f);
  check("float, x half, y bfloat16", f, h, b, h);
  check("float, x bfloat16, y half", f, b, h, b);
  check("half, x float, y bfloat16", h, f, b, f);
  check("all half", h, h, h, h);
  check("half, x bfloat16, y float", h, b, f, b);
  check("bfloat16, x float, y half", b, f, h, f);
  check("bfloat16, x half, y float", b, h, f, h);
  check("all bfloat16", b, b, b, b);
}

}  // namespace gpu_cuda
