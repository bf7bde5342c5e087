// Adapters of any scheme as LoRA adapters for llama.cpp.
#pragma once

#include <algorithm>     // max
#include <cmath>         // isfinite
#include <cstddef>       // byte, size_t
#include <cstdint>       // uint32_t, uintmax_t
#include <filesystem>    // file_size, path
#include <span>          // as_bytes, span
#include <string>        // string
#include <string_view>   // string_view
#include <system_error>  // error_code
#include <type_traits>   // is_same
#include <utility>       // exchange, move
#include <vector>        // vector

#include "../../adapter/layout.hpp"
#include "../../adapter/quote.hpp"
#include "../../adapter/result.hpp"
#include "../../views/config.hpp"
#include "../../views/error.hpp"
#include "../../views/factors.hpp"
#include "../provenance.hpp"
#include "file.hpp"
#include "naming.hpp"
#include "source.hpp"
#include "write.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// What export_gguf writes besides the parameters, and in which type it writes those.
struct GgufExportOptions {
  gguf::Type type = gguf::Type::F32;  ///< or F16, BF16
  std::string base_model = {};        ///< general.base_model.0.name, for whoever reads the file
  Provenance source = {};  ///< what a source said (LoadedPeft::config.source()); kept for other readers
};

/// What was written.
struct ExportedGguf {
  Index modules = 0;         ///< how many were written: those of rank 0 are not
  Index rank = 0;            ///< the largest
  std::uintmax_t bytes = 0;  ///< of the file
};

namespace gguf {
namespace detail {
/// Values as a file keeps them. A Failure where one is finite but too large for the type.
template <class Out>
Status try_encode(std::span<const double> numbers, std::vector<std::byte>& bytes) {
  bytes.resize(numbers.size() * sizeof(Out));
  std::byte* to = bytes.data();
  for (const double number : numbers) {
    const auto narrow = static_cast<float>(number);
    const Out out(narrow);
    if (std::isfinite(number) && !std::isfinite(static_cast<float>(out)))
      return Failure{message("the value ", number, " is too large for the type; choose BF16 or F32")};
    std::memcpy(to, &out, sizeof out);
    to += sizeof out;
  }
  return success();
}
inline Status try_encode(Type type, std::span<const double> numbers, std::vector<std::byte>& bytes) {
  if (type == Type::F16) return try_encode<Eigen::half>(numbers, bytes);
  if (type == Type::BF16) return try_encode<Eigen::bfloat16>(numbers, bytes);
  return try_encode<float>(numbers, bytes);
}

/// A as GGUF keeps it: {in, r}, rows of in.
template <class P>
std::vector<double> lora_a(const Factors<const P>& f) {
  std::vector<double> numbers;
  numbers.reserve(static_cast<std::size_t>(f.rank * f.in_features));
  for (Index k = 0; k < f.rank; ++k)
    for (Index j = 0; j < f.in_features; ++j) numbers.push_back(static_cast<double>(f.A[k * f.a_stride + j]));
  return numbers;
}

/// scale · diag(v) B diag(u) as GGUF keeps it: {r, out}, rows of r; row i is row `row(i)` of the module's.
template <class P, class Row>
std::vector<double> lora_b(const Factors<const P>& f, double scale, Row row) {
  std::vector<double> numbers;
  numbers.reserve(static_cast<std::size_t>(f.rank * f.out_features));
  for (Index i = 0; i < f.out_features; ++i) {
    const Index from = row(i);
    const double row_scale = f.v ? scale * static_cast<double>(f.v[from]) : scale;
    for (Index k = 0; k < f.rank; ++k) {
      const double b = row_scale * static_cast<double>(f.B[k * f.b_stride + from]);
      numbers.push_back(f.u ? b * static_cast<double>(f.u[k]) : b);
    }
  }
  return numbers;
}

/// Whether the modules lack a prefix that the naming would give them on the way back.
inline bool has_bare_names(const Layout& layout, const Naming& naming) {
  for (Index m = 0; m < layout.size(); ++m) {
    const std::string& name = layout.modules()[m].name;
    const auto file = layout.rank(m) > 0 ? naming.to_file(name) : std::nullopt;
    if (file && naming.to_module(*file) != name && naming.to_module(*file, true) == name) return true;
  }
  return false;
}

/// The two tensors of each adapted module. They refer to the adapter and to `bytes`, which each fills in
/// turn.
template <class Source>
Result<std::vector<Entry>> try_lora_entries(const Source& adapter, const Naming& naming, Type type,
                                            Index largest, std::vector<std::byte>& bytes) {
  const Layout& layout = adapter.layout();
  std::vector<Entry> entries;
  for (Index m = 0; m < layout.size(); ++m) {
    const Index rank = layout.rank(m);
    if (rank == 0) continue;
    const Module& module = layout.modules()[m];
    const auto file_name = naming.to_file(module.name);
    if (!file_name)
      return Failure{
          message("module ", in_quotes(module.name), " has no name in GGUF's \"", naming.architecture,
                  "\" naming (part of a multimodal model, or of another architecture?); for your own "
                  "names add a rule to Naming::names")};
    const auto heads = try_heads(naming, *file_name, module.out_features);
    if (!heads) return Failure{message(in_quotes(module.name), ": ", heads.error())};
    const auto encoded = [type, &bytes, name = module.name](
                             const std::vector<double>& numbers) -> Result<std::span<const std::byte>> {
      if (Status done = try_encode(type, numbers, bytes); !done)
        return Failure{message("module ", in_quotes(name), ": ", done.error())};
      return std::span<const std::byte>(bytes);
    };
    // llama.cpp computes alpha / r_m · B A with one alpha for all: that of the largest rank.
    const double scale = layout.scaling(m) * static_cast<double>(rank) / static_cast<double>(largest);
    entries.push_back({.name = *file_name + ".weight.lora_a",
                       .type = type,
                       .shape = {module.in_features, rank},
                       .data = [&adapter, m, encoded] { return encoded(lora_a(adapter.factors(m))); }});
    entries.push_back({.name = *file_name + ".weight.lora_b",
                       .type = type,
                       .shape = {rank, module.out_features},
                       .data = [&adapter, m, encoded, scale, permuted_heads = *heads] {
                         const auto f = adapter.factors(m);
                         return encoded(lora_b(f, scale, [&f, permuted_heads](Index row) {
                           return hugging_face_row(row, f.out_features, permuted_heads);
                         }));
                       }});
  }
  return entries;
}

}  // namespace detail
}  // namespace gguf

