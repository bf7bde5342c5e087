// A bit that flipped anywhere in a native file or a checkpoint is noticed when its values are copied, or
// asked for.
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <tiedlora/io/native.hpp>

#include "support/io_files.hpp"
#include "support/native.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

Adapter<float> adapter_to_save() {
  Adapter<float> adapter(Layout(one_kind(2, 7, 5), schemes::tied_lora(), 3));
  Dice dice(3);
  dice.fill(adapter.trainable());
  return adapter;
}

std::string flipped(std::string text, std::size_t at) {
  text[at] = static_cast<char>(text[at] ^ 1);
  return text;
}

TEST(Checksum, NoticesAFlippedBitInTheData) {
  const Folder folder;
  const auto path = folder / "x";
  save_adapter(path, adapter_to_save());
  const std::string whole = read_text(path);
  EXPECT_TRUE(try_load_adapter<float>(path));
  map_adapter<float>(path).verify();
  const std::size_t data = adapter_to_save().trainable().size_bytes();
  for (std::size_t back = 1; back <= data; back += 7) {
    write_text(path, flipped(whole, whole.size() - back));
    expect_failure(try_load_adapter<float>(path),
                   {path.string(), "is damaged", "checksum", "fetch it again"});
    expect_failure(try_load_adapter<double>(path), {"is damaged"});
    EXPECT_TRUE(try_load_adapter<float>(path, {.check_checksum = false, .check_finite = false}));
    // Mapping reads nothing, and says it when asked.
    const auto mapped = try_map_adapter<float>(path);
    ASSERT_TRUE(mapped);
    expect_failure(mapped->try_verify(), {path.string(), "is damaged"});
    expect_failure(try_read_adapter<float>(open_native(path)), {path.string(), "is damaged"});
  }
}

TEST(Checksum, NoticesAFlippedBitAnywhere) {
  const Folder folder;
  const auto path = folder / "x";
  const Adapter<float> adapter = adapter_to_save();
  save_adapter(path, adapter, {.base_model = "a base"});
  const std::string whole = read_text(path);
  for (std::size_t at = 0; at < whole.size(); ++at) {
    SCOPED_TRACE(at);
    write_text(path, flipped(whole, at));
    // What does no harm may pass: the checksum's own name, the number of a padding.
    if (const auto loaded = try_load_adapter<float>(path)) {
      expect_same_adapter(adapter, *loaded);
      EXPECT_EQ(open_native(path).metadata.base_model, "a base");
    }
  }
}

TEST(Checksum, NoticesAFlippedBitInACheckpoint) {
  const Folder folder;
  const auto path = folder / "x";
  const Adapter<float> adapter = adapter_to_save();
  AdamW<float> optimizer(adapter.layout());
  save_checkpoint(path, adapter, optimizer, {.step = 7, .data = "position"});
  EXPECT_TRUE(try_load_checkpoint<float>(path));
  const std::string whole = read_text(path);
  for (const std::size_t at : {whole.find("position"), whole.size() - 1, whole.size() - 300}) {
    write_text(path, flipped(whole, at));
    expect_failure(try_load_checkpoint<float>(path),
                   {path.string(), "is damaged", "go back to an older checkpoint"});
  }
}

TEST(Checksum, AFileWithoutOneLoads) {
  const Folder folder;
  const auto path = folder / "x";
  const Adapter<float> adapter = adapter_to_save();
  const auto native = tiedlora::detail::try_native_entries(adapter, {});
  ASSERT_TRUE(native);
  ASSERT_TRUE(safetensors::try_save_in_order(path, native->entries, native->metadata));
  EXPECT_EQ(read_text(path).find("checksum"), std::string::npos);
  expect_same_adapter(adapter, load_adapter<float>(path));
  EXPECT_TRUE(map_adapter<float>(path).try_verify());
}

TEST(Checksum, AMappedFileIsLookedThroughWhenAsked) {
  const Folder folder;
  Adapter<float> adapter = adapter_to_save();
  adapter.trainable()[11] = std::numeric_limits<float>::quiet_NaN();
  save_adapter(folder / "x", adapter);
  expect_failure(map_adapter<float>(folder / "x").try_verify(), {"x\" tensor \"trainable\" has NaN at [11]"});
}

}  // namespace
}  // namespace tiedlora_test
