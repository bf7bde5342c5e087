// Files: mapped into memory for reading; written beside their place and put there whole.
#pragma once

#include <cerrno>        // errno
#include <cstddef>       // byte, size_t
#include <cstdint>       // uintmax_t
#include <cstdio>        // FILE (systems that are not POSIX)
#include <filesystem>    // path, rename
#include <random>        // random_device
#include <span>          // span
#include <string>        // string
#include <system_error>  // error_code, generic_category
#include <utility>       // exchange, move
#include <vector>        // vector

#include "../adapter/quote.hpp"
#include "../adapter/result.hpp"
#include "../views/config.hpp"

#ifndef TIEDLORA_POSIX
#if defined(__unix__) || defined(__APPLE__)
#define TIEDLORA_POSIX 1
#else
#define TIEDLORA_POSIX 0
#endif
#endif

#if TIEDLORA_POSIX
#include <fcntl.h>     // open
#include <sys/file.h>  // flock
#include <sys/mman.h>  // mmap
#include <sys/stat.h>  // fstat
#include <unistd.h>    // write, fsync, close
#endif

TIEDLORA_BEGIN_NAMESPACE

namespace detail {
/// "PATH: WHAT: the system's reason". Reads errno.
inline Failure file_failure(const std::filesystem::path& path, std::string_view what) {
  return {message(in_quotes(path.string()), " ", what, ": ", std::generic_category().message(errno))};
}

}  // namespace detail

/// The bytes of a file, for reading: mapped, so that only what is looked at is read from the disk, and
/// several processes share one copy. On systems that are not POSIX they are read into memory. Pages come when
/// they are touched: whoever shortens the file meanwhile makes that access fail (SIGBUS); replacing it, as
/// AtomicFile does, leaves the mapping as it was.
class MappedFile {
 public:
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)),
        copy_(std::move(other.copy_)) {}
  MappedFile& operator=(MappedFile other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(copy_, other.copy_);
    return *this;
  }
  ~MappedFile() {
#if TIEDLORA_POSIX
    if (data_) ::munmap(data_, size_);
#endif
  }

  /// Page-aligned where mapped. Valid until the MappedFile goes; a move keeps them.
  std::span<const std::byte> bytes() const {
    if (!copy_.empty()) return copy_;
    return {static_cast<const std::byte*>(data_), size_};
  }

  static Result<MappedFile> try_open(const std::filesystem::path& path);

 private:
  void* data_ = nullptr;
  std::size_t size_ = 0;
  std::vector<std::byte> copy_;
};

/// A file in the making: what is appended stands in a temporary file beside the target, which commit puts in
/// the target's place in one step. Whoever opens the target, and whatever kills the process or the machine,
/// finds the old file or the whole new one. Without commit, the destructor removes what was written; what a
/// killed process left is removed when the target is written the next time.
class AtomicFile {
 public:
  AtomicFile(AtomicFile&& other) noexcept
      : target_(std::move(other.target_)),
        temporary_(std::exchange(other.temporary_, {})),
#if TIEDLORA_POSIX
        descriptor_(std::exchange(other.descriptor_, -1))
#else
        stream_(std::exchange(other.stream_, nullptr))
#endif
  {
  }
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile() {
    if (temporary_.empty()) return;
    std::error_code ignored;
    std::filesystem::remove(temporary_, ignored);
    close();
  }

  /// A symbolic link is followed: the file that it points to is replaced. Refuses a target that is there and
  /// not a regular file. A file that is there keeps its permissions.
  static Result<AtomicFile> try_create(const std::filesystem::path& target);

  Status try_append(std::span<const std::byte> bytes);
  Status try_append(std::string_view text) {
    return try_append(std::as_bytes(std::span(text.data(), text.size())));
  }

  /// Flushes the file to the disk, puts it in the target's place and flushes the folder. Nothing can be
  /// appended afterwards.
  Status try_commit();

