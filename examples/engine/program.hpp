// The command line.
#pragma once

#include <iosfwd>  // istream, ostream

#include "../exit_code.hpp"

namespace engine {

using enum examples::ExitCode;

/// The program. Texts go to `out`, everything else to `err`. Returns an ExitCode.
int run(int argc, const char* const* argv, std::istream& in, std::ostream& out, std::ostream& err);

}  // namespace engine
