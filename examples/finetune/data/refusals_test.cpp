// Files of training data that are refused, and what is said of them.
#include "read_data_fixture.hpp"
#include "record.hpp"
#include "shown.hpp"

namespace finetune {
namespace {

using RefusalTest = ReadDataTest;

TEST_F(RefusalTest, NamesBadLines) {
  folder.write("a.jsonl", line_of(3) +
                              "{'prompt': 1}\n"
                              "{\"prompt\": \"a\", \"response\": \"b\"}\n\n"
                              "{\"text\": \"\"}\n"
                              "{\"messages\": [{\"role\": \"user\\u001b[31m\", \"content\": \"\"}]}\n" +
                              "{\"text\": \"\x1b[31m caf\xe9\"}\n");
  folder.write("b.jsonl", "[]\n");
  folder.write("c.jsonl", "{}\n[]\n" + line_of(3));
  try {
    read({"a.jsonl", "c.jsonl"});
    ADD_FAILURE() << "no error";
  } catch (const std::runtime_error& error) {
    const std::string path = quoted((folder.path() / "a.jsonl").string(), 300);
    EXPECT_EQ(std::string(error.what()),
              "7 of 9 lines of the data are not valid examples:\n" + path +
                  ", line 2, column 2: is not valid JSON at \"'prompt': 1}\"; strings need double "
                  "quotes\n    {'prompt': 1}\n" +
                  path +
                  ", line 3: has the keys \"prompt\", \"response\", but no \"completion\"\n"
                  "    {\"prompt\": \"a\", \"response\": \"b\"}\n" +
                  path + ", line 5: has an empty \"text\"; leave the example out\n    {\"text\": \"\"}\n" +
                  path +
                  ", line 6: has message 1 with the role \"user\\x1b[31m\"; the roles are system, user and "
                  "assistant (or human and gpt)\n"
                  "    {\"messages\": [{\"role\": \"user\\u001b[31m\", \"content\": \"\"}]}\n" +
                  path +
                  ", line 7, column 20: is not UTF-8: it has the byte 0xe9; convert the file (iconv)\n"
                  "    {\"text\": \"\\x1b[31m caf\\xe9\"}\n"
                  "and 2 more.\n"
                  "Each line must be one of these (other keys are ignored):\n" +
                  std::string(accepted_forms));
  }
}

TEST_F(RefusalTest, NamesPlacesInLists) {
  folder.write("a.json", "[\n  {\"text\": \"a\"},\n  {\n    \"text\": oops\n  }\n]\n");
  expect_wrong({"a.json"}, {"1 of 2 lines of the data is not a valid example:",
                            "a.json\", line 4, column 13: is not valid JSON"});
  folder.write("b.json", "[{\"text\": \"a\"}, {\"text\": 1},\n");
  expect_wrong({"b.json"},
               {"2 of 3", "b.json\", line 1: has \"text\"", "line 1, column 1: begins a list that is not"});
  folder.write("c.json", "[{\"text\": \"é\"}, {\"text\" 1}]");
  expect_wrong({"c.json"}, {"c.json\", line 1, column 25: is not valid JSON"});
  folder.write("d.json", "[{\"text\": \"a\"}]\n{\"text\": \"a\"}");
  expect_wrong({"d.json"}, {"d.json\", line 2, column 1: comes after the end of the list"});
}

TEST_F(RefusalTest, NamesWhatTheModelRefuses) {
  const TestModel llama2("llama2", "llama2");
  folder.write("a.jsonl", "{\"messages\": [{\"role\": \"assistant\", \"content\": \"a\"}]}");
  expect_error<std::runtime_error>(
      [&] { read_data({folder.path() / "a.jsonl"}, llama2.tokenizer, llama2.chat.get(), {}); },
      {"line 1: cannot be written for this model: message 1", "user and assistant to alternate"});
  expect_error<std::runtime_error>(
      [&] { read_data({folder.path() / "a.jsonl"}, llama2.tokenizer, nullptr, {}); },
      {"a.jsonl\", line 1: is a conversation, but the model has no chat template"});
}

TEST_F(RefusalTest, NamesFilesThatAreNoText) {
  const auto expect = [&](const std::string& bytes, std::string_view what) {
    for (const char* name : {"a.jsonl", "a.txt"}) {
      folder.write(name, bytes);
      expect_wrong({name}, {name, what});
    }
  };
  expect("\x1f\x8b\x08", "is a gzip file; unpack it first (gunzip)");
  expect("PK\x03\x04...", "is a ZIP archive");
  expect("\x28\xb5\x2f\xfd", "is a Zstandard file");
  expect(std::string("\xfd"
                     "7zXZ\0",
                     6),
         "is an xz file");
  expect("BZh9", "is a bzip2 file");
  expect("PAR1...", "is a Parquet table; write it as JSONL first");
  expect("ARROW1...", "is an Arrow table");
  expect(std::string("SQLite format 3\0", 16), "is an SQLite database");
  expect("GGUF...", "is a GGUF file");
  expect("%PDF-1.4", "is a PDF document");
  expect(std::string("\xff\xfe{\0", 4), "is UTF-16 text; convert it to UTF-8 first");
  expect("version https://git-lfs.github.com/spec/v1\n", "git lfs pull");
  folder.write("a.jsonl", "\n<!DOCTYPE html><html>");
  expect_wrong({"a.jsonl"}, {"is a web page (HTML"});
  folder.write("a.html", "<html>text</html>");
  EXPECT_EQ(read({"a.html"}).examples.size(), 1u);
  folder.write("a.txt", "one\ncaf\xe9\n");
  expect_wrong({"a.txt"}, {"a.txt\", line 2, column 4", "byte 0xe9"});
  folder.write("a.txt", std::string("one\0two", 7));
  expect_wrong({"a.txt"}, {"a.txt\", line 1, column 4", "byte 0x00"});
}

TEST_F(RefusalTest, NamesWhatIsMissing) {
  expect_wrong({}, {"no file or folder of training data is named"});
  expect_wrong({"nowhere\x1b.txt"}, {"nowhere\\x1b.txt\" does not exist"});
  for (const char* name : {"a.txt", "a.jsonl"}) {
    folder.write(name, "");
    expect_wrong({name}, {name, "is empty"});
    folder.write(name, "\xef\xbb\xbf \r\n");
    expect_wrong({name}, {name, "is empty"});
  }
  folder.write("list.json", "[]");
  expect_wrong({"list.json"}, {"the data has no examples"});
  std::filesystem::create_directories(folder.path() / "hollow" / "deep");
  expect_wrong({"hollow"}, {"hollow\" contains no files"});
  folder.write("binary/a.png", std::string("\x89PNG\0", 5));
  folder.write("binary/b.txt", "");
  expect_wrong({"binary"}, {"the data has no examples: 1 files are not text, 1 are empty"});
  folder.write("a.txt", "text");
  expect_error<std::invalid_argument>([&] { read({"a.txt"}, 1); }, {"a window of 1 tokens"});
}

}  // namespace
}  // namespace finetune
