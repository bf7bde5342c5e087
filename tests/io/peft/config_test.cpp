#include <gtest/gtest.h>

#include <string>
#include <tiedlora/io/peft/config.hpp>

#include "support/io_files.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

Result<PeftConfig> lora_config(const std::string& fields, bool base_is_residual = false) {
  return tiedlora::detail::try_parse_peft_config(
      R"({"peft_type":"LORA")" + (fields.empty() ? "" : "," + fields) + "}",
      {.base_is_residual = base_is_residual});
}
Result<PeftConfig> vera_config(const std::string& fields) {
  return tiedlora::detail::try_parse_peft_config(R"({"peft_type":"VERA",)" + fields + "}");
}

TEST(PeftConfig, TakesPeftsDefaults) {
  const auto config = lora_config("");
  ASSERT_TRUE(config) << config.error();
  EXPECT_EQ(config->rank, 8);
  EXPECT_EQ(config->alpha, 8);
  EXPECT_FALSE(config->rank_stabilized);
  EXPECT_TRUE(config->targets.empty());
  const auto of_vera = vera_config(R"("target_modules":null)");
  ASSERT_TRUE(of_vera) << of_vera.error();
  EXPECT_EQ(of_vera->rank, 256);
  EXPECT_EQ(of_vera->projection_key, 0u);
  EXPECT_TRUE(of_vera->has_projection);
}

TEST(PeftConfig, ReadsWhatChangesTheFunction) {
  const auto config = lora_config(
      R"("r":4,"lora_alpha":2.5,"use_rslora":true,"base_model_name_or_path":"b","task_type":"CAUSAL_LM",
      "fan_in_fan_out":true,"target_modules":["q","v"],"layers_to_transform":[1,3],"layers_pattern":"h")");
  ASSERT_TRUE(config) << config.error();
  EXPECT_EQ(config->rank, 4);
  EXPECT_EQ(config->alpha, 2.5);
  EXPECT_TRUE(config->rank_stabilized);
  EXPECT_EQ(config->base_model, "b");
  EXPECT_EQ(config->task_type, "CAUSAL_LM");
  EXPECT_TRUE(config->fan_in_fan_out);
  EXPECT_EQ(config->targets.names, (std::vector<std::string>{"q", "v"}));
  EXPECT_EQ(config->layers, (std::vector<Index>{1, 3}));
  EXPECT_EQ(config->layers_pattern, (std::vector<std::string>{"h"}));
  EXPECT_EQ(vera_config(R"("projection_prng_key":18446744073709551615)")->projection_key, ~std::uint64_t{0});
  EXPECT_EQ(vera_config(R"("projection_prng_key":-1)")->projection_key, ~std::uint64_t{0});
}

// Whatever would make the adapter another function than the one that is computed here.
TEST(PeftConfig, RefusesWhatItDoesNotCompute) {
  const std::pair<const char*, const char*> cases[] = {
      {R"("bias":"all")", "biases"},
      {R"("bias":"lora_only")", "biases"},
      {R"("modules_to_save":["lm_head"])", "whole modules of the base model"},
      {R"("use_dora":true)", "DoRA"},
      {R"("lora_bias":true)", "bias after B"},
      {R"("layer_replication":[[0,2],[1,3]])", "layers are repeated"},
      {R"("trainable_token_indices":[1])", "rows of the embedding"},
      {R"("target_parameters":["experts.up"])", "other than a linear module's weight"},
      {R"("alora_invocation_tokens":[5,6])", "aLoRA"},
      {R"("use_qalora":true)", "QALoRA"},
      {R"("use_bdlora":{"x":1})", "block-diagonal"},
      {R"("arrow_config":{"x":1})", "routes"},
      {R"("kasa_config":{"x":1})", "KaSA"},
      {R"("monteclora_config":{"x":1})", "random samples"},
      {R"("megatron_config":{"x":1})", "several machines"},
      {R"("enable_lora":[true,false])", "fused modules"}};
  for (const auto& [field, reason] : cases) {
    const std::string text = field, name = text.substr(0, text.find(':'));
    expect_failure(lora_config(text), {name, "not supported", reason});
  }
  expect_failure(vera_config(R"("bias":"vera_only")"), {"\"bias\"", "not supported"});
  expect_failure(vera_config(R"("modules_to_save":["score"])"), {"\"modules_to_save\"", "not supported"});
}

