// Standard output that cannot be written to is an error of every program.
#pragma once

#include <cerrno>        // errno
#include <cstdio>        // ferror, stdout
#include <iostream>      // cout
#include <ostream>       // ostream
#include <stdexcept>     // runtime_error
#include <string>        // string
#include <system_error>  // generic_category

#include <unistd.h>  // isatty

namespace examples {

/// Throws std::runtime_error where what was written could not be: the disk is full, nobody reads the pipe.
/// For std::cout, what went to stdout counts as well.
inline void flush(std::ostream& out) {
  errno = 0;
  out.flush();
  const int reason = errno;
  if (out && !(&out == &std::cout && std::ferror(stdout))) return;
  throw std::runtime_error("cannot write to standard output" +
                           (reason != 0 ? ": " + std::generic_category().message(reason)
                                        : std::string(" (is the disk full, or the pipe closed?)")));
}

/// Whether it is standard output, and that a terminal.
inline bool is_terminal(const std::ostream& out) { return &out == &std::cout && isatty(STDOUT_FILENO) == 1; }

}  // namespace examples
