// The command line.
#pragma once

#include <iosfwd>  // istream, ostream

namespace engine {

enum ExitCode : int { success = 0, failure = 1, usage = 2 };

/// The program. Texts go to `out`, everything else to `err`. Returns an ExitCode.
int run(int argc, const char* const* argv, std::istream& in, std::ostream& out, std::ostream& err);

}  // namespace engine
