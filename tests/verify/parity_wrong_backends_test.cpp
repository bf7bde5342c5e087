// The parity kit: each wrong backend is caught in the call and operand where it is wrong, and nowhere before.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <ostream>
#include <span>
#include <string>
#include <tiedlora/eigen.hpp>
#include <tiedlora/ops.hpp>
#include <tiedlora/verify.hpp>
#include <vector>

#include "support/full_backend.hpp"
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
  // It is wrong each time.
  for (const verify::ParityFailure& failure : report.failures)
    EXPECT_EQ(failure.likely.find("run again"), std::string::npos) << failure.text();
  return report;
}

struct TransposedB : Plain {
  void expand(const F& f, const In& h, const Out& y, const O& o) const {
    std::vector<float> B(static_cast<std::size_t>(f.rank * f.out_features));
    for (Index j = 0; j < f.out_features; ++j)
      for (Index k = 0; k < f.rank; ++k) {
        const Index n = j * f.rank + k;  // of the values in the order of memory
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
  EXPECT_NE(report.table().find("shrink: h: is not finite: memory outside an operand was read"),
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
                 "is not finite: memory outside an operand was read, or what was to be "
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
  EXPECT_NE(report.failures[0].likely.find("h and dh are null"), std::string::npos);
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

// Slips of one function, the others being right. `likely` and `only_with` are what the explanation names.
struct Slip {
  const char* name;
  void (*make)(Erased& backend);
  Fault caught;
};
void PrintTo(const Slip& slip, std::ostream* out) { *out << slip.name; }

// Whether the report says this. At the first case that fails it may say something else of the same slip.
template <class B>
void expect_named(const B& backend, const Fault& expected) {
  verify::Parity report;
  for (const bool stop_at_first : {true, false}) {
    report = verify::parity(backend, {.cases = 40, .stop_at_first = stop_at_first});
    for (const verify::ParityFailure& failure : report.failures)
      if (failure.call == expected.call && failure.operand == expected.operand &&
          failure.fault == expected.fault &&
          (failure.likely + failure.extent).find(expected.likely) != std::string::npos &&
          failure.only_with.find(expected.only_with) != std::string::npos) {
        // Only what computes this operand is to blame.
        for (const verify::ParityFailure& other : report.failures)
          EXPECT_TRUE(other.call == expected.call || other.call == "forward" || other.call == "backward" ||
                      other.call == "finite differences")
              << other.text();
        return;
      }
  }
  ADD_FAILURE() << report.table();
}

// With one rank, feature or token, leaving out the last is the same as writing nothing.
TEST(ParityOfWrongBackends, NoSlipIsNamedWhereNothingWasWritten) {
  Erased backend{Plain()};
  backend.expand = [](const Plain::F&, const Plain::In&, const Plain::Out&, const CallOptions&) {};
  const verify::Parity report = parity_of(backend);
  ASSERT_NE(report.first_failure(), nullptr);
  EXPECT_EQ(report.first_failure()->fault, "was not written");
  for (const verify::ParityFailure& failure : report.failures)
    if (failure.fault == "was not written") {
      EXPECT_EQ(failure.likely, "") << failure.text();
    }
}

class Slips : public testing::TestWithParam<Slip> {};
TEST_P(Slips, IsNamed) {
  Erased backend{Plain()};
  GetParam().make(backend);
  expect_named(backend, GetParam().caught);
}

using F = Plain::F;
using In = Plain::In;
using Out = Plain::Out;
using G = Factors<float>;
using O = CallOptions;
const Plain right = {};

constexpr const char *not_written = "was not written", *wrong = "is wrong",
                     *skips_zeros = "skips zeros, but 0 times a NaN or an infinity is NaN";

// The right formula with a branch: what `skips` says is left out of the sum.
template <class Skips>
void expand_but(const F& f, const In& h, const Out& y, const O& o, const Skips& skips) {
  for (Index t = 0; t < y.count; ++t)
    for (Index j = 0; j < f.out_features; ++j) {
      float sum = 0;
      for (Index k = 0; k < f.rank; ++k) {
        const float b = f.B[k * f.b_stride + j], uh = Plain::u(f, k) * h[t][k];
        if (!skips(b, uh)) sum += b * uh;
      }
      sum *= Plain::c(f, o, t) * Plain::v(f, j);
      y[t][j] = o.overwrite ? sum : y[t][j] + sum;
    }
}
float rounded(float value) { return static_cast<float>(static_cast<Eigen::bfloat16>(value)); }

const Slip slips[] = {
    // Nothing is there yet.
    {"ShrinkIsEmpty",
     [](Erased& b) { b.shrink = [](const F&, const In&, const Out&, const O&) {}; },
     {"shrink", "h", not_written, "all of it"}},
    {"ExpandIsEmpty",
     [](Erased& b) { b.expand = [](const F&, const In&, const Out&, const O&) {}; },
     {"expand", "y", not_written}},
    {"ExpandBackwardIsEmpty",
     [](Erased& b) {
       b.expand_backward = [](const F&, const In&, const In&, const G&, const Out&, const O&) {};
     },
     {"expand_backward", "dh", not_written}},
    {"ShrinkBackwardIsEmpty",
     [](Erased& b) {
       b.shrink_backward = [](const F&, const In&, const In&, const G&, const Out&, const O&) {};
     },
     {"shrink_backward", "dA", not_written}},
    // Tails.
    {"TailOfTheOutputs",
     [](Erased& b) {
       b.expand = [](F f, const In& h, const Out& y, const O& o) {
         f.out_features -= f.out_features % 4;
         right.expand(f, h, y, o);
       };
     },
     {"expand", "y", not_written, "the last "}},
    {"TailOfTheTokens",
     [](Erased& b) {
       b.shrink = [](const F& f, const In& x, const Out& h, const O& o) {
         right.shrink(f, x.tokens(0, x.count - x.count % 4), h, o);
       };
     },
     {"shrink", "h", not_written, " tokens"}},
    {"TailOfTheTokensOfAGradient",
     [](Erased& b) {
       b.shrink_backward = [](const F& f, const In& x, const In& dh, const G& g, const Out& dx, const O& o) {
         right.shrink_backward(f, x, dh, {}, dx, o);
         const Index count = dh.count > 1 ? dh.count - 1 : dh.count;
         right.shrink_backward(f, x, dh.tokens(0, count), g, {}, o);
       };
     },
     {"shrink_backward", "dA", wrong, "the last token is left out"}},
    // Kernels that are right for all small sizes.
    {"FeaturesBeyondTheWorkItemsOfAGroup",
     [](Erased& b) {
       b.shrink = [](F f, const In& x, const Out& h, const O& o) {
         f.in_features = std::min<Index>(f.in_features, 1024);
         right.shrink(f, x, h, o);
       };
     },
     {"shrink", "h", wrong, "the last input feature is left out"}},
    {"FeaturesBeyondABlockOfTheKernelForManyTokens",
     [](Erased& b) {
       b.shrink = [](F f, const In& x, const Out& h, const O& o) {
         if (x.count > 8) f.in_features = std::min<Index>(f.in_features, 4096);
         right.shrink(f, x, h, o);
       };
     },
     {"shrink", "h", wrong, "the last input feature is left out"}},
    {"OutputsBeyondTheWorkItemsOfAGroup",
     [](Erased& b) {
       b.expand = [](F f, const In& h, const Out& y, const O& o) {
         f.out_features = std::min<Index>(f.out_features, 1024);
         right.expand(f, h, y, o);
       };
     },
     {"expand", "y", not_written, "the last 1 of 1025 features"}},
    {"OutputsBeyondTheWorkItemsOfAGroupInDh",
     [](Erased& b) {
       b.expand_backward = [](F f, const In& h, const In& dy, const G& g, const Out& dh, const O& o) {
         right.expand_backward(f, h, dy, g, dh, o);
         f.out_features = std::min<Index>(f.out_features, 1024);
         if (!dh.is_none()) right.expand_backward(f, h, dy, {}, dh, o);
       };
     },
     {"expand_backward", "dh", wrong, "the last output feature is left out"}},
    {"FeaturesBeyondABlockOfTheCpusInDx",
     [](Erased& b) {
       b.shrink_backward = [](F f, const In& x, const In& dh, const G& g, const Out& dx, const O& o) {
         right.shrink_backward(f, x, dh, g, {}, o);
         f.in_features = std::min<Index>(f.in_features, 4096);
         if (!dx.is_none()) right.shrink_backward(f, x, dh, {}, dx, o);
       };
     },
     {"shrink_backward", "dx", not_written, "the last 1 of 4097 features"}},
    {"OnlyTheFirst128TokensOfDuAndDb",
     [](Erased& b) {
       b.expand_backward = [](const F& f, const In& h, const In& dy, G g, const Out& dh, const O& o) {
         const Index count = std::min<Index>(dy.count, 128);
         right.expand_backward(f, h, dy, {.v = g.v}, dh, o);
         g.v = nullptr;
         std::vector<float> again(static_cast<std::size_t>(f.rank * count));
         if (f.rank > 0 && count > 0)
           right.expand_backward(f, h.tokens(0, count), dy.tokens(0, count), g,
                                 {.data = again.data(), .width = f.rank, .count = count, .stride = f.rank},
                                 o);
       };
     },
     {"expand_backward", "du", wrong, "the last token is left out"}},
    {"OnlyTheFirst128TokensOfDa",
     [](Erased& b) {
       b.shrink_backward = [](const F& f, const In& x, const In& dh, const G& g, const Out& dx, const O& o) {
         right.shrink_backward(f, x, dh, {}, dx, o);
         right.shrink_backward(f, x, dh.tokens(0, std::min<Index>(dh.count, 128)), g, {}, o);
       };
     },
     {"shrink_backward", "dA", wrong, "the last token is left out"}},
    {"LastRankOfDx",
     [](Erased& b) {
       b.shrink_backward = [](F f, const In& x, const In& dh, const G& g, const Out& dx, const O& o) {
         right.shrink_backward(f, x, dh, g, {}, o);
         if (f.rank > 1) --f.rank;
         if (!dx.is_none()) right.shrink_backward(f, x, dh, {}, dx, o);
       };
     },
     {"shrink_backward", "dx", wrong, "the last rank is left out"}},
    // Where values lie. Some of these write far from where they should.
    {"StrideOfDbIsBs",
     [](Erased& b) {
       b.expand_backward = [](const F& f, const In& h, const In& dy, G g, const Out& dh, const O& o) {
         g.b_stride = f.b_stride;
         right.expand_backward(f, h, dy, g, dh, o);
       };
     },
     {"expand_backward", "dB", wrong, "stride is ignored, or another operand's is used"}},
    {"StrideOfDaIsAs",
     [](Erased& b) {
       b.shrink_backward = [](const F& f, const In& x, const In& dh, G g, const Out& dx, const O& o) {
         g.a_stride = f.a_stride;
         right.shrink_backward(f, x, dh, g, dx, o);
       };
     },
     {"shrink_backward", "dA", wrong, "stride is ignored, or another operand's is used"}},
    {"StrideOfDaIsBs",
     [](Erased& b) {
       b.shrink_backward = [](const F& f, const In& x, const In& dh, G g, const Out& dx, const O& o) {
         g.a_stride = f.b_stride;
         right.shrink_backward(f, x, dh, g, dx, o);
       };
     },
     {"shrink_backward", "dA", "wrote outside dA", "after"}},
    {"StrideOfDbIsAs",
     [](Erased& b) {
       b.expand_backward = [](const F& f, const In& h, const In& dy, G g, const Out& dh, const O& o) {
         g.b_stride = f.a_stride;
         right.expand_backward(f, h, dy, g, dh, o);
       };
     },
     {"expand_backward", "dB", "wrote outside dB", "after"}},
    {"HIsTransposed",
     [](Erased& b) {
       b.shrink = [](const F& f, const In& x, const Out& h, const O& o) {
         std::vector<float> sums(static_cast<std::size_t>(f.rank * h.count));
         right.shrink(f, x, {.data = sums.data(), .width = f.rank, .count = h.count, .stride = f.rank}, o);
         for (Index t = 0; t < h.count; ++t)
           for (Index k = 0; k < f.rank; ++k)
             h.data[k * h.stride + t] = sums[static_cast<std::size_t>(t * f.rank + k)];
       };
     },
     {"shrink", "h", "wrote outside h"}},
    {"RowsOfYAreIgnored",
     [](Erased& b) {
       b.expand = [](const F& f, const In& h, Out y, const O& o) {
         y.rows = nullptr;
         right.expand(f, h, y, o);
       };
     },
     {"expand", "y", "wrote outside y", "y's rows are ignored", "y gathered by rows"}},
    {"PointersOfXAreIgnored",
     [](Erased& b) {
       b.shrink = [](const F& f, In x, const Out& h, const O& o) {
         x.pointers = nullptr;
         right.shrink(f, x, h, o);
       };
     },
     {"shrink", "h", "is not finite: memory outside an operand was read, or what was to be overwritten",
      "x's pointers are ignored", "x by pointers"}},
    {"PointersOfDxAreIgnored",
     [](Erased& b) {
       b.shrink_backward = [](const F& f, const In& x, const In& dh, const G& g, Out dx, const O& o) {
         dx.pointers = nullptr;
         right.shrink_backward(f, x, dh, g, dx, o);
       };
     },
     {"shrink_backward", "dx", "wrote outside dx", "dx's pointers are ignored", "dx by pointers"}},
    {"FirstFeatureIsIgnored",
     [](Erased& b) {
       b.expand_backward = [](const F& f, const In& h, In dy, const G& g, const Out& dh, const O& o) {
         dy.first_feature = 0;
         right.expand_backward(f, h, dy, g, dh, o);
       };
     },
     {"expand_backward", "dh",
      "is not finite: memory outside an operand was read, or what was to be overwritten",
      "dy's first_feature is ignored", "dy by pointers with a first_feature"}},
    {"TheGapIsWritten",
     [](Erased& b) {
       b.expand = [](const F& f, const In& h, const Out& y, const O& o) {
         right.expand(f, h, y, o);
         if (y.rows || y.pointers) return;
         for (Index t = 0; t < y.count; ++t)
           for (Index j = y.width; j < y.stride; ++j) y[t][j] = 0;
       };
     },
     {"expand", "y", "wrote outside y", "", "y padded"}},
    {"ARowTooManyIsRead",
     [](Erased& b) {
       b.shrink = [](const F& f, In x, const Out& h, const O& o) {
         std::vector<float> sums(static_cast<std::size_t>(f.rank * (x.count + 1)));
         right.shrink(f, x, h, o);
         ++x.count;
         right.shrink(f, x, {.data = sums.data(), .width = f.rank, .count = x.count, .stride = f.rank}, o);
         for (Index k = 0; k < f.rank && h.count > 0; ++k)
           h[0][k] += 0 * sums[static_cast<std::size_t>(h.count * f.rank + k)];
       };
     },
     {"shrink", "h", "is not finite: memory outside an operand was read, or what was to be overwritten",
      "memory outside an operand was read"}},
    // What is there before the call.
    {"YIsTimesZeroUnderOverwrite",
     [](Erased& b) {
       b.expand = [](const F& f, const In& h, const Out& y, O o) {
         for (Index t = 0; t < y.count; ++t)  // as beta of a gemm
           for (Index j = 0; j < y.width; ++j) y[t][j] *= o.overwrite ? 0.0f : 1.0f;
         o.overwrite = false;
         right.expand(f, h, y, o);
       };
     },
     {"expand", "y", "is not finite: memory outside an operand was read, or what was to be overwritten",
      "what was to be overwritten was read", "overwrite"}},
    {"DhIsAddedTo",
     [](Erased& b) {
       b.expand_backward = [](const F& f, const In& h, const In& dy, const G& g, const Out& dh, const O& o) {
         std::vector<float> was;
         for (Index t = 0; !dh.is_none() && t < dh.count; ++t) was.insert(was.end(), dh[t], dh[t] + f.rank);
         right.expand_backward(f, h, dy, g, dh, o);
         for (Index t = 0; !dh.is_none() && t < dh.count; ++t)
           for (Index k = 0; k < f.rank; ++k) dh[t][k] += was[static_cast<std::size_t>(t * f.rank + k)];
       };
     },
     {"expand_backward", "dh",
      "is not finite: memory outside an operand was read, or what was to be overwritten",
      "what was to be overwritten was read"}},
    {"DuIsOverwritten",
     [](Erased& b) {
       b.expand_backward = [](const F& f, const In& h, const In& dy, const G& g, const Out& dh, const O& o) {
         if (g.u) std::fill_n(g.u, f.rank, 0.0f);
         right.expand_backward(f, h, dy, g, dh, o);
       };
     },
     {"expand_backward", "du", "does not accumulate"}},
    // The formula.
    {"ScalesAreAppliedTwice",
     [](Erased& b) {
       b.expand = [](F f, const In& h, const Out& y, O o) {
         f.scaling *= f.scaling, o.scale *= o.scale;
         right.expand(f, h, y, o);
       };
     },
     {"expand", "y", wrong, "is applied twice"}},
    {"TokenScaleOfTheFirstToken",
     [](Erased& b) {
       b.expand = [](const F& f, const In& h, const Out& y, O o) {
         const std::vector<float> first(static_cast<std::size_t>(y.count),
                                        o.token_scale ? o.token_scale[0] : 0);
         if (o.token_scale) o.token_scale = first.data();
         right.expand(f, h, y, o);
       };
     },
     {"expand", "y", wrong, "token_scale is that of the call's first token", "token_scale"}},
    {"DbForgetsU",
     [](Erased& b) {
       b.expand_backward = [](F f, const In& h, const In& dy, G g, const Out& dh, const O& o) {
         const G all = g;
         g.B = nullptr;
         right.expand_backward(f, h, dy, g, dh, o);
         f.u = nullptr;
         right.expand_backward(f, h, dy, {.B = all.B, .b_stride = all.b_stride}, {}, o);
       };
     },
     {"expand_backward", "dB", wrong, "u is not applied"}},
    {"DuHasU",
     [](Erased& b) {
       b.expand_backward = [](const F& f, const In& h, const In& dy, G g, const Out& dh, const O& o) {
         float* const du = g.u;
         g.u = nullptr;
         right.expand_backward(f, h, dy, g, dh, o);
         for (Index t = 0; du && t < dh.count; ++t)
           for (Index k = 0; k < f.rank; ++k) du[k] += h[t][k] * dh[t][k];
       };
     },
     {"expand_backward", "du", wrong, "u is applied, which does not belong here"}},
    {"DvHasV",
     [](Erased& b) {
       b.expand_backward = [](const F& f, const In& h, const In& dy, G g, const Out& dh, const O& o) {
         float* const dv = g.v;
         g.v = nullptr;
         right.expand_backward(f, h, dy, g, dh, o);
         std::vector<float> sums(static_cast<std::size_t>(f.out_features));
         right.expand_backward(f, h, dy, {.v = sums.data()}, {}, o);
         for (Index j = 0; dv && j < f.out_features; ++j)
           dv[j] += sums[static_cast<std::size_t>(j)] * Plain::v(f, j);
       };
     },
     {"expand_backward", "dv", wrong, "v is applied, which does not belong here"}},
    {"SumsInBfloat16",
     [](Erased& b) {
       b.shrink = [](const F& f, const In& x, const Out& h, const O&) {
         for (Index t = 0; t < x.count; ++t)
           for (Index k = 0; k < f.rank; ++k) {
             float sum = 0;
             for (Index i = 0; i < f.in_features; ++i)
               sum = rounded(sum + rounded(f.A[k * f.a_stride + i] * x[t][i]));
             h[t][k] = sum;
           }
       };
     },
     {"shrink", "h", wrong, "rounded to 16 bits"}},
    // Branches that skip zeros.
    {"ZerosOfB",
     [](Erased& b) {
       b.expand = [](const F& f, const In& h, const Out& y, const O& o) {
         expand_but(f, h, y, o, [](float of_b, float) { return of_b == 0; });
       };
     },
     {"expand", "y", skips_zeros, "", "zeros in B"}},
    {"ZerosOfUTimesH",
     [](Erased& b) {
       b.expand = [](const F& f, const In& h, const Out& y, const O& o) {
         expand_but(f, h, y, o, [](float, float uh) { return uh == 0; });
       };
     },
     {"expand", "y", skips_zeros, "", "zeros in "}},
    {"ZerosOfV",
     [](Erased& b) {
       b.expand = [](const F& f, const In& h, const Out& y, const O& o) {
         std::vector<std::vector<float>> was;
         for (Index t = 0; t < y.count; ++t) was.emplace_back(y[t], y[t] + y.width);
         right.expand(f, h, y, o);
         for (Index t = 0; t < y.count; ++t)
           for (Index j = 0; j < y.width; ++j)
             if (f.v && f.v[j] == 0)
               y[t][j] = o.overwrite ? 0 : was[static_cast<std::size_t>(t)][static_cast<std::size_t>(j)];
       };
     },
     {"expand", "y", skips_zeros, "", "zeros in v"}},
    {"ScaleOfZeroReturnsEarly",
     [](Erased& b) {
       b.expand = [](const F& f, const In& h, const Out& y, const O& o) {
         if (o.scale != 0) return right.expand(f, h, y, o);
         for (Index t = 0; t < y.count && o.overwrite; ++t) std::fill_n(y[t], y.width, 0.0f);
       };
     },
     {"expand", "y", skips_zeros, "", "scale 0"}},
    {"TokensOfScaleZeroAreSkipped",
     [](Erased& b) {
       b.expand_backward = [](const F& f, const In& h, const In& dy, const G& g, const Out& dh, const O& o) {
         for (Index t = 0; t < dy.count; ++t) {
           O of_token = o;
           if (o.token_scale) of_token.token_scale = o.token_scale + t;
           const Out to = dh.is_none() ? dh : dh.tokens(t, 1);
           if (!o.token_scale || o.token_scale[t] != 0)
             right.expand_backward(f, h.tokens(t, 1), dy.tokens(t, 1), g, to, of_token);
           else if (!dh.is_none())
             std::fill_n(to[0], f.rank, 0.0f);
         }
       };
     },
     {"expand_backward", "dh", skips_zeros, "", "token_scale 0"}},
    {"ZerosOfX",
     [](Erased& b) {
       b.shrink = [](const F& f, const In& x, const Out& h, const O&) {
         for (Index t = 0; t < x.count; ++t)
           for (Index k = 0; k < f.rank; ++k) {
             float sum = 0;
             for (Index i = 0; i < f.in_features; ++i)
               if (x[t][i] != 0) sum += f.A[k * f.a_stride + i] * x[t][i];
             h[t][k] = sum;
           }
       };
     },
     {"shrink", "h", skips_zeros, "", "zeros in x"}},
    {"ZerosOfDh",
     [](Erased& b) {
       b.shrink_backward = [](const F& f, const In& x, const In& dh, const G& g, const Out& dx, const O& o) {
         right.shrink_backward(f, x, dh, {}, dx, o);
         for (Index t = 0; g.A && t < dh.count; ++t)
           for (Index k = 0; k < f.rank; ++k)
             for (Index i = 0; i < f.in_features && dh[t][k] != 0; ++i)
               g.A[k * g.a_stride + i] += dh[t][k] * x[t][i];
       };
     },
     {"shrink_backward", "dA", skips_zeros, "", "NaN in x, zeros in dy"}},
};
INSTANTIATE_TEST_SUITE_P(All, Slips, testing::ValuesIn(slips),
                         [](const auto& instance) { return std::string(instance.param.name); });

// A buffer that is cleared now and then only.
TEST(ParityOfWrongBackends, WhatComesAndGoesIsSaidTo) {
  Erased backend{Plain()};
  backend.shrink = [calls = std::make_shared<int>(0)](const F& f, const In& x, const Out& h, const O& o) {
    right.shrink(f, x, h, o);
    if (h.count > 0 && ++*calls % 11 == 0) h[0][0] += 1;
  };
  const verify::Parity report = parity_of(backend);
  ASSERT_FALSE(report.passed());
  EXPECT_NE(report.table().find("a race, or a call leaves state to the next"), std::string::npos)
      << report.table();
}

// Who looks for the case that crashes goes by the last text that came.
TEST(ParityOfWrongBackends, FiniteDifferencesAreAnnouncedLikeEveryCase) {
  std::string last;
  verify::ParityOptions options = quick();
  options.before_case = [&](const std::string& text) { last = text; };
  EXPECT_TRUE(parity_of(Erased(Plain{}), options).passed());
  EXPECT_EQ(last, verify::derivative_case(options.seed).text());
}
TEST(ParityOfWrongBackends, NothingRunsAfterTheFirstCaseThatFails) {
  std::string last;
  verify::ParityOptions options = quick();
  options.stop_at_first = true;
  options.before_case = [&](const std::string& text) { last = text; };
  const verify::Parity report = parity_of(Erased(OverwritesGradient{}), options);
  ASSERT_FALSE(report.failures.empty());
  EXPECT_NE(last, verify::derivative_case(options.seed).text());
  EXPECT_EQ(report.table().find("finite differences"), std::string::npos) << report.table();
}

// Slips in what a backend need not have.
struct OptionalSlip {
  const char* name;
  void (*make)(FullBackend& backend);
  Fault caught;
};
void PrintTo(const OptionalSlip& slip, std::ostream* out) { *out << slip.name; }

class OptionalSlips : public testing::TestWithParam<OptionalSlip> {};
TEST_P(OptionalSlips, IsNamed) {
  FullBackend backend;
  GetParam().make(backend);
  expect_named(backend, GetParam().caught);
}

template <class T>
using Many = std::span<const T>;

const OptionalSlip optional_slips[] = {
    {"SlicesAreIgnored",
     [](FullBackend& b) {
       b.one.expand = [](const F& f, In h, Out y, O o) {
         o.slice = {};
         FullBackend::One().expand(f, h, y, o);
       };
     },
     {"expand in slices", "y", "differs from that of one slice"}},
    {"DropoutIsIgnored",
     [](FullBackend& b) {
       b.one.shrink = [](const F& f, In x, Out h, O o) {
         o.dropout.probability = 0;
         FullBackend::One().shrink(f, x, h, o);
       };
     },
     {"shrink", "h", wrong, "dropout is not applied"}},
    {"DropoutOfEveryTokenIsTheFirsts",
     [](FullBackend& b) {
       b.one.shrink_backward = [](const F& f, In x, In dh, const G& g, Out dx, O o) {
         o.dropout.first_token = 0;
         FullBackend::One().shrink_backward(f, x, dh, g, dx, o);
       };
     },
     {"shrink_backward", "dx", wrong, "dropout ignores first_token"}},
    {"OnlyOneOfTheModulesThatShareAGradientOfA",
     [](FullBackend& b) {
       b.many.shrink_backward = [](Many<F> f, In x, Many<In> dh, Many<G> g, Out dx, O o) {
         std::vector<F> different;
         std::vector<In> their_dh;
         std::vector<G> their_g;
         for (std::size_t m = 0; m < f.size(); ++m) {
           if (std::any_of(different.begin(), different.end(), [&](const F& d) { return d.A == f[m].A; }))
             continue;
           different.push_back(f[m]), their_dh.push_back(dh[m]), their_g.push_back(g[m]);
         }
         FullBackend::Modules().shrink_backward(different, x, their_dh, their_g, dx, o);
       };
     },
     {"shrink_backward of modules", "dx", wrong}},
    {"SharedDuIsWrittenByTheLast",
     [](FullBackend& b) {
       b.many.expand_backward = [](Many<F> f, Many<In> h, Many<In> dy, Many<G> g, Many<Out> dh, O o) {
         std::vector<std::vector<float>> was;
         for (std::size_t m = 0; m < f.size(); ++m)
           was.emplace_back(g[m].u, g[m].u + (g[m].u ? f[m].rank : 0));
         for (std::size_t m = 0; m < f.size(); ++m) {
           if (f[m].rank == 0) continue;
           if (g[m].u) std::copy(was[m].begin(), was[m].end(), g[m].u);
           FullBackend::One().expand_backward(f[m], h[m], dy[m], g[m], dh[m], o);
         }
       };
     },
     {"expand_backward of modules", "du", wrong}},
    {"SharedDuIsWrittenByTheLastB",
     // A launch for each B, all of which start from du as it was: TL6 has one u for all that read x.
     [](FullBackend& b) {
       b.many.expand_backward = [](Many<F> f, Many<In> h, Many<In> dy, Many<G> g, Many<Out> dh, O o) {
         std::vector<std::vector<float>> was;
         for (std::size_t m = 0; m < f.size(); ++m)
           was.emplace_back(g[m].u, g[m].u + (g[m].u ? f[m].rank : 0));
         std::vector<bool> is_done(f.size());
         for (std::size_t first = 0; first < f.size(); ++first) {
           if (is_done[first] || f[first].rank == 0) continue;
           for (std::size_t m = first; m < f.size(); ++m)
             if (f[m].B == f[first].B && g[m].u) std::copy(was[m].begin(), was[m].end(), g[m].u);
           for (std::size_t m = first; m < f.size(); ++m) {
             if (f[m].B != f[first].B) continue;
             FullBackend::One().expand_backward(f[m], h[m], dy[m], g[m], dh[m], o);
             is_done[m] = true;
           }
         }
       };
     },
     {"expand_backward of modules", "du", wrong}},
    {"ModulesHaveTheFirstOnesScaling",
     [](FullBackend& b) {
       b.many.expand = [](Many<F> f, Many<In> h, Many<Out> y, O o) {
         std::vector<F> wrong_ones(f.begin(), f.end());
         for (F& m : wrong_ones) m.scaling = f[0].scaling;
         FullBackend::Modules().expand(wrong_ones, h, y, o);
       };
     },
     {"expand of modules", "y", wrong}},
    {"ModulesOfOneBHaveTheFirstOnesScalingInDb",
     [](FullBackend& b) {
       b.many.expand_backward = [](Many<F> f, Many<In> h, Many<In> dy, Many<G> g, Many<Out> dh, O o) {
         std::vector<F> wrong_ones(f.begin(), f.end());
         for (std::size_t m = 0; m < f.size(); ++m)
           for (std::size_t first = m; first-- > 0;)
             if (f[first].B == f[m].B) wrong_ones[m].scaling = f[first].scaling;
         FullBackend::Modules().expand_backward(wrong_ones, h, dy, g, dh, o);
       };
     },
     {"expand_backward of modules", "dB", wrong}},
    {"ModulesOfOneBHaveTheFirstOnesWidth",
     [](FullBackend& b) {
       b.many.expand_backward = [](Many<F> f, Many<In> h, Many<In> dy, Many<G> g, Many<Out> dh, O o) {
         std::vector<F> wrong_ones(f.begin(), f.end());
         for (std::size_t m = 0; m < f.size(); ++m)
           for (std::size_t first = m; first-- > 0;)
             if (f[first].B == f[m].B) wrong_ones[m].out_features = f[first].out_features;
         FullBackend::Modules().expand_backward(wrong_ones, h, dy, g, dh, o);
       };
     },
     {"expand_backward of modules", "dh",
      "is not finite: memory outside an operand was read, or what was to be overwritten"}},
    {"ModulesIgnoreSlicesOfShrink",
     [](FullBackend& b) {
       b.many.shrink = [](Many<F> f, In x, Many<Out> h, O o) {
         if (o.slice.ith == 0) FullBackend::Modules().shrink(f, x, h, o);
       };
     },
     {"shrink of modules in slices", "h", "differs from that of one slice"}},
    {"ModulesIgnoreSlicesOfExpand",
     [](FullBackend& b) {
       b.many.expand = [](Many<F> f, Many<In> h, Many<Out> y, O o) {
         o.slice = {};
         FullBackend::Modules().expand(f, h, y, o);
       };
     },
     {"expand of modules in slices", "y", "differs from that of one slice"}},
    {"ModulesIgnoreTheStepOfDropout",
     [](FullBackend& b) {
       b.many.shrink = [](Many<F> f, In x, Many<Out> h, O o) {
         o.dropout.step = 0;
         FullBackend::Modules().shrink(f, x, h, o);
       };
     },
     {"shrink of modules", "h", wrong, "", "dropout"}},
    {"ModulesIgnoreTheInputOfDropout",
     [](FullBackend& b) {
       b.many.shrink_backward = [](Many<F> f, In x, Many<In> dh, Many<G> g, Out dx, O o) {
         o.dropout.input = 0;
         FullBackend::Modules().shrink_backward(f, x, dh, g, dx, o);
       };
     },
     {"shrink_backward of modules", "dA", wrong, "", "dropout"}},
    {"ModulesIgnoreTheFirstTokenOfDropout",
     [](FullBackend& b) {
       b.many.shrink_backward = [](Many<F> f, In x, Many<In> dh, Many<G> g, Out dx, O o) {
         o.dropout.first_token = 0;
         FullBackend::Modules().shrink_backward(f, x, dh, g, dx, o);
       };
     },
     {"shrink_backward of modules", "dx", wrong, "", "dropout"}},
    {"ModulesLoseFeaturesBeyondTheWorkItemsOfAGroup",
     [](FullBackend& b) {
       b.many.shrink = [](Many<F> f, In x, Many<Out> h, O o) {
         std::vector<F> narrow(f.begin(), f.end());
         for (F& m : narrow) m.in_features = std::min<Index>(m.in_features, 1024);
         FullBackend::Modules().shrink(narrow, x, h, o);
       };
     },
     {"shrink of modules", "h", wrong}},
    {"TenantsHaveNoFeaturesBeyondTheWorkItemsOfAGroup",
     [](FullBackend& b) {
       b.for_tenants = [](F f, const Tenants<float>& tenants, In h, Out y, O o) {
         f.out_features = std::min<Index>(f.out_features, 1024);
         FullBackend().for_tenants(f, tenants, h, y, o);
       };
     },
     {"expand of tenants", "y", not_written}},
    {"YOfAModuleOfRankZeroIsNotSet",
     [](FullBackend& b) {
       b.many.expand = [](Many<F> f, Many<In> h, Many<Out> y, O o) {
         for (std::size_t m = 0; m < f.size(); ++m)
           if (f[m].rank > 0) FullBackend::One().expand(f[m], h[m], y[m], o);
       };
     },
     {"expand of modules", "y", not_written}},
    {"ModulesHaveTheFirstOnesU",
     [](FullBackend& b) {
       b.many.expand = [](Many<F> f, Many<In> h, Many<Out> y, O o) {
         std::vector<F> wrong_ones(f.begin(), f.end());
         for (F& m : wrong_ones)
           if (m.rank == f[1].rank && m.u) m.u = f[1].u;
         FullBackend::Modules().expand(wrong_ones, h, y, o);
       };
     },
     {"expand of modules", "y", wrong}},
    {"TenantsHaveWhatIsCommon",
     [](FullBackend& b) {
       b.for_tenants = [](const F& f, const Tenants<float>&, In h, Out y, O o) {
         FullBackend::One().expand(f, h, y, o);
       };
     },
     {"expand of tenants", "y", wrong}},
    {"TenantsAreThatOfTheFirstToken",
     [](FullBackend& b) {
       b.for_tenants = [](const F& f, const Tenants<float>& tenants, In h, Out y, O o) {
         F own = f;
         if (y.count > 0 && tenants.u >= 0) own.u = tenants.arrays[0] + tenants.u;
         if (y.count > 0 && tenants.v >= 0) own.v = tenants.arrays[0] + tenants.v;
         FullBackend::One().expand(own, h, y, o);
       };
     },
     {"expand of tenants", "y", wrong}},
    {"TenantsForgetTheirScale",
     [](FullBackend& b) {
       b.for_tenants = [](const F& f, const Tenants<float>& tenants, In h, Out y, O o) {
         o.token_scale = nullptr;
         FullBackend().for_tenants(f, tenants, h, y, o);
       };
     },
     {"expand of tenants", "y", wrong}},
};
INSTANTIATE_TEST_SUITE_P(All, OptionalSlips, testing::ValuesIn(optional_slips),
                         [](const auto& instance) { return std::string(instance.param.name); });

}  // namespace
}  // namespace tiedlora_test
