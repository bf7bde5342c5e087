// The command line.
#pragma once

#include <iosfwd>  // ostream

#include "../exit_code.hpp"

namespace adapter_tool {

using enum examples::ExitCode;

/// The program. Results go to `out`, everything else to `err`. Returns an ExitCode.
int run(int argc, const char* const* argv, std::ostream& out, std::ostream& err);

}  // namespace adapter_tool
