// Files: mapped into memory for reading; written to a temporary file and moved into place whole.
#pragma once

#include <cstddef>       // byte, size_t
#include <filesystem>    // path, rename
#include <random>        // random_device
#include <span>          // span
#include <string>        // string
#include <system_error>  // error_code
#include <utility>       // exchange, move

#include "../adapter/quote.hpp"
#include "../adapter/result.hpp"
#include "../views/config.hpp"
#include "system/path.hpp"
#ifdef _WIN32
#include "system/windows.hpp"
#else
#include "system/posix.hpp"
#endif

TIEDLORA_BEGIN_NAMESPACE

/// The bytes of a file, for reading: mapped, so that only what is looked at is read from the disk, and
/// several processes share one copy. Pages are loaded when they are touched: if the file is shortened
/// meanwhile, that access fails (SIGBUS; Windows does not allow it). Replacing the file, as AtomicFile does,
/// leaves the mapping as it was.
class MappedFile {
 public:
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept : mapping_(std::exchange(other.mapping_, {})) {}
  MappedFile& operator=(MappedFile other) noexcept {
    std::swap(mapping_, other.mapping_);
    return *this;
  }
  ~MappedFile() {
    if (mapping_.data) detail::system::unmap(mapping_);
  }

  /// Page-aligned. Valid while the MappedFile lives; a move keeps them valid.
  std::span<const std::byte> bytes() const {
    return {static_cast<const std::byte*>(mapping_.data), mapping_.size};
  }

  /// Maps a file for reading. A Failure if it does not exist, is not a regular file, or cannot be mapped.
  static Result<MappedFile> try_open(const std::filesystem::path& path) {
    MappedFile file;
    Result<detail::system::Mapping> mapping = detail::system::try_map(path);
    if (!mapping) return mapping.failure();
    file.mapping_ = *mapping;
    return file;
  }

 private:
  detail::system::Mapping mapping_;
};

/// A file being written: what is appended goes to a temporary file beside the target, and commit replaces the
/// target with it in one step. Whoever opens the target finds the old file or the whole new one, even if the
/// process or the machine dies. Without commit, the destructor removes what was written; what a killed
/// process left is removed when the target is next written.
class AtomicFile {
 public:
  AtomicFile(AtomicFile&& other) noexcept
      : target_(std::move(other.target_)),
        temporary_(std::exchange(other.temporary_, {})),
        file_(std::exchange(other.file_, detail::system::no_file)) {}
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile() {
    if (temporary_.empty()) return;
    // Windows removes no open file; elsewhere another process may have removed it in between, which is as
    // well.
    close();
    std::error_code ignored;
    std::filesystem::remove(temporary_, ignored);
  }

  /// A symbolic link is followed: the file that it points to is replaced, or made where it is not there yet.
  /// Refuses an existing target that is not a regular file. An existing file keeps its permissions.
  static Result<AtomicFile> try_create(const std::filesystem::path& target);

  /// Adds bytes at the end. A Failure if the disk is full or fails.
  Status try_append(std::span<const std::byte> bytes);
  Status try_append(std::string_view text) {
    return try_append(std::as_bytes(std::span(text.data(), text.size())));
  }

  /// Flushes what was appended to the disk, and refuses a target that commit would not replace. Of files that
  /// belong together call it for all before one of them is touched: a full disk may show only here.
  Status try_flush();

  /// Removes the old file ahead of commit: of files that belong together, one that is missing tells of an
  /// interruption, where an old one beside new ones could pass for theirs.
  Status try_remove_old();

  /// Flushes the file to the disk, puts it in the target's place and flushes the folder. Nothing can be
  /// appended afterwards.
  Status try_commit();

 private:
  AtomicFile() = default;
  bool close() {
    const auto file = std::exchange(file_, detail::system::no_file);
    return file == detail::system::no_file || detail::system::close(file);
  }

  std::filesystem::path target_, temporary_;
  detail::system::File file_ = detail::system::no_file;
};

