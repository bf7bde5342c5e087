// The files of training data that paths stand for.
#pragma once

#include <filesystem>  // path
#include <vector>      // vector

#include "read_data.hpp"

namespace finetune {

struct DataFile {
  std::filesystem::path path;
  bool is_json = false;      ///< else plain text
  bool may_be_json = false;  ///< if what it begins with is an example
  bool is_found = false;     ///< in a folder, not named
};

/// The files named, and everything in the folders named, sorted, each once. Named files are JSON by .jsonl,
/// .ndjson and .json; in folders .json may be, as it is something else in most. What is passed over is
/// counted in the report. Throws std::runtime_error for a path that is not there.
std::vector<DataFile> find_data_files(const std::vector<std::filesystem::path>& paths, DataReport& report);

}  // namespace finetune
