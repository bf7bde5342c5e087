#include <gtest/gtest.h>

#include <string>
#include <tiedlora/io/peft.hpp>

#include "support/io_files.hpp"
#include "support/peft.hpp"
#include "support/peft_writer.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using Names = std::vector<std::string>;

Result<LoadedPeft<float>> load(const PeftWriter& writer, const ModuleList& modules = small_modules(),
                               const PeftLoadOptions& options = {}) {
  const Folder folder;
  writer.write(folder.path());
  return try_load_peft<float>(folder.path(), modules, options);
}

std::string tensor(const char* module, const char* what) {
  return "base_model.model.m.layers." + std::string(module) + what;
}

TEST(PeftLoad, TakesLoraAsItStands) {
  const auto loaded = load(small_lora());
  ASSERT_TRUE(loaded) << loaded.error();
  const Layout& layout = loaded->adapter.layout();
  EXPECT_EQ(layout.scheme(), schemes::lora());
  EXPECT_EQ(layout.rank(), 2);
  EXPECT_EQ(layout.scaling(), 2);                   // alpha 4 / rank 2
  EXPECT_EQ(loaded->adapter.A(1)(1, 0), 7 / 8.0f);  // (r, in): element 6 of 2 x 6
  EXPECT_EQ(loaded->adapter.B(1)(3, 1), 8 / 8.0f);  // (out, r): element 7 of 4 x 2
  EXPECT_EQ(loaded->adapter.B(1)(1, 0), 3 / 8.0f);
  EXPECT_EQ(loaded->report.used.size(), 8u);
  EXPECT_TRUE(loaded->report.unused.empty() && loaded->report.missing.empty());
}

TEST(PeftLoad, FollowsRanksAndAlphasModuleByModule) {
  PeftWriter writer = small_lora();
  writer.remove(tensor("1.q", ".lora_A.weight"))
      .remove(tensor("1.q", ".lora_B.weight"))
      .lora("m.layers.1.q", 3, 4, 4);
  writer.config["rank_pattern"] = {{"layers.1.q", 3}};
  writer.config["alpha_pattern"] = {{"down", 6}};
  auto loaded = load(writer);
  ASSERT_TRUE(loaded) << loaded.error();
  const auto scaling = [&](Index m) { return loaded->adapter.layout().scaling(m); };
  EXPECT_EQ(loaded->adapter.layout().rank(2), 3);
  EXPECT_EQ(scaling(0), 4 / 2.0);
  EXPECT_EQ(scaling(1), 6 / 2.0);
  EXPECT_EQ(scaling(2), 4 / 3.0);
  writer.config["use_rslora"] = true;
  loaded = load(writer);
  ASSERT_TRUE(loaded) << loaded.error();
  EXPECT_EQ(scaling(1), 6 / std::sqrt(2.0));
  EXPECT_EQ(scaling(2), 4 / std::sqrt(3.0));
}

TEST(PeftLoad, ReadsEveryTypeAsEveryType) {
  const auto single = load_peft<float>(peft_folder("lora_bf16"), llama_modules());
  const auto wide = load_peft<double>(peft_folder("lora_bf16"), llama_modules());
  const auto narrow = load_peft<Eigen::bfloat16>(peft_folder("lora_bf16"), llama_modules());
  for (std::size_t i = 0; i < single.adapter.trainable().size(); ++i) {
    EXPECT_EQ(wide.adapter.trainable()[i], double{single.adapter.trainable()[i]});
    EXPECT_EQ(float(narrow.adapter.trainable()[i]), single.adapter.trainable()[i]);
  }
}

TEST(PeftLoad, GivesModulesThatAreNotAdaptedRankZero) {
  ModuleList modules = small_modules();
  modules.add({.name = "lm_head", .in_features = 4, .out_features = 9});
  const auto loaded = load(small_lora(), modules);
  ASSERT_TRUE(loaded) << loaded.error();
  EXPECT_EQ(loaded->adapter.layout().rank(4), 0);
  EXPECT_TRUE(loaded->report.missing.empty());
}

