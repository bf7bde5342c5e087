#include <gtest/gtest.h>

#include <Eigen/Core>
#include <cmath>
#include <limits>
#include <string>
#include <tiedlora/io/peft.hpp>
#include <tiedlora/tiedlora.hpp>

#include "support/dice.hpp"
#include "support/io_files.hpp"
#include "support/native.hpp"
#include "support/peft.hpp"
#include "support/peft_writer.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

/// An adapter with random values everywhere.
template <class P = float>
Adapter<P> filled(const Layout& layout, std::uint64_t seed = 1) {
  AlignedArray<P> trainable(layout.trainable_count()), frozen(layout.frozen_count());
  Dice dice(seed);
  dice.fill(trainable), dice.fill(frozen);
  return Adapter<P>(layout, std::move(trainable), std::move(frozen));
}

template <class P>
Eigen::MatrixXd delta(const Adapter<P>& adapter, Index m) {
  const Module& module = adapter.layout().modules()[m];
  Eigen::MatrixXd w = Eigen::MatrixXd::Zero(module.out_features, module.in_features);
  merge(adapter.template cast<double>().factors(m), w);
  return w;
}

/// The same ΔW, each element a sum of `rank` products with at most six roundings to the written type's eps.
template <class P, class Q>
void expect_same_function(const Adapter<P>& a, const Adapter<Q>& b, double epsilon) {
  ASSERT_EQ(a.layout().size(), b.layout().size());
  const auto absolute = [](std::span<const P> numbers) {
    AlignedArray<double> result(static_cast<Index>(numbers.size()));
    std::transform(numbers.begin(), numbers.end(), result.begin(),
                   [](P x) { return std::abs(static_cast<double>(x)); });
    return result;
  };
  const Adapter<double> magnitude(a.layout(), absolute(a.trainable()), absolute(a.frozen()));
  for (Index m = 0; m < a.layout().size(); ++m) {
    const Eigen::MatrixXd expected = delta(a, m);
    EXPECT_LE((delta(b, m) - expected).cwiseAbs().maxCoeff(), 8 * epsilon * delta(magnitude, m).maxCoeff())
        << a.layout().modules()[m].name;
  }
}

Json config_in(const Folder& folder) { return *try_parse_json(read_text(folder / "adapter_config.json")); }

TEST(PeftSave, WritesEverySchemeAsLora) {
  const Scheme all[] = {schemes::lora(),         schemes::lora_fused(),   schemes::vera(3),
                        schemes::tl5(),          schemes::tl6(),          schemes::lora_fa(),
                        schemes::share_lora_a(), schemes::share_lora_b(), schemes::share_lora_ab(),
                        schemes::grouped(2)};
  for (const Scheme& scheme : all) {
    const auto adapter = filled(Layout(llama_modules(), scheme, 3, {.scaling = 0.7}));
    const Folder folder;
    const SavedPeft saved = save_peft(adapter, folder.path());
    EXPECT_EQ(saved.form, PeftForm::lora);
    EXPECT_EQ(saved.rank, 3);
    const auto loaded = load_peft<float>(folder.path(), llama_modules());
    EXPECT_EQ(loaded.adapter.layout().scaling(), 1);
    EXPECT_TRUE(loaded.report.missing.empty() && loaded.report.unused.empty());
    // Baked is to_lora, bit by bit.
    const auto lora = to_lora(adapter);
    for (Index m = 0; m < lora.layout().size(); ++m) {
      EXPECT_EQ(loaded.adapter.A(m), lora.A(m));
      EXPECT_EQ(loaded.adapter.B(m), lora.B(m));
    }
  }
}

TEST(PeftSave, WritesWhatConsumersAskFor) {
  const auto adapter = filled(Layout(small_modules(), schemes::lora(), 2, {.scaling = 3}));
  const Folder folder;
  save_peft(adapter, folder.path(),
            {.base_model = "some/base", .task_type = "CAUSAL_LM", .fan_in_fan_out = true});
  const Json config = config_in(folder);
  EXPECT_EQ(config["peft_type"], "LORA");
  EXPECT_EQ(config["base_model_name_or_path"], "some/base");
  EXPECT_EQ(config["task_type"], "CAUSAL_LM");
  EXPECT_EQ(config["r"], 2);
  EXPECT_EQ(config["lora_alpha"], 2);
  EXPECT_EQ(config["fan_in_fan_out"], true);
  EXPECT_EQ(config["target_modules"],
            Json({"m.layers.0.down", "m.layers.0.q", "m.layers.1.down", "m.layers.1.q"}));
  EXPECT_EQ(safetensors::open(folder / "adapter_model.safetensors").metadata().at("format"), "pt");
}

