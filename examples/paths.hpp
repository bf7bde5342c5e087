// Paths on the command line, looked at before any work: what is read is there, and what is written can be.
#pragma once

#include <cerrno>        // errno
#include <cstdlib>       // mkdtemp
#include <filesystem>    // path, directory_iterator, remove
#include <fstream>       // ifstream
#include <stdexcept>     // runtime_error
#include <string>        // string
#include <system_error>  // error_code, generic_category
#include <vector>        // vector

#include <fmt/format.h>

namespace examples {

/// Why what is there cannot be read, or nothing. Of a folder its first level is tried.
inline std::string why_unreadable(const std::filesystem::path& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!error && !fs::exists(status)) error = std::make_error_code(std::errc::no_such_file_or_directory);
  if (!error && fs::is_directory(status)) fs::directory_iterator(path, error);
  if (!error && fs::is_regular_file(status)) {  // others, such as a pipe, could keep us waiting
    errno = 0;
    if (!std::ifstream(path)) error = std::error_code(errno != 0 ? errno : EIO, std::generic_category());
  }
  return error ? fmt::format("\"{}\" cannot be read: {}", path.string(), error.message()) : std::string();
}
/// Throws std::runtime_error for the first that cannot be read, or is neither a file nor a folder: a pipe
/// would keep us waiting, and could be read only once.
inline void check_readable(const std::string& option, const std::vector<std::filesystem::path>& paths) {
  for (const std::filesystem::path& path : paths) {
    if (const std::string why = why_unreadable(path); !why.empty())
      throw std::runtime_error(option + ": " + why);
    if (!std::filesystem::is_regular_file(path) && !std::filesystem::is_directory(path))
      throw std::runtime_error(
          fmt::format("{}: \"{}\" is neither a file nor a folder", option, path.string()));
  }
}

/// Throws std::runtime_error for a folder that is not there and cannot be made, and for one in which nothing
/// can be written. Leaves nothing behind.
inline void check_output_folder(const std::string& option, const std::filesystem::path& folder) {
  namespace fs = std::filesystem;
  const auto fail = [&](const std::string& why) {
    throw std::runtime_error(
        fmt::format("{}: \"{}\" {}; name a folder that can be written to", option, folder.string(), why));
  };
  std::error_code error;
  fs::path there = fs::absolute(folder, error);
  // Up to the first that exists. A file in the place of a folder (a/file/b) is the error of its child.
  while (!fs::exists(fs::symlink_status(there, error)) && there.has_relative_path())
    there = there.parent_path();
  if (fs::is_symlink(fs::symlink_status(there, error)) && !fs::exists(fs::status(there, error)))
    fail(fmt::format("cannot be made: \"{}\" is a link to nothing", there.string()));
  if (!fs::is_directory(there, error))
    fail(there == fs::absolute(folder)
             ? "is a file, not a folder"
             : fmt::format("cannot be made: \"{}\" is not a folder", there.string()));
#if defined(__unix__) || defined(__APPLE__)
  // What permissions, quotas and read-only file systems allow is known for certain when it was done.
  std::string probe = (there / ".tiedlora-XXXXXX").string();
  if (!mkdtemp(probe.data()))
    fail(fmt::format("cannot be written to: {}", std::generic_category().message(errno)));
  fs::remove(probe, error);
#endif
}

}  // namespace examples
