// Which tokens examples become, and which of them the loss counts.
#include "encoder.hpp"

#include "expect_error.hpp"
#include "test_model.hpp"

namespace finetune {
namespace {

Record pair(std::string question, std::string answer) {
  Record record = {.form = Record::Form::pair};
  record.question = std::move(question);
  record.answer = std::move(answer);
  return record;
}
Record instruction(std::string question, std::string input, std::string answer) {
  Record record = pair(std::move(question), std::move(answer));
  record.form = Record::Form::instruction;
  record.input = std::move(input);
  return record;
}
Record conversation(std::vector<llama::Message> messages, std::vector<bool> learned) {
  Record record = {.form = Record::Form::conversation};
  record.messages = std::move(messages);
  record.learned = std::move(learned);
  return record;
}
const std::vector<llama::Message>& two_turns() {
  static const std::vector<llama::Message> messages = {
      {"system", "S"}, {"user", "One?"}, {"assistant", "1"}, {"user", "Two?"}, {"assistant", "2"}};
  return messages;
}

TEST(Encoder, CountsAnswersOfChatMl) {
  const TestModel model("gpt2", "chatml");
  const Encoder encoder(model.tokenizer, model.chat.get(), "", false);
  EXPECT_EQ(model.marked(encoder(conversation(two_turns(), {true, true}))),
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nOne?<|im_end|>\n<|im_start|>assistant\n"
            "[1<|im_end|>]\n<|im_start|>user\nTwo?<|im_end|>\n<|im_start|>assistant\n[2<|im_end|>]");
  EXPECT_EQ(model.marked(encoder(conversation(two_turns(), {false, true}))),
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nOne?<|im_end|>\n<|im_start|>assistant\n"
            "1<|im_end|>\n<|im_start|>user\nTwo?<|im_end|>\n<|im_start|>assistant\n[2<|im_end|>]");
  // After the last answer that counts, nothing is of use.
  EXPECT_EQ(model.marked(encoder(conversation(two_turns(), {true, false}))),
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nOne?<|im_end|>\n<|im_start|>assistant\n"
            "[1<|im_end|>]");
}

// Llama 3.2 asks for the day.
TEST(Encoder, GivesTheSameTokensEveryDay) {
  const TestModel model("llama3", "llama3.2");
  const Encoder encoder(model.tokenizer, model.chat.get(), "", false);
  const std::string text = model.marked(encoder(pair("Hi", "Yes")));
  EXPECT_NE(text.find("Today Date: 26 Jul 2024\n\n"), text.npos) << text;
}

TEST(Encoder, CountsAnswersOfLlama) {
  const TestModel llama2("llama2", "llama2"), llama3("llama3", "llama3");
  EXPECT_EQ(llama2.marked(Encoder(llama2.tokenizer, llama2.chat.get(), "",
                                  false)(conversation(two_turns(), {true, true}))),
            "<s> [INST] <<SYS>>\nS\n<</SYS>>\n\nOne? [/INST][ 1 </s>]<s> [INST] Two? [/INST][ 2 </s>]");
  EXPECT_EQ(llama3.marked(Encoder(llama3.tokenizer, llama3.chat.get(), "",
                                  false)(conversation(two_turns(), {false, true}))),
            "<|endoftext|><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nOne?<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n1<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nTwo?<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n[2<|eot_id|>]");
}

TEST(Encoder, PutsQuestionsIntoTheTemplate) {
  const TestModel model("gpt2", "chatml");
  const Encoder plain(model.tokenizer, model.chat.get(), "", false),
      brief(model.tokenizer, model.chat.get(), "Be brief", false);
  EXPECT_EQ(model.marked(plain(pair("Hi", "Yo"))),
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n[Yo<|im_end|>]");
  EXPECT_EQ(model.marked(plain(pair("2+2=", " 4"))),
            "<|im_start|>user\n2+2=<|im_end|>\n<|im_start|>assistant\n[4<|im_end|>]");
  EXPECT_EQ(model.marked(brief(instruction("Add", "1 2", "3"))),
            "<|im_start|>system\nBe brief<|im_end|>\n<|im_start|>user\nAdd\n\n1 2<|im_end|>\n"
            "<|im_start|>assistant\n[3<|im_end|>]");
  EXPECT_EQ(model.marked(plain(instruction("Add", "", "3"))),
            "<|im_start|>user\nAdd<|im_end|>\n<|im_start|>assistant\n[3<|im_end|>]");
  // A conversation has its own system message, or none.
  EXPECT_EQ(model.marked(brief(conversation({{"user", "Hi"}, {"assistant", "Yo"}}, {true}))),
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n[Yo<|im_end|>]");
}

TEST(Encoder, HasNoTemplateOfItsOwn) {
  const TestModel gpt2("gpt2"), llama3("llama3");
  const std::string end = gpt2.tokenizer.piece(*gpt2.tokenizer.eos());
  const Encoder encoder(gpt2.tokenizer, nullptr, "Not said", false);
  EXPECT_EQ(gpt2.marked(encoder(pair("2+2=", " 4"))), "2+2=[ 4" + end + "]");
  EXPECT_EQ(gpt2.marked(encoder(pair("", "a"))), "a[" + end + "]");
  EXPECT_EQ(
      gpt2.marked(encoder(instruction("Add", "1 2", "3"))),
      "Below is an instruction that describes a task, paired with an input that provides further context. "
      "Write "
      "a response that appropriately completes the request.\n\n### Instruction:\nAdd\n\n### Input:\n1 2\n\n"
      "### Response:\n[3" +
          end + "]");
  EXPECT_EQ(
      gpt2.marked(encoder(instruction("Add", "", "3"))),
      "Below is an instruction that describes a task. Write a response that appropriately completes the "
      "request.\n\n### Instruction:\nAdd\n\n### Response:\n[3" +
          end + "]");
  EXPECT_EQ(llama3.marked(Encoder(llama3.tokenizer, nullptr, "", false)(pair("Q", "A"))),
            "<|endoftext|>Q[A<|eot_id|>]");
  expect_error<std::runtime_error>([&] { encoder(conversation(two_turns(), {true, true})); },
                                   {"no chat template", "\"prompt\""});
}

TEST(Encoder, AllButTextsNeedATemplateThatCanBeUsed) {
  const TestModel model("gpt2");
  const Encoder encoder(model.tokenizer, nullptr, "", false, "it is none of them");
  for (const Record& record :
       {pair("Q", "A"), instruction("Add", "", "3"), conversation(two_turns(), {true, true})})
    expect_error<std::runtime_error>([&] { encoder(record); }, {"needs a template, but it is none of them"});
  EXPECT_EQ(encoder({.text = "Hi"}).tokens,
            Encoder(model.tokenizer, nullptr, "", false)({.text = "Hi"}).tokens);
}

TEST(Encoder, ATokenAcrossTheBorderIsOfTheAnswer) {
  const TestModel model("gpt2");
  const Encoder encoder(model.tokenizer, nullptr, "", false);
  ASSERT_EQ(model.tokenizer.encode("return", false).size(), 1u);
  const Example example = encoder(pair("a: ret", "urn x"));
  EXPECT_NE(model.marked(example).find("[return"), std::string::npos) << model.marked(example);
}

TEST(Encoder, CountsAllOfATextButTheFirst) {
  const TestModel llama3("llama3"), gpt2("gpt2");
  EXPECT_EQ(llama3.marked(Encoder(llama3.tokenizer, nullptr, "", false)({.text = "Hi"})),
            "<|endoftext|>[Hi<|eot_id|>]");
  const Example example = Encoder(gpt2.tokenizer, nullptr, "", false).text("return self");
  EXPECT_EQ(example.tokens.back(), gpt2.tokenizer.eos());
  EXPECT_FALSE(example.counted[0]);
  EXPECT_EQ(std::count(example.counted.begin(), example.counted.end(), true),
            static_cast<std::ptrdiff_t>(example.tokens.size()) - 1);
}

TEST(Encoder, NamesOfControlTokensAreText) {
  const TestModel model("llama3");
  const Encoder encoder(model.tokenizer, nullptr, "", false);
  for (const Example& example :
       {encoder({.text = "x<|eot_id|>y"}), encoder(pair("x<|eot_id|>", "y<|eot_id|>"))})
    EXPECT_EQ(std::count(example.tokens.begin(), example.tokens.end(), *model.tokenizer.eos()), 1);
}

TEST(Encoder, CountsAllWhereAsked) {
  const TestModel model("gpt2", "chatml");
  const Encoder encoder(model.tokenizer, model.chat.get(), "", true);
  EXPECT_EQ(model.marked(encoder(pair("Hi", "Yo"))),
            "<|im_start|>[user\nHi<|im_end|>\n<|im_start|>assistant\nYo<|im_end|>\n]");
}

TEST(Encoder, GroupsQuestionsThatAreNearlyEqual) {
  const TestModel model("gpt2", "chatml");
  for (const bool has_chat : {true, false}) {
    const Encoder encoder(model.tokenizer, has_chat ? model.chat.get() : nullptr, "", false);
    const std::uint64_t group = encoder(pair("What is 2 + 2?", "4")).group;
    EXPECT_EQ(encoder(pair(" what's 2+2", "four")).group == group, false);
    EXPECT_EQ(encoder(pair(" WHAT is\n2+2", "four")).group, group);
    EXPECT_NE(encoder(pair("What is 2 + 3?", "4")).group, group);
    EXPECT_NE(encoder(pair("?", "4")).group, encoder(pair("?", "5")).group);  // the answer is all there is
  }
  const Encoder encoder(model.tokenizer, model.chat.get(), "", false);
  const std::uint64_t group = encoder(conversation(two_turns(), {true, true})).group;
  std::vector<llama::Message> other = two_turns();
  other[2].content = "3", other[3].content = "Three?";
  EXPECT_EQ(encoder(conversation(other, {true, true})).group, group);
  EXPECT_NE(encoder(conversation(other, {false, true})).group, group);
}

TEST(Encoder, SaysWhatTheTemplateRefuses) {
  const TestModel model("llama2", "llama2");
  const Encoder encoder(model.tokenizer, model.chat.get(), "", false);
  expect_error<std::invalid_argument>(
      [&] { encoder(conversation({{"user", "a"}, {"user", "b"}, {"assistant", "c"}}, {true})); },
      {"message 2", "user and assistant to alternate"});
}

}  // namespace
}  // namespace finetune
