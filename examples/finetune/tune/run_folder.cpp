#include "run_folder.hpp"

#include <stdexcept>  // runtime_error
#include <vector>     // vector

#include <fmt/format.h>
#include <fmt/ranges.h>             // join
#include <finetune/data/files.hpp>  // read_file, write_atomically

namespace finetune {

namespace {

const char* command_of(FolderOf kind) { return kind == FolderOf::train ? "train" : "compare"; }

bool is_there(const std::filesystem::path& path) { return std::filesystem::exists(path); }

}  // namespace

std::filesystem::path checkpoint_path(const std::filesystem::path& folder) {
  return folder / "checkpoint.safetensors";
}
std::filesystem::path plan_path(const std::filesystem::path& folder) { return folder / "plan.json"; }

std::string start_anew(const std::filesystem::path& folder, FolderOf kind) {
  std::vector<std::string> files;
  const auto add = [&](const std::filesystem::path& path) {
    if (is_there(path)) files.push_back(path.string());
  };
  if (kind == FolderOf::train) {
    add(checkpoint_path(folder));
    add(folder / "run.json");
  }
  add(plan_path(folder));
  if (files.empty()) return "to start over, give another --out";
  return fmt::format("to start over, remove {}, or give another --out", fmt::join(files, " and "));
}

void check_folder(const std::filesystem::path& folder, FolderOf kind, bool resume) {
  const bool has_plan = read_plan(folder, kind).has_value();
  const bool has_checkpoint = is_there(checkpoint_path(folder)), has_run = is_there(folder / "run.json");
  if (kind == FolderOf::compare && (has_checkpoint || has_run))
    throw std::runtime_error(
        fmt::format("{} holds a run of finetune train; give another --out", folder.string()));
  const bool has_begun = kind == FolderOf::train ? has_checkpoint || has_run : has_plan;
  if (!resume && has_begun)
    throw std::runtime_error(fmt::format("{} holds a {} already; continue it with --resume; {}",
                                         folder.string(), kind == FolderOf::train ? "run" : "comparison",
                                         start_anew(folder, kind)));
  if (!resume) return;
  if (kind == FolderOf::train && has_run && !has_checkpoint)
    throw std::runtime_error(
        fmt::format("--resume: {} holds a run, but not the checkpoint.safetensors to continue from; {}",
                    folder.string(), start_anew(folder, kind)));
  if (!(kind == FolderOf::train ? has_checkpoint : has_plan))
    fmt::print("--resume: {} has nothing to continue from, so this begins at step 0\n", folder.string());
}

std::optional<nlohmann::ordered_json> read_plan(const std::filesystem::path& folder, FolderOf kind) {
  const std::filesystem::path path = plan_path(folder);
  if (!is_there(path)) return std::nullopt;
  auto plan = nlohmann::ordered_json::parse(read_file(path), nullptr, /*allow_exceptions=*/false);
  if (!plan.is_object() || !plan.contains("kind") || !plan["kind"].is_string())
    refuse_damaged_plan(folder, kind);
  if (plan["kind"] != command_of(kind))
    throw std::runtime_error(
        fmt::format("{} holds a plan of finetune {}; give another --out", folder.string(),
                    command_of(kind == FolderOf::train ? FolderOf::compare : FolderOf::train)));
  return plan;
}

void write_plan(const std::filesystem::path& folder, FolderOf kind, nlohmann::ordered_json plan) {
  plan["kind"] = command_of(kind);
  write_atomically(plan_path(folder), plan.dump() + '\n');
}

void refuse_damaged_plan(const std::filesystem::path& folder, FolderOf kind) {
  throw std::runtime_error(
      fmt::format("{} is damaged; {}", plan_path(folder).string(), start_anew(folder, kind)));
}

}  // namespace finetune
