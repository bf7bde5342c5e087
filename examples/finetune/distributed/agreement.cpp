#include "agreement.hpp"

#include <algorithm>  // count, max_element
#include <cstdio>     // stderr
#include <cstdlib>    // abort
#include <map>        // map

#include <fmt/format.h>
#include <fmt/ranges.h>               // join
#include <finetune/data/shown.hpp>    // escaped
#include <tiedlora/adapter/hash.hpp>  // Xxh64

namespace finetune {

namespace {

[[noreturn]] void throw_agreed(const Problem& problem) {
  if (problem.is_usage) throw AgreedUsage(problem.text);
  throw AgreedError(problem.text);
}

}  // namespace

void agree(Communicator& processes, const Problem& mine) {
  const std::vector<std::string> texts = processes.gather_texts(mine.text);
  if (std::count(texts.begin(), texts.end(), mine.text) == std::ssize(texts)) {
    if (mine.text.empty()) return;
    throw_agreed(mine);
  }
  std::vector<std::string> said;
  for (std::size_t r = 0; r < texts.size(); ++r)
    if (!texts[r].empty())
      said.push_back(fmt::format("{}: {}", processes.name(static_cast<int>(r)), texts[r]));
  throw AgreedError(fmt::format("{}", fmt::join(said, "\n")));
}

void agree_with_first(Communicator& processes, Problem problem) {
  processes.broadcast_text(problem.text);
  problem.is_usage = processes.from_first(problem.is_usage);
  if (!problem.text.empty()) throw_agreed(problem);
}

void end_all(Communicator& processes, const std::string& problem) {
  fmt::print(stderr, "finetune: {}: {}\n", processes.name(processes.rank()), escaped(problem));
  processes.abort(1);
  std::abort();  // GCC 12 does not believe a virtual function that it does not return
}

void check_same_run(Communicator& processes, const nlohmann::ordered_json& key) {
  const std::vector<std::string> texts = processes.gather_texts(key.dump());
  std::vector<nlohmann::ordered_json> keys;
  for (const std::string& text : texts) keys.push_back(nlohmann::ordered_json::parse(text));
  const nlohmann::ordered_json& first = keys[0];
  const auto shown = [](const nlohmann::ordered_json& of, const std::string& name) {
    return of.contains(name) ? of[name].dump() : "none";
  };
  std::vector<std::string> differing;
  for (std::size_t r = 1; r < keys.size(); ++r) {
    nlohmann::ordered_json all = first;  // the names that either has
    all.update(keys[r]);
    for (const auto& [name, value] : all.items())
      if (shown(first, name) != shown(keys[r], name))
        differing.push_back(fmt::format("{} differs from {} in \"{}\": {} instead of {}",
                                        processes.name(static_cast<int>(r)), processes.name(0), name,
                                        shown(keys[r], name), shown(first, name)));
  }
  if (differing.empty()) return;
  throw AgreedError(fmt::format(
      "{}\nAll processes must have the same program, model, data and options: copy those of process 0",
      fmt::join(differing, "\n")));
}

void check_same_parameters(Communicator& processes, std::span<const float> parameters, std::int64_t step) {
  if (processes.size() == 1) return;
  tiedlora::detail::Xxh64 hash;
  hash.add(std::as_bytes(parameters));
  const std::vector<std::uint64_t> all = processes.gather(hash.value());
  std::map<std::uint64_t, int> counts;
  for (const std::uint64_t one : all) ++counts[one];
  if (counts.size() == 1) return;
  // Those of most are right; of two that differ, for want of better, the first's.
  const auto most = std::max_element(counts.begin(), counts.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  const std::uint64_t right = most->second > counts[all[0]] ? most->first : all[0];
  std::vector<std::string> wrong;
  for (std::size_t r = 0; r < all.size(); ++r)
    if (all[r] != right)
      wrong.push_back(fmt::format("{} ({:016x})", processes.name(static_cast<int>(r)), all[r]));
  throw AgreedError(fmt::format(
      "after step {} {} parameters that differ from the other processes' ({:016x}), although all took the "
      "same steps; check memory and processor there, and continue from the last checkpoint with --resume",
      step, fmt::format("{} {}", fmt::join(wrong, ", "), wrong.size() > 1 ? "have" : "has"), right));
}

}  // namespace finetune
