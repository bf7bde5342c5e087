// Merging into a safetensors base model, piece by piece: neither the base nor any weight is ever whole in
// memory.
#pragma once

#include <algorithm>      // min
#include <cmath>          // isfinite
#include <cstddef>        // byte, size_t
#include <cstdint>        // uint64_t, uintmax_t
#include <filesystem>     // directory_iterator, equivalent, path
#include <fstream>        // ifstream
#include <map>            // map
#include <optional>       // optional
#include <ostream>        // ostream
#include <set>            // set
#include <stdexcept>      // invalid_argument, runtime_error
#include <string>         // string
#include <string_view>    // string_view
#include <system_error>   // error_code
#include <unordered_map>  // unordered_map
#include <utility>        // exchange, in_place, move
#include <vector>         // vector

#include <fmt/format.h>
#include <tiedlora/io.hpp>

#include "adapters.hpp"
#include "norms.hpp"
#include "progress.hpp"

namespace adapter_tool {

using tiedlora::detail::in_quotes;
using tiedlora::safetensors::Dtype;

/// The module that a tensor is the weight of, and whether it is stored in × out.
struct Target {
  Index module = -1;
  bool transposed = false;
};
/// A base file, and by the names of its tensors what is merged into each.
struct BaseFile {
  std::filesystem::path path;
  tiedlora::safetensors::File file;
  std::map<std::string, Target> targets = {};
};

[[noreturn]] inline void refuse(const std::string& text) {
  throw std::runtime_error(tiedlora::detail::escaped(text));  // which names tensors
}
template <class T>
T value_of(tiedlora::Result<T> result) {
  if (!result) refuse(result.error());
  return *std::move(result);
}

/// Whether the base itself says that its weights are in × out: by the type of model, or by GPT-2's c_attn,
/// which makes q, k and v of x. Nothing if it says neither.
inline std::optional<bool> base_is_in_x_out(const BaseModel& base, const std::vector<BaseFile>& files) {
  if (const auto* known = tiedlora::gguf::find_architecture(base.architecture)) return known->fan_in_fan_out;
  for (const BaseFile& file : files)
    for (const auto& tensor : file.file.tensors())
      if (tensor.name.ends_with("attn.c_attn.weight") && tensor.shape.size() == 2 &&
          tensor.shape[1] == 3 * tensor.shape[0])
        return true;
  return std::nullopt;
}

/// Which weights are stored in × out. What the base says takes precedence over what the adapter says, as in
/// PEFT; what the command line says must agree with both.
class Storage {
 public:
  Storage(const OpenAdapter& opened, const ModelOptions& options, const std::vector<BaseFile>& files)
      : said_(options.fan_in_fan_out || opened.source.fan_in_fan_out),
        base_(base_is_in_x_out(read_base(options.base), files)) {
    if (base_ == false && options.fan_in_fan_out)
      refuse(
          "--fan-in-fan-out says that the base's weights are in x out, but models of this type store them "
          "out x in; leave it out");
  }

  /// Of a GPT-2 only the Conv1Ds of its blocks are.
  bool is_in_x_out(const tiedlora::Module& module) const {
    if (!base_) return is_said(module);
    const auto& kind = module.kind;
    return *base_ && (kind == "c_attn" || kind == "q_attn" || kind == "c_proj" || kind == "c_fc");
  }
  /// By the adapter, or the command line.
  bool is_said(const tiedlora::Module& module) const { return said_ && module.kind != "lm_head"; }

 private:
  bool said_;
  std::optional<bool> base_;
};

/// Where the tensors of a base model are, by their names and by what follows each dot in them.
class WeightIndex {
 public:
  struct Place {
    BaseFile* file = nullptr;
    const tiedlora::safetensors::Tensor* tensor = nullptr;
  };

  explicit WeightIndex(std::vector<BaseFile>& files) {
    for (BaseFile& base : files)
      for (const auto& tensor : base.file.tensors()) {
        require_short(tensor.name, "the base model has a tensor");
        by_name_[tensor.name].push_back({&base, &tensor});
        by_part_[part_of(tensor.name)].push_back({&base, &tensor});
        tiedlora::detail::any_suffix(tensor.name, [&](std::string_view suffix) {
          if (suffix.size() < tensor.name.size()) by_suffix_[suffix].push_back({&base, &tensor});
          return false;
        });
      }
  }

