// The parity kit: each wrong backend is caught in the call and operand where it is wrong, and nowhere before.
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <tiedlora/eigen.hpp>
#include <tiedlora/ops.hpp>
#include <tiedlora/verify.hpp>
#include <vector>

#include "support/kernel_instances.hpp"
#include "support/plain_backend.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

verify::ParityOptions quick() { return {.cases = 64}; }

struct Fault {
  std::string call, operand, fault;
  std::string likely = {}, only_with = {};  // in the explanation
};

// One type for all of them, so that the kit is compiled once.
struct Erased {
  template <class Wrong>
  explicit Erased(const Wrong& w)
      : shrink([w](const Plain::F& f, const Plain::In& x, const Plain::Out& h, const CallOptions& o) {
          w.shrink(f, x, h, o);
        }),
        expand([w](const Plain::F& f, const Plain::In& h, const Plain::Out& y, const CallOptions& o) {
          w.expand(f, h, y, o);
        }),
        expand_backward([w](const Plain::F& f, const Plain::In& h, const Plain::In& dy,
                            const Factors<float>& g, const Plain::Out& dh,
                            const CallOptions& o) { w.expand_backward(f, h, dy, g, dh, o); }),
        shrink_backward([w](const Plain::F& f, const Plain::In& x, const Plain::In& dh,
                            const Factors<float>& g, const Plain::Out& dx,
                            const CallOptions& o) { w.shrink_backward(f, x, dh, g, dx, o); }) {}

  std::function<void(const Plain::F&, const Plain::In&, const Plain::Out&, const CallOptions&)> shrink,
      expand;
  std::function<void(const Plain::F&, const Plain::In&, const Plain::In&, const Factors<float>&,
                     const Plain::Out&, const CallOptions&)>
      expand_backward, shrink_backward;
};

verify::Parity parity_of(const Erased& backend, const verify::ParityOptions& options = quick()) {
  return verify::parity(backend, options);
}

verify::Parity expect_caught(const Erased& backend, const Fault& expected) {
  const verify::Parity report = parity_of(backend);
  EXPECT_FALSE(report.passed());
  const verify::ParityFailure* first = report.first_failure();
  EXPECT_NE(first, nullptr);
  if (!first) return report;
  const std::string text = first->text();
  EXPECT_EQ(first->call, expected.call) << text;
  EXPECT_EQ(first->operand, expected.operand) << text;
  EXPECT_EQ(first->fault, expected.fault) << text;
  EXPECT_NE(first->likely.find(expected.likely), std::string::npos) << text;
  EXPECT_NE(first->only_with.find(expected.only_with), std::string::npos) << text;
  EXPECT_NE(report.table().find(text), std::string::npos);
  // Only what computes this operand is to blame.
  for (const verify::ParityFailure& failure : report.failures)
    EXPECT_TRUE(failure.call == expected.call || failure.call == "forward" || failure.call == "backward" ||
                failure.call == "finite differences" || failure.call.find("slices") != std::string::npos ||
                failure.call.find("modules") != std::string::npos)
        << failure.text();
  return report;
}

struct TransposedB : Plain {
  void expand(const F& f, const In& h, const Out& y, const O& o) const {
    std::vector<float> B(static_cast<std::size_t>(f.rank * f.out_features));
    for (Index j = 0; j < f.out_features; ++j)
      for (Index k = 0; k < f.rank; ++k) {
        const Index n = j * f.rank + k;  // of the numbers in the order of memory
        B[static_cast<std::size_t>(k * f.out_features + j)] =
            f.B[n / f.out_features * f.b_stride + n % f.out_features];
      }
    F read = f;
    read.B = B.data(), read.b_stride = f.out_features;
    Plain::expand(read, h, y, o);
  }
};
TEST(ParityOfWrongBackends, BIsReadTransposed) {
  expect_caught(Erased(TransposedB{}),
                {"expand", "y", "is wrong", "B is read as if its ranks were contiguous"});
}

