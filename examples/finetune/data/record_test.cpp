// Lines of JSON in every form, and what is said of those in none.
#include "record.hpp"

#include "expect_error.hpp"
#include "json_pieces.hpp"

namespace finetune {
namespace {

using Form = Record::Form;

std::vector<std::string> said(const Record& record) {
  std::vector<std::string> result;
  for (const auto& [role, content] : record.messages) result.push_back(role + ": " + content);
  return result;
}
void expect_wrong(std::string_view json, std::initializer_list<std::string_view> parts) {
  SCOPED_TRACE(std::string(json));
  expect_error<RecordError>([&] { read_record(json); }, parts);
}
std::size_t wrong_at(std::string_view json) {
  try {
    read_record(json);
  } catch (const RecordError& error) {
    return error.at;
  }
  ADD_FAILURE() << "no error: " << json;
  return 0;
}

TEST(Record, IsAText) {
  const Record record = read_record(R"({"id": 3, "text": "Él said \"so\"\n", "meta": {"a": [1]}})");
  EXPECT_EQ(record.form, Form::text);
  EXPECT_EQ(record.text, "Él said \"so\"\n");
}

TEST(Record, IsAPromptAndACompletion) {
  const Record record = read_record(R"({"prompt": "2+2=", "completion": " 4", "text": "2+2= 4"})");
  EXPECT_EQ(record.form, Form::pair);
  EXPECT_EQ(record.question, "2+2=");
  EXPECT_EQ(record.answer, " 4");
  EXPECT_EQ(read_record(R"({"prompt": "", "completion": "x"})").question, "");
}

TEST(Record, IsAnInstruction) {
  const Record record =
      read_record(R"({"instruction": "Add", "input": "1 2", "output": "3", "text": "all of it"})");
  EXPECT_EQ(record.form, Form::instruction);
  EXPECT_EQ(record.question + "|" + record.input + "|" + record.answer, "Add|1 2|3");
  EXPECT_EQ(read_record(R"({"instruction": "Add", "input": null, "output": "3"})").input, "");
  EXPECT_EQ(read_record(R"({"instruction": "Add", "output": "3"})").input, "");
}

TEST(Record, IsAConversation) {
  const Record record = read_record(
      R"({"prompt_id": 1, "prompt": "Hi", "messages": [{"role": "developer", "content": "Be brief"},
          {"role": "user", "content": "Hi", "name": "Ann"}, {"role": "assistant", "content": "Yes"}]})");
  EXPECT_EQ(record.form, Form::conversation);
  EXPECT_EQ(record.form_name, "messages");
  EXPECT_EQ(said(record), (std::vector<std::string>{"system: Be brief", "user: Hi", "assistant: Yes"}));
  EXPECT_EQ(record.learned, (std::vector<bool>{true}));
}

TEST(Record, IsAConversationOfShareGpt) {
  const Record record = read_record(
      R"({"id": "x", "conversations": [{"from": "system", "value": "S"}, {"from": "human", "value": "Q"},
          {"from": "gpt", "value": "A"}, {"from": "user", "value": "R"}, {"from": "assistant", "value": "B"}]})");
  EXPECT_EQ(record.form_name, "conversations");
  EXPECT_EQ(said(record),
            (std::vector<std::string>{"system: S", "user: Q", "assistant: A", "user: R", "assistant: B"}));
  EXPECT_EQ(said(read_record(R"({"conversations": [{"role": "user", "content": "Q"},
                                                   {"role": "assistant", "content": "A"}]})")),
            (std::vector<std::string>{"user: Q", "assistant: A"}));
}

TEST(Record, HasContentInParts) {
  const Record record = read_record(
      R"({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
                       {"role": "assistant", "content": ["c", "d"], "tool_calls": []}], "tools": null})");
  EXPECT_EQ(said(record), (std::vector<std::string>{"user: ab", "assistant: cd"}));
}

TEST(Record, LearnsWhatIsToBeLearned) {
  EXPECT_EQ(read_record(R"({"messages": [{"role": "user", "content": "Q"},
                                         {"role": "assistant", "content": "", "weight": 0},
                                         {"role": "user", "content": "Q"},
                                         {"role": "assistant", "content": "A", "weight": 1}]})")
                .learned,
            (std::vector<bool>{false, true}));
  const Record both =
      read_record(R"({"prompt": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"},
                                                 {"role": "user", "content": "R"}],
                                      "completion": [{"role": "assistant", "content": "B"}]})");
  EXPECT_EQ(both.form, Form::conversation);
  EXPECT_EQ(both.form_name, "prompt/completion");
  EXPECT_EQ(both.learned, (std::vector<bool>{false, true}));
  EXPECT_EQ(both.messages.size(), 4u);
}