TEST(PeftLoad, ReportsWhatTheHostDoesNotHaveAndWhatTheFileLacks) {
  ModuleList modules;
  for (const Module& module : small_modules())
    if (module.name != "m.layers.0.down") modules.add(module);
  PeftWriter writer = small_lora();
  writer.remove(tensor("1.q", ".lora_A.weight")).remove(tensor("1.q", ".lora_B.weight"));
  const Names unused = {tensor("0.down", ".lora_A.weight"), tensor("0.down", ".lora_B.weight")};
  const Names missing = {tensor("1.q", ".lora_A.weight"), tensor("1.q", ".lora_B.weight")};
  for (const Json& targets : {Json({"q", "down"}), Json("all-linear"), Json("m\\.layers\\.\\d\\.(q|down)")}) {
    writer.config["target_modules"] = targets;
    const auto loaded = load(writer, modules);
    ASSERT_TRUE(loaded) << loaded.error();
    EXPECT_EQ(loaded->report.unused, unused);
    EXPECT_EQ(loaded->report.missing, missing);
    EXPECT_EQ(loaded->report.used.size(), 4u);
  }
  writer.config["target_modules"] = {"q", "down"};
  writer.config["layers_to_transform"] = {0};
  writer.remove(tensor("1.down", ".lora_A.weight")).remove(tensor("1.down", ".lora_B.weight"));
  const auto lowest = load(writer, modules);
  ASSERT_TRUE(lowest) << lowest.error();
  EXPECT_TRUE(lowest->report.missing.empty());
  writer.config.erase("layers_to_transform");
  writer.config["target_modules"] = ".*(?>q)q";
  expect_failure(load(writer, modules), {"at character", "PEFT would apply"});
  const auto loaded = load(writer, modules, {.partial = true});
  ASSERT_TRUE(loaded) << loaded.error();
  ASSERT_EQ(loaded->report.notes.size(), 1u);
  EXPECT_NE(loaded->report.notes[0].find("at character"), std::string::npos);
}

TEST(PeftLoad, TakesNoMatchForAnError) {
  ModuleList others;
  others.add({.name = "h.0.q", .layer = 0, .in_features = 4, .out_features = 4});
  expect_failure(load(small_lora(), others),
                 {"none of the 4 modules", "\"m.layers.0.down\"", "1 in the host's list", "\"h.0.q\"",
                  "wrong base model", "PeftLoadOptions::names"});
  expect_failure(load(small_lora(), ModuleList()), {"none of the 4 modules", "0 in the host's list"});
}

TEST(PeftLoad, MapsNames) {
  ModuleList mine;
  for (const Module& module : small_modules()) {
    Module renamed = module;
    renamed.name = "my." + module.name.substr(2);
    mine.add(renamed);
  }
  const auto loaded = load(small_lora(), mine, {.names = {{"my.layers.*.q", "m.layers.*.q"}}});
  ASSERT_TRUE(loaded) << loaded.error();
  EXPECT_EQ(loaded->report.used.size(), 4u);
  EXPECT_EQ(loaded->adapter.layout().rank(0), 2);
  EXPECT_EQ(loaded->adapter.layout().rank(1), 0);
  expect_failure(load(small_lora(), mine, {.names = {{"my.layers.0.q", "q"}, {"my.layers.0.down", "q"}}}),
                 {"\"my.layers.0.q\" and \"my.layers.0.down\" map to the same PEFT name, \"q\""});
}

TEST(PeftLoad, NamesTheModuleAndBothShapes) {
  ModuleList wider;
  for (Module module : small_modules()) {
    if (module.name == "m.layers.1.down") module.in_features = 7;
    wider.add(module);
  }
  expect_failure(load(small_lora(), wider), {"module \"m.layers.1.down\"", "lora_A.weight\" is 2x6",
                                             "4x7 (out x in)", "2x7", "wrong base model?"});
  PeftWriter transposed = small_lora();
  transposed.remove(tensor("0.down", ".lora_A.weight")).add(tensor("0.down", ".lora_A.weight"), {6, 2});
  expect_failure(load(transposed), {"module \"m.layers.0.down\"", "lora_A.weight\" is 6x2", "needs 2x6",
                                    "transposed, as MLX and ONNX Runtime do?"});
  PeftWriter flat = small_lora();
  flat.remove(tensor("0.q", ".lora_B.weight")).add(tensor("0.q", ".lora_B.weight"), {8});
  expect_failure(load(flat), {"module \"m.layers.0.q\"", "lora_B.weight\" is 8", "needs 4x2"});
  PeftWriter swapped = small_lora();
  swapped.remove(tensor("0.q", ".lora_B.weight")).add(tensor("0.q", ".lora_B.weight"), {2, 4});
  expect_failure(load(swapped), {"module \"m.layers.0.q\"", "transposed, as MLX and ONNX Runtime do?"});
}