TEST(PeftConfig, TakesTheSameSwitchedOff) {
  EXPECT_TRUE(lora_config(R"("bias":"none","modules_to_save":null,"use_dora":false,"lora_bias":false,
      "layer_replication":null,"trainable_token_indices":null,"target_parameters":[],"use_qalora":false,
      "alora_invocation_tokens":null,"kasa_config":null,"loftq_config":{},"megatron_core":"megatron.core",
      "runtime_config":{"ephemeral_gpu_offload":false},"auto_mapping":{"a":"b"}, "rank_pattern":null)"));
}

TEST(PeftConfig, RefusesAdaptersOfAChangedBase) {
  for (const char* init : {"pissa", "pissa_niter_16", "olora", "OLoRA", "corda", "loftq", "lora_ga"}) {
    const std::string field = R"("init_lora_weights":")" + std::string(init) + "\"";
    expect_failure(lora_config(field), {"init_lora_weights", "changed the base model's weights",
                                        "base_is_residual", "path_initial_model_for_weight_conversion"});
    EXPECT_TRUE(lora_config(field, true)) << init;
  }
  for (const char* init : {"true", "false", "\"gaussian\"", "\"orthogonal\"", "\"eva\"", "\"mica\""})
    EXPECT_TRUE(lora_config(R"("init_lora_weights":)" + std::string(init))) << init;
  expect_failure(lora_config(R"("init_lora_weights":"later")"), {"unknown init_lora_weights \"later\""});
  expect_failure(lora_config(R"("init_lora_weights":3)"), {"unknown init_lora_weights"});
}

TEST(PeftConfig, RefusesKeysThatItDoesNotKnow) {
  for (const char* on : {"true", "1", "{\"x\":null}", "[0]", "\"yes\""})
    expect_failure(lora_config(R"("use_magic":)" + std::string(on)), {"sets \"use_magic\"", "does not know"});
  expect_failure(lora_config(R"("magic_version":2)"), {"sets \"magic_version\"", "does not know"});
  expect_failure(lora_config(R"("projection_prng_key":1)"), {"does not know"});
  expect_failure(vera_config(R"("lora_alpha":1)"), {"sets \"lora_alpha\"", "does not know"});
}

TEST(PeftConfig, PassesOverUnknownKeysThatAreOff) {
  for (const char* off : {"null", "false", "{}", "[]", "\"\"", "0", "0.0", "\"none\""}) {
    const auto config = lora_config(R"("use_magic":)" + std::string(off));
    ASSERT_TRUE(config) << off;
    ASSERT_EQ(config->notes.size(), 1);
    EXPECT_NE(config->notes[0].find(
                  "\"use_magic\" is not known to this version of tiedlora and was ignored: it is off"),
              std::string::npos);
  }
  const auto version = lora_config(R"("unsloth_version":"2026.3.3")");
  ASSERT_TRUE(version);
  EXPECT_NE(version->notes.at(0).find("another tool's version"), std::string::npos);
  EXPECT_TRUE(lora_config(R"("use_dora":false,"bias":"none")")->notes.empty()) << "known keys need no word";
}

TEST(PeftConfig, PassesOverWhatOnlyTrainingNeeds) {
  EXPECT_TRUE(lora_config(R"("velora_config":{"num_groups":4},"lora_dropout":0.1)"));
  EXPECT_TRUE(lora_config(R"("ensure_weight_tying":true)")->weight_tying);
}

