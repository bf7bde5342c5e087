// How the programs of the examples take their arguments and say what went wrong.
#pragma once

#include <exception>  // exception
#include <ostream>    // ostream
#include <stdexcept>  // invalid_argument

#include <CLI/CLI.hpp>

#include "exit_code.hpp"

namespace examples {

/// Parses the arguments, does the work and returns an ExitCode. What the parser refuses and a
/// std::invalid_argument of the work are wrong usage; any other exception is a failure. Both are told on
/// `err`.
template <class Work>
int run_command(CLI::App& app, int argc, const char* const* argv, std::ostream& out, std::ostream& err,
                const Work& work) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error, out, err) == 0 ? success : usage;
  }
  try {
    work();
    return success;
  } catch (const std::invalid_argument& error) {
    err << error.what() << "\nRun with --help for more information.\n";
    return usage;
  } catch (const std::exception& error) {
    err << app.get_name() << ": " << error.what() << '\n';
    return failure;
  }
}

}  // namespace examples
