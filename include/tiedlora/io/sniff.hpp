// What a file or a folder is, by its bytes and never by its name, and what to do where it is not what was
// wanted. For the errors of all readers, and for programs that choose one.
#pragma once

#include <algorithm>     // all_of, equal
#include <cstddef>       // byte, size_t
#include <cstdint>       // uint64_t, uint8_t
#include <cstring>       // memcpy
#include <filesystem>    // directory_iterator, path
#include <span>          // span
#include <string>        // string
#include <string_view>   // string_view
#include <system_error>  // error_code
#include <vector>        // vector

#include "../adapter/quote.hpp"
#include "../adapter/result.hpp"
#include "../views/config.hpp"
#include "../views/error.hpp"
#include "file.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// What a path leads to, by its first bytes.
enum class FileKind : std::uint8_t {
  missing,
  empty,
  folder,       ///< of no adapter that is read here
  peft_folder,  ///< with an adapter_config.json
  native,       ///< a safetensors file that this library wrote
  safetensors,  ///< another one
  gguf,
  json,
  text,      ///< UTF-8, a line or two: what servers answer in place of a file
  web_page,  ///< HTML or XML
  foreign,   ///< a format that is known and not read here
  unknown
};

/// What was found. `what` follows "PATH is" and ends with what to do: "a Git LFS pointer in place of the
/// file; ...".
struct SniffedFile {
  FileKind kind = FileKind::unknown;  ///< for programs
  std::string what = {};              ///< for people
};

