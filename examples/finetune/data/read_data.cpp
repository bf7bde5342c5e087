// From paths to examples: which files, what each of them is, and what fits into the window.
#include "read_data.hpp"

#include <algorithm>  // count, find, max, min, nth_element
#include <stdexcept>  // invalid_argument, runtime_error
#include <utility>    // move

#include <fmt/format.h>
#include <tiedlora/io/file.hpp>   // MappedFile
#include <tiedlora/io/sniff.hpp>  // sniff_bytes

#include "bad_lines.hpp"
#include "data_files.hpp"
#include "encoder.hpp"
#include "files.hpp"  // fnv1a, mix
#include "json_pieces.hpp"
#include "record.hpp"
#include "shown.hpp"

namespace finetune {

namespace {

constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";

class Reader {
 public:
  Reader(const llama::Tokenizer& tokenizer, const llama::Chat* chat, const DataOptions& options,
         const std::string& template_problem)
      : tokenizer_(tokenizer),
        has_template_(chat != nullptr),
        has_system_(!options.system.empty()),
        encoder_(tokenizer, chat, options.system, options.loss_on_all, template_problem),
        window_(static_cast<std::size_t>(options.window)) {
    report_.window = options.window;
  }

  Dataset read(const std::vector<std::filesystem::path>& paths) {
    for (const DataFile& file : find_data_files(paths, report_)) read_file(file);
    bad_.throw_if_any(report_.lines);
    finish();
    note_readings();
    return {std::move(examples_), std::move(report_)};
  }

 private:
  void read_file(const DataFile& file) {
    const auto mapped = tiedlora::MappedFile::try_open(file.path);
    if (!mapped) throw std::runtime_error(escaped(mapped.error()));
    const auto bytes = mapped->bytes();
    std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    const std::uint64_t hash = fnv1a(text);
    using tiedlora::FileKind;
    const tiedlora::SniffedFile found = tiedlora::sniff_bytes(bytes);
    if (found.kind == FileKind::foreign || found.kind == FileKind::gguf ||
        found.kind == FileKind::safetensors || found.kind == FileKind::native) {
      if (file.is_found) return void(++report_.binary);
      throw std::runtime_error(fmt::format("{} is {}", quoted(file.path.string(), 300), found.what));
    }
    if (text.starts_with(byte_order_mark)) text.remove_prefix(byte_order_mark.size());
    if (text.find_first_not_of(" \t\r\n") == text.npos) {
      if (file.is_found) return void(++report_.empty);
      throw std::runtime_error(fmt::format("{} is empty", quoted(file.path.string(), 300)));
    }
    const bool is_json = file.is_json || (file.may_be_json && is_record(first_piece(text)));
    if (is_json && found.kind == FileKind::web_page)
      throw std::runtime_error(fmt::format("{} is {}", quoted(file.path.string(), 300), found.what));
    if (is_json ? !read_lines(file, text) : !read_document(file, text)) return;
    report_.hash = mix(report_.hash ^ hash);
    report_.files.push_back(file.path);
  }

  bool read_lines(const DataFile& file, std::string_view text) {
    // Pieces come in their order, so that lines are counted once; where a list began that is not closed,
    // twice.
    std::size_t counted_to = 0, line = 1;
    const auto line_at = [&](std::size_t at) {
      if (at < counted_to) counted_to = 0, line = 1;
      line += static_cast<std::size_t>(std::count(text.begin() + static_cast<std::ptrdiff_t>(counted_to),
                                                  text.begin() + static_cast<std::ptrdiff_t>(at), '\n'));
      counted_to = at;
      return line;
    };
    const auto column_of = [&](std::size_t at) -> std::size_t {
      if (bad_.is_full()) return 0;  // a list on one line may hold thousands of them
      const std::size_t newline = at > 0 ? text.rfind('\n', at - 1) : text.npos;
      const std::size_t begin = newline == text.npos ? 0 : newline + 1;
      return place_of(text.substr(begin, at - begin), at - begin).column;
    };
    const auto on_piece = [&](std::string_view piece) {
      ++report_.lines;
      const auto begin = static_cast<std::size_t>(piece.data() - text.data());
      const std::size_t first_line = line_at(begin);
      try {
        const Record record = read_record(piece);
        add(encoder_(record), first_line, record.form_name);
        look_at(record, first_line);
      } catch (const RecordError& error) {
        const TextPlace within = place_of(piece, error.at);
        const std::size_t column = within.line > 1 ? within.column : column_of(begin + error.at);
        bad_.add(file.path, first_line + within.line - 1, error.at > 0 ? column : 0, error.what(), piece);
      } catch (const std::invalid_argument& error) {
        bad_.add(file.path, first_line, 0, fmt::format("cannot be written for this model: {}", error.what()),
                 piece);
      } catch (const std::runtime_error& error) {
        throw std::runtime_error(fmt::format("{}, line {}: {}", quoted(file.path.string(), 300), first_line,
                                             escaped(error.what())));
      }
    };
    for_each_piece(text, on_piece, [&](const char* what, std::size_t at) {
      ++report_.lines;
      bad_.add(file.path, line_at(at), column_of(at), what, text.substr(at));
    });
    return true;
  }

