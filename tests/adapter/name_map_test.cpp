// Names of modules and what files call them.
#include <gtest/gtest.h>

#include <tiedlora/adapter/name_map.hpp>

namespace {

using tiedlora::NameMap;

const NameMap map{{"model.layers.*.self_attn.q_proj", "blk.*.attn_q"},
                  {"layers.*.self_attn.q_proj", "blk.*.attn_q"},
                  {"layers.*.experts.*.up", "blk.*.up.*"},
                  {"lm_head", "output"}};

TEST(NameMap, TranslatesBothWays) {
  EXPECT_EQ(map.to_file("model.layers.12.self_attn.q_proj"), "blk.12.attn_q");
  EXPECT_EQ(map.to_module("blk.12.attn_q"), "model.layers.12.self_attn.q_proj") << "the first rule counts";
  EXPECT_EQ(map.to_file("layers.0.self_attn.q_proj"), "blk.0.attn_q");
  EXPECT_EQ(map.to_file("lm_head"), "output");
  EXPECT_EQ(map.to_file("layers.3.experts.14.up"), "blk.3.up.14");
  EXPECT_EQ(map.to_module("blk.3.up.14"), "layers.3.experts.14.up");
}

TEST(NameMap, AddedRulesComeLast) {
  NameMap longer = map;
  longer.add({"head", "output"});
  EXPECT_EQ(longer.to_file("head"), "output");
  EXPECT_EQ(longer.to_module("output"), "lm_head");
}

TEST(NameMap, FitsWholeNamesOnly) {
  for (const char* name :
       {"model.layers.12.self_attn.q_proj.weight", "xmodel.layers.12.self_attn.q_proj", "lm_heads", "lm_hea",
        "", "model.layers..self_attn.q_proj", "model.layers.x.self_attn.q_proj",
        "model.layers.-1.self_attn.q_proj", "model.layers.*.self_attn.q_proj"})
    EXPECT_EQ(map.to_file(name), std::nullopt) << name;
}

}  // namespace
