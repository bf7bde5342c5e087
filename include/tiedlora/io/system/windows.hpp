// Files on Windows: what file.hpp asks of the operating system. Paths are wide, and may be longer than 260.
#pragma once
#ifdef _WIN32  // empty elsewhere: every header compiles on its own

#include <cstddef>       // byte, size_t
#include <cstring>       // memcpy
#include <filesystem>    // path, absolute
#include <new>           // placement new
#include <span>          // span
#include <string>        // string, wstring
#include <string_view>   // wstring_view
#include <system_error>  // error_code
#include <vector>        // vector

// As hosts include it that have sockets or std::min: without the macros min and max, and the old winsock.h.
#ifndef NOMINMAX
#define NOMINMAX
#endif
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>

#include "../../adapter/result.hpp"
#include "../../views/config.hpp"
#include "path.hpp"

TIEDLORA_BEGIN_NAMESPACE

namespace detail::system {

inline constexpr std::wstring_view long_prefix = LR"(\\?\)", network_prefix = LR"(\\?\UNC)";

/// The path as it can be opened: one that is longer than MAX_PATH, 260, only with the prefix that says so.
inline std::filesystem::path openable(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::path whole = std::filesystem::absolute(path, error);
  if (error) return path;
  const std::wstring& text = whole.make_preferred().native();
  constexpr std::size_t most = 200;  // leaves room for a temporary file's suffix
  if (text.size() < most || text.starts_with(long_prefix)) return path;
  const std::wstring normal = whole.lexically_normal().native();  // with the prefix, ".." is a name as any
  if (normal.starts_with(LR"(\\)")) return std::wstring(network_prefix) + normal.substr(1);
  return std::wstring(long_prefix) + normal;
}

/// The path as people write it.
inline std::string shown(const std::filesystem::path& path) {
  const std::wstring& text = path.native();
  if (text.starts_with(network_prefix)) return utf8(LR"(\)" + text.substr(network_prefix.size()));
  return utf8(text.starts_with(long_prefix) ? text.substr(long_prefix.size()) : text);
}

/// "PATH WHAT: the system's reason", where a call of this file has just failed.
inline Failure failure(const std::filesystem::path& path, std::string_view what) {
  const DWORD code = ::GetLastError();
  wchar_t text[512];
  DWORD length = ::FormatMessageW(FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS, nullptr, code,
                                  0, text, 512, nullptr);
  while (length > 0 && (text[length - 1] <= L' ' || text[length - 1] == L'.')) --length;
  const std::string reason = length > 0 ? utf8(std::wstring(text, length)) : "error " + std::to_string(code);
  return {message(in_quotes(shown(path)), " ", what, ": ", reason)};
}

struct Mapping {
  void* data = nullptr;
  std::size_t size = 0;
};

/// A regular file, whole, for reading. Nothing is mapped of an empty one. Others may replace or remove it
/// meanwhile.
inline Result<Mapping> try_map(const std::filesystem::path& path) {
  const std::filesystem::path name = openable(path);
  const DWORD attributes = ::GetFileAttributesW(name.c_str());
  if (attributes == INVALID_FILE_ATTRIBUTES) return failure(path, "cannot be opened");
  if (attributes & FILE_ATTRIBUTE_DIRECTORY)
    return Failure{message(in_quotes(shown(path)), " is not a file but a folder")};
  const HANDLE file =
      ::CreateFileW(name.c_str(), GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
                    nullptr, OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, nullptr);
  if (file == INVALID_HANDLE_VALUE) return failure(path, "cannot be opened");
  const auto refuse = [&](Failure failure) {
    ::CloseHandle(file);
    return failure;
  };
  if (::GetFileType(file) != FILE_TYPE_DISK)
    return refuse({message(in_quotes(shown(path)), " is not a file")});
  LARGE_INTEGER size = {};
  if (!::GetFileSizeEx(file, &size)) return refuse(failure(path, "cannot be read"));
  Mapping mapping{nullptr, static_cast<std::size_t>(size.QuadPart)};
  if (mapping.size > 0) {
    const HANDLE section = ::CreateFileMappingW(file, nullptr, PAGE_READONLY, 0, 0, nullptr);
    if (!section) return refuse(failure(path, "cannot be mapped"));
    mapping.data = ::MapViewOfFile(section, FILE_MAP_READ, 0, 0, 0);
    const Failure reason = mapping.data ? Failure{} : failure(path, "cannot be mapped");
    ::CloseHandle(section);  // the view keeps it
    if (!mapping.data) return refuse(reason);
  }
  ::CloseHandle(file);
  return mapping;
}
inline void unmap(const Mapping& mapping) { ::UnmapViewOfFile(mapping.data); }

/// A temporary file in the making; no_file where there is none.
using File = void*;
inline const File no_file = INVALID_HANDLE_VALUE;

inline bool close(File file) { return ::CloseHandle(file) != 0; }

/// Removes a temporary file whose writer is gone. A living one lets nobody else write.
inline void remove_abandoned(const std::filesystem::path& path) {
  const HANDLE file = ::CreateFileW(path.c_str(), GENERIC_WRITE | DELETE, FILE_SHARE_READ | FILE_SHARE_DELETE,
                                    nullptr, OPEN_EXISTING, FILE_FLAG_DELETE_ON_CLOSE, nullptr);
  if (file != INVALID_HANDLE_VALUE) ::CloseHandle(file);
}

/// Creates a file that is not there; nobody else can write into it meanwhile. `again`: it was there.
inline File create_temporary(const std::filesystem::path& path, bool& again) {
  const HANDLE file = ::CreateFileW(path.c_str(), GENERIC_WRITE | DELETE, FILE_SHARE_DELETE, nullptr,
                                    CREATE_NEW, FILE_ATTRIBUTE_NORMAL, nullptr);
  again = file == INVALID_HANDLE_VALUE && ::GetLastError() == ERROR_FILE_EXISTS;
  return file;
}

/// Nothing: a new file has the rights of its folder, and a target that is read-only is refused.
inline void set_permissions(File, std::filesystem::perms) {}

inline bool write(File file, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    constexpr std::size_t most = std::size_t{1} << 30;
    DWORD written = 0;
    if (!::WriteFile(file, bytes.data(), static_cast<DWORD>(bytes.size() < most ? bytes.size() : most),
                     &written, nullptr))
      return false;
    bytes = bytes.subspan(written);
  }
  return true;
}

