// A base model as it is found on the disk: a GGUF file or a Hugging Face folder.
#pragma once

#include <filesystem>  // path, exists, is_directory
#include <optional>    // optional
#include <stdexcept>   // runtime_error
#include <string>      // string
#include <variant>     // variant

#include <fmt/format.h>
#include <tiedlora/adapter/quote.hpp>  // escaped
#include <tiedlora/io/sniff.hpp>

#include "chat.hpp"
#include "gguf_model.hpp"
#include "hugging_face_model.hpp"
#include "tokenizer.hpp"
#include "unicode.hpp"  // broken_utf8

namespace llama {

/// Mapped: weights are used where they lie, in the types of the files.
class BaseModel {
 public:
  /// A GGUF file, or a Hugging Face folder or its config.json. Throws std::runtime_error, naming file and
  /// key or tensor, for what is not a model that is computed here.
  explicit BaseModel(const std::filesystem::path& path) : path_(path), file_(open(path)) {
    name_ = !config().name.empty() ? config().name : is_gguf() ? path_.stem().string() : folder_name();
    if (broken_utf8(name_) != name_.npos) name_ = tiedlora::detail::escaped(name_);
  }
  BaseModel(BaseModel&&) = default;

  /// Valid as long as this.
  const Model<float>& model() const {
    return std::visit([](const auto& file) -> const Model<float>& { return file.model(); }, file_);
  }
  const std::filesystem::path& path() const { return path_; }
  /// That of the files; of a Hugging Face model, what other programs open.
  std::filesystem::path folder() const { return folder_of(path_); }
  /// Also of "." and of a path that ends in a slash.
  std::string folder_name() const { return name_of(folder()); }
  bool is_gguf() const { return std::holds_alternative<GgufModel>(file_); }
  /// By GGUF's name: "llama" (Mistral too), "qwen2" or "qwen3".
  const std::string& architecture() const { return config().architecture; }
  /// What the file calls the model, or else the name of the file or folder. Always UTF-8: what is not is
  /// escaped, since formats of adapters take nothing else.
  const std::string& name() const { return name_; }
  Index context() const { return config().context; }  ///< tokens of the longest text that it was trained for

  /// Throws std::runtime_error where there is none.
  Tokenizer tokenizer() const {
    if (const auto* gguf = std::get_if<GgufModel>(&file_)) return Tokenizer::from_gguf(gguf->file());
    return Tokenizer::from_hugging_face(folder_of(path_));
  }
  /// Nothing for a model without a template; std::runtime_error for a template of a form that is not known.
  std::optional<Chat> chat(const Tokenizer& tokenizer) const {
    const auto* gguf = std::get_if<GgufModel>(&file_);
    const std::string jinja =
        gguf ? std::string(Chat::template_of(gguf->file())) : Chat::template_beside(folder_of(path_));
    if (jinja.empty()) return std::nullopt;
    return std::optional<Chat>(std::in_place, jinja, tokenizer);
  }

 private:
  const BaseConfig& config() const {
    return std::visit([](const auto& file) -> const BaseConfig& { return file.config(); }, file_);
  }

  using File = std::variant<GgufModel, HuggingFaceModel>;

  static File open(const std::filesystem::path& path) {
    const tiedlora::SniffedFile found = tiedlora::sniff(path);
    if (found.kind == tiedlora::FileKind::gguf) return File(std::in_place_type<GgufModel>, path);
    if (std::filesystem::exists(folder_of(path) / "config.json") &&
        (std::filesystem::is_directory(path) || path.filename() == "config.json"))
      return File(std::in_place_type<HuggingFaceModel>, folder_of(path));
    const std::string shown = tiedlora::detail::in_quotes(path.string());
    constexpr const char* advice = "give a GGUF file or a Hugging Face folder";
    if (found.kind == tiedlora::FileKind::missing)
      throw std::runtime_error(fmt::format("there is no {}; {}", shown, advice));
    if (std::filesystem::is_directory(path))
      throw std::runtime_error(fmt::format(
          "{} has no \"config.json\"{}; {}", shown,
          found.kind == tiedlora::FileKind::peft_folder ? ": it is an adapter, a PEFT folder" : "", advice));
    throw std::runtime_error(fmt::format("{} is {}; for a base model {}", shown,
                                         found.what.empty() ? "of an unknown kind" : found.what, advice));
  }
  static std::filesystem::path folder_of(const std::filesystem::path& path) {
    if (std::filesystem::is_directory(path)) return path;
    return path.has_parent_path() ? path.parent_path() : ".";
  }
  static std::string name_of(const std::filesystem::path& folder) {
    const auto full = std::filesystem::absolute(folder / "").lexically_normal();
    return full.parent_path().filename().string();
  }

  std::filesystem::path path_;
  File file_;
  std::string name_;
};

}  // namespace llama
