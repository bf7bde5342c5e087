// Merging into a safetensors base model, piece by piece: neither the base nor any weight is ever whole in
// memory.
#pragma once

#include <algorithm>   // max, min
#include <cmath>       // isfinite
#include <cstddef>     // byte, size_t
#include <cstdint>     // uint64_t
#include <filesystem>  // file_size, path
#include <fstream>     // ifstream
#include <optional>    // optional
#include <ostream>     // ostream
#include <span>        // span
#include <stdexcept>   // invalid_argument
#include <string>      // string
#include <utility>     // in_place
#include <vector>      // vector

#include <fmt/format.h>
#include <tiedlora/io.hpp>

#include "adapters.hpp"
#include "match_weights.hpp"
#include "model_folder.hpp"
#include "norms.hpp"
#include "progress.hpp"
#include "refuse.hpp"

namespace adapter_tool {

/// rows += left · right, in double, each value then rounded to its type (16-bit types by way of float).
/// Whether none became infinite.
template <class P>
bool add_to_rows(std::vector<std::byte>& bytes, const Eigen::MatrixXd& left, const Eigen::MatrixXd& right) {
  Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> sum = left * right;
  auto* numbers = reinterpret_cast<P*>(bytes.data());  // the allocator's alignment suits
  bool fits = true;
  for (Index i = 0; i < sum.size(); ++i) {
    const double number = static_cast<double>(numbers[i]) + sum.data()[i];
    numbers[i] = static_cast<P>(number);
    fits = fits && (!std::isfinite(number) || std::isfinite(static_cast<double>(numbers[i])));
  }
  return fits;
}

/// A base file with the adapter merged into its targets, to be committed.
inline tiedlora::AtomicFile write_merged(const BaseFile& base, const Adapter<float>& adapter,
                                         const std::filesystem::path& target, Progress& progress) {
  std::vector<tiedlora::safetensors::Entry> entries;
  std::uint64_t data_size = 0;
  for (const auto& tensor : base.file.tensors()) {
    entries.push_back(
        {.name = tensor.name, .dtype = tensor.dtype, .shape = tensor.shape, .dtype_name = tensor.dtype_name});
    data_size += tensor.bytes.size();
  }
  auto out = value_of(tiedlora::AtomicFile::try_create(target));
  value_of(out.try_append(value_of(tiedlora::safetensors::try_header(entries, base.file.metadata()))));
  // Read, not mapped: a mapping's pages would count as this program's memory. The tensors fill the file's
  // end.
  std::ifstream in(base.path, std::ios::binary);
  in.seekg(static_cast<std::streamoff>(std::filesystem::file_size(base.path) - data_size));
  std::vector<std::byte> bytes;
  const auto read = [&](std::size_t size) {
    bytes.resize(size);
    if (!in.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(size)))
      refuse(fmt::format("\"{}\" cannot be read", base.path.string()));
  };
  constexpr std::size_t piece = std::size_t{4} << 20;
  for (const auto& tensor : base.file.tensors()) {
    const auto found = base.targets.find(tensor.name);
    if (found == base.targets.end()) {
      for (std::size_t rest = tensor.bytes.size(); rest > 0; rest -= bytes.size()) {
        read(std::min(rest, piece));
        value_of(out.try_append(std::span<const std::byte>(bytes)));
        progress.add(bytes.size());
      }
      continue;
    }
    const auto [module, transposed] = found->second;
    const Product delta = product(adapter, module);
    const Index rows = tensor.shape[0];
    const std::size_t row_size = tensor.bytes.size() / static_cast<std::size_t>(rows);
    const auto rows_at_once = static_cast<Index>(std::max<std::size_t>(1, piece / row_size));
    for (Index row = 0; row < rows; row += rows_at_once) {
      const Index n = std::min(rows_at_once, rows - row);
      read(static_cast<std::size_t>(n) * row_size);
      const Eigen::MatrixXd left = transposed ? Eigen::MatrixXd(delta.inner.middleCols(row, n).transpose())
                                              : Eigen::MatrixXd(delta.outer.middleRows(row, n));
      const Eigen::MatrixXd right = transposed ? Eigen::MatrixXd(delta.outer.transpose()) : delta.inner;
      const bool fits = tensor.dtype == Dtype::F64   ? add_to_rows<double>(bytes, left, right)
                        : tensor.dtype == Dtype::F32 ? add_to_rows<float>(bytes, left, right)
                        : tensor.dtype == Dtype::F16 ? add_to_rows<Eigen::half>(bytes, left, right)
                                                     : add_to_rows<Eigen::bfloat16>(bytes, left, right);
      if (!fits)
        refuse(fmt::format(
            "after merging, {} has values that are too large for {}; merge into a base of BF16 or F32",
            in_quotes(tensor.name), tensor.dtype_name));
      value_of(out.try_append(std::span<const std::byte>(bytes)));
      progress.add(bytes.size());
    }
  }
  return out;
}