TEST(PeftSave, WritesWhatTheSourceSaid) {
  const Folder folder;
  PeftWriter writer = small_lora();
  writer.config["base_model_name_or_path"] = "some/base";
  writer.config["revision"] = "main";
  writer.config["task_type"] = "FEATURE_EXTRACTION";
  writer.config["fan_in_fan_out"] = true;
  writer.config["auto_mapping"] = {{"base_model_class", "BertModel"}, {"parent_library", "transformers"}};
  writer.write(folder / "in");
  const auto loaded = load_peft<float>(folder / "in", small_modules());
  for (const PeftForm form : {PeftForm::lora, PeftForm::stacked}) {
    save_peft(loaded.adapter, folder / "out", {.source = loaded.config.source(), .form = form});
    const Json config = *try_parse_json(read_text(folder / "out" / "adapter_config.json"));
    for (const char* key :
         {"base_model_name_or_path", "revision", "task_type", "fan_in_fan_out", "auto_mapping"})
      EXPECT_EQ(config[key], writer.config[key]) << key;
  }
  save_peft(loaded.adapter, folder / "out",
            {.base_model = "b", .task_type = "SEQ_CLS", .source = loaded.config.source()});
  const Json config = *try_parse_json(read_text(folder / "out" / "adapter_config.json"));
  EXPECT_EQ(config["base_model_name_or_path"], "b");
  EXPECT_EQ(config["task_type"], "SEQ_CLS");
}

TEST(PeftSave, BakesUnequalRanksForConsumersThatDivideByTheirOwn) {
  LayoutOptions options = {.scaling = 0.5};
  options.ranks = {{"m.layers.0.q", 4}, {"m.layers.1.q", 0}};
  options.scalings = {{"m.layers.0.down", 3}};
  const auto adapter = filled(Layout(small_modules(), schemes::lora(), 2, options));
  const Folder folder;
  EXPECT_EQ(save_peft(adapter, folder.path()).rank, 4);
  const Json config = config_in(folder);
  EXPECT_EQ(config["r"], 4);
  EXPECT_EQ(config["lora_alpha"], 4);
  EXPECT_EQ(config["alpha_pattern"], Json::object());
  EXPECT_EQ(config["rank_pattern"], Json({{"^m\\.layers\\.0\\.down", 2}, {"^m\\.layers\\.1\\.down", 2}}));
  const auto loaded = load_peft<float>(folder.path(), small_modules());
  EXPECT_EQ(loaded.adapter.layout().rank(2), 0);
  expect_same_function(adapter, loaded.adapter, std::numeric_limits<float>::epsilon());
}

TEST(PeftSave, KeepsAlphaAndTheBitsOfAAndB) {
  LayoutOptions options = {.scaling = 16.0 / 3};
  options.ranks = {{"m.layers.0.q", 5}, {"m.layers.1.q", 0}};
  options.scalings = {{"m.layers.0.q", 8 / std::sqrt(5.0)}, {"m.layers.0.down", 0.1}};
  const auto adapter = filled(Layout(small_modules(), schemes::lora(), 3, options));
  const Folder folder;
  save_peft(adapter, folder.path(), {.scale = PeftScale::lora_alpha});
  const auto loaded = load_peft<float>(folder.path(), small_modules());
  for (Index m = 0; m < 4; ++m) {
    EXPECT_EQ(loaded.adapter.A(m), adapter.A(m));
    EXPECT_EQ(loaded.adapter.B(m), adapter.B(m));
    EXPECT_EQ(loaded.adapter.layout().rank(m), adapter.layout().rank(m));
    const double expected = m == 2 ? loaded.adapter.layout().scaling(m) : adapter.layout().scaling(m);
    EXPECT_NEAR(loaded.adapter.layout().scaling(m), expected, 1e-15);
  }
  const Json config = config_in(folder);
  EXPECT_EQ(config["r"], 5);
  EXPECT_EQ(config["alpha_pattern"]["^m\\.layers\\.1\\.down"].dump(), "16");  // whole where it can be
}

