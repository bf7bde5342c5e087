// The program's command line.
#pragma once

#include <iosfwd>  // ostream

namespace gpu_cuda {

/// Returns the exit status.
int run(int argc, const char* const* argv, std::ostream& out, std::ostream& err);

}  // namespace gpu_cuda