struct SwappedVectors : Plain {
  void expand(const F& f, const In& h, const Out& y, const O& o) const {
    std::vector<float> u, v;
    for (Index k = 0; k < f.rank; ++k) u.push_back(f.out_features > 0 ? Plain::v(f, k % f.out_features) : 1);
    for (Index j = 0; j < f.out_features; ++j) v.push_back(f.rank > 0 ? Plain::u(f, j % f.rank) : 1);
    F swapped = f;
    swapped.u = u.data(), swapped.v = v.data();
    Plain::expand(swapped, h, y, o);
  }
};
TEST(ParityOfWrongBackends, UAndVAreSwapped) {
  expect_caught(Erased(SwappedVectors{}), {"expand", "y", "is wrong"});
}

struct WithoutV : Plain {
  void expand(F f, const In& h, const Out& y, const O& o) const {
    f.v = nullptr;
    Plain::expand(f, h, y, o);
  }
};
TEST(ParityOfWrongBackends, VIsForgotten) {
  expect_caught(Erased(WithoutV{}), {"expand", "y", "is wrong", "v is not applied"});
}

// Vectors of four, and no loop for the rest.
struct DroppedTail : Plain {
  void shrink(F f, const In& x, const Out& h, const O& o) const {
    if (f.in_features > 4) f.in_features -= f.in_features % 4;
    Plain::shrink(f, x, h, o);
  }
};
TEST(ParityOfWrongBackends, FeaturesBehindTheLastVectorAreForgotten) {
  const auto report = expect_caught(Erased(DroppedTail{}), {"shrink", "h", "is wrong"});
  ASSERT_FALSE(report.failures.empty());
  EXPECT_EQ(report.failures[0].where.rfind("in 5, out 1, rank 1, tokens 1,", 0), 0u)
      << report.failures[0].text();
}

struct DroppedRank : Plain {
  void expand(F f, const In& h, const Out& y, const O& o) const {
    --f.rank;
    Plain::expand(f, h, y, o);
  }
};
TEST(ParityOfWrongBackends, TheLastRankIsForgotten) {
  const verify::Parity report = parity_of(Erased(DroppedRank{}));
  ASSERT_FALSE(report.failures.empty());
  EXPECT_EQ(report.failures[0].call + report.failures[0].operand, "expandy");
  EXPECT_NE(report.table().find("the last rank is left out"), std::string::npos) << report.table();
}

struct WritesPastTheEnd : Plain {
  void expand(const F& f, const In& h, const Out& y, const O& o) const {
    Plain::expand(f, h, y, o);
    for (Index t = 0; t < y.count; ++t) y[t][y.width] = 0;
  }
};
TEST(ParityOfWrongBackends, WritesPastTheEnd) {
  const verify::Parity report = parity_of(Erased(WritesPastTheEnd{}));
  EXPECT_NE(report.table().find("expand: y: wrote outside y"), std::string::npos) << report.table();
}

struct ReadsPastTheEnd : Plain {
  void shrink(F f, const In& x, const Out& h, const O& o) const {
    f.in_features += f.in_features % 2;
    Plain::shrink(f, x, h, o);
  }
};
TEST(ParityOfWrongBackends, ReadsPastTheEnd) {
  const verify::Parity report = parity_of(Erased(ReadsPastTheEnd{}));
  EXPECT_NE(report.table().find("shrink: h: is not finite: memory outside of an operand was read"),
            std::string::npos)
      << report.table();
}

struct OverwritesY : Plain {
  void expand(const F& f, const In& h, const Out& y, O o) const {
    o.overwrite = true;
    Plain::expand(f, h, y, o);
  }
};
TEST(ParityOfWrongBackends, YIsNotAddedTo) {
  expect_caught(Erased(OverwritesY{}), {"expand", "y", "does not accumulate"});
}

struct NeverOverwrites : Plain {
  void expand(const F& f, const In& h, const Out& y, O o) const {
    o.overwrite = false;
    Plain::expand(f, h, y, o);
  }
};
TEST(ParityOfWrongBackends, YIsAddedToWhereItShouldBeSet) {
  expect_caught(Erased(NeverOverwrites{}),
                {"expand", "y",
                 "is not finite: memory outside of an operand was read, or what was to be "
                 "overwritten",
                 "", "overwrite"});
}

