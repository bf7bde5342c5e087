// Layouts of random module lists under random schemes against the definitions, module by module.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <tiedlora/adapter.hpp>

#include "support/models.hpp"
#include "support/schemes.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

// The place of a layer among the distinct layers of the list, by counting.
Index layer_ordinal(const ModuleList& modules, int layer) {
  std::set<int> below;
  for (const Module& module : modules)
    if (module.layer >= 0 && module.layer < layer) below.insert(module.layer);
  return static_cast<Index>(below.size());
}

Index occurrence(const ModuleList& modules, Index m) {
  Index before = 0;
  for (Index i = 0; i < m; ++i)
    before += modules[i].layer == modules[m].layer && modules[i].kind == modules[m].kind;
  return before;
}

bool same_input(const Module& a, const Module& b) {
  if (a.input.empty() || b.input.empty()) return a.input.empty() && b.input.empty() && a.kind == b.kind;
  return a.input == b.input;
}

// Whether the two modules share a factor tied like that: the definition of tying on its two axes.
bool should_share(const ModuleList& modules, const Tying& tying, Index m1, Index m2) {
  const Module &a = modules[m1], &b = modules[m2];
  if ((a.layer < 0) != (b.layer < 0)) return false;
  if (a.layer >= 0 &&
      layer_ordinal(modules, a.layer) / tying.layers != layer_ordinal(modules, b.layer) / tying.layers)
    return false;
  switch (tying.modules) {
    case Across::module:
      return a.kind == b.kind && occurrence(modules, m1) == occurrence(modules, m2);
    case Across::kind:
      return a.kind == b.kind;
    case Across::input:
      return same_input(a, b);
    case Across::model:
      return true;
  }
  return false;
}

// Ranks: mostly one for all, sometimes one per kind, sometimes any; now and then 0.
LayoutOptions random_ranks(Dice& dice, const ModuleList& modules) {
  LayoutOptions options;
  const Index way = dice.integer(0, 3);
  std::map<std::string, Index> by_kind;
  for (const Module& module : modules) {
    const auto [entry, is_new] = by_kind.try_emplace(module.kind, dice.integer(1, 3));
    Index rank = way < 2 ? 2 : way == 2 ? entry->second : dice.integer(1, 2);
    if (dice.integer(0, 5) == 0) rank = 0;
    options.ranks.emplace_back(module.name, rank);
  }
  return options;
}

// What the definitions say a factor's groups are: by group the modules, in the order of first use.
std::vector<std::vector<Index>> expected_groups(const ModuleList& modules, const LayoutOptions& options,
                                                const Tying& tying) {
  std::vector<std::vector<Index>> groups;
  for (Index m = 0; m < modules.size(); ++m) {
    if (options.ranks[static_cast<std::size_t>(m)].second == 0) continue;
    const auto found = std::find_if(groups.begin(), groups.end(), [&](const std::vector<Index>& group) {
      return should_share(modules, tying, group.front(), m);
    });
    if (found == groups.end())
      groups.push_back({m});
    else
      found->push_back(m);
  }
  return groups;
}

bool ranks_agree(const ModuleList& modules, const LayoutOptions& options, const Scheme& scheme) {
  for (const FactorId id : all_factors) {
    const Factor* factor = scheme.find(id);
    if (!factor) continue;
    for (const std::vector<Index>& group : expected_groups(modules, options, factor->tying))
      for (const Index m : group)
        if (options.ranks[static_cast<std::size_t>(m)].second !=
            options.ranks[static_cast<std::size_t>(group.front())].second)
          return false;
  }
  return true;
}

void check_layout(const Layout& layout, const LayoutOptions& options) {
  const ModuleList& modules = layout.modules();
  Index ends[2] = {0, 0};  // of what was placed so far, frozen and trained
  for (const FactorId id : all_factors) {
    SCOPED_TRACE(std::string("factor ") + to_string(id));
    const Factor* factor = layout.scheme().find(id);
    const auto expected =
        factor ? expected_groups(modules, options, factor->tying) : std::vector<std::vector<Index>>();
    Index& end = ends[layout.is_trained(id)];
    EXPECT_EQ(layout.segment(id).offset, end);
    ASSERT_EQ(layout.groups(id).size(), expected.size());
    std::vector<Index> group_of(static_cast<std::size_t>(modules.size()), -1);
    for (std::size_t g = 0; g < expected.size(); ++g) {
      const Layout::Group& group = layout.groups(id)[g];
      Index in = 0, out = 0;
      for (const Index m : expected[g]) {
        group_of[static_cast<std::size_t>(m)] = static_cast<Index>(g);
        in = std::max(in, modules[m].in_features), out = std::max(out, modules[m].out_features);
      }
      const Index rank = layout.rank(expected[g].front());
      EXPECT_EQ(group.first, expected[g].front());
      EXPECT_EQ(group.rank, rank);
      EXPECT_EQ(group.offset, end);  // groups stand one after the other: no overlap, no gap
      EXPECT_EQ(group.count, id == FactorId::A   ? rank * in
                             : id == FactorId::B ? rank * out
                             : id == FactorId::v ? out
                                                 : rank);
      end += group.count;
    }
    for (Index m = 0; m < modules.size(); ++m)
      EXPECT_EQ(layout.group_index(id, m), group_of[static_cast<std::size_t>(m)]) << "module " << m;
    EXPECT_EQ(layout.segment(id).offset + layout.segment(id).count, end);
  }
  EXPECT_EQ(layout.frozen_count(), ends[0]);
  EXPECT_EQ(layout.trainable_count(), ends[1]);
}