  bool read_document(const DataFile& file, std::string_view bytes) {
    if (const std::size_t broken = find_broken(bytes); broken != bytes.npos) {
      if (file.is_found) return ++report_.binary, false;
      const TextPlace place = place_of(bytes, broken);
      throw std::runtime_error(
          fmt::format("{}, line {}, column {}: is not UTF-8 text: it has the byte {:#04x}; convert the "
                      "file (iconv), or name "
                      "others",
                      quoted(file.path.string(), 300), place.line, place.column,
                      static_cast<unsigned char>(bytes[broken])));
    }
    note_json(file, bytes);
    std::string text;
    for (std::size_t i = 0; i < bytes.size(); ++i)
      if (bytes.substr(i, 2) != "\r\n") text += bytes[i];
    Example whole;
    try {
      whole = encoder_.text(text);
    } catch (const std::invalid_argument& error) {
      throw std::runtime_error(fmt::format("{}: {}", quoted(file.path.string(), 300), escaped(error.what())));
    }
    ++report_.documents;
    // Windows share a token, which one of them predicts and the next begins with.
    const std::size_t count = whole.tokens.size();
    if (count < 2) note(report_.left_out, 0, count);
    for (std::size_t begin = 0; begin + 1 < count; begin += window_ - 1) {
      const auto from = static_cast<std::ptrdiff_t>(begin);
      const auto to = static_cast<std::ptrdiff_t>(std::min(begin + window_, count));
      Example window;
      window.tokens.assign(whole.tokens.begin() + from, whole.tokens.begin() + to);
      window.counted.assign(window.tokens.size(), true);
      window.counted[0] = false;
      window.group = whole.group;
      keep(std::move(window), 0, "plain text");
    }
    return true;
  }

  static bool is_record(std::string_view piece) {
    if (!piece.starts_with('{')) return false;
    try {
      (void)read_record(piece);
      return true;
    } catch (const RecordError&) {
      return false;
    }
  }

  // Whoever names JSONL so that it is read as text would train on brackets and quotes.
  void note_json(const DataFile& file, std::string_view text) {
    if (!is_record(text.substr(0, text.find('\n')))) return;
    report_.notes.push_back(
        fmt::format("{} looks like JSONL, but is read as plain text; name it .jsonl to have its examples",
                    quoted(file.path.string(), 300)));
  }

  // What a record is read as, where its author may have meant something else.
  void look_at(const Record& record, std::size_t line) {
    using Form = Record::Form;
    if (record.form == Form::pair || record.form == Form::instruction) ++questions_;
    if (record.form == Form::instruction && !has_template_) ++report_.in_alpacas_words;
    if (record.form != Form::text) return;
    std::string name;
    tokenizer_.cut_control(
        record.text, [](std::size_t, std::size_t) {},
        [&](llama::Token token, std::size_t) {
          if (name.empty()) name = tokenizer_.piece(token);
        });
    if (name.empty()) return;
    if (marked_up_.count == 0) markup_ = name;
    note(marked_up_, line, 0);
  }

