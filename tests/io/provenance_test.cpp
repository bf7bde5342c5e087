// What a source said, as text in files.
#include <gtest/gtest.h>

#include <tiedlora/io/native.hpp>
#include <tiedlora/io/provenance.hpp>

#include "support/io_files.hpp"
#include "support/models.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using tiedlora::detail::try_parse_provenance;
using tiedlora::detail::try_provenance_text;

Provenance all_said() {
  return {.base_model = "some/base",
          .revision = "main",
          .task_type = "FEATURE_EXTRACTION",
          .base_model_class = "GPT2Model",
          .parent_library = "transformers",
          .architecture = "gpt2",
          .fan_in_fan_out = true};
}

TEST(ProvenanceText, ReadsBackAsItWas) {
  EXPECT_EQ(*try_provenance_text({}), "");
  EXPECT_EQ(*try_provenance_text({.base_model = "formats have a field for it"}), "");
  Provenance read = {.base_model = "some/base"};
  ASSERT_TRUE(try_parse_provenance(*try_provenance_text(all_said()), read));
  EXPECT_EQ(read, all_said());
  EXPECT_TRUE(try_parse_provenance(R"({"of a later version":[1]})", read));
  EXPECT_EQ(read, all_said());
}

TEST(ProvenanceText, RefusesWhatIsDamaged) {
  Provenance read;
  expect_failure(try_parse_provenance("{", read), {"not valid JSON"});
  expect_failure(try_parse_provenance("[]", read), {"not an object"});
  expect_failure(try_parse_provenance(R"({"task_type":1})", read), {"\"task_type\", which is not a string"});
  expect_failure(try_parse_provenance(R"({"fan_in_fan_out":"yes"})", read), {"neither true nor false"});
  expect_failure(try_provenance_text({.task_type = "\xff"}), {"UTF-8"});
}

TEST(ProvenanceText, IsInNativeFiles) {
  const Folder folder;
  const Adapter<float> adapter(Layout(one_kind(2, 6, 5), schemes::lora(), 3));
  save_adapter(folder / "a", adapter, {.source = all_said()});
  const NativeFile file = open_native(folder / "a");
  EXPECT_EQ(file.metadata.source, all_said());
  EXPECT_EQ(file.metadata.base_model, "some/base");
  save_adapter(folder / "b", adapter, {.base_model = "other/base", .source = all_said()});
  EXPECT_EQ(open_native(folder / "b").metadata.source.base_model, "other/base");
  save_adapter(folder / "c", adapter, {.base_model = "some/base"});
  EXPECT_EQ(safetensors::open(folder / "c").metadata().count("tiedlora_source"), 0u)
      << "nothing else was said";
  const auto whole = safetensors::open(folder / "a");
  auto metadata = whole.metadata();
  metadata["tiedlora_source"] = "{\"task_type\":0}";
  std::vector<safetensors::Entry> entries;
  for (const auto& tensor : whole.tensors())
    entries.push_back({.name = tensor.name,
                       .dtype = tensor.dtype,
                       .shape = tensor.shape,
                       .data = tensor.bytes.data(),
                       .dtype_name = tensor.dtype_name});
  safetensors::save(folder / "d", entries, metadata);
  expect_failure(try_open_native(folder / "d"), {"d\" its metadata: \"tiedlora_source\" has \"task_type\""});
}

}  // namespace
}  // namespace tiedlora_test
