// The command line.
#pragma once

#include <iosfwd>  // ostream

namespace adapter_tool {

enum ExitCode : int { success = 0, failure = 1, usage = 2 };

/// The program. Results go to `out`, everything else to `err`. Returns an ExitCode.
int run(int argc, const char* const* argv, std::ostream& out, std::ostream& err);

}  // namespace adapter_tool