  void note_readings() {
    if (marked_up_.count > 0)
      report_.notes.push_back(
          fmt::format("Texts with names of control tokens: {} (first {}, line {}: {}); the names are read as "
                      "plain characters, so give conversations as {{\"messages\": ...}}",
                      marked_up_.count, quoted(report_.files.at(marked_up_.source).string(), 200),
                      marked_up_.line, quoted(markup_, 80)));
    if (report_.in_alpacas_words > 0)
      report_.notes.push_back(
          fmt::format("The instructions ({}) are put into the words of Alpaca, as the model has no chat "
                      "template; ask in the same words, which generate does not add: {}",
                      report_.in_alpacas_words, quoted(instruction_prompt("...", ""), 300)));
    if (!has_system_) return;
    if (!has_template_)
      report_.notes.push_back("--system has no effect: there is no chat template to say it with");
    else if (questions_ < report_.lines || report_.documents > 0)
      report_.notes.push_back(fmt::format(
          "--system {}: it is not added to conversations (\"messages\") or texts",
          questions_ == 0 ? std::string("has no effect")
                          : fmt::format("is in the {} of question and answer alone", questions_)));
  }

  // An example of JSON, cut to the window.
  void add(Example example, std::size_t line, std::string_view form) {
    const std::size_t length = example.tokens.size();
    lengths_.push_back(static_cast<Index>(length));
    if (length > window_) {
      example.tokens.resize(window_);
      example.counted.resize(window_);
    }
    const bool learns =
        std::find(example.counted.begin(), example.counted.end(), true) != example.counted.end();
    if (!learns || length > window_) note(learns ? report_.cut : report_.left_out, line, length);
    if (learns) keep(std::move(example), line, form);
  }

  void note(DataReport::Affected& affected, std::size_t line, std::size_t length) const {
    if (affected.count++ > 0) return;
    affected.source = report_.files.size(), affected.line = line;
    affected.length = static_cast<Index>(length);
  }

  void keep(Example example, std::size_t line, std::string_view form) {
    example.source = report_.files.size();
    example.line = line;
    ++report_.formats[std::string(form)];
    report_.tokens += example.tokens.size();
    report_.counted +=
        static_cast<std::size_t>(std::count(example.counted.begin(), example.counted.end(), true));
    report_.longest = std::max(report_.longest, static_cast<Index>(example.tokens.size()));
    examples_.push_back(std::move(example));
  }

  void finish() {
    report_.examples = examples_.size();
    if (!lengths_.empty()) {
      const auto at = static_cast<std::ptrdiff_t>((lengths_.size() * 95 + 99) / 100 - 1);
      std::nth_element(lengths_.begin(), lengths_.begin() + at, lengths_.end());
      report_.window_for_most = lengths_[static_cast<std::size_t>(at)];
    }
    if (!examples_.empty()) return;
    if (!lengths_.empty())
      throw std::runtime_error(
          fmt::format("no example is left: in all {} the answer lies beyond the window of {} tokens; "
                      "--window {} would fit "
                      "95 % of them",
                      report_.left_out.count, report_.window, report_.window_for_most));
    throw std::runtime_error(fmt::format("the data has no examples: {} files are not text, {} are empty",
                                         report_.binary, report_.empty));
  }

  const llama::Tokenizer& tokenizer_;
  bool has_template_, has_system_;
  Encoder encoder_;
  std::size_t window_;
  std::size_t questions_ = 0;       // which a system message may stand before
  DataReport::Affected marked_up_;  // texts with names of control tokens
  std::string markup_;              // the first of these
  DataReport report_;
  BadLines bad_;
  std::vector<Example> examples_;
  std::vector<Index> lengths_;  // of examples of JSON, before they were cut
};

}  // namespace

Dataset read_data(const std::vector<std::filesystem::path>& paths, const llama::Tokenizer& tokenizer,
                  const llama::Chat* chat, const DataOptions& options, const std::string& template_problem) {
  if (options.window < 2)
    throw std::invalid_argument(
        fmt::format("a window of {} tokens holds nothing to predict; give at least 2", options.window));
  return Reader(tokenizer, chat, options, template_problem).read(paths);
}

}  // namespace finetune
