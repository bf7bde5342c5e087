// One run at a time in a folder.
#pragma once

#include <fcntl.h>     // open
#include <sys/file.h>  // flock
#include <unistd.h>    // close

#include <cerrno>      // errno, EWOULDBLOCK
#include <filesystem>  // path, create_directories
#include <stdexcept>   // runtime_error

#include <fmt/format.h>

namespace finetune {

/// Keeps other runs out of a folder while it lives. The system lets go when a process ends, however it ends.
class FolderLock {
 public:
  /// Makes the folder if there is none. Throws std::runtime_error if another run has it.
  explicit FolderLock(const std::filesystem::path& folder) {
    std::filesystem::create_directories(folder);
    descriptor_ = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    // File systems without locks do without.
    if (descriptor_ < 0 || ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return;
    ::close(descriptor_);
    throw std::runtime_error(fmt::format(
        "another run is writing into {}; wait until it has ended, or give another --out", folder.string()));
  }
  ~FolderLock() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int descriptor_ = -1;
};

}  // namespace finetune