namespace detail {
using namespace std::string_view_literals;

inline constexpr std::string_view pickle_text =
    "a Python pickle (an old PyTorch .bin or .pt file), which can run code when it is read; save it as "
    "safetensors with PyTorch (PEFT's save_pretrained does)";

/// Formats by what their files begin with.
struct KnownBegin {
  std::string_view begin, what;
};
inline constexpr KnownBegin known_begins[] = {
    {"version https://git-lfs.github.com/spec/"sv,
     "a Git LFS pointer in place of the file; fetch the file itself (git lfs pull)"},
    {"# xet version"sv,
     "a Xet pointer in place of the file; fetch the file itself (huggingface-cli download)"},
    {"/annex/objects/"sv, "a git-annex pointer in place of the file; fetch the file itself (git annex get)"},
    {"algg"sv,  // integers of four bytes, the lowest first
     "a LoRA adapter in llama.cpp's format ggla, from before GGUF; convert the PEFT folder that it came from "
     "(convert_lora_to_gguf.py of llama.cpp)"},
    {"tjgg"sv,
     "a model in llama.cpp's format ggjt, from before GGUF; convert it again (convert_hf_to_gguf.py)"},
    {"fmgg"sv,
     "a model in llama.cpp's format ggmf, from before GGUF; convert it again (convert_hf_to_gguf.py)"},
    {"lmgg"sv,
     "a model in llama.cpp's format ggml, from before GGUF; convert it again (convert_hf_to_gguf.py)"},
    {"\x93NUMPY"sv, "a NumPy array (.npy); save it as safetensors"},
    {"\x89HDF\r\n"sv, "an HDF5 file (Keras); save it as safetensors"},
    {"\x1f\x8b"sv, "a gzip file; unpack it first (gunzip)"},
    {"\x28\xb5\x2f\xfd"sv, "a Zstandard file; unpack it first (unzstd)"},
    {"\xfd\x37zXZ"sv, "an xz file; unpack it first (unxz)"},
    {"BZh"sv, "a bzip2 file; unpack it first (bunzip2)"},
    {"7z\xbc\xaf"sv, "a 7z archive; unpack it first (7z x)"},
    {"PAR1"sv, "a Parquet table; write it as JSONL first"},
    {"ARROW1"sv, "an Arrow table; write it as JSONL first"},
    {"SQLite format 3\0"sv, "an SQLite database; write what is in it as JSONL first"},
    {"%PDF-"sv, "a PDF document; take its text out first"},
    {"\xff\xfe"sv, "UTF-16 text; convert it to UTF-8 first (iconv)"},
    {"\xfe\xff"sv, "UTF-16 text; convert it to UTF-8 first (iconv)"},
};

inline bool begins_with_tag(std::string_view text, std::string_view tag) {
  return text.size() >= tag.size() && std::equal(tag.begin(), tag.end(), text.begin(), [](char a, char b) {
           return a == (b >= 'A' && b <= 'Z' ? static_cast<char>(b - 'A' + 'a') : b);
         });
}

/// What is there of the JSON header of a safetensors file; empty where the text does not begin as one does.
inline std::string_view safetensors_header(std::string_view text) {
  std::uint64_t length = 0;
  if (text.size() <= sizeof length) return {};
  std::memcpy(&length, text.data(), sizeof length);
  constexpr std::uint64_t most = 100'000'000;  // of the format
  if (length > most) return {};
  const std::string_view header = text.substr(sizeof length, static_cast<std::size_t>(length));
  const std::size_t first = header.find_first_not_of(" \t\r\n");
  return first != header.npos && header[first] == '{' ? header : std::string_view();
}

/// A safetensors file by the names in its header.
inline SniffedFile sniff_header(std::string_view header) {
  const auto has = [header](std::string_view part) { return header.find(part) != header.npos; };
  if (has("\"tiedlora\"")) return {FileKind::native, "a native file of tiedlora"};
  if (has("lora_unet_") || has("lora_te_") || has(".lora_down.weight\""))
    return {FileKind::safetensors,
            "a LoRA in kohya's naming (lora_down, lora_up), for an image model; only adapters of language "
            "models in PEFT's names can be read"};
  if (has("\"unet.") || has("\"transformer.single_") || has("\"transformer.transformer_blocks.") ||
      has(".lora.down.weight\""))
    return {
        FileKind::safetensors,
        "a LoRA of diffusers, for an image model; only adapters of language models in PEFT's names can be "
        "read"};
  if (has(".lora_A.") || has(".vera_lambda_") || has(".lora_embedding_"))
    return {FileKind::safetensors,
            "the weights of a PEFT adapter without their config; give the folder that holds them and "
            "adapter_config.json"};
  if (has(".lora_a\"") && has(".lora_b\""))
    return {FileKind::safetensors,
            "the weights of an MLX adapter; fuse it into its model (mlx_lm.fuse), or convert it to PEFT's "
            "form (A and B transposed, lora_alpha = scale times rank)"};
  return {FileKind::safetensors, "a safetensors file without an adapter (a base model?)"};
}

/// What is left when no begin is known: JSON, a page, some text, zeros.
inline SniffedFile sniff_text(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  const std::string_view begin = first == text.npos ? std::string_view() : text.substr(first, 4096);
  if (begins_with_tag(begin, "<!doctype html") || begins_with_tag(begin, "<html") ||
      begins_with_tag(begin, "<?xml"))
    return {
        FileKind::web_page,
        "a web page (HTML or XML) in place of the file: its download went wrong, or asks for a login or for "
        "consent to terms; download it again"};
  constexpr std::size_t longest_answer = 1024;
  if (!begin.empty() && (begin[0] == '{' || begin[0] == '['))
    return {FileKind::json,
            text.size() > longest_answer ? "a JSON file" : "a JSON file, " + escaped(begin, 60)};
  if (std::all_of(text.begin(),
                  text.begin() + static_cast<std::ptrdiff_t>(std::min<std::size_t>(text.size(), 4096)),
                  [](char c) { return c == 0; }))
    return {FileKind::foreign,
            "all zeros at its beginning: its download or copy did not finish; fetch it again"};
  if (begin.starts_with("FROM ") && begin.find('\n') != begin.npos)
    return {FileKind::foreign, "an Ollama Modelfile; give the adapter that its ADAPTER line names"};
  if (text.size() > longest_answer) return {};
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t size = character_size(text.data() + at, text.size() - at);
    if (size == 0 || (!is_shown(text.data() + at, size) && text.find_first_of("\t\r\n", at) != at)) return {};
    at += size;
  }
  return {FileKind::text, message("a text file (", in_quotes(begin, 60),
                                  "), perhaps a server's answer in place of the file; download it again")};
}

}  // namespace detail

