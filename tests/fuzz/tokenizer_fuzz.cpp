// Any bytes as what a model says of its texts, a tokenizer.json or the metadata of a GGUF file, and as a chat
// template: tokens that stand for the text, or a reason.
#include <llama/chat.hpp>
#include <llama/tokenizer.hpp>
#include <string>

#include "fuzz.hpp"

namespace {

constexpr std::string_view texts[] = {"", " Hello  world, it's 12345!\n\n\tüber 日本語 🙂\r\n",
                                      "<s>[INST] a </s>", "▁a ▁▁b", "<|im_start|>user\n"};

void read_texts(const llama::Tokenizer& tokenizer) {
  for (const std::string_view text : texts) {
    for (const bool special : {false, true}) try {
        for (const llama::Token token : tokenizer.encode(text, special))
          require(token >= 0 && static_cast<std::size_t>(token) < tokenizer.size());
      } catch (const std::invalid_argument& error) {  // bytes that the vocabulary does not have
        require(error.what()[0] != '\0');
      }
    try {
      const llama::Encoding encoding = tokenizer.encode_with_ends(text);
      require(encoding.tokens.size() == encoding.ends.size());
      for (const std::size_t end : encoding.ends) require(end <= text.size());
      std::string pieces;  // except the blank that SentencePiece puts before a text
      for (const llama::Token token : encoding.tokens) pieces += tokenizer.decode(token);
      require(pieces.ends_with(tokenizer.decode(encoding.tokens)));
    } catch (const std::invalid_argument& error) {
      require(error.what()[0] != '\0');
    }
  }
}

void read_chat(std::string_view jinja) {
  try {
    const llama::ChatTemplate chat(jinja, "<s>", "</s>");
    const llama::Message messages[] = {{.role = "system", .content = "s"},
                                       {.role = "user", .content = "u"},
                                       {.role = "assistant", .content = "a"}};
    for (const bool prompt : {false, true}) try {
        require(!chat.parts(messages, {.generation_prompt = prompt}).empty());
      } catch (const std::invalid_argument& error) {  // a template without system messages
        require(error.what()[0] != '\0');
      }
  } catch (const std::runtime_error& error) {
    require(error.what()[0] != '\0');
  }
}

void accept_or_refuse(const auto& read) {
  try {
    read_texts(read());
  } catch (const std::runtime_error& error) {
    require(error.what()[0] != '\0');
  }
}

}  // namespace

void tiedlora_fuzz(std::span<const std::byte> bytes) {
  if (const auto json = tiedlora::try_parse_json(as_text(bytes), 64)) {
    const llama::JsonNode root(&*json, "fuzz", "");
    accept_or_refuse([&] {
      const llama::JsonNode config = root["tokenizer_config"];
      return llama::Tokenizer(llama::JsonVocabulary().read(root, config ? &config : nullptr));
    });
  } else if (const auto file = tiedlora::gguf::try_parse(bytes)) {
    accept_or_refuse([&] { return llama::Tokenizer(*file); });
    read_chat(llama::Chat::template_of(*file));
  } else {
    read_chat(as_text(bytes));
  }
}
