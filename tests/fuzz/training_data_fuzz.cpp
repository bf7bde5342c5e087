// Any bytes as a file of examples in JSON: cut into pieces, and each read or refused with a reason and a
// place.
#include <finetune/data/json_pieces.hpp>
#include <finetune/data/record.hpp>
#include <finetune/data/shown.hpp>

#include "fuzz.hpp"

void tiedlora_fuzz(std::span<const std::byte> bytes) {
  using namespace finetune;
  const std::string_view text = as_text(bytes);
  std::size_t end = 0;
  const auto on_piece = [&](std::string_view piece) {
    const auto begin = static_cast<std::size_t>(piece.data() - text.data());
    require(!piece.empty() && begin >= end && begin + piece.size() <= text.size());
    end = begin + piece.size();
    try {
      const Record record = read_record(piece);
      bool learns = !record.text.empty() || !record.answer.empty();
      for (const bool learned : record.learned) learns = learns || learned;
      require(learns);
      std::size_t answers = 0;
      for (const llama::Message& message : record.messages)
        if (message.role == "assistant") ++answers;
      require(answers == record.learned.size());
    } catch (const RecordError& error) {
      require(error.what()[0] != '\0' && error.at <= piece.size());
      // Nothing of the file reaches a terminal as it is.
      for (const char c : escaped(error.what())) require(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f);
      const TextPlace place = place_of(piece, error.at);
      require(place.line >= 1 && place.column >= 1);
    }
  };
  for_each_piece(text, on_piece,
                 [&](const char* what, std::size_t at) { require(what[0] != '\0' && at <= text.size()); });
  require(find_broken(escaped(text)) == std::string_view::npos);
}
