#include <gtest/gtest.h>

#include <string>
#include <tiedlora/io/peft/config.hpp>
#include <tiedlora/io/peft/match.hpp>

#include "support/io_files.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using tiedlora::detail::PeftAlphas;
using tiedlora::detail::PeftTargetMatcher;

Result<PeftConfig> lora(const std::string& fields, bool base_is_residual = false) {
  return tiedlora::detail::try_parse_peft_config(
      R"({"peft_type":"LORA")" + (fields.empty() ? "" : "," + fields) + "}",
      {.base_is_residual = base_is_residual});
}
Result<PeftConfig> vera(const std::string& fields) {
  return tiedlora::detail::try_parse_peft_config(R"({"peft_type":"VERA",)" + fields + "}");
}

TEST(PeftConfig, TakesPeftsDefaults) {
  const auto config = lora("");
  ASSERT_TRUE(config) << config.error();
  EXPECT_EQ(config->rank, 8);
  EXPECT_EQ(config->alpha, 8);
  EXPECT_FALSE(config->rank_stabilized);
  EXPECT_TRUE(config->targets.empty());
  const auto of_vera = vera(R"("target_modules":null)");
  ASSERT_TRUE(of_vera) << of_vera.error();
  EXPECT_EQ(of_vera->rank, 256);
  EXPECT_EQ(of_vera->projection_key, 0u);
  EXPECT_TRUE(of_vera->has_projection);
}