  /// The weight of a module: its own name, or one that has more or fewer components before it (GPT-2's "h.0…"
  /// for "transformer.h.0…"). Null if there is none.
  Place find(const tiedlora::Module& module) const {
    require_short(module.name, "the adapter has a module");
    const std::string weight = module.name + ".weight", last = module.kind + ".weight";
    std::vector<Place> found;
    const auto collect = [&found](const auto& places, const auto& name) {
      if (const auto at = places.find(name); at != places.end())
        found.insert(found.end(), at->second.begin(), at->second.end());
    };
    collect(by_name_, std::string_view(weight));
    if (found.empty()) {
      collect(by_suffix_, std::string_view(weight));
      tiedlora::detail::any_suffix(weight, [&](std::string_view suffix) {
        if (suffix.size() < weight.size() && suffix.size() > last.size()) collect(by_name_, suffix);
        return false;
      });
    }
    if (found.empty()) collect(by_part_, part_of(weight));
    if (found.size() > 1)
      refuse(fmt::format("the base model has {} tensors that could be {}: {} and {}", found.size(),
                         in_quotes(weight), in_quotes(found[0].tensor->name),
                         in_quotes(found[1].tensor->name)));
    return found.empty() ? Place() : found[0];
  }

 private:
  static void require_short(std::string_view name, const char* whose) {
    constexpr std::size_t longest = tiedlora::detail::longest_module_name;
    if (name.size() > longest)
      refuse(fmt::format("{} whose name has {} bytes; at most {} are read: {}", whose, name.size(), longest,
                         in_quotes(name)));
  }

  // The name without the components that stand for the whole model or its language model, whose order differs
  // from version to version of transformers: "model.language_model.layers.0…",
  // "language_model.model.layers.0…".
  static std::string part_of(std::string_view name) {
    std::string part;
    while (!name.empty()) {
      const std::size_t end = std::min(name.find('.'), name.size());
      const std::string_view component = name.substr(0, end);
      if (component != "model" && component != "language_model")
        part += (part.empty() ? "" : ".") + std::string(component);
      name.remove_prefix(std::min(end + 1, name.size()));
    }
    return part;
  }

