#include "kernels.hpp"

#include <cstddef>  // size_t
#include <string>   // string, to_string

namespace gpu_opencl {

std::string kernel_source() {
  return
#include "kernel_source.inc"
      ;
}

Kernels::Kernels(Device& device, const std::string& source, const std::string& P, const std::string& X,
                 const std::string& Y)
    : device_(device) {
  const char* text = source.c_str();
  cl_int status = CL_SUCCESS;
  program_ = clCreateProgramWithSource(device.context(), 1, &text, nullptr, &status);
  check(status, "clCreateProgramWithSource");
  const std::string options =
      "-cl-std=CL1.2 -D GROUP=" + std::to_string(group) + " -D P=" + P + " -D X=" + X + " -D Y=" + Y;
  const cl_device_id id = device.id();
  if (clBuildProgram(program_, 1, &id, options.c_str(), nullptr, nullptr) == CL_SUCCESS) return;
  std::size_t size = 0;
  clGetProgramBuildInfo(program_, id, CL_PROGRAM_BUILD_LOG, 0, nullptr, &size);
  std::string log(size, '\0');
  clGetProgramBuildInfo(program_, id, CL_PROGRAM_BUILD_LOG, size, log.data(), nullptr);
  clReleaseProgram(program_);
  throw OpenClError("the kernels do not compile for " + device.description() + ":\n" + log);
}

Kernels::~Kernels() {
  for (const auto& [name, kernel] : kernels_) clReleaseKernel(kernel.handle);
  clReleaseProgram(program_);
}

Kernels::Kernel& Kernels::find(const std::string& name) {
  Kernel& kernel = kernels_[name];
  if (kernel.handle) return kernel;
  cl_int status = CL_SUCCESS;
  kernel.handle = clCreateKernel(program_, name.c_str(), &status);
  check(status, ("clCreateKernel of " + name).c_str());
  return kernel;
}

void Kernels::start(Kernel& kernel, std::size_t columns, std::size_t rows) {
  if (kernel.allocations_version != device_.allocations_version()) {
    const auto& all = device_.allocations();
    check(clSetKernelExecInfo(kernel.handle, CL_KERNEL_EXEC_INFO_SVM_PTRS, all.size() * sizeof(void*),
                              static_cast<const void*>(all.data())),
          "clSetKernelExecInfo");
    kernel.allocations_version = device_.allocations_version();
  }
  const std::size_t items[] = {columns * group, rows}, of_group[] = {group, 1};
  check(clEnqueueNDRangeKernel(device_.queue(), kernel.handle, 2, nullptr, items, of_group, 0, nullptr,
                               nullptr),
        "clEnqueueNDRangeKernel");
}

}  // namespace gpu_opencl
