// How the programs of the examples take their arguments and say what went wrong.
#pragma once

#include <csignal>    // signal, SIGPIPE
#include <exception>  // exception
#include <iostream>   // cerr
#include <new>        // bad_alloc
#include <ostream>    // ostream
#include <sstream>    // istringstream, ostringstream
#include <stdexcept>  // invalid_argument
#include <string>     // getline, string
#include <vector>     // vector

#include <CLI/CLI.hpp>
#include <tiedlora/adapter/quote.hpp>

#include "exit_code.hpp"
#include "standard_output.hpp"

namespace examples {

/// A text that names what stood in files or arguments, for a terminal. Only line feeds pass.
inline std::string shown_text(const std::string& text) {
  std::string shown;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);)
    shown += tiedlora::detail::escaped(line) + (lines.eof() ? "" : "\n");
  return shown;
}
/// What went wrong.
inline std::string shown_error(const std::exception& error) { return shown_text(error.what()); }

/// CLI's own text lists all that no option takes, the last first. This names the first.
inline std::string unexpected_argument(const CLI::App& app) {
  const std::vector<std::string> rest = app.remaining(/*recurse=*/true);
  const std::string first = rest.empty() ? "" : rest.front();
  return first.starts_with('-') ? "there is no option " + first
                                : "\"" + first + "\" is one argument too many";
}

/// Parses the arguments, does the work and returns what it returns, an ExitCode or another exit status. What
/// the parser refuses and a std::invalid_argument of the work are wrong usage; any other exception is a
/// failure, and so is a result that cannot be written. All are reported on `err`.
template <class Work>
int run_command(CLI::App& app, int argc, const char* const* argv, std::ostream& out, std::ostream& err,
                const Work& work) {
  int status = success;
  try {
    try {
      app.parse(argc, argv);
      status = work();
    } catch (const CLI::ExtrasError&) {
      throw std::invalid_argument(unexpected_argument(app));
    } catch (const CLI::ParseError& error) {
      std::ostringstream said;  // which repeats arguments
      const int code = app.exit(error, out, said);
      err << shown_text(said.str());
      if (code != 0) return usage;
    }
    flush(out);
    return status;
  } catch (const std::invalid_argument& error) {
    err << shown_error(error) << "\nRun with --help for more information.\n";
    return usage;
  } catch (const std::bad_alloc&) {
    err << app.get_name() << ": there is not enough memory\n";
  } catch (const std::exception& error) {
    err << app.get_name() << ": " << shown_error(error) << '\n';
  }
  return failure;
}

/// What main() does around the program: `run` returns the exit status. A closed pipe is an error of writing,
/// not a signal that ends the program in the middle.
template <class Run>
int run_main(const Run& run) {
#ifdef SIGPIPE
  std::signal(SIGPIPE, SIG_IGN);
#endif
  try {
    return run();
  } catch (const std::exception& error) {  // a fault of the program's own: run() reports the user's
    std::cerr << shown_error(error) << '\n';
    return failure;
  }
}

}  // namespace examples
