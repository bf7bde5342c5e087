// Tables of counts as text for people, and as CSV and JSON for programs.
#pragma once

#include <algorithm>  // any_of
#include <string>     // string
#include <vector>     // vector

#include <fmt/format.h>
#include <fmt/ranges.h>  // join
#include <nlohmann/json.hpp>

#include "count.hpp"

namespace count_parameters {
namespace detail {

/// 1234567 as "1,234,567".
inline std::string with_commas(Index number) {
  std::string text = fmt::format("{}", number);
  for (std::size_t i = text.size(); i > 3;) text.insert(i -= 3, ",");
  return text;
}

/// "512 B", "1.5 MiB".
inline std::string readable_bytes(Index bytes) {
  if (bytes < 1024) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes);
  const char* unit = "";
  for (const char* larger : {"KiB", "MiB", "GiB", "TiB"}) {
    if (value < 1024) break;
    value /= 1024;
    unit = larger;
  }
  return fmt::format("{:.{}f} {}", value, value < 9.995 ? 2 : value < 99.95 ? 1 : 0, unit);
}

inline std::string description(const Model& model) {
  std::string text = fmt::format("{} layers of width {}; ", model.layers, model.width);
  text += model.key_width == model.query_width
              ? fmt::format("q, k, v {} wide; ", model.query_width)
              : fmt::format("q {}, k and v {} wide; ", model.query_width, model.key_width);
  if (model.fused_attention) text += "q, k and v are one module; ";
  if (!model.why_no_feed_forward.empty()) return text + "feed-forward " + model.why_no_feed_forward;
  if (model.feed_forward == 0) return text + "feed-forward not known";
  return text + fmt::format("feed-forward {} wide, {}", model.feed_forward,
                            !model.gated               ? "no gate"
                            : model.fused_feed_forward ? "gated, gate and up are one module"
                                                       : "gated");
}

// One row's values under the names that CSV and JSON share.
inline nlohmann::ordered_json to_json(const Row& row) {
  return {{"scheme", row.scheme},
          {"rank", row.rank},
          {"trained", row.trained},
          {"percent_of_lora", row.percent_of_lora},
          {"percent_of_lora_fused", row.percent_of_lora_fused},
          {"percent_of_lora_r8", row.percent_of_lora_r8},
          {"frozen", row.frozen},
          {"file_bytes_f32", row.file_bytes(Row::f32)},
          {"file_bytes_bf16", row.file_bytes(Row::bf16)},
          {"tenant_bytes_f32", row.tenant_bytes(Row::f32)},
          {"tenant_bytes_bf16", row.tenant_bytes(Row::bf16)},
          {"training_bytes", row.training_bytes()}};
}

inline std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + '"';
}

}  // namespace detail

/// One model's table for the terminal.
inline std::string to_text(const Table& table) {
  using detail::readable_bytes;
  // The two LoRAs differ only where modules that read the same x are adapted apart.
  const bool two_loras = std::any_of(table.rows.begin(), table.rows.end(), [](const Row& row) {
    return row.percent_of_lora != row.percent_of_lora_fused;
  });
  std::vector<std::vector<std::string>> lines;
  lines.push_back({"scheme", "rank", "trained", "% of lora"});
  if (two_loras) lines.back().push_back("% of lora_fused");
  if (table.is_recommended) lines.back().push_back("% of lora r=8");
  for (const char* title : {"frozen", "file f32", "file bf16", "tenant f32", "tenant bf16", "optimiser"})
    lines.back().push_back(title);
  for (const Row& row : table.rows) {
    lines.push_back({row.scheme, fmt::format("{}", row.rank), detail::with_commas(row.trained),
                     fmt::format("{:.3f}", row.percent_of_lora)});
    if (two_loras) lines.back().push_back(fmt::format("{:.3f}", row.percent_of_lora_fused));
    if (table.is_recommended) lines.back().push_back(fmt::format("{:.3f}", row.percent_of_lora_r8));
    lines.back().push_back(detail::with_commas(row.frozen));
    for (const Index bytes : {row.file_bytes(Row::f32), row.file_bytes(Row::bf16), row.tenant_bytes(Row::f32),
                              row.tenant_bytes(Row::bf16), row.training_bytes()})
      lines.back().push_back(readable_bytes(bytes));
  }

  std::vector<std::size_t> widths(lines.front().size());
  for (const auto& line : lines)
    for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
  std::string text =
      fmt::format("{}: {}\nsizes: {}; adapted in each layer: {}\n\n", table.model.name,
                  detail::description(table.model), table.model.source, fmt::join(table.targets, ", "));
  for (std::size_t l = 0; l < lines.size(); ++l) {
    const bool starts_scheme = l > 0 && lines[l].front() != lines[l - 1].front();
    if (starts_scheme && table.ranks.size() > 1) text += '\n';
    for (std::size_t i = 0; i < lines[l].size(); ++i)
      text += i == 0 ? fmt::format("{:<{}}", lines[l][i], widths[i])
                     : fmt::format("  {:>{}}", lines[l][i], widths[i]);
    text += '\n';
  }
  return text;
}

/// What the columns of to_text mean.
inline const char* legend() {
  return R"(% of lora    trainable parameters against LoRA as PEFT counts it, at the same rank: A and B of every
             module's own. lora_fused, where shown, is the Tied-LoRA paper's LoRA: modules that read the same x share A.
             lora r=8, where shown, is lora of rank 8, of which docs/choosing.md gives sizes in per cent.
frozen       parameters that never change; all are drawn from a seed, so a file need not hold them.
file         the trainable parameters on disk.
tenant       what each further tenant adds. With u and v: those alone, over A and B that all tenants share,
             frozen. Without: all that is trained.
optimiser    parameters, gradients and AdamW's two moments, float32.
)";
}

/// All tables as one CSV: a header, then a row per model, scheme and rank. Bytes and counts are exact.
inline std::string to_csv(const std::vector<Table>& tables) {
  std::string text = "model,targets";
  const nlohmann::ordered_json names = detail::to_json(Row{});
  for (const auto& column : names.items()) text += "," + column.key();
  text += '\n';
  for (const Table& table : tables)
    for (const Row& row : table.rows) {
      text += detail::csv_field(table.model.name) + fmt::format(",{}", fmt::join(table.targets, " "));
      const nlohmann::ordered_json columns = detail::to_json(row);
      for (const auto& column : columns.items())
        text +=
            "," + (column.value().is_string() ? detail::csv_field(column.value()) : column.value().dump());
      text += '\n';
    }
  return text;
}

/// All tables as a JSON array with one object per model.
inline std::string to_json(const std::vector<Table>& tables) {
  nlohmann::ordered_json models = nlohmann::ordered_json::array();
  for (const Table& table : tables) {
    const Model& model = table.model;
    nlohmann::ordered_json rows = nlohmann::ordered_json::array();
    for (const Row& row : table.rows) rows.push_back(detail::to_json(row));
    models.push_back({{"model", model.name},
                      {"source", model.source},
                      {"layers", model.layers},
                      {"width", model.width},
                      {"query_width", model.query_width},
                      {"key_width", model.key_width},
                      {"feed_forward", model.feed_forward},
                      {"gated", model.gated},
                      {"targets", table.targets},
                      {"rows", rows}});
  }
  return models.dump(2) + '\n';
}

}  // namespace count_parameters
