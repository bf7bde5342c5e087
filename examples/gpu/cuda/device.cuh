// The part of CUDA that the backend uses, in one place: what a kernel calls, and how the host starts it.
// With TIEDLORA_EMULATE_CUDA the same sources run on the host, for tests (emulation/).
#pragma once

#if defined(TIEDLORA_EMULATE_CUDA)
#include "emulation/cuda.hpp"
#else

#include <cooperative_groups.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstddef>    // size_t
#include <cstdint>    // uint32_t
#include <stdexcept>  // runtime_error
#include <string>     // string

namespace gpu_cuda {

/// Throws what CUDA says.
inline void check(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(error));
}

/// All blocks of a cooperative launch.
__device__ inline void grid_barrier() { cooperative_groups::this_grid().sync(); }

/// The block's dynamic shared memory: a launch gives sizeof(T), more than 48 KB too.
template <class T>
__device__ T& shared_memory() {
  extern __shared__ __align__(16) unsigned char shared_bytes_of_block[];
  return *reinterpret_cast<T*>(shared_bytes_of_block);
}

__device__ inline std::uint32_t pack_bfloat16(float low, float high) {
  std::uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
__device__ inline float half_to_float(std::uint32_t bits) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(bits)));
}

/// 16 bytes at a time, which must be aligned.
__device__ inline uint4 load_16(const void* from) { return *static_cast<const uint4*>(from); }
__device__ inline void store_16(void* to, uint4 value) { *static_cast<uint4*>(to) = value; }

/// d += a b, 16×16 by 16×8, on the tensor cores. Of the warp's lane = 4 g + q:
///   a[0] (row g, columns 2q, 2q+1)   a[1] row g+8   a[2] columns 2q+8, 2q+9   a[3] both
///   b[0] (rows 2q, 2q+1, column g)   b[1] rows 2q+8, 2q+9
///   d[0], d[1] (row g, columns 2q, 2q+1)   d[2], d[3] row g+8
__device__ inline void mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  // volatile: all lanes take part, so it must not move into a branch that uses its result.
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

using Stream = cudaStream_t;
struct Launch {
  dim3 grid;
  unsigned threads = 0;
  std::size_t shared_bytes = 0;
  Stream stream = nullptr;
  bool cooperative = false;
};

inline constexpr std::size_t shared_bytes_without_asking = 48 * 1024;

template <class... Parameters>
void allow_shared_bytes(void (*kernel)(Parameters...), std::size_t bytes) {
  if (bytes > shared_bytes_without_asking)
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)));
}

template <class... Parameters, class... Arguments>
void launch(const Launch& l, void (*kernel)(Parameters...), const Arguments&... arguments) {
  allow_shared_bytes(kernel, l.shared_bytes);
  cudaLaunchAttribute cooperative = {};
  cooperative.id = cudaLaunchAttributeCooperative;
  cooperative.val.cooperative = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = l.grid, config.blockDim = dim3(l.threads);
  config.dynamicSmemBytes = l.shared_bytes, config.stream = l.stream;
  config.attrs = &cooperative, config.numAttrs = l.cooperative ? 1 : 0;
  check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...));
}

struct DeviceLimits {
  int multiprocessors = 0;
  std::size_t shared_bytes = 0;  ///< of one block
};
inline DeviceLimits device_limits() {
  int device = 0, multiprocessors = 0, shared = 0;
  check(cudaGetDevice(&device));
  check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device));
  check(cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  return {multiprocessors, static_cast<std::size_t>(shared)};
}
/// How many blocks of a cooperative launch fit on the device together.
template <class... Parameters>
int blocks_at_once(void (*kernel)(Parameters...), unsigned threads, std::size_t shared_bytes) {
  allow_shared_bytes(kernel, shared_bytes);
  int each = 0;
  check(
      cudaOccupancyMaxActiveBlocksPerMultiprocessor(&each, kernel, static_cast<int>(threads), shared_bytes));
  return each * device_limits().multiprocessors;
}

inline void* device_allocate(std::size_t bytes) {
  void* data = nullptr;
  check(cudaMalloc(&data, bytes ? bytes : 1));
  return data;
}
/// Waits for the kernels that were started before it, in any stream, as cudaFree does; cudaFreeAsync would
/// not, nor would a pool of memory.
inline void device_free(void* data) { cudaFree(data); }
inline void copy_to_device(const void* from, void* to, std::size_t bytes, Stream stream) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream));
}
inline void copy_to_host(const void* from, void* to, std::size_t bytes, Stream stream) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream));
}
inline void copy_on_device(const void* from, void* to, std::size_t bytes, Stream stream) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream));
}
inline void set_bytes(void* to, int value, std::size_t bytes, Stream stream) {
  check(cudaMemsetAsync(to, value, bytes, stream));
}
/// Whether the stream is being captured into a graph.
inline bool is_capturing(Stream stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(stream, &status));
  return status != cudaStreamCaptureStatusNone;
}
inline void synchronize(Stream stream) { check(cudaStreamSynchronize(stream)); }

/// A stream of its own, in which graphs can be captured.
class OwnStream {
 public:
  OwnStream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  OwnStream(const OwnStream&) = delete;
  OwnStream& operator=(const OwnStream&) = delete;
  ~OwnStream() { cudaStreamDestroy(stream_); }
  operator Stream() const { return stream_; }

 private:
  Stream stream_ = nullptr;
};

/// What body() launches, as one graph: it is launched at once, without the host's time for every kernel.
class Graph {
 public:
  template <class Body>
  Graph(Stream stream, const Body& body) : stream_(stream) {
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    try {
      body();
    } catch (...) {
      cudaStreamEndCapture(stream, &graph_);
      if (graph_) cudaGraphDestroy(graph_);
      throw;
    }
    check(cudaStreamEndCapture(stream, &graph_));
    const cudaError_t error = cudaGraphInstantiate(&instance_, graph_, 0);
    if (error != cudaSuccess)
      cudaGraphDestroy(graph_);  // the destructor does not run if the constructor throws
    check(error);
  }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  ~Graph() {
    cudaGraphExecDestroy(instance_);
    cudaGraphDestroy(graph_);
  }
  void launch() const { check(cudaGraphLaunch(instance_, stream_)); }

 private:
  Stream stream_;
  cudaGraph_t graph_ = nullptr;
  cudaGraphExec_t instance_ = nullptr;
};

/// The time that the device takes for what is between two of them in a stream.
class Event {
 public:
  Event() { check(cudaEventCreate(&event_)); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event() { cudaEventDestroy(event_); }
  void record(Stream stream) { check(cudaEventRecord(event_, stream)); }
  /// In seconds; waits for both.
  double since(const Event& earlier) const {
    float milliseconds = 0;
    check(cudaEventSynchronize(event_));
    check(cudaEventElapsedTime(&milliseconds, earlier.event_, event_));
    return 1e-3 * static_cast<double>(milliseconds);
  }

 private:
  cudaEvent_t event_ = nullptr;
};

/// Empty where there is no device, or none that runs these kernels: then `why`.
inline std::string device_name(std::string& why) {
  int count = 0;
  cudaDeviceProp properties;
  cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess && count > 0) error = cudaGetDeviceProperties(&properties, 0);
  if (error != cudaSuccess || count == 0) {
    why = error == cudaSuccess ? "no CUDA device" : cudaGetErrorString(error);
    return {};
  }
  if (properties.major < 8) {
    why = std::string(properties.name) +
          " is older than compute capability 8.0, whose bfloat16 the kernels need";
    return {};
  }
  return properties.name;
}

}  // namespace gpu_cuda
#endif