/// All files are complete before the first takes its place. A folder gets its index and its config last, and
/// has no old ones meanwhile. Its other files are copied.
inline void merge(const std::filesystem::path& adapter_path, const ModelOptions& options,
                  const std::filesystem::path& target, std::ostream& out, std::ostream& err) {
  if (is_gguf(options.base))
    refuse("merge writes safetensors, and \"" + options.base +
           "\" is a GGUF file; give the model that it was made from");
  ModelOptions with_order = options;
  if (is_gguf(adapter_path)) {
    // Safetensors have transformers' order of rows, whatever the adapter was trained on.
    if (options.order == "gguf")
      throw std::invalid_argument(
          "--order gguf is not for merge: safetensors have the rows of q and k in transformers' order");
    with_order.order = "hugging-face";
  }
  const OpenAdapter opened = open(adapter_path, with_order);
  std::vector<BaseFile> files;
  std::uint64_t total = 0;
  for (const auto& path : value_of(tiedlora::detail::try_model_files(options.base))) {
    files.push_back({path, tiedlora::safetensors::open(path)});
    total += std::filesystem::file_size(path);
  }
  for (const std::string& note : opened.notes) err << "note: " << tiedlora::detail::escaped(note) << '\n';
  const std::vector<std::string> left_out =
      match(opened.adapter, files, Storage(opened, options, files), options.partial, err);
  for (const std::string& name : left_out)
    err << "note: left out: " << in_quotes(name) << " is not in the base model\n";
  for (const BaseFile& file : files)
    if (file.targets.contains("lm_head.weight") && read_base(options.base).ties_head)
      err << "note: the base's config.json says tie_word_embeddings, with which transformers takes the "
             "embedding in place of the lm_head that was merged; set it to false in the merged model's "
             "config.json\n";
  const bool is_folder = std::filesystem::is_directory(options.base);
  CopiedFiles copied;
  if (is_folder)
    copied = files_to_copy(options.base, files.front().path.filename() != "model.safetensors", err);
  std::vector<std::filesystem::path> all = copied.files;
  all.insert(all.end(), copied.last.begin(), copied.last.end());
  for (const BaseFile& file : files) all.push_back(file.path);
  check_target(target, options.base, all);
  const std::optional<NewFolder> folder =
      is_folder ? std::optional<NewFolder>(std::in_place, target) : std::nullopt;
  Progress progress(err, total);
  std::size_t merged = 0;
  std::vector<tiedlora::AtomicFile> written, last;
  for (const BaseFile& file : files) {
    written.push_back(
        write_merged(file, opened.adapter, is_folder ? target / file.path.filename() : target, progress));
    merged += file.targets.size();
  }
  for (const auto& path : copied.files) written.push_back(write_copy(path, target / path.filename()));
  for (const auto& path : copied.last) last.push_back(write_copy(path, target / path.filename()));
  for (auto* some : {&written, &last})
    for (tiedlora::AtomicFile& file : *some) value_of(file.try_flush());
  for (tiedlora::AtomicFile& file : last) value_of(file.try_remove_old());
  for (tiedlora::AtomicFile& file : written) value_of(file.try_commit());
  for (tiedlora::AtomicFile& file : last) value_of(file.try_commit());
  out << fmt::format("merged {} modules into {} file{}, {:.1f} MB\n", merged, files.size(),
                     files.size() == 1 ? "" : "s", static_cast<double>(total) / 1e6);
}

}  // namespace adapter_tool
