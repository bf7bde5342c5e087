// Walking through folders.
#include "data_files.hpp"

#include <algorithm>     // sort
#include <cctype>        // tolower
#include <set>           // set
#include <stdexcept>     // runtime_error
#include <string>        // string
#include <system_error>  // error_code

#include <fmt/format.h>

#include "shown.hpp"

namespace finetune {

namespace {

namespace fs = std::filesystem;

DataFile data_file(const fs::path& path, bool is_found) {
  std::string extension = path.extension().string();
  for (char& c : extension) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  const bool is_lines = extension == ".jsonl" || extension == ".ndjson", is_json = extension == ".json";
  return {.path = path,
          .is_json = is_lines || (is_json && !is_found),
          .may_be_json = is_json && is_found,
          .is_found = is_found};
}

// Links to files are followed, as the caches of data sets are made of them; links to folders are not, as they
// may lead in circles.
std::vector<fs::path> files_in(const fs::path& folder, DataReport& report) {
  std::vector<fs::path> files;
  std::error_code error, broken;  // of a link, to nothing or to itself
  fs::path last = folder;
  for (fs::recursive_directory_iterator at(folder, error), end; at != end; at.increment(error)) {
    last = at->path();
    if (at->path().filename().string().starts_with('.')) {
      ++report.hidden;
      if (at->is_directory(broken)) at.disable_recursion_pending();
    } else if (at->is_regular_file(broken)) {
      files.push_back(at->path());
    } else if (broken) {
      ++report.broken_links;
    }
  }
  if (error)
    throw std::runtime_error(
        fmt::format("{} or what is in it cannot be read: {}", quoted(last.string(), 200), error.message()));
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

std::vector<DataFile> find_data_files(const std::vector<fs::path>& paths, DataReport& report) {
  std::vector<DataFile> result;
  std::set<fs::path> seen;
  const auto add = [&](const fs::path& path, bool is_found) {
    if (seen.insert(fs::canonical(path)).second)
      result.push_back(data_file(path, is_found));
    else
      ++report.repeated;
  };
  if (paths.empty()) throw std::runtime_error("no file or folder of training data is named");
  for (const fs::path& path : paths) {
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (!fs::exists(status))
      throw std::runtime_error(fmt::format("{} does not exist or cannot be read ({})",
                                           quoted(path.string(), 300),
                                           error ? error.message() : "no such file"));
    if (!fs::is_directory(status)) {
      add(path, false);
      continue;
    }
    const std::vector<fs::path> files = files_in(path, report);
    if (files.empty())
      throw std::runtime_error(
          fmt::format("{} contains no files (hidden ones are skipped)", quoted(path.string(), 300)));
    for (const fs::path& file : files) add(file, true);
  }
  return result;
}

}  // namespace finetune
