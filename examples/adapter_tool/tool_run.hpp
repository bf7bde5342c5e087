// The program as its tests run it.
#pragma once

#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "program.hpp"

namespace tiedlora_test {

struct Outcome {
  int code = 0;
  std::string out, err;
};
inline Outcome run(const std::vector<std::string>& arguments) {
  std::vector<const char*> argv = {"adapter_tool"};
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  std::ostringstream out, err;
  const int code = adapter_tool::run(static_cast<int>(argv.size()), argv.data(), out, err);
  return {code, out.str(), err.str()};
}
inline void expect_done(const Outcome& outcome) { EXPECT_EQ(outcome.code, 0) << outcome.err; }
inline void expect_text(const std::string& text, std::string_view part) {
  EXPECT_NE(text.find(part), text.npos) << "no \"" << part << "\" in: " << text;
}

}  // namespace tiedlora_test
