// From an engine's names to modules, and every way in which they can fail to meet.
#include <gtest/gtest.h>

#include <string>
#include <tiedlora/adapter/bind_names.hpp>
#include <vector>

#include "support/errors.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using Names = std::vector<std::string>;

Layout layout_of(const Names& modules, const LayoutOptions& options = {}) {
  ModuleList list;
  for (const std::string& name : modules) list.add({.name = name, .in_features = 2, .out_features = 2});
  return Layout(list, schemes::lora(), 1, options);
}

const Layout llama = layout_of({"model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj",
                                "model.layers.11.self_attn.q_proj", "lm_head"});

TEST(BindNames, NamesOfGgufFiles) {
  const Names engine = {"token_embd.weight",    "blk.0.attn_q.weight", "blk.0.attn_k.weight",
                        "blk.11.attn_q.weight", "output.weight",       "blk.0.ffn_down.weight"};
  EXPECT_EQ(bind_names(llama, engine, names::llama()), (std::vector<Index>{-1, 0, -1, 2, 3, 1}));
  const Layout gpt2 = layout_of({"transformer.h.3.attn.c_attn", "h.4.mlp.c_fc"});
  EXPECT_EQ(bind_names(gpt2, Names{"blk.4.ffn_up", "blk.3.attn_qkv"}, names::gpt2()),
            (std::vector<Index>{1, 0}));
}

TEST(BindNames, TheModulesOwnNamesNeedNoMap) {
  // With transformers' prefix or without, on either side; a map that is not needed does no harm.
  EXPECT_EQ(bind_names(layout_of({"model.layers.3.self_attn.q_proj"}), Names{"layers.3.self_attn.q_proj"}),
            std::vector<Index>{0});
  EXPECT_EQ(
      bind_names(layout_of({"layers.3.self_attn.q_proj"}), Names{"model.layers.3.self_attn.q_proj.weight"}),
      std::vector<Index>{0});
  EXPECT_EQ(bind_names(layout_of({"h.3.attn.c_attn"}), Names{"transformer.h.3.attn.c_attn"}, names::gpt2()),
            std::vector<Index>{0});
}

TEST(BindNames, AMapOfTheUsers) {
  const NameMap map{{"model.layers.*.self_attn.q_proj", "decoder.*.wq"}, {"m.*.e.*", "expert.*.of.*"}};
  EXPECT_EQ(bind_names(layout_of({"model.layers.7.self_attn.q_proj", "m.1.e.20"}),
                       Names{"expert.1.of.20", "decoder.7.wq"}, map),
            (std::vector<Index>{1, 0}));
}

TEST(BindNames, ModulesThatAreNotAdaptedNeedNoPlace) {
  const Layout layout = layout_of({"a", "b"}, {.ranks = {{"b", 0}}});
  EXPECT_EQ(bind_names(layout, Names{"b", "a"}), (std::vector<Index>{-1, 0}));
}

TEST(BindNames, RefusesAnAdapterWhoseModulesDoNotAllLand) {
  const Names engine = {"blk.0.attn_qkv.weight", "blk.0.ffn_down.weight", "output.weight"};
  expect_error(
      [&] { (void)bind_names(llama, engine, names::llama()); },
      {"2 of 4 adapted modules", "\"model.layers.0.self_attn.q_proj\", \"model.layers.11.self_attn.q_proj\"",
       "the engine has \"blk.0.attn_qkv.weight\"", "tiedlora::fuse"});
  // Without the map.
  expect_error([&] { (void)bind_names(llama, engine); }, {"4 of 4", "name map without rules"});
  expect_error([&] { (void)bind_names(llama, Names{}); }, {"4 of 4", "the engine has none"});
  // A long list is cut.
  Names many;
  for (int i = 0; i < 30; ++i) many.push_back("m" + std::to_string(i));
  expect_error([&] { (void)bind_names(layout_of(many), Names{"x"}); }, {"30 of 30", "\"m15\" and 14 more"});
}

TEST(BindNames, RefusesTwoModulesOnOneWeight) {
  const NameMap map{{"layers.*.q", "qkv.*"}, {"layers.*.k", "qkv.*"}};
  expect_error([&] { (void)bind_names(layout_of({"layers.3.q", "layers.3.k"}), Names{"qkv.3.weight"}, map); },
               {"\"layers.3.q\" and \"layers.3.k\"", "\"qkv.3.weight\""});
}

TEST(BindNames, RefusesAnEngineThatNamesAWeightTwice) {
  expect_error([&] { (void)bind_names(layout_of({"a"}), Names{"a", "a.weight"}); }, {"has \"a\" twice"});
}

TEST(BindNames, TriesWithoutThrowing) {
  const auto refused = try_bind_names(llama, Names{});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().find("4 of 4"), std::string::npos);
}

}  // namespace
}  // namespace tiedlora_test
