// The part of CUDA that the kernels use, for a host's compiler: their own sources run in tests where no GPU
// is.
#pragma once

#include <algorithm>   // max, min
#include <cmath>       // isfinite, sqrt
#include <cstddef>     // byte, size_t
#include <cstdint>     // uint32_t, uintptr_t
#include <cstdlib>     // free, malloc
#include <cstring>     // memcpy, memset
#include <functional>  // function
#include <stdexcept>   // runtime_error
#include <string>      // string
#include <tuple>       // apply, tuple
#include <utility>     // move
#include <vector>      // vector

#include "fibers.hpp"
#include "numbers.hpp"

using std::isfinite, std::max, std::min, std::sqrt;

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

inline void __syncthreads() { cuda_emulation::Grid::get().wait(cuda_emulation::Wait::block); }
inline void __syncwarp() { cuda_emulation::Grid::get().wait(cuda_emulation::Wait::warp); }
inline void __threadfence() {}
inline unsigned atomicAdd(unsigned* to, unsigned value) {
  const unsigned before = *to;
  *to += value;
  return before;
}
template <class T>
T __ldcg(const T* from) {
  return *from;
}
inline float __shfl_xor_sync(unsigned, float value, int mask) {
  const unsigned bits = __float_as_uint(value);
  auto& grid = cuda_emulation::Grid::get();
  return __uint_as_float(grid.exchange(&bits, 1).words[grid.lane() ^ static_cast<unsigned>(mask)][0]);
}

inline double __shfl_xor_sync(unsigned, double value, int mask) {
  std::uint32_t words[2];
  std::memcpy(words, &value, sizeof value);
  auto& grid = cuda_emulation::Grid::get();
  std::memcpy(&value, grid.exchange(words, 2).words[grid.lane() ^ static_cast<unsigned>(mask)], sizeof value);
  return value;
}

