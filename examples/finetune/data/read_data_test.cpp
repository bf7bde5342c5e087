// Files and folders of training data: what they are taken for, and what is cut.
#include <algorithm>

#include "read_data_fixture.hpp"

namespace finetune {
namespace {

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

TEST_F(ReadDataTest, KnowsExamplesInAFolderByWhatTheyAre) {
  folder.write("data/a.json", "[\n  {\"text\": \"a b\"},\n  {\"text\": \"c d\"}\n]\n");
  folder.write("data/b.json", "{\"text\": \"a b\"}\n{\"text\": \"c d\"}\n");
  folder.write("data/c.json", "{\"version\": 1}\n");
  const Dataset data = read({"data"});
  EXPECT_EQ(data.report.formats.at("text"), 4u);
  EXPECT_EQ(data.report.documents, 1u);
}

TEST_F(ReadDataTest, PassesOverLinksToNothing) {
  folder.write("data/a.txt", "one");
  std::filesystem::create_symlink("loop", folder.path() / "data" / "loop");
  std::filesystem::create_symlink("gone", folder.path() / "data" / "b.txt");
  const Dataset data = read({"data"});
  EXPECT_EQ(data.report.files.size(), 1u);
  EXPECT_NE(data.report.text().find("2 broken links"), std::string::npos) << data.report.text();
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
       {std::string("3 examples left out: the answer begins beyond the window (first"),
        fmt::format("a.jsonl\", line 2, {} tokens)", window + 4),
        fmt::format("--window {} would hold 95 %", window + 9)})
    EXPECT_NE(text.find(part), text.npos) << part << " is not in " << text;
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 4);

  folder.write("b.jsonl", line_of(4) + line_of(9));
  expect_wrong({"b.jsonl"}, {"no example is left", "in all 2 the answer", "beyond the window of", "--window"},
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

TEST_F(ReadDataTest, NotesMarkupThatIsReadAsCharacters) {
  folder.write("a.jsonl",
               "{\"text\": \"a b\"}\n{\"text\": \"<|im_start|>user\\nHi<|im_end|>\"}\n"
               "{\"text\": \"x<|im_end|>\"}\n");
  const std::string text = read({"a.jsonl"}).report.text();
  EXPECT_NE(text.find("Texts with names of control tokens: 2 (first \""), text.npos) << text;
  EXPECT_NE(
      text.find("a.jsonl\", line 2: \"<|im_start|>\"); the names are read as plain characters, so give"),
      text.npos)
      << text;
  // Nobody means the template by what is said in a chat, or by what is no control token.
  folder.write("b.jsonl",
               "{\"prompt\": \"<|im_start|>\", \"completion\": \"a\"}\n{\"text\": \"<think> <b>\"}\n");
  const std::string other = read({"b.jsonl"}).report.text();
  EXPECT_EQ(other.find("control tokens"), other.npos) << other;
}

TEST_F(ReadDataTest, NotesTheWordsOfInstructionsWithoutATemplate) {
  folder.write("a.jsonl",
               "{\"instruction\": \"Add\", \"output\": \"3\"}\n{\"prompt\": \"a\", \"completion\": \"b\"}\n");
  const DataReport report = read_data({folder.path() / "a.jsonl"}, model().tokenizer, nullptr, {}).report;
  EXPECT_EQ(report.in_alpacas_words, 1u);
  const std::string text = report.text();
  EXPECT_NE(
      text.find("The instructions (1) are put into the words of Alpaca, as the model has no chat template"),
      text.npos)
      << text;
  EXPECT_NE(text.find("\"Below is an instruction that describes a task. Write"), text.npos) << text;
  EXPECT_EQ(read({"a.jsonl"}).report.in_alpacas_words, 0u);
  EXPECT_EQ(read({"a.jsonl"}).report.text().find("Alpaca"), text.npos);
}

TEST_F(ReadDataTest, NotesWhereASystemMessageHasNoPlace) {
  const auto said = [&](const std::string& name, const llama::Chat* chat) {
    return read_data({folder.path() / name}, model().tokenizer, chat, {.system = "Be brief"}).report.text();
  };
  const llama::Chat* chat = model().chat.get();
  folder.write("questions.jsonl", line_of(3));
  folder.write("texts.jsonl", "{\"text\": \"a b\"}\n");
  folder.write("both.jsonl", line_of(3) + "{\"text\": \"a b\"}\n");
  folder.write("plain.txt", "a b");
  EXPECT_EQ(said("questions.jsonl", chat).find("--system"), std::string::npos);
  for (const char* name : {"texts.jsonl", "plain.txt"})
    EXPECT_NE(
        said(name, chat).find("--system has no effect: it is not added to conversations (\"messages\")"),
        std::string::npos)
        << name;
  EXPECT_NE(said("both.jsonl", chat).find("--system is in the 1 of question and answer alone: "),
            std::string::npos);
  EXPECT_NE(said("questions.jsonl", nullptr).find("--system has no effect: there is no chat template"),
            std::string::npos);
  EXPECT_EQ(read({"texts.jsonl"}).report.text().find("--system"), std::string::npos);
}

TEST_F(ReadDataTest, NotesJsonThatIsReadAsText) {
  folder.write("a.txt", line_of(3));
  const std::string text = read({"a.txt"}).report.text();
  EXPECT_NE(text.find("a.txt\" looks like JSONL"), text.npos) << text;
}

}  // namespace
}  // namespace finetune