  std::unordered_map<std::string_view, std::vector<Place>> by_name_, by_suffix_;
  std::unordered_map<std::string, std::vector<Place>> by_part_;
};

/// Finds each adapted module's weight. Tells on `err` where names differ. Returns the modules for which the
/// base has none, where `partial`.
inline std::vector<std::string> match(const Adapter<float>& adapter, std::vector<BaseFile>& files,
                                      const Storage& storage, bool partial, std::ostream& err) {
  std::vector<std::string> left_out;
  bool told = false, told_storage = false;
  const WeightIndex weights(files);
  std::size_t matched = 0;
  for (Index m = 0; m < adapter.layout().size(); ++m) {
    if (adapter.layout().rank(m) == 0) continue;
    const tiedlora::Module& module = adapter.layout().modules()[m];
    const auto [found_in, found] = weights.find(module);
    if (!found) {
      left_out.push_back(module.name);
      continue;
    }
    const std::vector<Index> shape = {module.out_features, module.in_features};
    const std::vector<Index> swapped = {module.in_features, module.out_features};
    const bool transposed = storage.is_in_x_out(module);
    if (found->dtype == Dtype::other)
      refuse(fmt::format("{} is of type {}; only F64, F32, F16 and BF16 can be merged into{}",
                         in_quotes(found->name), found->dtype_name,
                         found->shape == shape || found->shape == swapped
                             ? ""
                             : ": is the base model quantised? Give the model that it was made from"));
    if (found->shape != (transposed ? swapped : shape))
      refuse(fmt::format("{} is {}, but the adapter is for {}x{} (out x in){}", in_quotes(found->name),
                         fmt::join(found->shape, "x"), module.out_features, module.in_features,
                         transposed ? ", stored in x out (fan_in_fan_out); wrong base model?"
                         : found->shape == swapped
                             ? "; is it a Conv1D, as in GPT-2? Then give --fan-in-fan-out"
                             : "; wrong base model?"));
    if (!found_in->targets.emplace(found->name, Target{m, transposed}).second)
      refuse(fmt::format("two modules of the adapter match the base model's {}", in_quotes(found->name)));
    ++matched;
    // Except for a Conv1D, PEFT itself silently overrules the adapter.
    if (transposed != storage.is_said(module) && (transposed || module.out_features == module.in_features) &&
        !std::exchange(told_storage, true))
      err << fmt::format(
          "note: {} is stored {}, whatever the adapter says; merged accordingly, and others likewise\n",
          in_quotes(found->name), transposed ? "in x out (GPT-2's Conv1D)" : "out x in");
    if (found->name == module.name + ".weight" || std::exchange(told, true)) continue;
    err << fmt::format("note: the adapter's {} is taken for the base model's {}, and others likewise\n",
                       in_quotes(module.name), in_quotes(found->name));
  }
  if (left_out.empty() || (partial && matched > 0)) return left_out;
  const bool head = left_out.front() == "lm_head" || left_out.front().ends_with(".lm_head");
  bool is_quantised = false;
  for (const BaseFile& base : files)
    for (const auto& tensor : base.file.tensors())
      is_quantised =
          is_quantised || tensor.name.ends_with(".qweight") || tensor.name.ends_with(".weight_packed");
  refuse(fmt::format(
      "the base model has no {}{}", in_quotes(left_out.front() + ".weight"),
      is_quantised ? ": it is quantised (.qweight, .weight_packed); give the model that it was made from"
      : head && matched > 0
          ? ": is it tied to the embedding? The adapter is lm_head's alone; save the base with "
            "tie_word_embeddings = false and a weight of its own, or leave lm_head out with --partial"
      : matched > 0 ? "; wrong base model? (--partial leaves out such modules)"
                    : "; wrong base model?"));
}

/// rows += left · right, in double, each value rounded once to its type. Whether none became infinite.
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

/// A copy of a file, to be committed.
inline tiedlora::AtomicFile write_copy(const std::filesystem::path& from, const std::filesystem::path& to) {
  const auto file = value_of(tiedlora::MappedFile::try_open(from));
  auto out = value_of(tiedlora::AtomicFile::try_create(to));
  value_of(out.try_append(file.bytes()));
  return out;
}

/// A folder that is removed again unless something was put into it.
struct NewFolder {
  std::filesystem::path path;
  explicit NewFolder(std::filesystem::path folder) : path(std::move(folder)) {
    std::filesystem::create_directories(path);
  }
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;
  ~NewFolder() {
    std::error_code not_empty;
    std::filesystem::remove(path, not_empty);
  }
};

/// Whether a file of a model's folder holds its weights in another format.
inline bool holds_weights(const std::filesystem::path& file) {
  const std::string extension = file.extension().string();
  for (const char* known : {".bin", ".gguf", ".ggml", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx",
                            ".onnx_data", ".tflite", ".npz"})
    if (extension == known) return true;
  return false;
}

/// What else of the base's folder belongs to the merged model.
struct CopiedFiles {
  std::vector<std::filesystem::path> files = {};  ///< tokenizer and the like
  std::vector<std::filesystem::path> last = {};   ///< config, and index: without them nothing is loaded
};

/// The index only where the weights are in several files.
inline CopiedFiles files_to_copy(const std::filesystem::path& base, bool has_index, std::ostream& err) {
  CopiedFiles copied;
  for (const auto& entry : std::filesystem::directory_iterator(base)) {
    const std::string name = entry.path().filename().string();
    // With an adapter's config, transformers would load that on top.
    if (!entry.is_regular_file() || entry.path().extension() == ".safetensors" ||
        name.starts_with("adapter_"))
      continue;
    const bool is_index = name == "model.safetensors.index.json" && has_index;
    if (holds_weights(entry.path()) || (name.ends_with(".index.json") && !is_index))
      err << "note: not copied, since it looks like weights without the adapter: " << in_quotes(name) << '\n';
    else
      (is_index || name == "config.json" ? copied.last : copied.files).push_back(entry.path());
  }
  return copied;
}

/// Refuses a target in which the merged model would not be what is loaded, or that is the base itself.
inline void check_target(const std::filesystem::path& target, const std::filesystem::path& base,
                         const std::vector<std::filesystem::path>& written) {
  const auto is_base = [](const std::filesystem::path& to, const std::filesystem::path& from) {
    return std::filesystem::exists(to) && std::filesystem::equivalent(to, from);
  };
  const bool is_folder = std::filesystem::is_directory(base);
  if (is_base(target, base))
    refuse(in_quotes(target.string()) + " is the base model itself; give another " +
           (is_folder ? "folder" : "file"));
  if (!is_folder || !std::filesystem::is_directory(target)) return;
  if (std::filesystem::exists(target / "adapter_config.json"))
    refuse(in_quotes(target.string()) + " is the folder of an adapter; give another one");
  std::set<std::string> names;
  for (const auto& file : written) {
    names.insert(file.filename().string());
    if (is_base(target / file.filename(), file))
      refuse(in_quotes((target / file.filename()).string()) +
             " is a file of the base model itself; give another folder");
  }
  for (const auto& entry : std::filesystem::directory_iterator(target)) {
    const std::string name = entry.path().filename().string();
    const bool is_model = (name.starts_with("model") && name.ends_with(".safetensors")) ||
                          name.ends_with(".safetensors.index.json");
    if (is_model && !names.contains(name))
      refuse(in_quotes(target.string()) + " holds another model, with " + in_quotes(name) +
             ", which would stay beside the merged one; give another folder, or remove that model from it");
  }
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
    err << "note: left out: " << tiedlora::detail::in_quotes(name) << " is not in the base model\n";
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
  for (tiedlora::AtomicFile& file : last) value_of(file.try_remove_old());
  for (tiedlora::AtomicFile& file : written) value_of(file.try_commit());
  for (tiedlora::AtomicFile& file : last) value_of(file.try_commit());
  out << fmt::format("merged {} modules into {} file{}, {:.1f} MB\n", merged, files.size(),
                     files.size() == 1 ? "" : "s", static_cast<double>(total) / 1e6);
}

}  // namespace adapter_tool
