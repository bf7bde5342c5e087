// Files and folders of training data: what they are taken for, what is cut, and what is said of them.
#include "read_data.hpp"

#include <algorithm>

#include "expect_error.hpp"
#include "record.hpp"
#include "shown.hpp"
#include "test_model.hpp"

namespace finetune {
namespace {

class ReadDataTest : public ::testing::Test {
 protected:
  Dataset read(const std::vector<std::string>& names, Index window = 512, bool loss_on_all = false) const {
    std::vector<std::filesystem::path> paths;
    for (const std::string& name : names) paths.push_back(folder.path() / name);
    return read_data(paths, model().tokenizer, model().chat.get(),
                     {.window = window, .loss_on_all = loss_on_all});
  }
  // The files of these names must be refused.
  void expect_wrong(const std::vector<std::string>& names, std::initializer_list<std::string_view> parts,
                    Index window = 512) const {
    expect_error<std::runtime_error>([&] { read(names, window); }, parts);
  }
  static const TestModel& model() {
    static const TestModel model("gpt2", "chatml");
    return model;
  }
  static std::vector<std::string> marked(const Dataset& data) {
    std::vector<std::string> result;
    for (const Example& example : data.examples) result.push_back(model().marked(example));
    return result;
  }
  static std::string turn(const std::string& question, const std::string& answer) {
    return "<|im_start|>user\n" + question + "<|im_end|>\n<|im_start|>assistant\n[" + answer + "<|im_end|>]";
  }
  // A line with an answer of so many tokens, with the end of its turn.
  static std::string line_of(std::size_t tokens) {
    std::string answer;
    for (std::size_t i = 1; i < tokens; ++i) answer += "~";
    return "{\"prompt\": \"Q\", \"completion\": \"" + answer + "\"}\n";
  }
  static std::size_t size_of_question() {
    return model().tokenizer.encode("<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n", true).size();
  }