TEST(Record, TakesNullForMissing) {
  EXPECT_EQ(read_record(R"({"messages": null, "prompt": null, "text": "x"})").form, Form::text);
}

TEST(Record, NamesWhereJsonIsBroken) {
  expect_wrong(R"({'text': "x"})", {"is not valid JSON", "'text'", "double quotes"});
  EXPECT_EQ(wrong_at(R"({'text': "x"})"), 1u);
  EXPECT_EQ(wrong_at(R"({"text": "x",})"), 13u);
  EXPECT_EQ(wrong_at(R"({"text": None})"), 9u);
  EXPECT_EQ(wrong_at(R"({"text": "x"} {"text": "y"})"), 14u);
  EXPECT_EQ(wrong_at(R"({"text": "\q"})"), 11u);
  EXPECT_GT(wrong_at(R"({"text": "\ud800"})"), 9u);
  expect_wrong("{\"text\": \"a\tb\"}", {"is not valid JSON", "\\tb", "escape such as \\n"});
  expect_wrong("{\"text\": \"a", {"ends in the middle of its JSON"});
  expect_wrong("{", {"ends in the middle of its JSON", "on one line"});
  expect_wrong(R"({"text": 1e999})", {"is not valid JSON"});
  expect_wrong(R"({"text": "a", "text": "b"})", {"has the name \"text\" twice"});
  expect_wrong(std::string(200, '['), {"nested deeper"});
}

TEST(Record, NamesBytesThatAreNoText) {
  expect_wrong("{\"text\": \"caf\xe9\"}", {"not UTF-8", "byte 0xe9", "iconv"});
  EXPECT_EQ(wrong_at("{\"text\": \"caf\xe9\"}"), 13u);
  expect_wrong(std::string_view("{\"text\": \"a\0\"}", 14), {"zero byte"});
  EXPECT_EQ(wrong_at(std::string_view("{\"text\": \"a\0\"}", 14)), 11u);
}

TEST(Record, NamesKeys) {
  expect_wrong(R"({"prompt": "a", "response": "b"})",
               {R"(has the keys "prompt", "response", but no "completion")"});
  expect_wrong(R"({"completion": "b"})", {R"(has the key "completion", but no "prompt")"});
  expect_wrong(R"({"instruction": "b"})", {R"(but no "output")"});
  expect_wrong(R"({"output": "b"})", {R"(but no "instruction")"});
  expect_wrong(R"({"question": 1, "answer": 2})", {R"("answer", "question", of which none is known)"});
  expect_wrong(R"({"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"k":1,"l":1})",
               {R"("j" and 2 more)"});
  expect_wrong("{}", {"has no keys at all"});
  expect_wrong("[1]", {"is a list, not an object"});
  expect_wrong("\"x\"", {"is a string, not an object"});
  expect_wrong("null", {"is null, not an object"});
  expect_wrong("true", {"is true or false, not an object"});
}

TEST(Record, NamesTypes) {
  expect_wrong(R"({"text": 3})", {"\"text\", which is a number, not a string"});
  expect_wrong(R"({"prompt": {}, "completion": "b"})", {"\"prompt\", which is an object, not a string"});
  expect_wrong(R"({"prompt": [], "completion": "b"})",
               {"\"completion\", which is a string, not a list of messages"});
  expect_wrong(R"({"instruction": "a", "input": 1, "output": "b"})", {"\"input\", which is a number"});
  expect_wrong(R"({"messages": "[]"})", {"\"messages\", which is a string, not a list of messages"});
  expect_wrong(R"({"messages": ["a"]})", {"\"messages\" with a string as message 1, not an object"});
  expect_wrong(R"({"messages": [{"role": "user"}]})",
               {"message 1 without \"content\"; it has the key \"role\""});
  expect_wrong(R"({"messages": [{"content": "x"}]})", {"message 1 without \"role\""});
  expect_wrong(R"({"conversations": [{"from": "human"}]})", {"message 1 without \"value\""});
  expect_wrong(R"({"messages": [{"role": 1, "content": "x"}]})", {"a role in message 1, which is a number"});
  expect_wrong(R"({"messages": [{"role": "user", "content": 1}]})",
               {"a content in message 1, which is a number"});
  expect_wrong(R"({"messages": [{"role": "user", "content": [1]}]})",
               {"a part", "a number without a \"type\""});
  expect_wrong(R"({"messages": [{"role": "user", "content": [{"type": "text"}]}]})", {"without \"text\""});
  expect_wrong(R"({"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]})", {"a number"});
}