namespace detail {
/// What the names of a target's temporary files begin with, cut so that they stay below 255 characters.
inline std::filesystem::path temporary_prefix(const std::filesystem::path& target) {
  std::filesystem::path prefix = ".";
  prefix += target.filename().native().substr(0, 200);
  return prefix += ".";
}
inline std::filesystem::path temporary_suffix() { return ".partial"; }

/// The file that a path names through symbolic links, whether it is there or not.
inline Result<std::filesystem::path> try_follow_links(const std::filesystem::path& path) {
  std::filesystem::path at = system::openable(path);
  constexpr int most_links = 40;  // Linux's own limit
  for (int links = 0; links <= most_links; ++links) {
    std::error_code error;
    if (!std::filesystem::is_symlink(std::filesystem::symlink_status(at, error))) return at;
    const std::filesystem::path next = std::filesystem::read_symlink(at, error);
    if (error)
      return Failure{
          message(in_quotes(utf8(path)), " is a symbolic link that cannot be read: ", error.message())};
    at = system::openable(at.parent_path() / next);  // which an absolute one replaces
  }
  return Failure{message(in_quotes(utf8(path)),
                         " is a symbolic link that leads back to itself or through more than ", most_links,
                         " others; give the path of the file itself")};
}

/// A file beside the target that no other writer uses.
inline std::filesystem::path temporary_name(const std::filesystem::path& target) {
  std::random_device random;
  std::string digits;
  for (int i = 0; i < 12; ++i) digits += "0123456789abcdefghijklmnopqrstuv"[random() % 32];
  std::filesystem::path name = temporary_prefix(target);
  name += digits;
  name += temporary_suffix();
  return target.parent_path() / name;
}

/// Removes temporary files of killed writers.
inline void remove_abandoned(const std::filesystem::path& target) {
  const std::filesystem::path folder = target.has_parent_path() ? target.parent_path() : ".";
  const std::filesystem::path prefix = temporary_prefix(target), suffix = temporary_suffix();
  std::error_code ignored;
  std::filesystem::directory_iterator entry(folder, ignored);
  for (; !ignored && entry != std::filesystem::directory_iterator(); entry.increment(ignored)) {
    const std::filesystem::path name = entry->path().filename();
    if (name.native().starts_with(prefix.native()) && name.native().ends_with(suffix.native()))
      system::remove_abandoned(entry->path());
  }
}
}  // namespace detail

inline Result<AtomicFile> AtomicFile::try_create(const std::filesystem::path& target) {
  AtomicFile file;
  std::error_code error;
  const std::filesystem::path path = detail::system::openable(target);
  const std::filesystem::file_status there = std::filesystem::status(path, error);
  if (std::filesystem::exists(there) && !std::filesystem::is_regular_file(there))
    return Failure{detail::message(detail::in_quotes(detail::utf8(target)),
                                   " exists and is not a regular file; it was left as it is")};
  Result<std::filesystem::path> followed = detail::try_follow_links(target);
  if (!followed) return followed.failure();
  file.target_ = *std::move(followed);
  detail::remove_abandoned(file.target_);
  // Again where a name is taken, or remove_abandoned of another process took the file for one of the dead.
  bool again = true;
  for (int attempt = 0; again && attempt < 100; ++attempt) {
    file.temporary_ = detail::temporary_name(file.target_);
    file.file_ = detail::system::create_temporary(file.temporary_, again);
  }
  if (file.file_ == detail::system::no_file) {
    file.temporary_.clear();
    return detail::system::failure(target, "cannot be written");
  }
  if (std::filesystem::exists(there)) detail::system::set_permissions(file.file_, there.permissions());
  return file;
}

inline Status AtomicFile::try_append(std::span<const std::byte> bytes) {
  if (!detail::system::write(file_, bytes)) return detail::system::failure(target_, "cannot be written");
  return success();
}

inline Status AtomicFile::try_flush() {
  if (!detail::system::flush(file_, target_)) return detail::system::failure(target_, "cannot be written");
  return success();
}

inline Status AtomicFile::try_remove_old() {
  std::error_code error;
  std::filesystem::remove(target_, error);
  if (error)
    return Failure{
        detail::message(detail::in_quotes(detail::utf8(target_)), " cannot be replaced: ", error.message())};
  detail::system::flush_folder(target_.has_parent_path() ? target_.parent_path() : ".");
  return success();
}

inline Status AtomicFile::try_commit() {
  if (!detail::system::replace(file_, temporary_, target_))
    return detail::system::failure(target_, "cannot be written");
  temporary_.clear();
  if (!close()) return detail::system::failure(target_, "cannot be written");
  detail::system::flush_folder(target_.has_parent_path() ? target_.parent_path() : ".");
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
