#include <gtest/gtest.h>

#include <limits>
#include <tiedlora/io/native.hpp>
#include <tiedlora/ops.hpp>

#include "support/io_files.hpp"
#include "support/native.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

template <class P>
class NativeTypes : public testing::Test {};
using FourTypes = testing::Types<double, float, Eigen::half, Eigen::bfloat16>;
TYPED_TEST_SUITE(NativeTypes, FourTypes);

TYPED_TEST(NativeTypes, HoldAnyAdapterExactly) {
  const Folder folder;
  for (std::uint64_t seed = 1; seed <= 150; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Dice dice(seed);
    const auto adapter = random_adapter<TypeParam>(dice);
    save_adapter(folder / "x", adapter, {.base_model = "some/model"});
    const NativeFile file = open_native(folder / "x", {.modules = &adapter.layout().modules()});
    EXPECT_EQ(file.metadata.base_model, "some/model");
    EXPECT_EQ(file.dtype(), safetensors::dtype_of<TypeParam>);
    expect_same_adapter(adapter, read_adapter<TypeParam>(file));

    const auto mapped = map_adapter<TypeParam>(folder / "x");
    EXPECT_TRUE(same_bits<TypeParam>(mapped.view().trainable(), adapter.trainable()));
    EXPECT_TRUE(same_bits<TypeParam>(mapped.view().frozen(), adapter.frozen()));
    // In place means at the alignment of the library's own arrays.
    for (const auto* tensor : {&file.trainable(), &file.frozen()})
      EXPECT_TRUE(tensor->bytes.empty() || reinterpret_cast<std::uintptr_t>(tensor->bytes.data()) % 64 == 0)
          << tensor->name;
    if (this->HasFailure()) return;
  }
}

TEST(Native, HoldsEveryPreset) {
  const Folder folder;
  for (const auto& [name, scheme] : presets()) {
    SCOPED_TRACE(name);
    Adapter<float> adapter(Layout(unequal_layers(4), scheme, 3));
    adapter.initialize(5);
    save_adapter(folder / "x", adapter);
    expect_same_adapter(adapter, load_adapter<float>(folder / "x"));
    // Nothing that a seed gives stands in the file.
    EXPECT_EQ(open_native(folder / "x").frozen().count(), 0);
  }
}

TEST(Native, StoresWhatNoLongerEqualsItsSeed) {
  const Folder folder;
  Adapter<float> adapter(Layout(unequal_layers(4), schemes::vera(7), 3));
  adapter.initialize(5);
  adapter.B(1)(2, 1) += 1;
  save_adapter(folder / "x", adapter);
  const NativeFile file = open_native(folder / "x");
  EXPECT_TRUE(file.metadata.is_seeded(FactorId::A));
  EXPECT_FALSE(file.metadata.is_seeded(FactorId::B));
  EXPECT_EQ(file.frozen().count(), adapter.layout().frozen_count(FactorId::B));
  expect_same_adapter(adapter, load_adapter<float>(folder / "x"));
  EXPECT_TRUE(same_bits<float>(map_adapter<float>(folder / "x").view().frozen(), adapter.frozen()));
}

// A of 3 x 9 and B of 6 x 3 are seeded, in this order, as long as a loader would generate them.
TEST(Native, StoresAsSeedsNoMoreThanALoaderGenerates) {
  Adapter<float> adapter(Layout(unequal_layers(4), schemes::vera(7), 3));
  adapter.initialize(5);
  const auto stored = [&](Index most) {
    const auto native = tiedlora::detail::try_native_entries(adapter, {}, most);
    EXPECT_TRUE(native) << native.error();
    return native->entries.back().shape.at(0);
  };
  EXPECT_EQ(stored(45), 0);
  EXPECT_EQ(stored(44), 18);
  EXPECT_EQ(stored(27), 18);
  EXPECT_EQ(stored(26), 27);
  EXPECT_EQ(stored(17), 45);
  EXPECT_EQ(NativeLoadOptions().max_seeded_numbers, tiedlora::detail::most_seeded_numbers);
}

TEST(Native, KeepsAFrozenFactorOfAnUnknownSeedAsBytes) {
  const Folder folder;
  Scheme scheme = schemes::lora_fa();
  const Layout layout(one_kind(2, 4, 5), scheme, 2);
  Adapter<float> initialized(layout);
  initialized.initialize(5);
  // The same values in an adapter that does not know where they come from.
  Adapter<float> shared(layout, initialized.share_frozen());
  save_adapter(folder / "x", shared);
  EXPECT_EQ(open_native(folder / "x").frozen().count(), layout.frozen_count());
  EXPECT_EQ(load_adapter<float>(folder / "x").seed(), std::nullopt);
}

