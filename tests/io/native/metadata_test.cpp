// What a native file says about its parameters, written and read.
#include <gtest/gtest.h>

#include <string>
#include <tiedlora/io/native/metadata.hpp>

#include "support/io_files.hpp"
#include "support/models.hpp"
#include "support/schemes.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using tiedlora::detail::try_native_metadata_text;
using tiedlora::detail::try_parse_native_metadata;

TEST(NativeMetadata, OfEverySchemeIsReadAsItWas) {
  for (const NamedScheme& scheme : presets()) {
    SCOPED_TRACE(scheme.name);
    const NativeMetadata metadata = {.layout = Layout(one_kind(4, 6, 5), scheme.scheme, 3,
                                                      {.scaling = 0.5, .scalings = {{"layers.1.proj", 0.1}}}),
                                     .base_model = "a/b",
                                     .seed = 18446744073709551615u};
    const auto text = try_native_metadata_text(metadata);
    ASSERT_TRUE(text) << text.error();
    const auto read = try_parse_native_metadata(*text);
    ASSERT_TRUE(read) << read.error();
    EXPECT_TRUE(read->layout == metadata.layout);
    EXPECT_EQ(read->layout.scaling(1), 0.1);
    EXPECT_EQ(read->base_model, "a/b");
    EXPECT_EQ(read->seed, metadata.seed);
    EXPECT_EQ(read->seeded, metadata.seeded);
  }
}

TEST(NativeMetadata, RefusesWhatItDoesNotUnderstand) {
  const auto text = try_native_metadata_text({.layout = Layout(one_kind(1, 6, 5), schemes::lora(), 3)});
  ASSERT_TRUE(text);
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string changed = *text;
    const std::size_t at = changed.find(from);
    EXPECT_NE(at, changed.npos) << from << " in " << changed;
    if (at != changed.npos) changed.replace(at, from.size(), to);
    return try_parse_native_metadata(changed);
  };
  EXPECT_TRUE(with("\"rank\":3", "\"rank\":4"));
  expect_failure(with("\"rank\":3", "\"rank\":-1"), {"\"rank\""});
  expect_failure(with("\"rank\":3", "\"range\":3"), {"\"rank\""});
  expect_failure(with("kaiming", "kaming"), {"scheme.A", "\"kaming\", not one of", "kaiming"});
  expect_failure(with("\"format_version\":1", "\"format_version\":2"), {"2"});
  expect_failure(try_parse_native_metadata("{"), {""});
}

}  // namespace
}  // namespace tiedlora_test