 private:
  AtomicFile() = default;
  bool close() {
#if TIEDLORA_POSIX
    const int descriptor = std::exchange(descriptor_, -1);
    return descriptor < 0 || ::close(descriptor) == 0;
#else
    std::FILE* const stream = std::exchange(stream_, nullptr);
    return !stream || std::fclose(stream) == 0;
#endif
  }

  std::filesystem::path target_, temporary_;
#if TIEDLORA_POSIX
  int descriptor_ = -1;
#else
  std::FILE* stream_ = nullptr;
#endif
};

namespace detail {
/// What the names of a target's temporary files begin with, cut so that they stay below 255 bytes.
inline std::string temporary_prefix(const std::filesystem::path& target) {
  return "." + target.filename().string().substr(0, 200) + ".";
}
inline constexpr const char* temporary_suffix = ".partial";

/// A file beside the target that no other writer uses.
inline std::filesystem::path temporary_name(const std::filesystem::path& target) {
  std::random_device random;
  std::string digits;
  for (int i = 0; i < 12; ++i) digits += "0123456789abcdefghijklmnopqrstuv"[random() % 32];
  return target.parent_path() / (temporary_prefix(target) + digits + temporary_suffix);
}

#if TIEDLORA_POSIX
/// Removes temporary files of killed writers. A living one holds the lock on its file.
inline void remove_abandoned(const std::filesystem::path& target) {
  const std::filesystem::path folder = target.has_parent_path() ? target.parent_path() : ".";
  std::error_code ignored;
  std::filesystem::directory_iterator entry(folder, ignored);
  for (; !ignored && entry != std::filesystem::directory_iterator(); entry.increment(ignored)) {
    const std::string name = entry->path().filename().string();
    if (!name.starts_with(temporary_prefix(target)) || !name.ends_with(temporary_suffix)) continue;
    const int descriptor = ::open(entry->path().c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (descriptor < 0) continue;
    if (::flock(descriptor, LOCK_EX | LOCK_NB) == 0) ::unlink(entry->path().c_str());
    ::close(descriptor);
  }
}

/// Creates a temporary file and locks it. Again where remove_abandoned of another process took it in between.
inline int create_temporary(const std::filesystem::path& target, std::filesystem::path& name) {
  for (int attempt = 0; attempt < 100; ++attempt) {
    name = temporary_name(target);
    const int descriptor = ::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor < 0 && errno == EEXIST) continue;
    if (descriptor < 0) return -1;
    ::flock(descriptor, LOCK_EX);  // where the file system has no locks, nothing is ever taken for abandoned
    struct stat here = {}, there = {};
    if (::fstat(descriptor, &here) == 0 && ::stat(name.c_str(), &there) == 0 && here.st_ino == there.st_ino &&
        here.st_dev == there.st_dev)
      return descriptor;
    ::close(descriptor);
  }
  errno = EEXIST;
  return -1;
}
#endif

}  // namespace detail

