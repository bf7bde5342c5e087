// Any text as an adapter_config.json: what is accepted answers for any module, and its patterns take no time.
#include <tiedlora/io/peft/match.hpp>

#include "fuzz.hpp"

void tiedlora_fuzz(std::span<const std::byte> bytes) {
  using namespace tiedlora;
  for (const bool lenient : {false, true}) {
    const auto config = tiedlora::detail::try_parse_peft_config(
        as_text(bytes), {.base_is_residual = lenient, .partial = lenient});
    if (!config) {
      require(!config.error().empty());
      continue;
    }
    require(config->rank >= 1);
    const auto alphas =
        tiedlora::detail::PeftPatterns<double>::try_make("alpha_pattern", config->alpha_pattern, 20, 1000);
    const auto ranks =
        tiedlora::detail::PeftPatterns<Index>::try_make("rank_pattern", config->rank_pattern, 20, 1000);
    const auto targets = tiedlora::detail::PeftTargetMatcher::try_make(*config, 1000);
    require(alphas || !alphas.error().empty());
    require(ranks || !ranks.error().empty());
    require(targets || !targets.error().empty());
    for (const char* name :
         {"", "q", "model.layers.12.self_attn.q_proj", "model.layers.0.mlp.experts.3.down_proj"}) {
      if (alphas) (void)alphas->of(name, config->alpha);
      if (ranks) require(ranks->of(name, config->rank) >= 1);
      if (targets) (void)(*targets)(name);
    }
  }
  // The pattern by itself, without the JSON around it.
  if (const auto pattern = tiedlora::detail::Pattern::try_make(as_text(bytes))) {
    (void)pattern->matches_name("model.layers.12.self_attn.q_proj");
    (void)pattern->matches(as_text(bytes));
  }
}