TEST(Native, ConvertsToTheTypeAskedFor) {
  const Folder folder;
  Adapter<float> adapter(Layout(unequal_layers(4), schemes::vera(7), 3));
  adapter.initialize(5);
  Dice(1).fill(adapter.trainable());
  save_adapter(folder / "wide", adapter);
  expect_same_adapter(load_adapter<Eigen::bfloat16>(folder / "wide"), adapter.cast<Eigen::bfloat16>());
  EXPECT_EQ(load_adapter<double>(folder / "wide").A(0)(0, 0), static_cast<double>(adapter.A(0)(0, 0)));

  // Seeded values of a narrow file are narrow, whatever they are loaded as.
  const auto narrow = adapter.cast<Eigen::half>();
  save_adapter(folder / "narrow", narrow);
  EXPECT_EQ(open_native(folder / "narrow").frozen().count(), 0);
  expect_same_adapter(load_adapter<float>(folder / "narrow"), narrow.cast<float>());

  expect_failure(try_map_adapter<float>(folder / "narrow"),
                 {"narrow\" holds F16", "in place as F32", "load_adapter"});
}

TEST(Native, AMappedAdapterServes) {
  const Folder folder;
  Adapter<float> adapter(Layout(one_kind(2, 16, 8), schemes::tied_lora(), 4));
  adapter.initialize(5);
  Dice dice(3);
  dice.fill(adapter.trainable());
  save_adapter(folder / "x", adapter);
  MappedAdapter<float> opened = map_adapter<float>(folder / "x");
  const MappedAdapter<float> mapped = std::move(opened);
  const Matrix<float> x = dice.matrix<float>(16, 3);
  Matrix<float> y = Matrix<float>::Zero(8, 3), expected = y, h(4, 3);
  forward(adapter.factors(1), x, expected, h);
  forward(mapped.factors(1), x, y, h);
  EXPECT_EQ(y, expected);
}

TEST(Native, NotANumberAndInfinityAreKept) {
  const Folder folder;
  Adapter<float> adapter(Layout(one_kind(1, 4, 4), schemes::lora(), 1));
  adapter.trainable()[0] = std::numeric_limits<float>::quiet_NaN();
  adapter.trainable()[1] = -std::numeric_limits<float>::infinity();
  adapter.trainable()[2] = -0.0f;
  save_adapter(folder / "x", adapter);
  expect_same_adapter(adapter, load_adapter<float>(folder / "x", {.check_finite = false}));
}

// ---- refusals

/// A small file, and the same with other metadata.
class NativeErrors : public testing::Test {
 protected:
  NativeErrors() {
    adapter_.initialize(5);
    save_adapter(folder_ / "x", adapter_);
    text_ = safetensors::open(folder_ / "x").metadata().at("tiedlora");
  }
  static Layout layout() { return Layout(unequal_layers(4), schemes::vera(7), 3); }

  /// With `from` in the metadata replaced by `to`.
  Result<Adapter<float>> with(const std::string& from, const std::string& to,
                              const NativeLoadOptions& options = {}) {
    std::string text = text_;
    const std::size_t at = text.find(from);
    EXPECT_NE(at, text.npos) << from << " is not in " << text;
    if (at == text.npos) return Failure{};
    save({{"tiedlora", text.replace(at, from.size(), to)}});
    return try_load_adapter<float>(folder_ / "y", options);
  }
  void save(const std::map<std::string, std::string>& metadata, std::vector<safetensors::Entry> more = {}) {
    more.push_back({.name = "trainable",
                    .shape = {adapter_.layout().trainable_count()},
                    .data = adapter_.trainable().data()});
    more.push_back({.name = "frozen", .shape = {0}});
    safetensors::save(folder_ / "y", more, metadata);
  }

  Folder folder_;
  Adapter<float> adapter_{layout()};
  std::string text_;
};

TEST_F(NativeErrors, TheFixtureIsFine) {
  const auto loaded = with("\"rank\":3", "\"rank\":3");
  ASSERT_TRUE(loaded) << loaded.error();
  expect_same_adapter(*loaded, adapter_);
}

