#include "device.hpp"

#include <algorithm>  // find
#include <cstddef>    // size_t
#include <string>     // string, to_string
#include <vector>     // vector

namespace gpu_opencl {
namespace {

std::string text_of(cl_device_id device, cl_device_info what) {
  std::size_t size = 0;
  if (clGetDeviceInfo(device, what, 0, nullptr, &size) != CL_SUCCESS) return "?";
  std::string text(size, '\0');
  if (clGetDeviceInfo(device, what, size, text.data(), nullptr) != CL_SUCCESS) return "?";
  return text.substr(0, text.find('\0'));
}

template <class T>
T number_of(cl_device_id device, cl_device_info what) {
  T number = 0;
  return clGetDeviceInfo(device, what, sizeof number, &number, nullptr) == CL_SUCCESS ? number : 0;
}

std::string describe(cl_device_id device) {
  return text_of(device, CL_DEVICE_NAME) + ", " + text_of(device, CL_DEVICE_VERSION);
}

/// Why a device cannot be used; empty if it can.
std::string what_lacks(cl_device_id device) {
  if (!number_of<cl_bool>(device, CL_DEVICE_AVAILABLE)) return "is not available";
  if (!number_of<cl_bool>(device, CL_DEVICE_COMPILER_AVAILABLE)) return "has no compiler";
  if (!(number_of<cl_device_svm_capabilities>(device, CL_DEVICE_SVM_CAPABILITIES) &
        CL_DEVICE_SVM_COARSE_GRAIN_BUFFER))
    return "has no shared virtual memory (OpenCL 2.0, coarse-grained)";
  if (number_of<cl_uint>(device, CL_DEVICE_ADDRESS_BITS) != 64) return "has no addresses of 64 bits";
  return "";
}

std::vector<cl_device_id> all_devices() {
  cl_uint count = 0;
  if (clGetPlatformIDs(0, nullptr, &count) != CL_SUCCESS || count == 0)
    throw NoDevice(
        "no OpenCL platform is installed (on Debian and Ubuntu pocl-opencl-icd runs OpenCL on the CPU)");
  std::vector<cl_platform_id> platforms(count);
  check(clGetPlatformIDs(count, platforms.data(), nullptr), "clGetPlatformIDs");
  std::vector<cl_device_id> all;
  for (const cl_platform_id platform : platforms) {
    if (clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 0, nullptr, &count) != CL_SUCCESS) continue;  // has none
    std::vector<cl_device_id> devices(count);
    check(clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, count, devices.data(), nullptr), "clGetDeviceIDs");
    all.insert(all.end(), devices.begin(), devices.end());
  }
  if (all.empty()) throw NoDevice("the OpenCL platforms of this machine have no device");
  return all;
}

cl_device_id choose() {
  cl_device_id chosen = nullptr;
  std::string reasons;
  for (const cl_device_id device : all_devices()) {
    const std::string reason = what_lacks(device);
    if (!reason.empty())
      reasons += "\n  " + describe(device) + " " + reason;
    else if (!chosen || (number_of<cl_device_type>(device, CL_DEVICE_TYPE) & CL_DEVICE_TYPE_GPU &&
                         !(number_of<cl_device_type>(chosen, CL_DEVICE_TYPE) & CL_DEVICE_TYPE_GPU)))
      chosen = device;
  }
  if (!chosen) throw NoDevice("no OpenCL device can be used:" + reasons);
  return chosen;
}

}  // namespace

void check(cl_int status, const char* what) {
  if (status == CL_SUCCESS) return;
  const bool is_memory = status == CL_MEM_OBJECT_ALLOCATION_FAILURE || status == CL_OUT_OF_RESOURCES;
  throw OpenClError(std::string(what) + " failed with OpenCL's error " + std::to_string(status) +
                    (is_memory ? " (not enough memory on the device?)" : ""));
}

Device::Device() : id_(choose()), description_(describe(id_)) {
  cl_int status = CL_SUCCESS;
  context_ = clCreateContext(nullptr, 1, &id_, nullptr, nullptr, &status);
  check(status, "clCreateContext");
  queue_ = clCreateCommandQueueWithProperties(context_, id_, nullptr, &status);
  if (status != CL_SUCCESS) clReleaseContext(context_);
  check(status, "clCreateCommandQueueWithProperties");
}

Device::~Device() {
  clFinish(queue_);
  for (void* data : allocations_) clSVMFree(context_, data);
  clReleaseCommandQueue(queue_);
  clReleaseContext(context_);
}

void* Device::allocate(std::size_t bytes) {
  void* const data = clSVMAlloc(context_, CL_MEM_READ_WRITE, bytes, 0);
  if (!data) throw OpenClError("the device has no room for " + std::to_string(bytes) + " bytes");
  allocations_.push_back(data);
  ++version_;
  return data;
}

void Device::free(void* data) {
  clFinish(queue_);  // a command that failed is reported where somebody waits for what it wrote
  clSVMFree(context_, data);
  const auto found = std::find(allocations_.begin(), allocations_.end(), data);
  if (found != allocations_.end()) allocations_.erase(found);
  ++version_;
}

void Device::copy(void* to, const void* from, std::size_t bytes, const char* what) {
  if (bytes > 0) check(clEnqueueSVMMemcpy(queue_, CL_TRUE, to, from, bytes, 0, nullptr, nullptr), what);
}
void Device::upload(const void* from, void* device, std::size_t bytes) {
  copy(device, from, bytes, "an upload");
}
void Device::download(const void* device, void* to, std::size_t bytes) {
  copy(to, device, bytes, "a download");
}
void Device::finish() { check(clFinish(queue_), "clFinish"); }

}  // namespace gpu_opencl