TEST(PeftLoad, RefusesAConfigOfOtherTensors) {
  PeftWriter writer = small_lora();
  writer.config["r"] = 16;
  expect_failure(load(writer), {"module \"m.layers.0.down\" has rank 2", "r = 16", "do not belong together"});
  writer.config["rank_pattern"] = {{"x", 2}};
  expect_failure(load(writer), {"has rank 2", "no rank_pattern of 2"});
  writer.config["rank_pattern"] = {{"0.q", 4}, {"q", 2}, {"0.down", 2}, {"1.down", 2}};
  expect_failure(load(writer), {"module \"m.layers.0.q\" has rank 2", "a rank_pattern of 4 for it"});
  writer.config["rank_pattern"] = {{"(q|down)", 2}};
  EXPECT_TRUE(load(writer));
  // What this library cannot match is believed, with a word on it: the tensors tell the rank.
  writer.config["rank_pattern"] = {{"(?>x).*", 2}};
  const auto loaded = load(writer);
  ASSERT_TRUE(loaded) << loaded.error();
  EXPECT_NE(loaded->report.notes.at(0).find("ranks were not checked"), std::string::npos);
  writer.config["rank_pattern"] = {{"(?>x).*", 3}};
  expect_failure(load(writer), {"do not belong together"});
}

TEST(PeftLoad, ChecksRanksOfModulesThatTheHostLacksToo) {
  PeftWriter writer = small_lora();
  writer.lora("other.q", 3, 4, 4);
  expect_failure(load(writer), {"module \"other.q\" has rank 3"});
  const auto loaded = load(writer, small_modules(), {.partial = true});
  ASSERT_TRUE(loaded) << loaded.error();
  EXPECT_EQ(loaded->report.unused.size(), 2);
  EXPECT_NE(loaded->report.notes.at(0).find("left out: \"base_model.model.other.q.lora_A.weight\": module"),
            std::string::npos);
}

TEST(PeftLoad, ReadsTheNamesOfAStateDict) {
  PeftWriter writer = small_lora(), plain = small_lora(), vera = small_vera(), plain_vera = small_vera();
  for (auto& tensor : writer.tensors) tensor.name.insert(tensor.name.size() - 6, "default.");
  for (auto& tensor : vera.tensors) tensor.name += ".default";
  EXPECT_EQ(writer.tensors[0].name, "base_model.model.m.layers.0.q.lora_A.default.weight");
  for (const auto& [other, same] : {std::pair(&writer, &plain), {&vera, &plain_vera}}) {
    const auto loaded = load(*other);
    ASSERT_TRUE(loaded) << loaded.error();
    EXPECT_TRUE(std::ranges::equal(loaded->adapter.trainable(), load(*same)->adapter.trainable()));
  }
  expect_failure(load(small_lora().add("base_model.model.m.layers.0.q.lora_A.default.weight", {2, 4})),
                 {"lora_A.default.weight\"", "name the same matrix"});
}

TEST(PeftLoad, SaysWhoseNamesItDoesNotRead) {
  const std::pair<const char*, const char*> cases[] = {
      {"base_model.model.m.q.lora_A.mine.weight", "an adapter's name, \"mine\""},
      {"m.q.lora_A.mine.weight", "an adapter's name, \"mine\""},
      {"m.q.lora_A.weight", "does not begin with PEFT's \"base_model.model.\""},
      {"lora_unet_down_blocks_0.lora_down.weight", "kohya's"},
      {"lora_te_text_model.alpha", "kohya's"},
      {"unet.q.lora.down.weight", "diffusers"},
      {"model.layers.0.q.lora_a", "MLX"}};
  for (const auto& [name, reason] : cases)
    expect_failure(load(small_lora().add(name, {2, 2})), {name, reason});
}

TEST(PeftLoad, ReportsCopiesOfTheBasesWeights) {
  PeftWriter writer = small_lora();
  writer.config["target_modules"] = {"q", "down", "lm_head"};
  writer.lora("lm_head", 2, 4, 9).add("base_model.model.lm_head.base_layer.weight", {9, 4});
  const auto loaded = load(writer);
  ASSERT_TRUE(loaded) << loaded.error();
  EXPECT_EQ(loaded->report.base_weights,
            std::vector<std::string>{"base_model.model.lm_head.base_layer.weight"});
  EXPECT_EQ(loaded->report.unused.size(), 2) << "lm_head is not of the host's list";
}

