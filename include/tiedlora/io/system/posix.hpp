// Files on POSIX systems: what file.hpp asks of the operating system.
#pragma once
#ifndef _WIN32  // empty there: every header compiles on its own

#include <cerrno>        // errno
#include <cstddef>       // byte, size_t
#include <filesystem>    // path, file_status
#include <span>          // span
#include <string>        // string
#include <system_error>  // generic_category

#include <fcntl.h>     // open
#include <sys/file.h>  // flock
#include <sys/mman.h>  // mmap
#include <sys/stat.h>  // fstat
#include <unistd.h>    // write, fsync, close

#include "../../adapter/result.hpp"
#include "../../views/config.hpp"
#include "path.hpp"

TIEDLORA_BEGIN_NAMESPACE

namespace detail::system {

/// "PATH WHAT: the system's reason", where a call of this file has just failed.
inline Failure failure(const std::filesystem::path& path, std::string_view what) {
  return {message(in_quotes(utf8(path)), " ", what, ": ", std::generic_category().message(errno))};
}

inline std::filesystem::path openable(const std::filesystem::path& path) { return path; }

struct Mapping {
  void* data = nullptr;
  std::size_t size = 0;
};

/// A regular file, whole, for reading. Nothing is mapped of an empty one.
inline Result<Mapping> try_map(const std::filesystem::path& path) {
  // Not blocking: a pipe without a writer would wait for ever.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return failure(path, "cannot be opened");
  const auto refuse = [&](Failure failure) {
    ::close(descriptor);
    return failure;
  };
  struct stat status = {};
  if (::fstat(descriptor, &status) != 0) return refuse(failure(path, "cannot be read"));
  if (!S_ISREG(status.st_mode))
    return refuse(
        {message(in_quotes(utf8(path)), " is not a file", S_ISDIR(status.st_mode) ? " but a folder" : "")});
  Mapping mapping{nullptr, static_cast<std::size_t>(status.st_size)};
  if (mapping.size > 0) {
    mapping.data = ::mmap(nullptr, mapping.size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (mapping.data == MAP_FAILED) return refuse(failure(path, "cannot be mapped"));
  }
  ::close(descriptor);
  return mapping;
}
inline void unmap(const Mapping& mapping) { ::munmap(mapping.data, mapping.size); }

/// A temporary file in the making; no_file where there is none.
using File = int;
inline constexpr File no_file = -1;

inline bool close(File file) { return ::close(file) == 0; }

/// Removes a temporary file whose writer is gone. A living one holds the lock on its file.
inline void remove_abandoned(const std::filesystem::path& path) {
  constexpr int flags = O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
  int descriptor = ::open(path.c_str(), O_RDWR | flags);  // to write: NFS locks nothing else
  if (descriptor < 0 && errno == EACCES) descriptor = ::open(path.c_str(), O_RDONLY | flags);
  if (descriptor < 0) return;
  if (::flock(descriptor, LOCK_EX | LOCK_NB) == 0) ::unlink(path.c_str());
  ::close(descriptor);
}

/// Creates a file that is not there and locks it. `again`: it was there, or another process's
/// remove_abandoned took it before the lock.
inline File create_temporary(const std::filesystem::path& path, bool& again) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  again = descriptor < 0 && errno == EEXIST;
  if (descriptor < 0) return no_file;
  ::flock(descriptor, LOCK_EX);  // where the file system has no locks, nothing is ever taken for abandoned
  struct stat here = {}, there = {};
  if (::fstat(descriptor, &here) == 0 && ::stat(path.c_str(), &there) == 0 && here.st_ino == there.st_ino &&
      here.st_dev == there.st_dev)
    return descriptor;
  ::close(descriptor);
  errno = EEXIST;
  again = true;
  return no_file;
}

inline void set_permissions(File file, std::filesystem::perms permissions) {
  ::fchmod(file, static_cast<mode_t>(permissions & std::filesystem::perms::mask));
}

inline bool write(File file, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    constexpr std::size_t most = std::size_t{1} << 30;  // Linux writes less than 2 GiB at once
    const auto written = ::write(file, bytes.data(), bytes.size() < most ? bytes.size() : most);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return true;
}

/// Writes the file's bytes to the disk.
inline bool flush(File file, const std::filesystem::path&) { return ::fsync(file) == 0; }

/// Puts the temporary file in the target's place, the data first: or a crash of the machine could leave the
/// new name with empty blocks. The file stays open, and locked.
inline bool replace(File file, const std::filesystem::path& temporary, const std::filesystem::path& target) {
  return flush(file, target) && ::rename(temporary.c_str(), target.c_str()) == 0;
}

/// Flushes a folder's names to the disk.
inline void flush_folder(const std::filesystem::path& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return;
  ::fsync(descriptor);  // some file systems know no fsync of a folder
  ::close(descriptor);
}

}  // namespace detail::system

TIEDLORA_END_NAMESPACE

#endif