TEST_F(NativeErrors, ANewerVersion) {
  expect_failure(with("\"format_version\":1", "\"format_version\":2"),
                 {"y\" its metadata", "format version 2", "up to version 1"});
  save({{"tiedlora", R"({"format_version":99,"all":"different"})"}});
  expect_failure(try_load_adapter<float>(folder_ / "y"), {"format version 99"});
  expect_failure(with("\"format_version\":1", "\"format_version\":0"), {"\"format_version\""});
}

TEST_F(NativeErrors, AnotherBaseModel) {
  const auto load = [&](const ModuleList& modules) {
    return try_load_adapter<float>(folder_ / "x", {.modules = &modules});
  };
  EXPECT_TRUE(load(unequal_layers(4)));
  expect_failure(load(unequal_layers(5)), {"wrong base model", "module 1", "\"layers.0.k\" of 4x6 (out x in)",
                                           "\"layers.0.k\" of 5x6 (out x in)"});
  expect_failure(load(one_kind(3, 6, 6)), {"module 0", "\"layers.0.q\" of 6x6", "\"layers.0.proj\" of 6x6"});
  ModuleList fewer, more = unequal_layers(4);
  for (Index m = 0; m < 8; ++m) fewer.add(more[m]);
  more.add({.name = "lm_head", .in_features = 2, .out_features = 7});
  expect_failure(load(fewer), {"module 8 is \"layers.2.down\" of 6x9", "missing in the host's list"});
  expect_failure(load(more), {"module 9 is missing in the file", "\"lm_head\" of 7x2"});
}

TEST_F(NativeErrors, CutAtAnyByte) {
  const std::string whole = read_text(folder_ / "x");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    write_text(folder_ / "y", whole.substr(0, size));
    expect_failure(try_load_adapter<float>(folder_ / "y"), {"y\" "});
  }
  write_text(folder_ / "y", whole + "x");
  expect_failure(try_load_adapter<float>(folder_ / "y"), {"bytes of data"});
}

TEST_F(NativeErrors, MetadataOfAnotherForm) {
  save({});
  expect_failure(try_load_adapter<float>(folder_ / "y"),
                 {"is a safetensors file without an adapter", "a native file of tiedlora is expected"});
  for (const char* text : {"", "[]", "3", "{", "{\"format_version\":1}"}) {
    save({{"tiedlora", text}});
    expect_failure(try_load_adapter<float>(folder_ / "y"), {"y\" its metadata"});
  }
  expect_failure(with("\"rank\":3", "\"rank\":-1"), {"\"rank\"", "from 0"});
  expect_failure(with("\"rank\":3", "\"rank\":9223372036854775808"), {"\"rank\""});
  expect_failure(with("\"rank\":3", "\"rank\":3.0"), {"\"rank\"", "not an integer"});
  expect_failure(with("\"rank\":3", "\"rank\":9223372036854775807"), {"overflows"});
  expect_failure(with("\"rank\":3", "\"rang\":3"), {"has no \"rank\""});
  expect_failure(with("\"rank\":3", "\"rank\":3,\"more\":1"), {"unknown field \"more\""});
  expect_failure(with("\"rank\":3", "\"rank\":3,\"rank\":3"), {"twice"});
  expect_failure(with("\"scaling\":1.0", "\"scaling\":\"1\""), {"\"scaling\"", "not a number"});
  expect_failure(with("\"layers\":\"all\"", "\"layers\":0"), {"scheme.A", "\"layers\""});
  expect_failure(with("\"layers\":\"all\"", "\"layers\":2,\"more\":1"),
                 {"scheme.A has the unknown field \"more\""});
  expect_failure(with("\"layers\":\"all\"", "\"layers\":\"some\""), {"scheme.A", "\"layers\""});
  expect_failure(with("\"across\":\"model\"", "\"across\":\"world\""),
                 {"\"world\"", "module, kind, input, model"});
  expect_failure(with("\"trained\":false", "\"trained\":0"), {"\"trained\"", "neither"});
  expect_failure(with("\"kind\":\"torch_vera\"", "\"kind\":\"x\""), {"scheme.A.init", "constant, kaiming"});
  expect_failure(with("\"name\":\"layers.0.k\"", "\"name\":\"layers.0.q\""),
                 {"\"layers.0.q\" was already added"});
  expect_failure(with("\"in_features\":6", "\"in_features\":0"), {"modules[0]", "\"in_features\""});
  expect_failure(with("\"layer\":0", "\"layer\":-2"), {"modules[0]", "\"layer\""});
  expect_failure(with("\"layer\":0", "\"layer\":4294967296"), {"modules[0]", "\"layer\""});
}