  TestFolder folder;
};

TEST_F(ReadDataTest, ReadsEveryFormOfLine) {
  folder.write("a.jsonl",
               "\xef\xbb\xbf{\"prompt\": \"Hi\", \"completion\": \"Yo\"}\r\n\r\n"
               "{\"instruction\": \"Add\", \"input\": \"1 2\", \"output\": \"3\"}\n"
               "{\"messages\": [{\"role\": \"user\", \"content\": \"Q\"}, {\"role\": \"assistant\", "
               "\"content\": \"A\"}]}\n"
               "{\"conversations\": [{\"from\": \"human\", \"value\": \"R\"}, {\"from\": \"gpt\", \"value\": "
               "\"B\"}]}\n"
               "{\"text\": \"x y\"}");
  const Dataset data = read({"a.jsonl"});
  const std::string end = model().tokenizer.piece(*model().tokenizer.eos());
  EXPECT_EQ(marked(data), (std::vector<std::string>{turn("Hi", "Yo"), turn("Add\n\n1 2", "3"), turn("Q", "A"),
                                                    turn("R", "B"), "x[ y" + end + "]"}));
  std::vector<std::size_t> lines;
  for (const Example& example : data.examples) lines.push_back(example.line);
  EXPECT_EQ(lines, (std::vector<std::size_t>{1, 3, 4, 5, 6}));
  EXPECT_EQ(data.report.lines, 5u);
  EXPECT_EQ(data.report.examples, 5u);
  std::size_t tokens = 0, counted = 0, longest = 0;
  for (const Example& example : data.examples) {
    tokens += example.tokens.size();
    counted += static_cast<std::size_t>(std::count(example.counted.begin(), example.counted.end(), true));
    longest = std::max(longest, example.tokens.size());
  }
  EXPECT_EQ(data.report.tokens, tokens);
  EXPECT_EQ(data.report.counted, counted);
  EXPECT_EQ(data.report.longest, static_cast<Index>(longest));
  const std::string text = data.report.text();
  EXPECT_NE(
      text.find("5 examples from 1 file (conversations 1, instruction 1, messages 1, prompt/completion 1, "
                "text 1)"),
      text.npos)
      << text;
}

TEST_F(ReadDataTest, ReadsLists) {
  folder.write("a.json", "[\n  {\"text\": \"a b\"},\n  {\n    \"text\": \"c d\"\n  }\n]\n");
  folder.write("b.json", "{\"text\": \"a b\"}\n{\"text\": \"c d\"}\n");
  folder.write("c.NDJSON", "[{\"text\": \"a b\"}, {\"text\": \"c d\"}]");
  const Dataset data = read({"a.json"});
  EXPECT_EQ(data.examples.size(), 2u);
  EXPECT_EQ(data.examples[1].line, 3u);
  for (const char* name : {"b.json", "c.NDJSON"}) EXPECT_EQ(marked(read({name})), marked(data)) << name;
}

TEST_F(ReadDataTest, CutsPlainTextIntoWindows) {
  std::string text;
  for (int i = 0; i < 40; ++i) text += "~" + std::to_string(i % 10);
  folder.write("a.txt", "\xef\xbb\xbf" + text);
  const std::vector<llama::Token> tokens = model().tokenizer.encode(text, false);
  const Dataset data = read({"a.txt"}, 7);
  // Every token but the first is predicted once, and eos is the last.
  std::vector<llama::Token> predicted;
  for (std::size_t i = 0; i < data.examples.size(); ++i) {
    const Example& example = data.examples[i];
    EXPECT_EQ(example.line, 0u);
    EXPECT_EQ(example.group, data.examples[0].group);
    EXPECT_LE(example.tokens.size(), 7u);
    for (std::size_t k = 0; k < example.tokens.size(); ++k) EXPECT_EQ(example.counted[k], k > 0);
    if (i > 0) {
      EXPECT_EQ(example.tokens[0], data.examples[i - 1].tokens.back());
    }
    predicted.insert(predicted.end(), example.tokens.begin() + 1, example.tokens.end());
  }
  std::vector<llama::Token> expected(tokens.begin() + 1, tokens.end());
  expected.push_back(*model().tokenizer.eos());
  EXPECT_EQ(predicted, expected);
  EXPECT_EQ(data.report.documents, 1u);
  EXPECT_EQ(data.report.cut.count, 0u);
  EXPECT_EQ(data.report.window_for_most, 0);
}

TEST_F(ReadDataTest, ReadsLinesOfOtherSystems) {
  folder.write("a.txt", "a\r\nb\r\n");
  folder.write("b.txt", "a\nb\n");
  EXPECT_EQ(read({"a.txt"}).examples[0].tokens, read({"b.txt"}).examples[0].tokens);
}

TEST_F(ReadDataTest, WalksThroughFolders) {
  folder.write("data/b.txt", "second one");
  folder.write("data/a/z.md", "first one");
  folder.write("data/c.jsonl", "{\"text\": \"third one\"}");
  folder.write("data/d.json", "[\"a text here\"]");
  folder.write("data/.git/config", "hidden");
  folder.write("data/.hidden.txt", "hidden");
  folder.write("data/image.png", std::string("\x89PNG\0", 5));
  folder.write("data/packed.gz", "\x1f\x8b text");
  folder.write("data/pointer.txt", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n");
  folder.write("data/__init__.py", "\n");
  std::filesystem::create_symlink(folder.path() / "data", folder.path() / "data" / "loop");
  const Dataset data = read({"data", "data/b.txt"});
  ASSERT_EQ(data.report.files.size(), 4u);
  std::vector<std::string> names;
  for (const auto& path : data.report.files) names.push_back(path.filename().string());
  EXPECT_EQ(names, (std::vector<std::string>{"z.md", "b.txt", "c.jsonl", "d.json"}));
  EXPECT_EQ(data.examples[2].source, 2u);
  EXPECT_EQ(data.examples[2].line, 1u);
  EXPECT_EQ(data.examples[3].line, 0u);
  const std::string text = data.report.text();
  EXPECT_NE(text.find("passed over: 3 binary files, 1 empty file, 2 hidden files, 1 repeated file"),
            text.npos)
      << text;
}

// Caches of data sets are full of links whose targets have no ending.
TEST_F(ReadDataTest, FollowsLinksToFiles) {
  folder.write("blobs/5f2a", "{\"text\": \"a b\"}");
  std::filesystem::create_symlink(folder.path() / "blobs" / "5f2a", folder.path() / "train.jsonl");
  EXPECT_EQ(read({"train.jsonl"}).report.formats.count("text"), 1u);
}

TEST_F(ReadDataTest, CutsExamplesToTheWindow) {
  const std::size_t question = size_of_question();
  const auto window = static_cast<Index>(question) + 4;
  folder.write("a.jsonl", line_of(4) + line_of(5) + line_of(9) + line_of(2));
  Dataset data = read({"a.jsonl"}, window);
  ASSERT_EQ(data.examples.size(), 4u);
  EXPECT_EQ(data.examples[0].tokens.back(), model().chat->end_of_turn());
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(data.examples[i].tokens.size(), static_cast<std::size_t>(window));
    EXPECT_EQ(std::count(data.examples[i].counted.begin(), data.examples[i].counted.end(), true), 4);
  }
  EXPECT_EQ(data.report.cut.count, 2u);
  EXPECT_EQ(data.report.cut.line, 2u);
  EXPECT_EQ(data.report.cut.length, window + 1);
  EXPECT_EQ(data.report.left_out.count, 0u);
  EXPECT_EQ(data.report.text().find("--window"), std::string::npos) << data.report.text();
}

TEST_F(ReadDataTest, LeavesOutWhatHasNothingToLearn) {
  const auto window = static_cast<Index>(size_of_question());
  folder.write("a.jsonl", "{\"text\": \"a b\"}\n" + line_of(4) + line_of(9) + line_of(2));
  const Dataset data = read({"a.jsonl"}, window);
  EXPECT_EQ(data.examples.size(), 1u);
  EXPECT_EQ(data.report.left_out.count, 3u);
  EXPECT_EQ(data.report.left_out.line, 2u);
  EXPECT_EQ(data.report.left_out.length, window + 4);
  EXPECT_EQ(data.report.window_for_most, window + 9);
  const std::string text = data.report.text();
  for (const std::string& part :
       {std::string("3 examples left out, nothing to learn being within the window (first"),
        fmt::format("a.jsonl\", line 2, {} tokens)", window + 4),
        fmt::format("--window {} would hold 95 %", window + 9)})
    EXPECT_NE(text.find(part), text.npos) << part << " is not in " << text;
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 4);

