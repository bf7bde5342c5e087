// The device of the tests: one for all of a program.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <optional>

#include "device.hpp"

namespace gpu_opencl {

/// Null where there is none; then tests are skipped.
inline Device* test_device() {
  struct Found {
    Found() {
      try {
        device.emplace();
      } catch (const NoDevice&) {
      }
    }
    std::optional<Device> device;
  };
  static Found found;
  return found.device ? &*found.device : nullptr;
}

/// A test that needs a device.
class OpenCl : public testing::Test {
 protected:
  void SetUp() override {
    if (test_device()) return;
    // Where PoCL is installed there is a device: a check that never runs would show nothing.
    ASSERT_FALSE(std::filesystem::exists("/etc/OpenCL/vendors/pocl.icd"))
        << "PoCL is installed, but has no device";
    GTEST_SKIP() << "no OpenCL device (pocl-opencl-icd is one on the CPU)";
  }
  static Device& device() { return *test_device(); }
};

}  // namespace gpu_opencl
