// For the tests of data: what errors say.
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <string_view>

namespace finetune {

/// The call must throw an E that says each of these.
template <class E, class Call>
void expect_error(const Call& call, std::initializer_list<std::string_view> parts) {
  try {
    call();
    ADD_FAILURE() << "no error; expected \"" << *parts.begin() << "\"";
  } catch (const E& error) {
    for (const std::string_view part : parts)
      EXPECT_NE(std::string_view(error.what()).find(part), std::string_view::npos)
          << "no \"" << part << "\" in: " << error.what();
  }
}

}  // namespace finetune