  folder.write("b.jsonl", line_of(4) + line_of(9));
  expect_wrong({"b.jsonl"}, {"no example is left", "none of the 2", "within the window of", "--window"},
               window);
}

TEST_F(ReadDataTest, FindsTheWindowForMost) {
  std::string lines;
  for (std::size_t i = 2; i <= 101; ++i) lines += line_of(i);
  folder.write("a.jsonl", lines);
  const auto question = static_cast<Index>(size_of_question());
  EXPECT_EQ(read({"a.jsonl"}).report.window_for_most, question + 96);
}

TEST_F(ReadDataTest, CountsAllWhereAsked) {
  folder.write("a.jsonl", line_of(3));
  const Dataset all = read({"a.jsonl"}, 512, true), answers = read({"a.jsonl"});
  EXPECT_EQ(answers.report.counted, 3u);
  EXPECT_EQ(all.report.counted, all.examples[0].tokens.size() - 1);
}

TEST_F(ReadDataTest, HashesContents) {
  folder.write("a.jsonl", line_of(3));
  folder.write("same.jsonl", line_of(3));
  folder.write("b.jsonl", line_of(4));
  const std::uint64_t hash = read({"a.jsonl"}).report.hash;
  EXPECT_EQ(read({"same.jsonl"}).report.hash, hash);
  EXPECT_NE(read({"b.jsonl"}).report.hash, hash);
  EXPECT_NE(read({"a.jsonl", "b.jsonl"}).report.hash, read({"b.jsonl", "a.jsonl"}).report.hash);
}

TEST_F(ReadDataTest, ReadsLongLines) {
  const std::string source(11'000'000, 'x');
  folder.write("a.jsonl", line_of(3) + "{\"text\": \"a b\", \"source\": \"" + source + "\"}\n" + line_of(3));
  const Dataset data = read({"a.jsonl"});
  ASSERT_EQ(data.examples.size(), 3u);
  EXPECT_EQ(data.examples[2].line, 3u);
}

TEST_F(ReadDataTest, NotesJsonThatIsReadAsText) {
  folder.write("a.txt", line_of(3));
  const std::string text = read({"a.txt"}).report.text();
  EXPECT_NE(text.find("a.txt\" looks like JSONL"), text.npos) << text;
}

TEST_F(ReadDataTest, NamesBadLines) {
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
    EXPECT_EQ(
        std::string(error.what()),
        "7 of 9 lines of the data are no examples:\n" + path +
            ", line 2, column 2: is not valid JSON: \"'prompt': 1}\" is wrong there; texts stand in double "
            "quotes\n    {'prompt': 1}\n" +
            path +
            ", line 3: has the keys \"prompt\", \"response\", but no \"completion\"\n"
            "    {\"prompt\": \"a\", \"response\": \"b\"}\n" +
            path + ", line 5: has an empty \"text\"; leave the example out\n    {\"text\": \"\"}\n" + path +
            ", line 6: has a message, 1, of the role \"user\\x1b[31m\"; known are system, user and "
            "assistant (or human and gpt)\n"
            "    {\"messages\": [{\"role\": \"user\\u001b[31m\", \"content\": \"\"}]}\n" +
            path +
            ", line 7, column 20: is not UTF-8: there is a byte 0xe9; convert the file (iconv)\n"
            "    {\"text\": \"\\x1b[31m caf\\xe9\"}\n"
            "and 2 more.\n"
            "What is an example, one a line, other keys aside:\n" +
            std::string(accepted_forms));
  }
}

