// One example as a line of JSON has it, in whichever of the known forms.
#pragma once

#include <cstddef>      // size_t
#include <stdexcept>    // runtime_error
#include <string>       // string
#include <string_view>  // string_view
#include <vector>       // vector

#include <llama/chat_template.hpp>  // Message

namespace finetune {

/// What is in an example. Which fields are used depends on the form.
struct Record {
  enum class Form { text, pair, instruction, conversation };

  Form form = Form::text;
  std::string_view form_name = "text";                 ///< to print
  std::string text = {};                               ///< of a text
  std::string question = {}, input = {}, answer = {};  ///< of a pair and, with `input`, of an instruction
  std::vector<llama::Message> messages = {};           ///< of a conversation: system, user, assistant
  std::vector<bool> learned = {};  ///< by answer of the conversation: whether the loss counts it
};

/// Why a text is not an example, to be read after its place: "has no \"completion\"…".
struct RecordError : std::runtime_error {
  RecordError(const std::string& what, std::size_t place) : std::runtime_error(what), at(place) {}
  std::size_t at;  ///< the byte that is wrong; 0 if it is not one
};

/// The forms, for messages.
inline constexpr std::string_view accepted_forms =
    "  {\"messages\": [{\"role\": \"user\", \"content\": \"...\"}, {\"role\": \"assistant\", \"content\": "
    "\"...\"}]}\n"
    "  {\"conversations\": [{\"from\": \"human\", \"value\": \"...\"}, {\"from\": \"gpt\", \"value\": "
    "\"...\"}]}\n"
    "  {\"prompt\": \"...\", \"completion\": \"...\"}\n"
    "  {\"instruction\": \"...\", \"input\": \"...\", \"output\": \"...\"}\n"
    "  {\"text\": \"...\"}";

/// Reads one JSON object. Throws RecordError, and nothing else, for whatever is not an example; its message
/// may hold characters of the text that are not fit to be shown.
Record read_record(std::string_view json);

}  // namespace finetune