/// The bytes of a file, of which the beginning is enough: nothing in them is trusted, so any bytes may be
/// given.
inline SniffedFile sniff_bytes(std::span<const std::byte> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (text.empty()) return {FileKind::empty, "empty: its download or copy did not finish; fetch it again"};
  if (text.starts_with("GGUF")) return {FileKind::gguf, "a GGUF file"};
  // Before what begins with few bytes: a header may be of any length.
  if (const std::string_view header = detail::safetensors_header(text); !header.empty())
    return detail::sniff_header(header);
  for (const detail::KnownBegin& known : detail::known_begins)
    if (text.starts_with(known.begin)) return {FileKind::foreign, std::string(known.what)};
  if (text.starts_with("PK\x03\x04")) {
    const std::string_view begin = text.substr(0, 256);  // with the name of the first file in it
    return {FileKind::foreign,
            begin.find("data.pkl") != begin.npos || begin.find(".format_version") != begin.npos
                ? "a PyTorch file (.bin, .pt), a ZIP of Python pickles, which can run code when it is read; "
                  "save it as safetensors with PyTorch (PEFT's save_pretrained does)"
            : begin.find(".npy") != begin.npos ? "a NumPy archive (.npz); save it as safetensors"
                                               : "a ZIP archive; unpack it first (unzip)"};
  }
  if (text.size() > 2 && text[0] == '\x80' && text[1] >= 2 && text[1] <= 5)
    return {FileKind::foreign, std::string(detail::pickle_text)};
  if (text.size() > 262 && text.substr(257, 5) == "ustar")
    return {FileKind::foreign, "a tar archive; unpack it first (tar -xf)"};
  return detail::sniff_text(text);
}