TEST(PeftConfig, ReadsWhatChangesTheFunction) {
  const auto config = lora(
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
  EXPECT_EQ(vera(R"("projection_prng_key":18446744073709551615)")->projection_key, ~std::uint64_t{0});
  EXPECT_EQ(vera(R"("projection_prng_key":-1)")->projection_key, ~std::uint64_t{0});
}

// Whatever would make the adapter another function than the one that is computed here.
TEST(PeftConfig, RefusesWhatItDoesNotCompute) {
  const std::pair<const char*, const char*> cases[] = {
      {R"("bias":"all")", "biases"},
      {R"("bias":"lora_only")", "biases"},
      {R"("modules_to_save":["lm_head"])", "whole modules of the base model"},
      {R"("use_dora":true)", "DoRA"},
      {R"("lora_bias":true)", "bias behind B"},
      {R"("layer_replication":[[0,2],[1,3]])", "stacked anew"},
      {R"("trainable_token_indices":[1])", "rows of the embedding"},
      {R"("target_parameters":["experts.up"])", "no linear module's weight"},
      {R"("alora_invocation_tokens":[5,6])", "aLoRA"},
      {R"("use_qalora":true)", "QALoRA"},
      {R"("use_bdlora":{"x":1})", "block-diagonal"},
      {R"("arrow_config":{"x":1})", "routes"},
      {R"("kasa_config":{"x":1})", "KaSA"},
      {R"("velora_config":{"x":1})", "VeLoRA"},
      {R"("monteclora_config":{"x":1})", "random samples"},
      {R"("megatron_config":{"x":1})", "several machines"},
      {R"("ensure_weight_tying":true)", "embeddings"},
      {R"("enable_lora":[true,false])", "fused modules"}};
  for (const auto& [field, reason] : cases) {
    const std::string text = field, name = text.substr(0, text.find(':'));
    expect_failure(lora(text), {name, "not supported", reason});
  }
  expect_failure(vera(R"("bias":"vera_only")"), {"\"bias\"", "not supported"});
  expect_failure(vera(R"("modules_to_save":["score"])"), {"\"modules_to_save\"", "not supported"});
}

TEST(PeftConfig, TakesTheSameSwitchedOff) {
  EXPECT_TRUE(lora(R"("bias":"none","modules_to_save":null,"use_dora":false,"lora_bias":false,
      "layer_replication":null,"trainable_token_indices":null,"target_parameters":[],"use_qalora":false,
      "alora_invocation_tokens":null,"kasa_config":null,"loftq_config":{},"megatron_core":"megatron.core",
      "runtime_config":{"ephemeral_gpu_offload":false},"auto_mapping":{"a":"b"}, "rank_pattern":null)"));
}

TEST(PeftConfig, RefusesAdaptersOfAChangedBase) {
  for (const char* init : {"pissa", "pissa_niter_16", "olora", "OLoRA", "corda", "loftq", "lora_ga"}) {
    const std::string field = R"("init_lora_weights":")" + std::string(init) + "\"";
    expect_failure(lora(field), {"init_lora_weights", "changed the base model's weights", "base_is_residual",
                                 "path_initial_model_for_weight_conversion"});
    EXPECT_TRUE(lora(field, true)) << init;
  }
  for (const char* init : {"true", "false", "\"gaussian\"", "\"orthogonal\"", "\"eva\"", "\"mica\""})
    EXPECT_TRUE(lora(R"("init_lora_weights":)" + std::string(init))) << init;
  expect_failure(lora(R"("init_lora_weights":"later")"), {"unknown init_lora_weights \"later\""});
  expect_failure(lora(R"("init_lora_weights":3)"), {"unknown init_lora_weights"});
}

TEST(PeftConfig, RefusesKeysThatItDoesNotKnow) {
  expect_failure(lora(R"("use_magic":null)"), {"unknown key \"use_magic\""});
  expect_failure(lora(R"("projection_prng_key":1)"), {"unknown key"});
  expect_failure(vera(R"("lora_alpha":1)"), {"unknown key \"lora_alpha\""});
}

TEST(PeftConfig, RefusesOtherMethodsAndWhatIsNoConfig) {
  const auto parse = [](const char* text) { return tiedlora::detail::try_parse_peft_config(text); };
  expect_failure(parse(R"({"peft_type":"IA3"})"), {"peft_type \"IA3\"", "LORA and VERA"});
  expect_failure(parse(R"({"r":8})"), {"lacks \"peft_type\""});
  expect_failure(parse("[]"), {"no JSON object"});
  expect_failure(parse("{"), {"not valid JSON"});
  expect_failure(parse(R"({"peft_type":"LORA","r":1,"r":2})"), {"\"r\" twice"});
  expect_failure(parse(R"({"peft_type":3})"), {"\"peft_type\"", "no text"});
  for (const char* rank : {"0", "-1", "1.5", "1e30", "\"8\"", "99999999999"})
    expect_failure(lora(R"("r":)" + std::string(rank)), {"\"r\"", "no rank"});
  expect_failure(lora(R"("lora_alpha":"8")"), {"\"lora_alpha\"", "no number"});
  expect_failure(lora(R"("use_rslora":1)"), {"\"use_rslora\"", "neither true nor false"});
  expect_failure(lora(R"("target_modules":[1])"), {"\"target_modules\"", "no list of texts"});
  expect_failure(lora(R"("layers_to_transform":["a"])"), {"\"layers_to_transform\"", "layer number"});
  expect_failure(lora(R"("rank_pattern":[1])"), {"\"rank_pattern\"", "no object"});
  expect_failure(lora(R"("rank_pattern":{"q":0})"), {"\"rank_pattern\"", "no rank"});
  expect_failure(lora(R"("alpha_pattern":{"q":"x"})"), {"\"alpha_pattern\"", "no number"});
  expect_failure(vera(R"("projection_prng_key":1.5)"), {"\"projection_prng_key\"", "no integer"});
}

double alpha(const PeftConfig& config, const char* name) {
  const auto alphas = PeftAlphas::try_make(config);
  EXPECT_TRUE(alphas);
  return alphas->of(name);
}

// PEFT: re.match(rf"(.*\.)?({key})$", name), the first key in the order of the file.
TEST(PeftConfig, FindsAlphasAsPeftDoes) {
  const auto config =
      lora(R"x("lora_alpha":1,"alpha_pattern":{"v.proj":2,"a.q_proj":3,"q_proj":4,"^x.k":5,"m.(o|p)":6})x");
  ASSERT_TRUE(config) << config.error();
  EXPECT_EQ(alpha(*config, "l.0.v_proj"), 2);  // the dot is any character
  EXPECT_EQ(alpha(*config, "l.a.q_proj"), 3);
  EXPECT_EQ(alpha(*config, "l.b.q_proj"), 4);
  EXPECT_EQ(alpha(*config, "l.bq_proj"), 1);
  EXPECT_EQ(alpha(*config, "x.k"), 5);
  EXPECT_EQ(alpha(*config, "l.x.k"), 1);
  EXPECT_EQ(alpha(*config, "l.m.p"), 6);
  EXPECT_EQ(alpha(*config, "q_proj.x"), 1);
}

TEST(PeftConfig, TakesTheFirstAlphaOfTheFileNotOfTheAlphabet) {
  EXPECT_EQ(alpha(*lora(R"("alpha_pattern":{"q":1,"a.q":2})"), "a.q"), 1);
  EXPECT_EQ(alpha(*lora(R"("alpha_pattern":{"a.q":2,"q":1})"), "a.q"), 2);
  // Names within other values are no patterns.
  EXPECT_EQ(alpha(*lora(R"("eva_config":{"alpha_pattern":{"a":7}},"alpha_pattern":{"q":1,"a.q":2})"), "a.q"),
            1);
}

TEST(PeftConfig, SaysWhichPatternIsBeyondIt) {
  const auto config = lora(R"("alpha_pattern":{"(?=x)q":2})");
  ASSERT_TRUE(config);
  expect_failure(PeftAlphas::try_make(*config), {"alpha_pattern \"(?=x)q\"", "beyond"});
}

bool targets(const Result<PeftConfig>& config, const char* name) {
  EXPECT_TRUE(config) << config.error();
  const auto matcher = PeftTargetMatcher::try_make(*config);
  EXPECT_TRUE(matcher) << matcher.error();
  return (*matcher)(name);
}

TEST(PeftConfig, KnowsTheTargets) {
  const auto list = lora(R"("target_modules":["q","a.v"])");
  EXPECT_TRUE(targets(list, "q") && targets(list, "x.q") && targets(list, "x.a.v"));
  EXPECT_FALSE(targets(list, "x.bq") || targets(list, "v") || targets(list, "q.x"));
  const auto regex = lora(R"x("target_modules":".*\\.(q|v)")x");
  EXPECT_TRUE(targets(regex, "x.q"));
  EXPECT_FALSE(targets(regex, "q"));
  const auto all = lora(R"("target_modules":"All-Linear","exclude_modules":["up"])");
  EXPECT_TRUE(targets(all, "x.q"));
  EXPECT_FALSE(targets(all, "lm_head") || targets(all, "x.up"));
  const auto layers = lora(R"("target_modules":["q"],"layers_to_transform":[1,3])");
  EXPECT_TRUE(targets(layers, "m.layers.1.q") && targets(layers, "m.layers.3.experts.0.q"));
  EXPECT_FALSE(targets(layers, "m.layers.0.q") || targets(layers, "m.layers.0.experts.1.q") ||
               targets(layers, "layers.1.q"));  // PEFT wants something before "layers"
  const auto pattern =
      lora(R"("target_modules":["q"],"layers_to_transform":1,"layers_pattern":["h","layers"])");
  EXPECT_TRUE(targets(pattern, "h.1.q") && targets(pattern, "m.layers.1.q"));
  EXPECT_FALSE(targets(pattern, "m.blocks.1.q") || targets(pattern, "h.0.q"));
}

}  // namespace
}  // namespace tiedlora_test
