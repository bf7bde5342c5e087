// What the library asks of a device's memory.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <tiedlora/ops.hpp>

#include "test_device.hpp"

namespace gpu_opencl {
namespace {

static_assert(tiedlora::DeviceMemory<Device>);

class OpenClDevice : public OpenCl {};

TEST_F(OpenClDevice, FreesMemoryAfterTheCommandsBeforeIt) {
  void* const data = device().allocate(1);
  cl_int status = CL_SUCCESS;
  cl_event gate = clCreateUserEvent(device().context(), &status);
  check(status, "clCreateUserEvent");
  // A command that ends when another thread says so.
  check(clEnqueueMarkerWithWaitList(device().queue(), 1, &gate, nullptr), "clEnqueueMarkerWithWaitList");
  std::atomic<bool> is_open = false;
  std::thread opens_later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    is_open = true;
    clSetUserEventStatus(gate, CL_COMPLETE);
  });
  device().free(data);
  EXPECT_TRUE(is_open);
  opens_later.join();
  device().finish();
  clReleaseEvent(gate);
}

}  // namespace
}  // namespace gpu_opencl