TEST(Record, NamesEmptyAnswers) {
  expect_wrong(R"({"text": " \n"})", {"has an empty \"text\""});
  expect_wrong(R"({"prompt": "a", "completion": ""})",
               {"has an empty \"completion\"", "leave the example out"});
  expect_wrong(R"({"instruction": "a", "output": " "})", {"has an empty \"output\""});
  expect_wrong(R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}]})",
               {"has an empty answer, message 2 of \"messages\""});
  expect_wrong(R"({"messages": [{"role": "user", "content": "a"}]})",
               {"no answer to learn", "assistant (or gpt)"});
  expect_wrong(R"({"messages": []})", {"no answer to learn"});
  expect_wrong(R"({"messages": [{"role": "assistant", "content": "a", "weight": 0}]})",
               {"a weight other than 0"});
  expect_wrong(R"({"messages": [{"role": "assistant", "content": "a", "weight": 0.5}]})",
               {"neither 0 nor 1"});
  expect_wrong(R"({"prompt": [{"role": "assistant", "content": "a"}], "completion": []})",
               {"no answer to learn in \"completion\""});
}

TEST(Record, NamesWhatIsNoText) {
  expect_wrong(R"({"messages": [{"role": "assistant", "content": null, "tool_calls": [{}]}]})",
               {"has \"tool_calls\" in message 1", "leave such examples out"});
  expect_wrong(R"({"tools": [{}], "messages": []})", {"has \"tools\""});
  expect_wrong(R"({"image": "a.png", "conversations": []})", {"has \"image\"", "only text"});
  expect_wrong(R"({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]})",
               {"a part of the type \"image_url\" in message 1; only text"});
  expect_wrong(R"({"messages": [{"role": "tool", "content": "4"}]})",
               {"with the role \"tool\"", "tool calls"});
  expect_wrong(R"({"messages": [{"role": "bot", "content": "4"}]})",
               {"with the role \"bot\"", "the roles are system"});
}

// The pieces of a text, each in "<…>", and what is broken.
std::string pieces(std::string_view text) {
  std::string result;
  for_each_piece(
      text, [&](std::string_view piece) { result.append("<").append(piece).append(">"); },
      [&](const char* what, std::size_t at) {
        result += std::string("!") + what + "@" + std::to_string(at);
      });
  return result;
}

TEST(JsonPieces, AreLines) {
  EXPECT_EQ(pieces("{1}\n{2}"), "<{1}><{2}>");
  EXPECT_EQ(pieces(" {1} \r\n\r\n  \n{2}\r\n"), "<{1}><{2}>");
  EXPECT_EQ(pieces("{1}\n[2]\n"), "<{1}><[2]>");
  EXPECT_EQ(pieces(""), "");
  EXPECT_EQ(pieces(" \n"), "");
}

TEST(JsonPieces, AreTheElementsOfAList) {
  EXPECT_EQ(pieces("[{1},{2}]"), "<{1}><{2}>");
  EXPECT_EQ(pieces("\n[\n {\"a\": [1, \"],}\", \"\\\"]\"]},\r\n {2}\n]\n"),
            "<{\"a\": [1, \"],}\", \"\\\"]\"]}><{2}>");
  EXPECT_EQ(pieces("[]"), "");
  EXPECT_EQ(pieces("[ 1 ]"), "<1>");
}

TEST(JsonPieces, AreOfAListThatMayBeBroken) {
  EXPECT_EQ(pieces("["), "!begins a list that is not closed with \"]\"@0");
  EXPECT_EQ(pieces("[1, {2"), "<1>!begins a list that is not closed with \"]\"@4");
  EXPECT_EQ(pieces("[1, \"2\\"), "<1>!begins a list that is not closed with \"]\"@4");
  EXPECT_EQ(pieces("[1,]"), "<1>!has a list with a comma that has nothing before or after it@3");
  EXPECT_EQ(pieces("[,1]"), "!has a list with a comma that has nothing before or after it@1");
  EXPECT_EQ(pieces("[1] x"), "<1>!comes after the end of the list@4");
}

}  // namespace
}  // namespace finetune