namespace detail {
/// Of a JSON file beside weights: up to a few MB of text that is only searched.
inline std::string sniffed_text(const std::filesystem::path& path) {
  const Result<MappedFile> file = MappedFile::try_open(path);
  if (!file) return {};
  const auto bytes = file->bytes().first(std::min(file->bytes().size(), std::size_t{1} << 22));
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

inline SniffedFile sniff_folder(const std::filesystem::path& folder) {
  std::error_code ignored;
  const auto has = [&](const char* name) { return std::filesystem::exists(folder / name, ignored); };
  const std::string mlx =
      "the folder of an MLX adapter; fuse it into its model (mlx_lm.fuse), or convert it to PEFT's form (A "
      "and B transposed, lora_alpha = scale times rank)";
  if (has("adapter_config.json")) {
    const std::string config = sniffed_text(folder / "adapter_config.json");
    const auto names = [&config](std::string_view key) { return config.find(key) != config.npos; };
    if (!names("\"peft_type\"") &&
        (names("\"lora_parameters\"") || names("\"fine_tune_type\"") || names("\"lora_layers\"")))
      return {FileKind::folder, mlx};
    return {FileKind::peft_folder, "a PEFT folder"};
  }
  if (has("adapters.safetensors") || has("adapters.npz")) return {FileKind::folder, mlx};
  if (has("adapter_model.safetensors") || has("adapter_model.bin"))
    return {FileKind::folder,
            "a folder with the weights of a PEFT adapter, but without adapter_config.json; fetch that too, "
            "or save the adapter again where saving was interrupted"};
  // Trainers and the Hugging Face cache keep adapters some folders deep.
  using Entries = std::filesystem::recursive_directory_iterator;
  std::vector<std::string> adapters;
  int count = 0;
  constexpr int most = 1000, deepest = 3;
  if (std::filesystem::directory_iterator(folder, ignored); ignored)
    return {FileKind::folder, message("a folder that cannot be read (", ignored.message(), ")")};
  for (Entries entry(folder, std::filesystem::directory_options::skip_permission_denied, ignored);
       !ignored && count < most && entry != Entries(); entry.increment(ignored)) {
    ++count;
    std::error_code error;
    if (entry.depth() == deepest) entry.disable_recursion_pending();
    bool is_adapter = std::filesystem::exists(entry->path() / "adapter_config.json", error);
    constexpr std::size_t begin = 4096;  // GGUF's first word, or the names in a native file's header
    const auto file = entry->is_regular_file(error) ? MappedFile::try_open(entry->path())
                                                    : Result<MappedFile>(Failure{"no file"});
    if (file) {
      const FileKind kind = sniff_bytes(file->bytes().first(std::min(file->bytes().size(), begin))).kind;
      is_adapter = kind == FileKind::native || kind == FileKind::gguf;
    }
    if (is_adapter) adapters.push_back(utf8(entry->path()));
  }
  if (count == 0) return {FileKind::folder, "an empty folder"};
  if (adapters.empty() && (has("config.json") || has("model.safetensors") ||
                           has("model.safetensors.index.json") || has("pytorch_model.bin")))
    return {FileKind::folder, "the folder of a model, not of an adapter"};
  if (adapters.empty())
    return {FileKind::folder,
            count < most
                ? "a folder without an adapter in it or in three levels of subfolders"
                : message("a folder without an adapter among the first ", most, " of its files and folders")};
  const auto first = std::min_element(adapters.begin(), adapters.end());
  return {FileKind::folder,
          message("a folder that is not itself an adapter but holds ",
                  adapters.size() == 1 ? "" : "some, such as ", in_quotes(*first), "; give that")};
}

}  // namespace detail

/// A path. Of a file only its beginning is looked at, a safetensors header included.
inline SniffedFile sniff(const std::filesystem::path& path) {
  using detail::in_quotes;
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) return detail::sniff_folder(path);
  if (!std::filesystem::exists(path, ignored)) return {FileKind::missing, "not there"};
  const Result<MappedFile> file = MappedFile::try_open(path);
  if (!file) {
    const bool is_file = std::filesystem::is_regular_file(path, ignored);
    return {FileKind::unknown, is_file ? "" : "neither a file nor a folder"};
  }
  SniffedFile found = sniff_bytes(file->bytes());
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  const bool is_part = found.kind == FileKind::safetensors || found.kind == FileKind::json;
  if (is_part && detail::utf8(path.filename()).starts_with("adapter") &&
      detail::sniff_folder(folder).kind == FileKind::peft_folder)
    found.what = detail::message("a file inside a PEFT folder; give the folder, ",
                                 detail::in_quotes(detail::utf8(folder)));
  return found;
}

namespace detail {

/// The message where a path is not what a reader wants. `other_readers` says what reads the rest.
inline Failure unexpected(const std::filesystem::path& path, std::string_view what, std::string_view expected,
                          std::string_view other_readers = {}) {
  return {message(in_quotes(utf8(path)), " is ", what, " (", expected, " is expected",
                  other_readers.empty() ? "" : "; ", other_readers, ")")};
}

/// Maps a file that is to be of that kind, FileKind::safetensors, gguf or json, or says what it is instead.
/// What is not known is left to the reader to refuse.
inline Result<MappedFile> try_open_as(FileKind wanted, const std::filesystem::path& path,
                                      std::string_view expected) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored))
    return unexpected(path, sniff_folder(path).what, expected);
  Result<MappedFile> file = MappedFile::try_open(path);
  if (!file) return file;
  const std::string_view text(reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size());
  // Not its names, which are looked for only where they make an error better.
  if (wanted == FileKind::safetensors && !safetensors_header(text).empty()) return file;
  const SniffedFile found = sniff_bytes(file->bytes());
  if (found.kind == wanted || found.kind == FileKind::unknown) return file;
  const SniffedFile at_path = sniff(path);
  return unexpected(path, at_path.what.empty() ? found.what : at_path.what, expected);
}

}  // namespace detail
TIEDLORA_END_NAMESPACE