// PEFT saves both where one of them is adapted; alone it is a vocabulary that was resized.
TEST(PeftLoad, ReportsACopyOfTheEmbeddingBesideAnAdapterOfTheHead) {
  const char* copy = "base_model.model.model.embed_tokens.weight";
  PeftWriter writer = small_lora();
  writer.add(copy, {9, 4});
  expect_failure(load(writer), {copy, "resized embedding"});
  writer.config["target_modules"] = {"q", "down", "lm_head"};
  writer.lora("lm_head", 2, 4, 9);
  const auto loaded = load(writer);
  ASSERT_TRUE(loaded) << loaded.error();
  EXPECT_EQ(loaded->report.base_weights, std::vector<std::string>{copy});
  writer.config["modules_to_save"] = {"embed_tokens"};
  expect_failure(load(writer), {"modules_to_save"});
}

TEST(PeftLoad, RefusesExpertsAsOnePair) {
  for (const char* name : {"m.layers.0.mlp.experts", "m.layers.0.mlp.experts.base_layer"}) {
    PeftWriter writer = small_lora();
    writer.lora(name, 2, 4, 4);
    expect_failure(load(writer), {name, "target_parameters"});
    const auto loaded = load(writer, small_modules(), {.partial = true});
    ASSERT_TRUE(loaded) << loaded.error();
    EXPECT_EQ(loaded->report.unused.size(), 2);
  }
}

TEST(PeftLoad, RefusesWhatIsTiedToTheEmbedding) {
  PeftWriter writer = small_lora();
  writer.config["ensure_weight_tying"] = true;
  EXPECT_TRUE(load(writer)) << "nothing is tied";
  expect_failure(load(writer.lora("lm_head", 2, 4, 9)), {"lm_head", "ensure_weight_tying"});
}

TEST(PeftLoad, SaysThatAnAdapterWasSavedEmpty) {
  PeftWriter writer = small_lora();
  for (auto& tensor : writer.tensors) tensor.shape = {0};
  expect_failure(load(writer),
                 {"down.lora_A.weight\": it has shape [0]", "saved empty", "ZeRO stage 3", "zero_to_fp32"});
}

TEST(PeftLoad, LeavesOutIfToldWhatItCannotExpress) {
  PeftWriter writer = small_lora();
  writer.add("base_model.model.score.weight", {3, 4});
  writer.config["modules_to_save"] = {"score"};
  expect_failure(load(writer), {"modules_to_save"});
  const auto loaded = load(writer, small_modules(), {.partial = true});
  ASSERT_TRUE(loaded) << loaded.error();
  EXPECT_EQ(loaded->report.unused, std::vector<std::string>{"base_model.model.score.weight"});
  EXPECT_EQ(loaded->report.notes.size(), 2);
}

TEST(PeftLoad, NamesTheAdaptersOfSubfolders) {
  const Folder folder;
  small_lora().write(folder / "second");
  small_lora().write(folder / "first");
  expect_failure(try_load_peft<float>(folder.path(), small_modules()),
                 {"no adapter_config.json, but adapters in its subfolders \"first\", \"second\""});
}

TEST(PeftLoad, WithoutAListThePairsMustFit) {
  const Folder folder;
  PeftWriter writer = small_lora();
  writer.tensors[0].shape = {4, 2};
  writer.write(folder.path());
  expect_failure(try_load_peft<float>(folder.path()), {"4x2", "do not fit each other"});
  writer.tensors[1].shape = {2, 4};
  writer.write(folder.path());
  expect_failure(try_load_peft<float>(folder.path()), {"has rank 4", "r = 2", "stored transposed, as MLX"});
}

TEST(PeftLoad, RefusesTensorsThatAreNoAdapters) {
  const std::pair<const char*, const char*> cases[] = {
      {"base_model.model.embed_tokens.lora_embedding_A", "embeddings are not supported"},
      {"base_model.model.embed_tokens.lora_embedding_B", "embeddings are not supported"},
      {"base_model.model.m.layers.0.q.lora_B.bias", "lora_bias"},
      {"base_model.model.m.layers.0.q.lora_magnitude_vector.weight", "DoRA's magnitudes"},
      {"base_model.model.lm_head.weight", "modules_to_save"},
      {"base_model.model.m.layers.0.q.bias", "trained biases"},
      {"base_model.model.m.layers.0.q.vera_lambda_b", "a VeRA's tensor"},
      {"base_model.vera_A", "a VeRA's tensor"},
      {"m.layers.0.q.lora_A.weight", "does not begin with PEFT's"},
      {"base_model.model..lora_A.weight", "whole weight"},
      {"anything", "not a tensor of an adapter"}};
  for (const auto& [name, reason] : cases)
    expect_failure(load(small_lora().add(name, {2, 2})),
                   {"adapter_model.safetensors\" has the tensor \"" + std::string(name) + "\"", reason});
}

