// Expecting an error by what it says.
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>
#include <string_view>
#include <tiedlora/views/error.hpp>

namespace tiedlora_test {

/// The call must throw tiedlora::Error, and its text must hold each of these parts.
template <class Call>
void expect_error(const Call& call, std::initializer_list<std::string_view> parts) {
  std::string text;
  try {
    call();
  } catch (const tiedlora::Error& error) {
    text = error.what();
  }
  if (text.empty()) {
    ADD_FAILURE() << "no tiedlora::Error; expected one with \"" << *parts.begin() << "\"";
    return;
  }
  for (const std::string_view part : parts)
    EXPECT_NE(text.find(part), std::string::npos) << "no \"" << part << "\" in: " << text;
}

}  // namespace tiedlora_test