TEST_F(NativeErrors, SizesThatDoNotFollowFromTheScheme) {
  // u of 9 x 3 and v of 6 + 4 + 6 a layer.
  expect_failure(with("\"rank\":3", "\"rank\":2"), {"\"trainable\" has 75 values", "make 66"});
  expect_failure(with("\"seeded\":[\"A\",\"B\"]", "\"seeded\":[\"A\"]"),
                 {"\"frozen\" has 0 values", "make 18"});
}

TEST_F(NativeErrors, SeedsThatGiveNothing) {
  const std::string seeded = "\"seeded\":[\"A\",\"B\"]";
  expect_failure(with(seeded, "\"seeded\":[\"A\",\"B\",\"u\"]"), {"\"seeded\"", "not frozen"});
  expect_failure(with(seeded, "\"seeded\":[\"A\",\"B\",\"C\"]"), {"\"seeded\""});
  expect_failure(with(seeded, "\"seeded\":[\"A\",\"B\",1]"), {"\"seeded\""});
  expect_failure(with(seeded, "\"seeded\":\"A\""), {"\"seeded\"", "not an array"});
  expect_failure(with("\"torch_vera\"", "\"given\""), {"\"seeded\""});
}

TEST_F(NativeErrors, SeededNumbersBeyondTheLimit) {
  const Index frozen = adapter_.layout().frozen_count();
  EXPECT_TRUE(with("\"rank\":3", "\"rank\":3", {.max_seeded_numbers = frozen}));
  expect_failure(with("\"rank\":3", "\"rank\":3", {.max_seeded_numbers = frozen - 1}),
                 {"needs 45 values", "limit is 44"});
  // 2 TB claimed by a file of 1 KB, by default.
  ModuleList modules;
  modules.add({.name = "m", .layer = 0, .in_features = Index{1} << 39, .out_features = 1});
  NativeMetadata metadata{.layout = Layout(modules, schemes::vera(7), 1), .seeded = {true, true}};
  const float numbers[2] = {};
  safetensors::save(folder_ / "y",
                    {{.name = "trainable", .shape = {2}, .data = numbers}, {.name = "frozen", .shape = {0}}},
                    {{"tiedlora", *tiedlora::detail::try_native_metadata_text(metadata)}});
  expect_failure(try_load_adapter<float>(folder_ / "y"), {"needs 549755813889 values", "max_seeded_numbers"});
}

TEST_F(NativeErrors, OtherTensors) {
  const float number = 1;
  save({{"tiedlora", text_}}, {{.name = "lora_A", .shape = {1}, .data = &number}});
  expect_failure(try_load_adapter<float>(folder_ / "y"), {"tensor \"lora_A\"", "does not belong"});
  // The optimiser's only in checkpoints.
  save({{"tiedlora", text_}}, {{.name = "optimizer.first_moment", .shape = {1}, .data = &number}});
  expect_failure(try_load_adapter<float>(folder_ / "y"), {"optimizer.first_moment"});

  const std::vector<double> wide(75);
  const safetensors::Entry frozen{.name = "frozen", .shape = {0}};
  const std::map<std::string, std::string> metadata = {{"tiedlora", text_}};
  safetensors::save(folder_ / "y", {frozen}, metadata);
  expect_failure(try_load_adapter<float>(folder_ / "y"), {"no tensor \"trainable\""});
  safetensors::save(
      folder_ / "y",
      {frozen, {.name = "trainable", .dtype = safetensors::Dtype::F64, .shape = {75}, .data = wide.data()}},
      metadata);
  expect_failure(try_load_adapter<float>(folder_ / "y"), {"different dtypes"});
  safetensors::save(folder_ / "y",
                    {frozen,
                     {.name = "trainable",
                      .dtype = safetensors::Dtype::other,
                      .shape = {75},
                      .data = wide.data(),
                      .dtype_name = "I64"}},
                    metadata);
  expect_failure(try_load_adapter<float>(folder_ / "y"), {"\"trainable\" has dtype I64"});
}

TEST_F(NativeErrors, WhatJsonCannotHoldIsNotSaved) {
  expect_failure(try_save_adapter(folder_ / "x", adapter_, {.base_model = "\xff"}), {"x\": ", "UTF-8"});
  expect_same_adapter(load_adapter<float>(folder_ / "x"), adapter_);  // the old file
  EXPECT_EQ(folder_.entries(), 1);
}

}  // namespace
}  // namespace tiedlora_test
