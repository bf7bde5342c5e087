// What the programs of the examples return.
#pragma once

namespace examples {

enum ExitCode : int { success = 0, failure = 1, usage = 2 };

}  // namespace examples