// Names are looked up by what follows each dot.
TEST(PeftLoad, RefusesNamesThatTakeTheirSquare) {
  const std::string longest = "m" + std::string(1022, '.') + "q";
  PeftWriter writer = small_lora();
  writer.lora(longest, 2, 4, 4);
  EXPECT_TRUE(load(writer));
  PeftWriter longer = small_lora();
  longer.lora("m" + longest, 2, 4, 4);
  for (const bool partial : {false, true})
    expect_failure(load(longer, small_modules(), {.partial = partial}),
                   {"of a module whose name has 1025 bytes; at most 1024"});
}

TEST(PeftLoad, RefusesHalfAPair) {
  expect_failure(load(small_lora().remove(tensor("1.q", ".lora_B.weight"))),
                 {"has the tensor \"base_model.model.m.layers.1.q.lora_A.weight\": its counterpart "
                  "\"base_model.model.m.layers.1.q.lora_B.weight\" is missing"});
  expect_failure(load(small_vera().remove(tensor("1.q", ".vera_lambda_d"))),
                 {"m.layers.1.q.vera_lambda_b\": its counterpart", "m.layers.1.q.vera_lambda_d\""});
}

TEST(PeftLoad, LeavesOutHalfAPairIfTold) {
  PeftWriter writer = small_lora();
  const auto loaded =
      load(writer.remove(tensor("1.q", ".lora_B.weight")), small_modules(), {.partial = true});
  ASSERT_TRUE(loaded) << loaded.error();
  EXPECT_EQ(loaded->report.unused, std::vector<std::string>{"base_model.model.m.layers.1.q.lora_A.weight"});
}

// A file of our own with a pattern for each module loads in time that grows with the modules, not their
// square.
TEST(PeftLoad, ThousandsOfModulesAndPatterns) {
  PeftWriter writer{.config = {{"peft_type", "LORA"}, {"r", 1}, {"lora_alpha", 1}}};
  Json targets = Json::array(), ranks = Json::object();
  for (int i = 0; i < 6000; ++i) {
    const std::string name = "model.layers." + std::to_string(i) + ".mlp.experts.a-rather-long-name.up_proj";
    const int rank = 1 + i % 2;
    targets.push_back(name);
    if (rank != 1) ranks[detail::exact_pattern(name)] = rank;
    writer.lora(name, rank, 2, 2);
  }
  writer.config["target_modules"] = targets;
  writer.config["rank_pattern"] = ranks;
  const Folder folder;
  writer.write(folder / "a");
  const auto loaded = try_load_peft<float>(folder / "a");
  ASSERT_TRUE(loaded) << loaded.error();
  EXPECT_EQ(loaded->adapter.layout().size(), 6000);
  EXPECT_TRUE(loaded->report.notes.empty());
}

TEST(PeftLoad, RefusesOtherTypes) {
  PeftWriter writer = small_lora();
  writer.tensors[0].dtype = safetensors::Dtype::other;
  writer.tensors[0].dtype_name = "I32";
  expect_failure(load(writer), {"m.layers.0.q.lora_A.weight\" of dtype I32", "F64, F32, F16 and BF16"});
}

TEST(PeftLoad, NamesTheFile) {
  const Folder folder;
  expect_failure(try_load_peft<float>(folder.path(), small_modules()),
                 {"is an empty folder (a PEFT folder is expected)"});
  small_lora().write(folder.path());
  write_text(folder / "adapter_config.json", "{\"peft_type\":\"LORA\",}");
  expect_failure(try_load_peft<float>(folder.path(), small_modules()),
                 {"adapter_config.json\" is not valid JSON"});
  small_lora().write(folder.path());
  const std::string weights = read_text(folder / "adapter_model.safetensors");
  write_text(folder / "adapter_model.safetensors", weights.substr(0, weights.size() - 1));
  expect_failure(try_load_peft<float>(folder.path(), small_modules()),
                 {"adapter_model.safetensors\"", "cut short"});
  std::filesystem::remove(folder / "adapter_model.safetensors");
  expect_failure(try_load_peft<float>(folder.path(), small_modules()),
                 {"adapter_model.safetensors\" cannot be opened"});
  write_text(folder / "adapter_model.bin", "pickle");
  expect_failure(try_load_peft<float>(folder.path(), small_modules()),
                 {"adapter_model.bin", "pickle", "save_pretrained"});
  EXPECT_THROW(load_peft<float>(folder.path(), small_modules()), Error);
}