TEST_F(ReadDataTest, NamesPlacesInLists) {
  folder.write("a.json", "[\n  {\"text\": \"a\"},\n  {\n    \"text\": oops\n  }\n]\n");
  expect_wrong({"a.json"},
               {"1 of 2 lines of the data is no example:", "a.json\", line 4, column 13: is not valid JSON"});
  folder.write("b.json", "[{\"text\": \"a\"}, {\"text\": 1},\n");
  expect_wrong({"b.json"},
               {"2 of 3", "b.json\", line 1: has \"text\"", "line 1, column 1: begins a list that is not"});
  folder.write("c.json", "[{\"text\": \"é\"}, {\"text\" 1}]");
  expect_wrong({"c.json"}, {"c.json\", line 1, column 25: is not valid JSON"});
  folder.write("d.json", "[{\"text\": \"a\"}]\n{\"text\": \"a\"}");
  expect_wrong({"d.json"}, {"d.json\", line 2, column 1: stands behind the end of the list"});
}

TEST_F(ReadDataTest, NamesWhatTheModelRefuses) {
  const TestModel llama2("llama2", "llama2");
  folder.write("a.jsonl", "{\"messages\": [{\"role\": \"assistant\", \"content\": \"a\"}]}");
  expect_error<std::runtime_error>(
      [&] { read_data({folder.path() / "a.jsonl"}, llama2.tokenizer, llama2.chat.get(), {}); },
      {"line 1: cannot be written for this model: message 1", "user and assistant in turns"});
  expect_error<std::runtime_error>(
      [&] { read_data({folder.path() / "a.jsonl"}, llama2.tokenizer, nullptr, {}); },
      {"a.jsonl\", line 1: is a conversation, but the model has no chat template"});
}