TEST(PeftSave, WritesTheSmallestExactForm) {
  // A and B tied over the whole model, trained: a VeRA with its projections.
  Scheme tied = schemes::vera(0);
  tied.A.trained = tied.B.trained = true;
  for (const bool vectors : {true, false}) {
    if (!vectors) tied.u = tied.v = std::nullopt;
    const auto adapter = filled(Layout(llama_modules(), tied, 3, {.scaling = 0.7}));
    const Folder folder;
    const SavedPeft saved = save_peft(adapter, folder.path(), {.form = PeftForm::smallest});
    EXPECT_EQ(saved.form, PeftForm::vera);
    EXPECT_EQ(saved.bytes, std::filesystem::file_size(folder / "adapter_model.safetensors") +
                               std::filesystem::file_size(folder / "adapter_config.json"));
    const Folder as_lora;
    EXPECT_LT(saved.bytes, save_peft(adapter, as_lora.path()).bytes);
    const auto loaded = load_peft<float>(folder.path(), llama_modules());
    EXPECT_EQ(loaded.config.type, PeftConfig::Type::vera);
    expect_same_function(adapter, loaded.adapter, std::numeric_limits<float>::epsilon());
  }
  // One small module: LoRA takes less. Several pairs: LoRA is the only exact form without stacking.
  ModuleList one;
  one.add({.name = "x.q", .in_features = 8, .out_features = 8});
  const Folder folder;
  EXPECT_EQ(save_peft(filled(Layout(one, tied, 1)), folder.path(), {.form = PeftForm::smallest}).form,
            PeftForm::lora);
  EXPECT_EQ(save_peft(filled(Layout(llama_modules(), schemes::tl6(), 2)), folder.path(),
                      {.form = PeftForm::smallest})
                .form,
            PeftForm::lora);
}

TEST(PeftSave, StacksDifferentPairsInBlocks) {
  LayoutOptions options = {.scaling = 0.7};
  for (const Module& module : llama_modules())
    if (module.kind == "o_proj") options.ranks.emplace_back(module.name, 1);
  for (const Scheme& scheme :
       {schemes::tl6(), schemes::tl5(), schemes::share_lora_ab(), schemes::grouped(2)}) {
    const auto adapter = filled(Layout(llama_modules(), scheme, 2, options));
    const Folder folder;
    const SavedPeft saved = save_peft(adapter, folder.path(), {.form = PeftForm::stacked});
    EXPECT_EQ(saved.form, PeftForm::stacked);
    const Index copies = scheme == schemes::grouped(2) ? 2 : 1;
    EXPECT_EQ(saved.rank, copies * (6 * 2 + 1));
    const auto loaded = load_peft<float>(folder.path(), llama_modules());
    EXPECT_TRUE(loaded.report.missing.empty() && loaded.report.unused.empty());
    expect_same_function(adapter, loaded.adapter, std::numeric_limits<float>::epsilon());
  }
}

TEST(PeftSave, SaysWhereVeraIsNotPossible) {
  const Folder folder;
  const auto adapter = filled(Layout(llama_modules(), schemes::tl6(), 2));
  expect_failure(try_save_peft(adapter, folder / "x", {.form = PeftForm::vera}),
                 {"7 different pairs of A and B", "PeftForm::stacked at rank 14"});
  const auto trained = filled(Layout(llama_modules(), schemes::vera(7), 2));
  expect_failure(try_save_peft(trained, folder / "x", {.form = PeftForm::vera, .save_projection = false}),
                 {"save_projection = false", "torch draws", "these are not"});
  EXPECT_FALSE(std::filesystem::exists(folder / "x"));
}

