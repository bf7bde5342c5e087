// The command line of gpu_opencl.
#include "program.hpp"

#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <vector>

#include "test_device.hpp"

namespace gpu_opencl {
namespace {

struct Ran {
  int status;
  std::string out, err;
};
Ran run_program(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "gpu_opencl");
  std::ostringstream out, err;
  const int status = run(static_cast<int>(arguments.size()), arguments.data(), out, err);
  return {status, out.str(), err.str()};
}

TEST(OpenClProgram, SaysWhatIsWrongWithItsArguments) {
  EXPECT_EQ(run_program({}).status, 2);
  EXPECT_EQ(run_program({"--help"}).status, 0);
  EXPECT_NE(run_program({"--help"}).out.find("77"), std::string::npos);
  EXPECT_EQ(run_program({"parity", "--cases", "0"}).status, 2);
  EXPECT_NE(run_program({"parity", "--cases", "0"}).err.find("--cases"), std::string::npos);
}

// The check of the kernels, as CI runs it.
TEST(OpenClProgram, ParityPassesInEveryMixtureOfTypes) {
  const Ran ran = run_program({"parity", "--cases", "48"});
  if (!test_device()) {
    EXPECT_EQ(ran.status, 77) << ran.err;
    EXPECT_NE(ran.err.find("OpenCL"), std::string::npos) << ran.err;
    return;
  }
  EXPECT_EQ(ran.status, 0) << ran.out;
  EXPECT_EQ(ran.out.find("device: " + test_device()->description()), 0u) << ran.out;
  for (const char* text :
       {"All in float", "All in bfloat16", "Parameters in half", "shrink of modules: h", "passed"})
    EXPECT_NE(ran.out.find(text), std::string::npos) << text;
}

}  // namespace
}  // namespace gpu_opencl