/// Writes an Adapter, AdapterView or MappedAdapter as a GGUF LoRA adapter: each module its own A and B = s ·
/// diag(v) B diag(u), computed in double and rounded once (16-bit types by way of float), the scale in B and
/// alpha so that llama.cpp's own is neutral. A tied adapter is expanded, a module at a time, since the format
/// has no sharing. A Failure, naming the module, for names that the naming does not have, heads that do not
/// divide its rows, names longer than GGUF allows, and values that overflow the type. The path then keeps
/// what it held.
template <class Source>
Result<ExportedGguf> try_export_gguf(const Source& adapter, const std::filesystem::path& path,
                                     const gguf::Naming& naming, const GgufExportOptions& options = {}) {
  using detail::message, detail::in_quotes, detail::utf8;
  const auto named = [&path](const std::string& reason) {
    return Failure{message(in_quotes(utf8(path)), ": ", reason)};
  };
  if (options.type == gguf::Type::Q8_0 || gguf::find_type(options.type) == nullptr ||
      (options.type != gguf::Type::F32 && options.type != gguf::Type::F16 &&
       options.type != gguf::Type::BF16))
    return named("GGUF adapters are written as F32, F16 or BF16");
  // Names of the file's own are those of the source's architecture.
  const std::string& architecture = detail::first_said(naming.architecture, options.source.architecture);
  if (architecture.empty())
    return named(
        "neither the naming nor the adapter's source names the architecture, which llama.cpp needs; set "
        "Naming::architecture");
  ExportedGguf result;
  const Layout& layout = adapter.layout();
  for (Index m = 0; m < layout.size(); ++m) {
    result.modules += layout.rank(m) > 0;
    result.rank = std::max(result.rank, layout.rank(m));
  }
  if (result.modules == 0) return named("the adapter adapts no module (all ranks are 0)");
  std::vector<std::byte> bytes;
  const auto entries = gguf::detail::try_lora_entries(adapter, naming, options.type, result.rank, bytes);
  if (!entries) return named(entries.error());
  std::vector<gguf::MetadataEntry> metadata = {{"general.architecture", architecture},
                                               {"general.type", "adapter"},
                                               {"adapter.type", "lora"},
                                               {"adapter.lora.alpha", static_cast<float>(result.rank)}};
  const std::string& base_model = detail::first_said(options.base_model, options.source.base_model);
  if (!base_model.empty()) {
    metadata.emplace_back("general.base_model.count", std::uint32_t{1});
    metadata.emplace_back("general.base_model.0.name", base_model);
  }
  // What GGUF has no key for stands under one of our own, which llama.cpp passes over.
  Provenance source = options.source;
  if (!source.architecture.empty() && source.architecture != architecture)
    return named(message("the adapter's source names the architecture ", in_quotes(source.architecture),
                         ", but the naming given is for ", in_quotes(naming.architecture)));
  source.architecture.clear();
  for (const auto& [key, member] : gguf::adapter_texts)
    if (!(source.*member).empty()) metadata.emplace_back(key, std::exchange(source.*member, {}));
  source.bare_names = gguf::detail::has_bare_names(layout, naming);
  const Result<std::string> said = detail::try_provenance_text(source);
  if (!said) return named(said.error());
  if (!said->empty()) metadata.emplace_back(gguf::source_key, *said);
  if (Status done = gguf::try_save(path, metadata, *entries); !done) return done.failure();
  std::error_code ignored;
  result.bytes = std::filesystem::file_size(path, ignored);
  return result;
}
template <class Source>
ExportedGguf export_gguf(const Source& adapter, const std::filesystem::path& path, const gguf::Naming& naming,
                         const GgufExportOptions& options = {}) {
  return detail::value_or_fail(try_export_gguf(adapter, path, naming, options));
}

TIEDLORA_END_NAMESPACE
