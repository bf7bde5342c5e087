// One OpenCL device with its memory and its queue.
#pragma once

#include <cstddef>    // size_t
#include <cstdint>    // uint64_t
#include <stdexcept>  // runtime_error
#include <string>     // string
#include <vector>     // vector

#define CL_TARGET_OPENCL_VERSION 200
#include <CL/cl.h>

namespace gpu_opencl {

/// What an OpenCL function refused. Says which, and the number of the error.
class OpenClError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// That no device can be used, and why.
class NoDevice : public OpenClError {
 public:
  using OpenClError::OpenClError;
};

/// Throws OpenClError unless the status is CL_SUCCESS.
void check(cl_int status, const char* what);

/// The device, and memory in it as tiedlora::DeviceMemory wants it. Memory is shared virtual memory
/// (OpenCL 2.0, coarse-grained), whose addresses are the same on host and device, so that the library's views
/// may hold them and be passed by value. The host dereferences none of them: all goes through upload and
/// download.
///
/// Commands run in the order in which they are given (an in-order queue); upload, download and free wait for
/// them, kernels do not. For one host thread at a time.
class Device {
 public:
  /// The first GPU, else the first other device that has what is needed. Throws NoDevice.
  Device();
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  /// "NVIDIA H200, OpenCL 3.0 CUDA"
  const std::string& description() const { return description_; }

  /// Throws OpenClError where there is no room.
  void* allocate(std::size_t bytes);
  /// After all commands have ended, since they may use it.
  void free(void* data);
  void upload(const void* from, void* device, std::size_t bytes);
  void download(const void* device, void* to, std::size_t bytes);
  /// Waits for all commands.
  void finish();

  cl_context context() const { return context_; }
  cl_device_id id() const { return id_; }
  cl_command_queue queue() const { return queue_; }
  /// All memory that is allocated: kernels must be told of what they reach by addresses in structs and
  /// arrays. The number changes with it.
  const std::vector<void*>& allocations() const { return allocations_; }
  std::uint64_t allocations_version() const { return version_; }

 private:
  void copy(void* to, const void* from, std::size_t bytes, const char* what);

  cl_device_id id_ = nullptr;
  cl_context context_ = nullptr;
  cl_command_queue queue_ = nullptr;
  std::string description_;
  std::vector<void*> allocations_;
  std::uint64_t version_ = 1;
};

}  // namespace gpu_opencl