namespace gpu_cuda {

inline void grid_barrier() { cuda_emulation::Grid::get().wait(cuda_emulation::Wait::grid); }

template <class T>
T& shared_memory() {
  return *reinterpret_cast<T*>(cuda_emulation::Grid::get().block().memory());
}

inline uint4 load_16(const void* from) {
  if (reinterpret_cast<std::uintptr_t>(from) % 16 != 0)
    cuda_emulation::Grid::get().report("a load of 16 bytes that are not aligned");
  uint4 value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
inline void store_16(void* to, const uint4& value) {
  if (reinterpret_cast<std::uintptr_t>(to) % 16 != 0)
    cuda_emulation::Grid::get().report("a store of 16 bytes that are not aligned");
  std::memcpy(to, &value, sizeof value);
}

inline std::uint32_t pack_bfloat16(float low, float high) {
  using cuda_emulation::to_bfloat16;
  return static_cast<std::uint32_t>(to_bfloat16(high)) << 16 | to_bfloat16(low);
}
inline float half_to_float(std::uint32_t bits) {
  return cuda_emulation::from_half(static_cast<std::uint16_t>(bits));
}

/// d += a b, 16×16 by 16×8, as the PTX ISA has it in "Matrix Fragments for mma.m16n8k16 with floating point
/// type": which lane holds which element.
inline void mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  auto& grid = cuda_emulation::Grid::get();
  std::uint32_t words[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
  const auto& all = grid.exchange(words, 6).words;
  const auto low = [](std::uint32_t word) { return __uint_as_float(word << 16); };
  const auto high = [](std::uint32_t word) { return __uint_as_float(word & 0xffff0000u); };
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned row = grid.lane() / 4 + (i >= 2 ? 8 : 0), column = grid.lane() % 4 * 2 + i % 2;
    float sum = 0;
    for (unsigned k = 0; k < 16; k += 2) {  // a word holds two neighbours of a row of a, of a column of b
      const std::uint32_t of_a = all[row % 8 * 4 + k % 8 / 2][(row >= 8 ? 1 : 0) + (k >= 8 ? 2 : 0)];
      const std::uint32_t of_b = all[column * 4 + k % 8 / 2][4 + (k >= 8 ? 1 : 0)];
      sum += low(of_a) * low(of_b);
      sum += high(of_a) * high(of_b);
    }
    d[i] += sum;
  }
}

using Stream = int;
struct Launch {
  dim3 grid;
  unsigned threads = 0;
  std::size_t shared_bytes = 0;
  Stream stream = 0;
  bool cooperative = false;
};

/// What a captured stream records, to run it later. What CUDA does not allow meanwhile throws, or spoils it.
struct Recording {
  std::vector<std::function<void()>> commands;
  const char* error = nullptr;
};
inline Recording* recording = nullptr;
inline void run_or_record(std::function<void()> command) {
  if (recording)
    recording->commands.push_back(std::move(command));
  else
    command();
}
inline void refuse_in_capture(const char* what) {
  if (recording) throw std::runtime_error(std::string("CUDA: in a captured stream there is no ") + what);
}

inline long launches_run = 0;
template <class... Parameters, class... Arguments>
void launch(const Launch& l, void (*kernel)(Parameters...), const Arguments&... arguments) {
  static_assert((sizeof(Parameters) + ... + 0) <= 4096, "what a kernel's arguments have room for");
  cuda_emulation::Grid::get().check(l.grid, l.threads, l.shared_bytes, l.cooperative);
  run_or_record([l, kernel, values = std::tuple<Parameters...>(static_cast<Parameters>(arguments)...)] {
    ++launches_run;
    cuda_emulation::Grid::get().run(l.grid, l.threads, l.shared_bytes, l.cooperative,
                                    [&] { std::apply(kernel, values); });
  });
}
struct DeviceLimits {
  int multiprocessors = cuda_emulation::Grid::get().multiprocessors;
  std::size_t shared_bytes = cuda_emulation::Grid::shared_bytes;
};
inline DeviceLimits device_limits() { return {}; }
template <class... Parameters>
int blocks_at_once(void (*)(Parameters...), unsigned, std::size_t) {
  return device_limits().multiprocessors;
}

/// How many allocations succeed before one fails, as where the device's memory is full; negative: all do.
inline int allocations_left = -1;
inline void* device_allocate(std::size_t bytes) {
  refuse_in_capture("allocation");
  if (allocations_left >= 0 && allocations_left-- == 0) throw std::runtime_error("CUDA: out of memory");
  void* const data = std::malloc(bytes ? bytes : 1);
  return std::memset(data, 0xff, bytes);  // NaN in every format
}
inline void device_free(void* data) {
  if (recording) recording->error = "CUDA: memory was freed in a captured stream";
  std::free(data);
}
inline void copy(const void* from, void* to, std::size_t bytes) {
  run_or_record([=] { std::memcpy(to, from, bytes); });
}
inline void copy_to_device(const void* from, void* to, std::size_t bytes, Stream) { copy(from, to, bytes); }
inline void copy_to_host(const void* from, void* to, std::size_t bytes, Stream) { copy(from, to, bytes); }
inline void copy_on_device(const void* from, void* to, std::size_t bytes, Stream) { copy(from, to, bytes); }
inline void set_bytes(void* to, int value, std::size_t bytes, Stream) {
  run_or_record([=] { std::memset(to, value, bytes); });
}
inline bool is_capturing(Stream) { return recording; }
inline void synchronize(Stream) { refuse_in_capture("synchronisation"); }

struct OwnStream {
  operator Stream() const { return 0; }
};
class Graph {
 public:
  template <class Body>
  Graph(Stream, const Body& body) {
    recording = &recorded_;
    try {
      body();
    } catch (...) {
      recording = nullptr;
      throw;
    }
    recording = nullptr;
    if (recorded_.error) throw std::runtime_error(recorded_.error);
  }
  void launch() const {
    for (const auto& command : recorded_.commands) command();
  }

 private:
  Recording recorded_;
};
/// An emulation has no times to show: each launch is a second.
struct Event {
  void record(Stream) { at = launches_run; }
  double since(const Event& earlier) const { return static_cast<double>(at - earlier.at); }
  long at = 0;
};
inline std::string device_name(std::string&) { return "emulation on the host"; }

}  // namespace gpu_cuda