// Every number of the two flat arrays belongs to some module, and the maps of two modules meet exactly where
// they share a factor.
void check_memory(const Layout& layout) {
  Adapter<float> adapter(layout);
  const auto mark = [](auto map) {
    for (Index j = 0; j < map.cols(); ++j)
      for (Index i = 0; i < map.rows(); ++i) map(i, j) += 1;
  };
  for (Index m = 0; m < layout.size(); ++m) {
    ASSERT_EQ(adapter.A(m).size(), layout.rank(m) * layout.modules()[m].in_features);
    ASSERT_EQ(adapter.B(m).size(), layout.rank(m) * layout.modules()[m].out_features);
    mark(adapter.A(m)), mark(adapter.B(m)), mark(adapter.u(m)), mark(adapter.v(m));
  }
  for (const FactorId id : all_factors) {
    const auto array = layout.is_trained(id) ? std::span<const float>(adapter.trainable()) : adapter.frozen();
    for (std::size_t g = 0; g < layout.groups(id).size(); ++g) {
      const Layout::Group& group = layout.groups(id)[g];
      Index sharing = 0;
      for (Index m = 0; m < layout.size(); ++m) sharing += layout.group_index(id, m) == static_cast<Index>(g);
      for (Index i = 0; i < group.count; ++i) {
        const float marks = array[static_cast<std::size_t>(group.offset + i)];
        ASSERT_GE(marks, 1) << "a gap in factor " << to_string(id);
        ASSERT_LE(marks, static_cast<float>(sharing)) << "an overlap in factor " << to_string(id);
      }
    }
  }
}

void check_case(Dice& dice, const ModuleList& modules, const Scheme& scheme, int& refused) {
  const LayoutOptions options = random_ranks(dice, modules);
  SCOPED_TRACE(describe(scheme));
  if (!ranks_agree(modules, options, scheme)) {
    ++refused;
    EXPECT_THROW(Layout(modules, scheme, 2, options), Error);
    return;
  }
  const Layout layout(modules, scheme, 2, options);
  check_layout(layout, options);
  check_memory(layout);
  for (Index m1 = 0; m1 < modules.size(); ++m1)
    for (Index m2 = 0; m2 < modules.size(); ++m2) {
      bool shares = false;
      for (const FactorId id : all_factors) {
        const Factor* factor = scheme.find(id);
        shares |= factor && factor->trained && layout.rank(m1) > 0 && layout.rank(m2) > 0 &&
                  (m1 == m2 || should_share(modules, factor->tying, m1, m2));
      }
      EXPECT_EQ(layout.share_trained(m1, m2), shares) << m1 << " and " << m2;
    }
}

TEST(RandomLayouts, EveryPairOfTyingsOfAAndB) {
  Dice dice(20);
  int refused = 0, checked = 0;
  for (const Index layers_a : layer_tyings)
    for (const Across modules_a : module_tyings)
      for (const Index layers_b : layer_tyings)
        for (const Across modules_b : module_tyings)
          for (int round = 0; round < 8; ++round) {
            SCOPED_TRACE("seed 20, case " + std::to_string(checked++));
            Scheme scheme = random_scheme(dice);
            scheme.A = {{layers_a, modules_a}, round % 2 == 0, {}};
            scheme.B = {{layers_b, modules_b}, dice.coin(), {}};
            check_case(dice, random_modules(dice), scheme, refused);
            if (HasFailure()) return;
          }
  // Both outcomes must be common, or the test says little.
  EXPECT_GT(refused, checked / 20);
  EXPECT_LT(refused, checked / 2);
}

TEST(RandomLayouts, EveryPairOfTyingsOfUAndV) {
  Dice dice(21);
  int refused = 0, checked = 0;
  for (int u = 0; u <= 16; ++u)
    for (int v = 0; v <= 16; ++v)
      for (int round = 0; round < 8; ++round) {
        SCOPED_TRACE("seed 21, case " + std::to_string(checked++));
        Scheme scheme = random_scheme(dice);
        const auto factor = [&](int n) -> std::optional<Factor> {
          if (n == 16) return std::nullopt;
          return Factor{{layer_tyings[n / 4], module_tyings[n % 4]}, round % 2 == 0, {}};
        };
        scheme.u = factor(u);
        scheme.v = factor(v);
        check_case(dice, random_modules(dice), scheme, refused);
        if (HasFailure()) return;
      }
  EXPECT_LT(refused, checked / 2);
}

TEST(RandomLayouts, PresetsOnRandomModules) {
  Dice dice(22);
  int refused = 0;
  for (const NamedScheme& preset : presets())
    for (int n = 0; n < 20; ++n) {
      SCOPED_TRACE("seed 22, " + preset.name + ", list " + std::to_string(n));
      check_case(dice, random_modules(dice), preset.scheme, refused);
      if (HasFailure()) return;
    }
}

}  // namespace
}  // namespace tiedlora_test