TEST_F(ReadDataTest, NamesFilesThatAreNoText) {
  const auto expect = [&](const std::string& bytes, std::string_view what) {
    for (const char* name : {"a.jsonl", "a.txt"}) {
      folder.write(name, bytes);
      expect_wrong({name}, {name, what});
    }
  };
  expect("\x1f\x8b\x08", "is a gzip file; unpack it first (gunzip)");
  expect("PK\x03\x04...", "is a zip archive");
  expect("\x28\xb5\x2f\xfd", "is a Zstandard file");
  expect(std::string("\xfd"
                     "7zXZ\0",
                     6),
         "is an xz file");
  expect("BZh9", "is a bzip2 file");
  expect("PAR1...", "is a Parquet table; write it as JSONL first");
  expect("ARROW1...", "is an Arrow table");
  expect(std::string("SQLite format 3\0", 16), "is an SQLite database");
  expect("GGUF...", "is a GGUF model");
  expect("%PDF-1.4", "is a PDF document");
  expect(std::string("\xff\xfe{\0", 4), "is UTF-16 text; convert it to UTF-8 first");
  expect("version https://git-lfs.github.com/spec/v1\n", "git lfs pull");
  folder.write("a.jsonl", "\n<!DOCTYPE html><html>");
  expect_wrong({"a.jsonl"}, {"is a page of the web (HTML)"});
  folder.write("a.html", "<html>text</html>");
  EXPECT_EQ(read({"a.html"}).examples.size(), 1u);
  folder.write("a.txt", "one\ncaf\xe9\n");
  expect_wrong({"a.txt"}, {"a.txt\", line 2, column 4", "byte 0xe9"});
  folder.write("a.txt", std::string("one\0two", 7));
  expect_wrong({"a.txt"}, {"a.txt\", line 1, column 4", "byte 0x00"});
}

TEST_F(ReadDataTest, NamesWhatIsMissing) {
  expect_wrong({}, {"no file or folder of training data is named"});
  expect_wrong({"nowhere\x1b.txt"}, {"nowhere\\x1b.txt\" does not exist"});
  for (const char* name : {"a.txt", "a.jsonl"}) {
    folder.write(name, "");
    expect_wrong({name}, {name, "is empty"});
    folder.write(name, "\xef\xbb\xbf \r\n");
    expect_wrong({name}, {name, "is empty"});
  }
  folder.write("list.json", "[]");
  expect_wrong({"list.json"}, {"there is no example in the data"});
  std::filesystem::create_directories(folder.path() / "hollow" / "deep");
  expect_wrong({"hollow"}, {"hollow\" is a folder without files"});
  folder.write("binary/a.png", std::string("\x89PNG\0", 5));
  folder.write("binary/b.txt", "");
  expect_wrong({"binary"}, {"there is no example in the data: 1 files are not text, 1 are empty"});
  folder.write("a.txt", "text");
  expect_error<std::invalid_argument>([&] { read({"a.txt"}, 1); }, {"a window of 1 tokens"});
}

TEST(Escaped, ShowsTextAndNothingElse) {
  EXPECT_EQ(escaped("Él \"so\" 漢 😀"), "Él \"so\" 漢 😀");
  EXPECT_EQ(escaped("a\n\t\r\x1b[31m\x7f"), "a\\n\\t\\x0d\\x1b[31m\\x7f");
  EXPECT_EQ(escaped("\xc2\x9b"
                    "31m"),
            "\\xc2\\x9b31m");  // CSI as one character
  EXPECT_EQ(escaped("a\u202e"
                    "b\u2066"),
            "a\\xe2\\x80\\xae"
            "b\\xe2\\x81\\xa6");  // right to left
  EXPECT_EQ(escaped("\xff\xc0\xaf\xed\xa0\x80\xe2\x82"), "\\xff\\xc0\\xaf\\xed\\xa0\\x80\\xe2\\x82");
  EXPECT_EQ(quoted("ééééé", 3), "\"ééé…\"");
  EXPECT_EQ(quoted("ééé", 3), "\"ééé\"");
}

TEST(FindBroken, FindsTheFirst) {
  EXPECT_EQ(find_broken("Él \xe2\x82\xac \xf0\x9f\x98\x80\xf4\x8f\xbf\xbf"), std::string_view::npos);
  EXPECT_EQ(find_broken(std::string_view("a\0b", 3)), 1u);
  for (const char* text : {"a\x80", "a\xc1\x80", "a\xe0\x9f\x80", "a\xed\xa0\x80", "a\xf0\x8f\x80\x80",
                           "a\xf4\x90\x80\x80", "a\xf5\x80\x80\x80", "a\xe2\x82", "a\xff"})
    EXPECT_EQ(find_broken(text), 1u) << text;
}

}  // namespace
}  // namespace finetune