TEST(PeftConfig, SaysWhatItsAdapterBelongsTo) {
  const auto config = lora_config(
      R"("base_model_name_or_path":"b","revision":"main","task_type":"SEQ_CLS","fan_in_fan_out":true,
         "auto_mapping":{"base_model_class":"GPT2Model","parent_library":"transformers.gpt2","x_fixed":true})");
  ASSERT_TRUE(config) << config.error();
  const Provenance expected = {.base_model = "b",
                               .revision = "main",
                               .task_type = "SEQ_CLS",
                               .base_model_class = "GPT2Model",
                               .parent_library = "transformers.gpt2",
                               .fan_in_fan_out = true};
  EXPECT_EQ(config->source(), expected);
}

TEST(PeftConfig, LeavesOutTensorsThatAreNoAdaptersIfTold) {
  const std::string text =
      R"({"peft_type":"LORA","modules_to_save":["score"],"bias":"lora_only","trainable_token_indices":[1]})";
  const auto config = tiedlora::detail::try_parse_peft_config(text, {.partial = true});
  ASSERT_TRUE(config) << config.error();
  EXPECT_EQ(config->notes.size(), 3);
  EXPECT_NE(config->notes[0].find("left out: \"bias\""), std::string::npos);
  expect_failure(
      tiedlora::detail::try_parse_peft_config(R"({"peft_type":"LORA","use_dora":true})", {.partial = true}),
      {"DoRA"});
}

TEST(PeftConfig, RefusesOtherMethodsAndWhatIsNoConfig) {
  const auto parse = [](const char* text) { return tiedlora::detail::try_parse_peft_config(text); };
  expect_failure(parse(R"({"peft_type":"IA3"})"), {"peft_type \"IA3\"", "LORA and VERA"});
  expect_failure(parse(R"({"r":8})"), {"has no \"peft_type\""});
  expect_failure(parse(R"({"fine_tune_type":"lora","lora_parameters":{"rank":8}})"), {"is MLX's", "convert"});
  for (const char* name : {"r", "lora_alpha"})
    expect_failure(lora_config("\"" + std::string(name) + "\":null"), {name, "is null", "PEFT cannot"});
  expect_failure(vera_config(R"("projection_prng_key":null)"), {"is null"});
  expect_failure(parse("[]"), {"not a JSON object"});
  expect_failure(parse("{"), {"not valid JSON"});
  expect_failure(parse(R"({"peft_type":"LORA","r":1,"r":2})"), {"\"r\" twice"});
  expect_failure(parse(R"({"peft_type":3})"), {"\"peft_type\"", "not a string"});
  for (const char* rank : {"0", "-1", "1.5", "1e30", "\"8\"", "99999999999"})
    expect_failure(lora_config(R"("r":)" + std::string(rank)), {"\"r\"", "not a rank"});
  expect_failure(lora_config(R"("lora_alpha":"8")"), {"\"lora_alpha\"", "not a number"});
  expect_failure(lora_config(R"("use_rslora":1)"), {"\"use_rslora\"", "neither true nor false"});
  expect_failure(lora_config(R"("target_modules":[1])"), {"\"target_modules\"", "not a list of strings"});
  expect_failure(lora_config(R"("layers_to_transform":["a"])"), {"\"layers_to_transform\"", "layer number"});
  expect_failure(lora_config(R"("rank_pattern":[1])"), {"\"rank_pattern\"", "not an object"});
  expect_failure(lora_config(R"("rank_pattern":{"q":0})"), {"\"rank_pattern\"", "not a rank"});
  expect_failure(lora_config(R"("alpha_pattern":{"q":"x"})"), {"\"alpha_pattern\"", "not a number"});
  expect_failure(vera_config(R"("projection_prng_key":1.5)"), {"\"projection_prng_key\"", "not an integer"});
}

}  // namespace
}  // namespace tiedlora_test