TEST(PeftSave, LeavesOutProjectionsThatTorchDraws) {
  Adapter<float> adapter(Layout(llama_modules(), schemes::vera(1234), 4));
  adapter.initialize(1);
  for (float& x : adapter.trainable()) x += 0.5f;
  const Folder with, without;
  const auto larger = save_peft(adapter, with.path(), {.form = PeftForm::vera});
  const auto smaller = save_peft(adapter, without.path(), {.form = PeftForm::vera, .save_projection = false});
  EXPECT_LT(smaller.bytes, larger.bytes);
  EXPECT_EQ(config_in(with)["projection_prng_key"], 1234);
  for (const Folder* folder : {&with, &without}) {
    const auto loaded = load_peft<float>(folder->path(), llama_modules());
    EXPECT_EQ(loaded.adapter.layout(), adapter.layout());
    EXPECT_TRUE(same_bits<float>(loaded.adapter.trainable(), adapter.trainable()));
    EXPECT_TRUE(same_bits<float>(loaded.adapter.frozen(), adapter.frozen()));
  }
}

TEST(PeftSave, WritesOtherTypes) {
  const auto adapter = filled<double>(Layout(llama_modules(), schemes::tl6(), 2));
  const std::pair<safetensors::Dtype, double> types[] = {{safetensors::Dtype::F64, 0x1p-52},
                                                         {safetensors::Dtype::F32, 0x1p-23},
                                                         {safetensors::Dtype::F16, 0x1p-10},
                                                         {safetensors::Dtype::BF16, 0x1p-7}};
  for (const auto& [dtype, epsilon] : types) {
    const Folder folder;
    save_peft(adapter, folder.path(), {.dtype = dtype});
    const auto file = safetensors::open(folder / "adapter_model.safetensors");
    for (const auto& tensor : file.tensors()) EXPECT_EQ(tensor.dtype, dtype);
    expect_same_function(adapter, load_peft<double>(folder.path(), llama_modules()).adapter, epsilon);
  }
  const Folder folder;
  expect_failure(try_save_peft(adapter, folder.path(), {.dtype = safetensors::Dtype::other}),
                 {"F64, F32, F16 and BF16"});
  EXPECT_EQ(folder.entries(), 0);
}

TEST(PeftSave, TakesViewsAndNarrowNumbers) {
  const auto adapter = filled(Layout(small_modules(), schemes::tl6(), 2));
  const auto narrow = adapter.cast<Eigen::bfloat16>();
  const Folder a, b;
  save_peft(narrow, a.path());
  save_peft(narrow.view(), b.path());
  EXPECT_EQ(read_text(a / "adapter_model.safetensors"), read_text(b / "adapter_model.safetensors"));
  expect_same_function(narrow, load_peft<float>(a.path(), small_modules()).adapter, 0x1p-23);
}

TEST(PeftSave, MapsNames) {
  const auto adapter = filled(Layout(small_modules(), schemes::lora(), 2));
  const Folder folder;
  const NameMap names = {{"m.layers.*.q", "base.h.*.q"}};
  save_peft(adapter, folder.path(), {.names = names});
  const auto file = safetensors::open(folder / "adapter_model.safetensors");
  EXPECT_TRUE(file.find("base_model.model.base.h.0.q.lora_A.weight"));
  EXPECT_TRUE(file.find("base_model.model.m.layers.0.down.lora_A.weight"));
  expect_same_function(adapter, load_peft<float>(folder.path(), small_modules(), {.names = names}).adapter,
                       0);
  const NameMap one = {{"m.layers.*.q", "q"}};
  expect_failure(try_save_peft(adapter, folder.path(), {.names = one}), {"two tensors are named"});
}

TEST(PeftSave, LeavesNothingHalfWritten) {
  const auto adapter = filled(Layout(small_modules(), schemes::lora(), 2));
  const Folder folder;
  expect_failure(try_save_peft(filled(Layout(small_modules(), schemes::lora(), 0)), folder / "x"),
                 {"x\": the adapter adapts no module"});
  expect_failure(try_save_peft(adapter, folder / "x", {.base_model = "\xff"}), {"not UTF-8"});
  EXPECT_EQ(folder.entries(), 0);
  write_text(folder / "file", "");
  expect_failure(try_save_peft(adapter, folder / "file"), {"file\": the folder cannot be created"});
}

}  // namespace
}  // namespace tiedlora_test
