// What was read, in words.
#include <string>  // string

#include <fmt/format.h>

#include "read_data.hpp"
#include "shown.hpp"

namespace finetune {

namespace {

std::string counted_noun(std::size_t count, const char* noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

}  // namespace

std::string DataReport::text() const {
  std::string forms;
  for (const auto& [name, count] : formats)
    forms += (forms.empty() ? "" : ", ") + name + (formats.size() > 1 ? fmt::format(" {}", count) : "");
  std::string result = fmt::format("{} from {} ({}), contents {:016x}\n", counted_noun(examples, "example"),
                                   counted_noun(files.size(), "file"), forms, hash);
  result += fmt::format(
      "{} tokens, {} of them for the loss ({:.0f} %); the longest example has {}\n", tokens, counted,
      100.0 * static_cast<double>(counted) / static_cast<double>(tokens > 0 ? tokens : 1), longest);

  const auto first = [&](const Affected& affected) {
    const std::string path = affected.source < files.size() ? files[affected.source].string() : "";
    return fmt::format("first {}{}, {} tokens", quoted(path, 200),
                       affected.line > 0 ? fmt::format(", line {}", affected.line) : "", affected.length);
  };
  std::string shortened;
  if (cut.count > 0)
    shortened += fmt::format("{} longer than the window of {} tokens were truncated ({})",
                             counted_noun(cut.count, "example"), window, first(cut));
  if (left_out.count > 0)
    shortened +=
        fmt::format("{}{} left out: the answer begins beyond the window ({})", shortened.empty() ? "" : "; ",
                    counted_noun(left_out.count, "example"), first(left_out));
  if (!shortened.empty()) result += shortened + "\n";
  if (2 * (cut.count + left_out.count) > lines && window_for_most > window)
    result += fmt::format("more than half are too long: --window {} would hold 95 % of them whole\n",
                          window_for_most);

  std::string others;
  const auto add = [&](std::size_t count, const char* noun) {
    if (count > 0) others += (others.empty() ? "passed over: " : ", ") + counted_noun(count, noun);
  };
  add(binary, "binary file");
  add(empty, "empty file");
  add(hidden, "hidden file");
  add(broken_links, "broken link");
  add(repeated, "repeated file");
  if (!others.empty()) result += others + "\n";
  for (const std::string& note : notes) result += note + "\n";
  return result;
}

}  // namespace finetune