TEST(PeftLoad, RefusesAnEmptyAdapter) {
  PeftWriter writer = small_lora();
  writer.tensors.clear();
  expect_failure(load(writer), {"adapter_model.safetensors\" holds no adapter"});
}

TEST(PeftLoad, InfersTheModulesOfALora) {
  const auto loaded = load_peft<float>(peft_folder("lora_gpt2"));
  const Layout& layout = loaded.adapter.layout();
  ASSERT_EQ(layout.size(), 8);
  const Index fc = layout.modules().find("transformer.h.1.mlp.c_fc");
  EXPECT_EQ(layout.modules()[fc].layer, 1);
  EXPECT_EQ(layout.modules()[fc].kind, "c_fc");
  EXPECT_EQ(layout.modules()[fc].in_features, 12);
  EXPECT_EQ(layout.modules()[fc].out_features, 48);
  // attn.c_proj and mlp.c_proj are of one kind, but read inputs of different widths
  const auto with_list = load_peft<float>(peft_folder("lora_gpt2"), gpt2_modules());
  for (const Module& module : gpt2_modules()) {
    const Index m = layout.modules().find(module.name),
                other = with_list.adapter.layout().modules().find(module.name);
    EXPECT_EQ(loaded.adapter.A(m), with_list.adapter.A(other));
    EXPECT_EQ(loaded.adapter.B(m), with_list.adapter.B(other));
    EXPECT_EQ(layout.scaling(m), with_list.adapter.layout().scaling(other));
  }
}

TEST(PeftLoad, InfersLayersInTheirOrder) {
  PeftWriter writer{.config = {{"peft_type", "LORA"}, {"r", 1}}};
  for (const char* name : {"m.10.q", "m.2.q", "m.1.experts.12.q", "m.1.experts.3.q", "head", "99999999999.q"})
    writer.lora(name, 1, 2, 2);
  const Folder folder;
  writer.write(folder.path());
  const auto loaded = load_peft<float>(folder.path());
  Names names;
  std::vector<int> layers;
  for (const Module& module : loaded.adapter.layout().modules())
    names.push_back(module.name), layers.push_back(module.layer);
  EXPECT_EQ(names,
            (Names{"99999999999.q", "head", "m.1.experts.3.q", "m.1.experts.12.q", "m.2.q", "m.10.q"}));
  EXPECT_EQ(layers, (std::vector<int>{-1, -1, 1, 1, 2, 10}));
}

TEST(PeftLoad, NeedsTheModulesOfAVera) {
  const auto loaded = try_load_peft<float>(peft_folder("vera"));
  expect_failure(loaded, {"is a VeRA", "module list"});
}

TEST(PeftLoad, TakesVeraAsItStands) {
  const auto loaded = load(small_vera());
  ASSERT_TRUE(loaded) << loaded.error();
  const Layout& layout = loaded->adapter.layout();
  EXPECT_EQ(layout.scheme().A.init, init::given());  // no generator draws 1/8, 2/8, …
  EXPECT_FALSE(layout.scheme().A.trained);
  EXPECT_EQ(layout.frozen_count(), 3 * 6 + 4 * 3);
  EXPECT_EQ(loaded->adapter.A(0).cols(), 4);
  EXPECT_EQ(loaded->adapter.A(0)(1, 0), 7 / 8.0f);
  EXPECT_EQ(loaded->adapter.B(0)(1, 0), 4 / 8.0f);
  EXPECT_EQ(loaded->adapter.u(3)(2), 3 / 8.0f);
  EXPECT_EQ(loaded->adapter.v(3)(3), 4 / 8.0f);
  EXPECT_EQ(loaded->report.used.size(), 10u);
}

