// Which adapters have the same fingerprint: equal ones, however they are held; and no others.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <tiedlora/adapter.hpp>
#include <tiedlora/adapter/fingerprint.hpp>
#include <vector>

#include "support/reference.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

struct Parts {
  Module q = {.name = "l.0.q", .layer = 0, .kind = "q", .input = "x", .in_features = 3, .out_features = 2};
  Module k = {.name = "l.1.q", .layer = 1, .kind = "q", .input = "x", .in_features = 3, .out_features = 2};
  Scheme scheme = schemes::tied_lora();
  Index rank = 2;
  LayoutOptions options = {.scaling = 0.5};

  Layout layout() const {
    ModuleList modules;
    modules.add(q), modules.add(k);
    return Layout(modules, scheme, rank, options);
  }
};

// The values 1, 2, 3, … in both arrays.
template <class P = float>
Adapter<P> numbered(const Layout& layout) {
  AlignedArray<P> trainable(layout.trainable_count()), frozen(layout.frozen_count());
  int next = 0;
  for (P& number : trainable) number = static_cast<P>(static_cast<float>(++next));
  for (P& number : frozen) number = static_cast<P>(static_cast<float>(++next));
  return Adapter<P>(layout, std::move(trainable), std::move(frozen));
}

TEST(Fingerprint, IsThatOfTheDefinition) {
  // Computed from the definition by Python: docs/integration.md has the program.
  EXPECT_EQ(fingerprint(numbered(Parts().layout())), 0x22be8c926d6cbc23u);
}

TEST(Fingerprint, IsThatOfWhatAnAdapterHoldsHoweverItIsHeld) {
  Parts parts;
  parts.scheme.B.trained = false;
  const Adapter<float> adapter = numbered(parts.layout());
  const std::uint64_t expected = fingerprint(adapter);
  EXPECT_EQ(fingerprint(adapter.view()), expected);
  std::vector<float> memory(adapter.trainable().begin(), adapter.trainable().end());
  EXPECT_EQ(fingerprint(AdapterView<float>(adapter.layout(), memory, adapter.frozen())), expected);
  Adapter<float> copy = adapter;
  (void)copy.share_frozen();
  EXPECT_EQ(fingerprint(copy), expected);
  // An initialisation that is past makes no difference, its seed none either.
  parts.scheme.B.init = init::given();
  copy.set_seed(3);
  EXPECT_EQ(fingerprint(numbered(parts.layout())), expected);
}

TEST(Fingerprint, EveryFieldCounts) {
  std::map<std::uint64_t, std::string> seen;
  const auto expect_new = [&seen](const char* what, std::uint64_t print) {
    const auto [found, is_new] = seen.try_emplace(print, what);
    EXPECT_TRUE(is_new) << what << " has the fingerprint of: " << found->second;
  };
  expect_new("unchanged", fingerprint(numbered(Parts().layout())));
  const std::map<const char*, std::function<void(Parts&)>> changes = {
      {"name", [](Parts& p) { p.q.name = "l.0.r"; }},
      {"layer", [](Parts& p) { p.q.layer = 2; }},
      {"kind", [](Parts& p) { p.q.kind = "r", p.k.kind = "r"; }},
      {"input", [](Parts& p) { p.q.input = "z", p.k.input = "z"; }},
      {"in_features", [](Parts& p) { p.q.in_features = 4, p.k.in_features = 4; }},
      {"out_features", [](Parts& p) { p.q.out_features = 3; }},
      {"where texts end", [](Parts& p) { p.q.kind = "qx", p.q.input = "", p.k.kind = "qx", p.k.input = ""; }},
      {"rank", [](Parts& p) { p.rank = 1; }},
      {"scaling", [](Parts& p) { p.options.scaling = 0.25; }},
      {"scaling of one", [](Parts& p) { p.options.scalings = {{"l.1.q", 0.25}}; }},
      {"tying of layers", [](Parts& p) { p.scheme.A.tying.layers = 2; }},
      {"tying of modules", [](Parts& p) { p.scheme.A.tying.modules = Across::model; }},
      {"trained", [](Parts& p) { p.scheme.v->trained = false; }},
      {"no u", [](Parts& p) { p.scheme.u.reset(); }},
      {"no v", [](Parts& p) { p.scheme.v.reset(); }}};
  for (const auto& [what, change] : changes) {
    Parts parts;
    change(parts);
    expect_new(what, fingerprint(numbered(parts.layout())));
  }
  expect_new("double", fingerprint(numbered<double>(Parts().layout())));
  expect_new("half", fingerprint(numbered<Eigen::half>(Parts().layout())));
  expect_new("bfloat16", fingerprint(numbered<Eigen::bfloat16>(Parts().layout())));
}

TEST(Fingerprint, EveryBitOfEveryNumberCounts) {
  Parts parts;
  parts.scheme.A.trained = false;
  const Adapter<float> adapter = numbered(parts.layout());
  std::map<std::uint64_t, std::string> seen = {{fingerprint(adapter), "unchanged"}};
  AlignedArray<float> numbers[2] = {AlignedArray<float>(adapter.layout().trainable_count()),
                                    AlignedArray<float>(adapter.layout().frozen_count())};
  std::ranges::copy(adapter.trainable(), numbers[0].begin());
  std::ranges::copy(adapter.frozen(), numbers[1].begin());
  for (AlignedArray<float>& array : numbers)
    for (Index i = 0; i < array.size(); ++i)
      for (unsigned bit = 0; bit < 32; ++bit) {
        const float before = array.data()[i];
        array.data()[i] = std::bit_cast<float>(std::bit_cast<std::uint32_t>(before) ^ 1u << bit);
        const AdapterView<const float> view(adapter.layout(), std::as_const(numbers[0]).span(),
                                            std::as_const(numbers[1]).span());
        const std::string what = "number " + std::to_string(i) + ", bit " + std::to_string(bit);
        const auto [found, is_new] = seen.try_emplace(fingerprint(view), what);
        EXPECT_TRUE(is_new) << what << " has the fingerprint of: " << found->second;
        array.data()[i] = before;
      }
}

std::uint64_t key(std::vector<ActiveAdapter> uses) { return cache_key(uses); }

TEST(CacheKey, TellsUsesApartAndOrdersAlike) {
  const ActiveAdapter a = {1, 1}, b = {2, 1}, half = {1, 0.5};
  EXPECT_EQ(key({}), 0u);
  EXPECT_EQ(key({{1, 0}, {2, -0.0}}), 0u);
  EXPECT_EQ(key({a, b}), key({b, a}));
  EXPECT_EQ(key({a, {3, 0}}), key({a}));
  const std::vector<std::vector<ActiveAdapter>> different = {
      {},       {a}, {b}, {half}, {a, a}, {a, b}, {half, b}, {half, half}, {a, half}, {{2, 0.5}, {1, 1}},
      {{1, -1}}};
  for (std::size_t i = 0; i < different.size(); ++i)
    for (std::size_t j = 0; j < i; ++j) EXPECT_NE(key(different[i]), key(different[j])) << i << ", " << j;
}

}  // namespace
}  // namespace tiedlora_test