/// Renames a file by POSIX's rules, which replace a target that others have open or mapped; Windows 10 of
/// 2016 and later know them.
inline bool rename_as_posix(File file, const std::wstring& target) {
  struct Rename {  // FILE_RENAME_INFO, whose flags older headers lack
    DWORD flags;
    HANDLE root;
    DWORD bytes;
    wchar_t name[1];
  };
  constexpr int rename_info_ex = 22;
  constexpr DWORD replace_if_exists = 1, posix_semantics = 2;
  std::vector<std::byte> memory(sizeof(Rename) + target.size() * sizeof(wchar_t));
  auto* const rename = new (memory.data()) Rename{};
  rename->flags = replace_if_exists | posix_semantics;
  rename->bytes = static_cast<DWORD>(target.size() * sizeof(wchar_t));
  std::memcpy(memory.data() + offsetof(Rename, name), target.c_str(), (target.size() + 1) * sizeof(wchar_t));
  return ::SetFileInformationByHandle(file, static_cast<FILE_INFO_BY_HANDLE_CLASS>(rename_info_ex), rename,
                                      static_cast<DWORD>(memory.size())) != 0;
}

/// Writes the file's bytes to the disk. A read-only target is refused: asked here, since not every version of
/// the calls of replace() does.
inline bool flush(File file, const std::filesystem::path& target) {
  const DWORD attributes = ::GetFileAttributesW(target.c_str());
  if (attributes != INVALID_FILE_ATTRIBUTES && (attributes & FILE_ATTRIBUTE_READONLY)) {
    ::SetLastError(ERROR_ACCESS_DENIED);
    return false;
  }
  return ::FlushFileBuffers(file) != 0;
}

/// Puts the temporary file in the target's place, the data first. The file stays open, for no other process
/// to take it for an abandoned one.
inline bool replace(File file, const std::filesystem::path& temporary, const std::filesystem::path& target) {
  if (!flush(file, target)) return false;
  std::error_code error;
  if (rename_as_posix(file, openable(std::filesystem::absolute(target, error)).native())) return true;
  const auto move = [](const std::filesystem::path& from, const std::filesystem::path& to) {
    return ::MoveFileExW(from.c_str(), to.c_str(), MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH) != 0;
  };
  if (move(temporary, target)) return true;
  // Without POSIX's rules a target that is mapped can be renamed, but not replaced: it goes aside under the
  // name of an abandoned file, which the next writer removes where this one cannot.
  const DWORD reason = ::GetLastError();
  const bool may_be_mapped = reason == ERROR_USER_MAPPED_FILE || reason == ERROR_ACCESS_DENIED;
  std::filesystem::path aside = temporary;
  aside += temporary.extension();
  if (may_be_mapped && move(target, aside)) {
    if (move(temporary, target)) {
      ::DeleteFileW(aside.c_str());
      return true;
    }
    move(aside, target);
  }
  ::SetLastError(reason);
  return false;
}

/// Nothing: Windows keeps its folders itself.
inline void flush_folder(const std::filesystem::path&) {}

}  // namespace detail::system

TIEDLORA_END_NAMESPACE

#endif