inline Result<MappedFile> MappedFile::try_open(const std::filesystem::path& path) {
  MappedFile file;
#if TIEDLORA_POSIX
  // Not blocking: a pipe without a writer would wait for ever.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return detail::file_failure(path, "cannot be opened");
  const auto refuse = [&](Failure failure) {
    ::close(descriptor);
    return failure;
  };
  struct stat status = {};
  if (::fstat(descriptor, &status) != 0) return refuse(detail::file_failure(path, "cannot be read"));
  if (!S_ISREG(status.st_mode))
    return refuse({detail::message(detail::in_quotes(path.string()), " is not a file",
                                   S_ISDIR(status.st_mode) ? " but a folder" : "")});
  file.size_ = static_cast<std::size_t>(status.st_size);
  if (file.size_ > 0) {
    void* const data = ::mmap(nullptr, file.size_, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (data == MAP_FAILED) return refuse(detail::file_failure(path, "cannot be mapped"));
    file.data_ = data;
  }
  ::close(descriptor);
#else
  std::FILE* const stream = std::fopen(path.string().c_str(), "rb");
  if (!stream) return detail::file_failure(path, "cannot be opened");
  std::error_code error;
  const std::uintmax_t size = std::filesystem::file_size(path, error);
  if (!error) file.copy_.resize(static_cast<std::size_t>(size));
  const bool read =
      !error && std::fread(file.copy_.data(), 1, file.copy_.size(), stream) == file.copy_.size();
  std::fclose(stream);
  if (!read) return detail::file_failure(path, "cannot be read");
#endif
  return file;
}

inline Result<AtomicFile> AtomicFile::try_create(const std::filesystem::path& target) {
  AtomicFile file;
  std::error_code error;
  const std::filesystem::file_status there = std::filesystem::status(target, error);
  if (std::filesystem::exists(there) && !std::filesystem::is_regular_file(there))
    return Failure{detail::message(detail::in_quotes(target.string()),
                                   " is there and not a regular file; it is left as it is")};
  file.target_ = target;
  if (std::filesystem::is_symlink(std::filesystem::symlink_status(target, error)))
    file.target_ = std::filesystem::weakly_canonical(target, error);
#if TIEDLORA_POSIX
  detail::remove_abandoned(file.target_);
  file.descriptor_ = detail::create_temporary(file.target_, file.temporary_);
  if (file.descriptor_ < 0) {
    file.temporary_.clear();
    return detail::file_failure(target, "cannot be written");
  }
  if (std::filesystem::exists(there))
    ::fchmod(file.descriptor_, static_cast<mode_t>(there.permissions() & std::filesystem::perms::mask));
#else
  file.temporary_ = detail::temporary_name(file.target_);
  file.stream_ = std::fopen(file.temporary_.string().c_str(), "wb");
  if (!file.stream_) {
    file.temporary_.clear();
    return detail::file_failure(target, "cannot be written");
  }
#endif
  return file;
}

inline Status AtomicFile::try_append(std::span<const std::byte> bytes) {
#if TIEDLORA_POSIX
  while (!bytes.empty()) {
    constexpr std::size_t most = std::size_t{1} << 30;  // Linux writes less than 2 GiB at once
    const auto written = ::write(descriptor_, bytes.data(), bytes.size() < most ? bytes.size() : most);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return detail::file_failure(target_, "cannot be written");
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
#else
  if (std::fwrite(bytes.data(), 1, bytes.size(), stream_) != bytes.size())
    return detail::file_failure(target_, "cannot be written");
#endif
  return success();
}

inline Status AtomicFile::try_commit() {
#if TIEDLORA_POSIX
  // The data first, or a crash of the machine could leave the new name with empty blocks. The lock goes last.
  if (::fsync(descriptor_) != 0 || ::rename(temporary_.c_str(), target_.c_str()) != 0)
    return detail::file_failure(target_, "cannot be written");
  temporary_.clear();
  if (!close()) return detail::file_failure(target_, "cannot be written");
  const std::filesystem::path folder = target_.has_parent_path() ? target_.parent_path() : ".";
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor >= 0) {
    ::fsync(descriptor);  // some file systems know no fsync of a folder
    ::close(descriptor);
  }
#else
  std::error_code error;
  if (!close()) return detail::file_failure(target_, "cannot be written");
  std::filesystem::rename(temporary_, target_, error);
  if (error)
    return Failure{
        detail::message(detail::in_quotes(target_.string()), " cannot be written: ", error.message())};
  temporary_.clear();
#endif
  return success();
}

/// Puts a text, or bytes, into a file as AtomicFile does.
inline Status try_write_file(const std::filesystem::path& path, std::string_view text) {
  Result<AtomicFile> file = AtomicFile::try_create(path);
  if (!file) return file.failure();
  if (Status done = file->try_append(text); !done) return done;
  return file->try_commit();
}
inline void write_file(const std::filesystem::path& path, std::string_view text) {
  (void)detail::value_or_fail(try_write_file(path, text));
}

TIEDLORA_END_NAMESPACE