struct OverwritesGradient : Plain {
  void expand_backward(const F& f, const In& h, const In& dy, const Factors<float>& g, const Out& dh,
                       const O& o) const {
    for (Index k = 0; g.B && k < f.rank; ++k) std::fill_n(g.B + k * g.b_stride, f.out_features, 0.0f);
    Plain::expand_backward(f, h, dy, g, dh, o);
  }
};
TEST(ParityOfWrongBackends, AGradientIsOverwritten) {
  expect_caught(Erased(OverwritesGradient{}), {"expand_backward", "dB", "does not accumulate"});
}

struct WithoutTokenScale : Plain {
  void expand(const F& f, const In& h, const Out& y, O o) const {
    o.token_scale = nullptr;
    Plain::expand(f, h, y, o);
  }
};
TEST(ParityOfWrongBackends, TokenScaleIsIgnored) {
  expect_caught(Erased(WithoutTokenScale{}),
                {"expand", "y", "is wrong", "token_scale is not applied", "token_scale"});
}

struct WithoutRows : Plain {
  void expand_backward(const F& f, const In& h, In dy, const Factors<float>& g, const Out& dh,
                       const O& o) const {
    dy.rows = nullptr;
    Plain::expand_backward(f, h, dy, g, dh, o);
  }
};
TEST(ParityOfWrongBackends, GatheredRowsAreIgnored) {
  const verify::Parity report = parity_of(Erased(WithoutRows{}));
  ASSERT_FALSE(report.failures.empty());
  EXPECT_EQ(report.failures[0].call, "expand_backward");
  EXPECT_EQ(report.failures[0].only_with.rfind("dy gathered by rows", 0), 0u) << report.failures[0].text();
}

struct WithoutStride : Plain {
  void shrink(const F& f, In x, const Out& h, const O& o) const {
    x.stride = x.width;
    Plain::shrink(f, x, h, o);
  }
};
TEST(ParityOfWrongBackends, TheStrideIsIgnored) {
  const verify::Parity report = parity_of(Erased(WithoutStride{}));
  ASSERT_FALSE(report.failures.empty());
  EXPECT_EQ(report.failures[0].call + report.failures[0].operand, "shrinkh");
  EXPECT_EQ(report.failures[0].only_with.rfind("x padded", 0), 0u) << report.failures[0].text();
}

struct DhWithoutU : Plain {
  void expand_backward(F f, const In& h, const In& dy, const Factors<float>& g, const Out& dh,
                       const O& o) const {
    Plain::expand_backward(f, h, dy, g, dh, o);
    f.u = nullptr;
    if (!dh.is_none()) Plain::expand_backward(f, h, dy, {}, dh, o);
  }
};
TEST(ParityOfWrongBackends, UIsForgottenInDh) {
  expect_caught(Erased(DhWithoutU{}), {"expand_backward", "dh", "is wrong", "u is not applied"});
}

struct DvWithoutC : Plain {
  void expand_backward(F f, const In& h, const In& dy, Factors<float> g, const Out& dh, const O& o) const {
    const Factors<float> all = g;
    g.v = nullptr;
    Plain::expand_backward(f, h, dy, g, dh, o);
    f.scaling = 1;
    Plain::expand_backward(f, h, dy, {.v = all.v}, {}, {});
  }
};
TEST(ParityOfWrongBackends, DvLacksTheScaling) {
  const verify::Parity report = parity_of(Erased(DvWithoutC{}));
  EXPECT_NE(report.table().find("expand_backward: dv: is wrong"), std::string::npos) << report.table();
  EXPECT_EQ(report.failures.at(0).operand, "dv");
}

struct LeaksIntoTheNextToken : Plain {
  void expand(const F& f, const In& h, const Out& y, const O& o) const {
    Plain::expand(f, h, y, o);
    for (Index t = 1; t < y.count; t += 2)
      for (Index j = 0; j < y.width; ++j) y[t][j] += 0 * y[t - 1][j];  // a mask that multiplies
  }
};
TEST(ParityOfWrongBackends, NaNLeaksIntoAnotherToken) {
  expect_caught(Erased(LeaksIntoTheNextToken{}), {"expand", "y", "NaN leaked into another token", "", "in "});
}

