// The kernels of kernels/*.cl, compiled by the device's driver for one combination of types.
#pragma once

#include <cstddef>      // size_t
#include <cstdint>      // uint64_t
#include <map>          // map
#include <string>       // string
#include <type_traits>  // is_trivially_copyable, is_same

#include <tiedlora/ops.hpp>

#include "device.hpp"

namespace gpu_opencl {

using tiedlora::Index;

/// The text of kernels/*.cl, which the build puts into the program.
std::string kernel_source();

/// A type as the kernels call it.
template <class T>
constexpr const char* type_name() {
  constexpr tiedlora::Format format = tiedlora::ScalarTraits<T>::format;
  static_assert(std::is_same_v<T, float> || format != tiedlora::Format::native,
                "the OpenCL kernels compute with float, half and bfloat16");
  return format == tiedlora::Format::binary16   ? "binary16"
         : format == tiedlora::Format::bfloat16 ? "bfloat16"
                                                : "float";
}

/// The kernels for parameters P and tokens in X and Y, which are named as the kernels call them.
class Kernels {
 public:
  /// Compiles them. Throws OpenClError, with the compiler's messages.
  Kernels(Device& device, const std::string& source, const std::string& P, const std::string& X,
          const std::string& Y);
  ~Kernels();
  Kernels(const Kernels&) = delete;
  Kernels& operator=(const Kernels&) = delete;

  /// Work-items of a group.
  static constexpr std::size_t group = 64;

  /// Starts one work-item for each (column, row), in groups of `group` columns; kernels leave the columns
  /// beyond alone.
  template <class... Arguments>
  void start_items(const char* kernel, Index columns, Index rows, const Arguments&... arguments) {
    start_groups(kernel, (columns + static_cast<Index>(group) - 1) / static_cast<Index>(group), rows,
                 arguments...);
  }

  /// Starts one group for each (column, row). Arguments are passed by value, bit for bit; pointers are the
  /// device's.
  template <class... Arguments>
  void start_groups(const char* kernel, Index columns, Index rows, const Arguments&... arguments) {
    if (columns <= 0 || rows <= 0) return;
    Kernel& k = find(kernel);
    cl_uint n = 0;
    (set(k.handle, n++, arguments), ...);
    start(k, static_cast<std::size_t>(columns), static_cast<std::size_t>(rows));
  }

 private:
  struct Kernel {
    cl_kernel handle = nullptr;
    std::uint64_t allocations_version = 0;  ///< of which it has been told
  };

  Kernel& find(const std::string& name);
  void start(Kernel& kernel, std::size_t columns, std::size_t rows);

  template <class T>
  static void set(cl_kernel kernel, cl_uint n, const T& argument) {
    static_assert(std::is_trivially_copyable_v<T>);
    check(clSetKernelArg(kernel, n, sizeof argument, &argument), "an argument of a kernel");
  }
  template <class T>
  static void set(cl_kernel kernel, cl_uint n, T* const& pointer) {
    check(clSetKernelArgSVMPointer(kernel, n, pointer), "a pointer for a kernel");
  }

  Device& device_;
  cl_program program_ = nullptr;
  std::map<std::string, Kernel> kernels_;
};

}  // namespace gpu_opencl
