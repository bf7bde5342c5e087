// The command line of gpu_opencl.
#pragma once

#include <iosfwd>  // ostream

namespace gpu_opencl {

/// Runs the program. Returns an exit status: 0 done and right, 1 a check failed, 2 wrong usage, 77 no device.
int run(int argc, const char* const* argv, std::ostream& out, std::ostream& err);

}  // namespace gpu_opencl