// u ∘ h in place.
struct ChangesH : Plain {
  void expand(F f, const In& h, const Out& y, const O& o) const {
    for (Index t = 0; f.u && t < h.count; ++t)
      for (Index k = 0; k < f.rank; ++k) const_cast<float*>(h[t])[k] *= f.u[k];
    f.u = nullptr;
    Plain::expand(f, h, y, o);
  }
};
TEST(ParityOfWrongBackends, AnInputIsChanged) {
  expect_caught(Erased(ChangesH{}), {"expand", "h", "changed its input h"});
}

struct IgnoresOverwriteOfRankZero : Plain {
  void shrink_backward(const F& f, const In& x, const In& dh, const Factors<float>& g, const Out& dx,
                       const O& o) const {
    if (f.rank > 0) Plain::shrink_backward(f, x, dh, g, dx, o);
  }
};
TEST(ParityOfWrongBackends, DxIsNotSetWhereTheRankIsZero) {
  const verify::Parity report = parity_of(Erased(IgnoresOverwriteOfRankZero{}));
  ASSERT_EQ(report.failures.size(), 1u) << report.table();
  EXPECT_EQ(report.failures[0].operand, "dx");
  EXPECT_NE(report.failures[0].where.find("rank 0"), std::string::npos);
}

struct SharesAWrongly : PlainModules {
  using PlainModules::shrink_backward;
  void shrink_backward(std::span<const F> modules, const In& x, std::span<const In> dh,
                       std::span<const Factors<float>> g, const Out& dx, O o) const {
    std::vector<F> different;  // A; of those that are the same only the first is gone through
    std::vector<In> their_dh;
    std::vector<Factors<float>> their_g;
    for (std::size_t m = 0; m < modules.size(); ++m) {
      if (std::any_of(different.begin(), different.end(), [&](const F& f) { return f.A == modules[m].A; }))
        continue;
      different.push_back(modules[m]), their_dh.push_back(dh[m]), their_g.push_back(g[m]);
    }
    PlainModules::shrink_backward(different, x, their_dh, their_g, dx, o);
  }
};
TEST(ParityOfWrongBackends, ASharedAIsUsedOnce) {
  const verify::Parity report = verify::parity(SharesAWrongly{}, quick());
  ASSERT_FALSE(report.failures.empty());
  for (const verify::ParityFailure& failure : report.failures)
    EXPECT_EQ(failure.call, "shrink_backward of modules") << failure.text();
}

// Every slice does all of the work.
struct RunsEverySliceInFull : Plain {
  static constexpr bool runs_slices = true;
};
TEST(ParityOfWrongBackends, SlicesOverlap) {
  const verify::Parity report = verify::parity(RunsEverySliceInFull{}, quick());
  ASSERT_FALSE(report.failures.empty());
  EXPECT_EQ(report.failures[0].call + ": " + report.failures[0].operand, "expand in slices: y");
}

// As sums by atomic additions do.
struct ChangesItsMind : Plain {
  inline static int calls = 0;
  void shrink(const F& f, const In& x, const Out& h, const O& o) const {
    Plain::shrink(f, x, h, o);
    const float factor = 1 + static_cast<float>(++calls % 7) * 0x1p-23f;
    for (Index t = 0; t < h.count; ++t) h[t][0] *= factor;
  }
};
TEST(ParityOfWrongBackends, DifferentBitsAreReportedAndMayBeForbidden) {
  verify::ParityOptions options = quick();
  const verify::Parity report = parity_of(Erased(ChangesItsMind{}), options);
  EXPECT_TRUE(report.passed()) << report.table();
  EXPECT_FALSE(report.deterministic);
  EXPECT_NE(report.table().find("not deterministic"), std::string::npos);
  options.require_determinism = true;
  EXPECT_FALSE(parity_of(Erased(ChangesItsMind{}), options).passed());
}

}  // namespace
}  // namespace tiedlora_test
