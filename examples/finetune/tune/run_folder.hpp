// The folder of a run or a comparison: what is in it already, and the plan that --resume continues with.
#pragma once

#include <filesystem>  // path
#include <optional>    // optional
#include <string>      // string

#include <nlohmann/json.hpp>

namespace finetune {

/// Who writes into a folder.
enum class FolderOf { train, compare };

std::filesystem::path checkpoint_path(const std::filesystem::path& folder);
std::filesystem::path plan_path(const std::filesystem::path& folder);

/// "to start over, remove A and B, or give another --out": what of a folder stands in the way of a new run.
std::string start_anew(const std::filesystem::path& folder, FolderOf kind);

/// Throws std::runtime_error, with what to do, for a folder that a new run would overwrite, that has nothing
/// to continue from, or that belongs to the other command. Says on stdout where --resume begins at the start.
void check_folder(const std::filesystem::path& folder, FolderOf kind, bool resume);

/// Nothing if there is none. Throws std::runtime_error for one that is damaged or of the other command.
std::optional<nlohmann::ordered_json> read_plan(const std::filesystem::path& folder, FolderOf kind);
void write_plan(const std::filesystem::path& folder, FolderOf kind, nlohmann::ordered_json plan);

/// Of a plan whose values are not what they should be.
[[noreturn]] void refuse_damaged_plan(const std::filesystem::path& folder, FolderOf kind);

}  // namespace finetune
