// Training data from files: plain text, or examples as JSON, one a line.
#pragma once

#include <cstddef>     // size_t
#include <cstdint>     // uint64_t
#include <filesystem>  // path
#include <map>         // map
#include <string>      // string
#include <vector>      // vector

#include <llama/chat.hpp>       // Chat
#include <llama/tokenizer.hpp>  // Tokenizer

#include "example.hpp"

namespace finetune {

struct DataOptions {
  Index window = 512;        ///< the longest sequence, in tokens
  bool loss_on_all = false;  ///< also on questions
  /// A system message for the examples that have a question and an answer; through the chat template only.
  std::string system = {};
};

/// What was read, and what became of it.
struct DataReport {
  /// How many examples something happened to, and the first of them.
  struct Affected {
    std::size_t count = 0, source = 0, line = 0;
    Index length = 0;  ///< of the first, in tokens, as it was
  };

  std::vector<std::filesystem::path> files = {};
  std::size_t lines = 0;                            ///< that hold an example
  std::map<std::string, std::size_t> formats = {};  ///< examples by the form they were given in
  std::size_t examples = 0, documents = 0;          ///< documents: files of plain text
  std::size_t tokens = 0, counted = 0;              ///< of the examples; those that the loss counts
  Index window = 0, longest = 0;                    ///< longest: of the examples, in tokens
  Affected cut;                                     ///< what did not fit into the window lost its end
  Affected left_out;                                ///< no counted token was within the window
  std::size_t in_alpacas_words = 0;  ///< instructions for a model without a template: instruction_prompt()
  Index window_for_most = 0;         ///< in which 95 % of the examples of JSON would fit whole; 0 without any
  std::size_t binary = 0, empty = 0, hidden = 0, broken_links = 0, repeated = 0;  ///< files passed over
  std::vector<std::string> notes = {};
  std::uint64_t hash = 0;  ///< of what the files hold

  /// Two lines to print or more.
  std::string text() const;
};

struct Dataset {
  std::vector<Example> examples;
  DataReport report;
};

/// Reads files and folders. `chat` may be null: there is no template, or `template_problem` says why it
/// cannot be used. Throws std::runtime_error that names the first bad lines, and where no example is left.
Dataset read_data(const std::vector<std::filesystem::path>& paths, const llama::Tokenizer& tokenizer,
                  const llama::Chat* chat, const DataOptions& options,
                  const std::string& template_problem = {});

struct DataSplit {
  std::vector<Example> train, validation;
};

/// Takes about `fraction` of the examples off, at least one and at most half, chosen by what they hold and
/// `seed`. Examples of one group stay together. Of plain text, whole documents are taken where there are at
/// least ten, else the last windows of each. Throws std::invalid_argument for a fraction that is not in
/// (0, 0.5], std::runtime_error for fewer than two examples.
DataSplit hold_out(Dataset data, double fraction, std::uint64_t seed);

}  // namespace finetune