TEST(PeftLoad, KnowsProjectionsThatFollowFromTheirKey) {
  const auto stored = load_peft<float>(peft_folder("vera"), llama_modules());
  EXPECT_EQ(stored.adapter.layout().scheme(), schemes::vera(1234));
  const auto seeded = load_peft<float>(peft_folder("vera_seeded"), llama_modules());
  EXPECT_EQ(seeded.adapter.layout().scheme(), schemes::vera(77));
}

TEST(PeftLoad, TakesTheCornerOfLargerProjections) {
  ModuleList narrow;
  for (const Module& module : small_modules())
    if (module.kind == "q") narrow.add(module);
  const auto loaded = load(small_vera(), narrow);
  ASSERT_TRUE(loaded) << loaded.error();
  EXPECT_EQ(loaded->report.unused.size(), 4u);
  EXPECT_EQ(loaded->adapter.layout().frozen_count(), 3 * 4 + 4 * 3);
  EXPECT_EQ(loaded->adapter.A(1)(2, 3), (2 * 6 + 3 + 1) / 8.0f);
  EXPECT_EQ(loaded->adapter.B(1)(3, 2), 12 / 8.0f);
}

TEST(PeftLoad, RefusesVeraOfOtherShapes) {
  ModuleList wider;
  for (Module module : small_modules()) {
    if (module.kind == "down") module.in_features = 7;
    wider.add(module);
  }
  expect_failure(load(small_vera(), wider), {"module \"m.layers.0.down\" of 4x7 (out x in)",
                                             "\"base_model.vera_A\" of at least 3x7", "is 3x6"});
  PeftWriter other = small_vera();
  other.remove("base_model.vera_B").add("base_model.vera_B", {3, 3});
  expect_failure(load(other), {"\"base_model.vera_B\" of at least 4x3", "is 3x3"});
  PeftWriter rank = small_vera();
  rank.config["r"] = 4;
  expect_failure(load(rank), {"module \"m.layers.0.q\"", "vera_lambda_d\" is 3", "needs 4 (r)"});
  PeftWriter out = small_vera();
  out.remove(tensor("0.q", ".vera_lambda_b")).add(tensor("0.q", ".vera_lambda_b"), {5});
  expect_failure(load(out), {"module \"m.layers.0.q\"", "vera_lambda_b\" is 5", "needs 4 (out)"});
}

TEST(PeftLoad, RefusesVeraWhoseConfigAndFileDisagree) {
  PeftWriter lacking = small_vera();
  lacking.remove("base_model.vera_A");
  expect_failure(load(lacking), {"save_projection = true", "no \"base_model.vera_A\""});
  PeftWriter surplus = small_vera();
  surplus.config["save_projection"] = false;
  expect_failure(load(surplus), {"save_projection = false", "the file has vera_A or vera_B"});
}

// A and B are drawn in the largest shapes: with a module unknown they would silently be other values.
TEST(PeftLoad, NeedsAllModulesOfAVeraWithoutProjections) {
  PeftWriter writer = small_vera();
  writer.config["save_projection"] = false;
  writer.remove("base_model.vera_A").remove("base_model.vera_B");
  EXPECT_TRUE(load(writer));
  ModuleList narrow;
  for (const Module& module : small_modules())
    if (module.kind == "q") narrow.add(module);
  expect_failure(load(writer, narrow),
                 {"save_projection = false", "\"base_model.model.m.layers.0.down.vera_lambda_d\"",
                  "no module in the host's list"});
  // What is not a VeRA's changes no shape; half a pair left out may.
  writer.config["modules_to_save"] = {"score"};
  writer.add("base_model.model.score.weight", {3, 4});
  const auto loaded = load(writer, small_modules(), {.partial = true});
  ASSERT_TRUE(loaded) << loaded.error();
  EXPECT_EQ(loaded->report.unused, std::vector<std::string>{"base_model.model.score.weight"});
  PeftWriter half = writer;
  half.remove(tensor("0.down", ".vera_lambda_b"));
  expect_failure(
      load(half, small_modules(), {.partial = true}),
      {"save_projection = false", tensor("0.down", ".vera_lambda_d") + "\" was left out: its counterpart"});
  writer.config.erase("modules_to_save");
  writer.remove("base_model.model.score.weight");
  expect_failure(load(writer, small_modules(), {.max_seeded_numbers = 20}),
                 {"needs 30 values", "the limit is 20 (PeftLoadOptions::max_seeded_numbers)"});
}

}  // namespace
}  // namespace tiedlora_test
