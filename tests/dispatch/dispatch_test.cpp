// tiedlora::dispatch: every set of kernels that this processor runs computes what the reference loops
// compute, under the host's names for its types.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <span>
#include <tiedlora/dispatch.hpp>
#include <tiedlora/tiedlora.hpp>
#include <tiedlora/verify/parity.hpp>
#include <type_traits>
#include <vector>

#if defined(__SSE2__)
#include <xmmintrin.h>  // _mm_getcsr, _mm_setcsr
#endif

#include "support/errors.hpp"
#include "support/models.hpp"

namespace tiedlora_test {
namespace {

using Eigen::bfloat16, Eigen::half;
using tiedlora::DispatchBackend;
namespace dispatch = tiedlora::dispatch;

static_assert(tiedlora::Backend<DispatchBackend, float>);
static_assert(tiedlora::Backend<DispatchBackend, float, half>);
static_assert(tiedlora::Backend<DispatchBackend, bfloat16, float>);
static_assert(tiedlora::Backend<DispatchBackend, half>);
static_assert(!tiedlora::Backend<DispatchBackend, double>);
static_assert(!tiedlora::Backend<DispatchBackend, half, bfloat16>);

template <class P, class X>
void expect_parity() {
  for (const dispatch::KernelSet* set : dispatch::sets()) {
    const auto report = tiedlora::verify::parity<P, X>(DispatchBackend(*set), {.cases = 60, .seed = 11});
    EXPECT_TRUE(report.passed()) << set->isa << "\n" << report.table();
  }
}

TEST(Dispatch, EverySetComputesWhatTheReferenceDoes) {
  expect_parity<float, float>();
  expect_parity<half, half>();
  expect_parity<bfloat16, float>();
}

// Every pair of types leads to kernels of that pair: activations of another type would be read as values of
// other sizes or formats. Sums of three products of small integers are exact in all of them.
template <class P, class X>
void expect_exact() {
  using Matrix = Eigen::Matrix<X, Eigen::Dynamic, Eigen::Dynamic>;
  tiedlora::Adapter<float> whole(tiedlora::Layout(one_kind(1, 3, 2), tiedlora::schemes::lora(), 1));
  for (float& number : whole.trainable()) number = 2;
  const auto adapter = whole.cast<P>();
  for (const dispatch::KernelSet* set : dispatch::sets()) {
    SCOPED_TRACE(set->isa);
    const DispatchBackend backend(*set);
    const Matrix x = Matrix::Constant(3, 5, X(3.0f));
    Matrix y = Matrix::Constant(2, 5, X(1.0f)), dx = Matrix::Constant(3, 5, X(1.0f));
    Eigen::MatrixXf h(1, 5);
    tiedlora::Gradients<float> gradients(adapter.layout());
    tiedlora::forward(backend, adapter.factors(0), x, y, h);
    EXPECT_EQ(h, Eigen::MatrixXf::Constant(1, 5, 18));
    EXPECT_EQ(y.template cast<float>(), Eigen::MatrixXf::Constant(2, 5, 37));
    tiedlora::backward(backend, adapter.factors(0), x, h, Matrix(Matrix::Constant(2, 5, X(1.0f))),
                       gradients.factors(0), dx);
    EXPECT_EQ(dx.template cast<float>(), Eigen::MatrixXf::Constant(3, 5, 9));
    EXPECT_EQ(gradients.A(0), Eigen::MatrixXf::Constant(1, 3, 5 * 4 * 3));
    EXPECT_EQ(gradients.B(0), Eigen::MatrixXf::Constant(2, 1, 5 * 18));
    // Where A is frozen x may be none, which has no type of its own.
    tiedlora::Factors<float> frozen = gradients.factors(0);
    frozen.A = nullptr;
    tiedlora::backward(backend, adapter.factors(0), tiedlora::none, h,
                       Matrix(Matrix::Constant(2, 5, X(1.0f))), frozen, dx);
    EXPECT_EQ(dx.template cast<float>(), Eigen::MatrixXf::Constant(3, 5, 17));
    tiedlora::backward(backend, adapter.factors(0), x, h, Matrix(Matrix::Constant(2, 5, X(1.0f))),
                       gradients.factors(0));
    EXPECT_EQ(gradients.A(0), Eigen::MatrixXf::Constant(1, 3, 2 * 5 * 4 * 3));
  }
}

TEST(Dispatch, EveryPairOfTypesHasItsKernels) {
  expect_exact<float, float>();
  expect_exact<float, half>();
  expect_exact<float, bfloat16>();
  expect_exact<half, float>();
  expect_exact<half, half>();
  expect_exact<bfloat16, float>();
  expect_exact<bfloat16, bfloat16>();
}

// The kernels are of one type; sums of small integers are exact in both.
TEST(Dispatch, InputsAndTheirGradientsMayBeOfTwoTypes) {
  using Halves = Eigen::Matrix<half, Eigen::Dynamic, Eigen::Dynamic>;
  tiedlora::Adapter<float> adapter(tiedlora::Layout(one_kind(2, 3, 2), tiedlora::schemes::lora(), 1));
  for (float& number : adapter.trainable()) number = 2;
  const std::vector modules = {adapter.factors(0), adapter.factors(1)};
  const Eigen::MatrixXf h = Eigen::MatrixXf::Constant(1, 5, 18);
  const std::vector<tiedlora::Tokens<const float>> dhs(2, {h.data(), 1, 5, 1});
  const auto expect = [&](const auto& x, auto dx, const tiedlora::CallOptions& o, float mask) {
    using X = typename std::decay_t<decltype(x)>::Scalar;
    using Matrix = Eigen::Matrix<X, Eigen::Dynamic, Eigen::Dynamic>;
    tiedlora::Gradients<float> gradients(adapter.layout());
    tiedlora::backward(DispatchBackend(), adapter.factors(0), x, h, Matrix(Matrix::Constant(2, 5, X(1.0f))),
                       gradients.factors(0), dx, o);
    EXPECT_EQ(dx.template cast<float>(), Eigen::MatrixXf::Constant(3, 5, 1 + mask * 8));
    EXPECT_EQ(gradients.A(0), Eigen::MatrixXf::Constant(1, 3, 5 * 4 * mask * 3));
    const std::vector all = {gradients.factors(0), gradients.factors(1)};
    tiedlora::shrink_backward(DispatchBackend(), std::span(modules), x, dhs, all, dx, o);
    EXPECT_EQ(dx.template cast<float>(), Eigen::MatrixXf::Constant(3, 5, 1 + mask * (8 + 2 * 36)));
    EXPECT_EQ(gradients.A(1), Eigen::MatrixXf::Constant(1, 3, 5 * 18 * mask * 3));
  };
  const Eigen::MatrixXf x = Eigen::MatrixXf::Constant(3, 5, 3);
  const Halves ones = Halves::Constant(3, 5, half(1.0f));
  expect(x, ones, {}, 1);
  expect(Halves(x.cast<half>()), Eigen::MatrixXf(ones.cast<float>()), {}, 1);
}

TEST(Dispatch, InputsAndTheirGradientsOfTwoTypesShareAMask) {
  using Halves = Eigen::Matrix<half, Eigen::Dynamic, Eigen::Dynamic>;
  tiedlora::Adapter<float> adapter(tiedlora::Layout(one_kind(1, 3, 2), tiedlora::schemes::lora(), 1));
  for (float& number : adapter.trainable()) number = 2;
  const Eigen::MatrixXf x = Eigen::MatrixXf::Constant(3, 5, 3), dh = Eigen::MatrixXf::Constant(1, 5, 4);
  Halves dx = Halves::Zero(3, 5);
  Eigen::MatrixXf same_dx = Eigen::MatrixXf::Zero(3, 5);
  tiedlora::Gradients<float> gradients(adapter.layout()), same(adapter.layout());
  const tiedlora::CallOptions o = {.dropout = {.probability = 0.5, .seed = 3}};
  tiedlora::shrink_backward(DispatchBackend(), adapter.factors(0), x, dh, gradients.factors(0), dx, o);
  tiedlora::shrink_backward(DispatchBackend(), adapter.factors(0), x, dh, same.factors(0), same_dx, o);
  EXPECT_EQ(dx.cast<float>(), same_dx);
  EXPECT_EQ(gradients.A(0), same.A(0));
  EXPECT_LT(same_dx.minCoeff(), same_dx.maxCoeff());
}

// As Eigen's half, whatever the thread was told to make of subnormal floats.
TEST(Dispatch, HalvesAreFloatsExactly) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    dispatch::Half number;
    number.bits = static_cast<std::uint16_t>(bits);
    const float expected = Eigen::numext::bit_cast<half>(number.bits);
#if defined(__SSE2__)
    const unsigned mode = _mm_getcsr();
    _mm_setcsr(mode | 0x40);  // denormals are zero
    const auto actual = static_cast<float>(number);
    _mm_setcsr(mode);
#else
    const auto actual = static_cast<float>(number);
#endif
    if (std::isnan(expected))
      EXPECT_TRUE(std::isnan(actual)) << bits;
    else
      EXPECT_EQ(std::bit_cast<std::uint32_t>(actual), std::bit_cast<std::uint32_t>(expected)) << bits;
  }
}

TEST(Dispatch, TakesTheBestSetAndNamesThoseThatItHas) {
  EXPECT_EQ(dispatch::sets().back()->isa, DispatchBackend().isa());
  EXPECT_EQ(&dispatch::set(dispatch::best().isa), &dispatch::best());
  expect_error([] { dispatch::set("avx1024"); },
               {"no kernels for \"avx1024\" on this processor; it runs ", dispatch::best().isa});
  // What the compiler of this unit may assume of the processor, the processor has.
  EXPECT_NO_THROW(dispatch::set(dispatch::sets().front()->isa));
#if defined(__x86_64__)
  EXPECT_STREQ(dispatch::sets().front()->isa, "sse2");
#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
  EXPECT_NO_THROW(dispatch::set("avx2_fma_f16c"));
#endif
#if defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__) && defined(__AVX512BF16__)
  EXPECT_NO_THROW(dispatch::set("avx512_fma_f16c_bf16"));
#endif
#endif
}

// The reference loops, which dropout takes, convert number by number.
template <class Ours, class Eigens>
void expect_same_conversions() {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    Ours ours;
    ours.bits = static_cast<std::uint16_t>(bits);
    const auto number = static_cast<float>(ours);
    const auto expected = static_cast<float>(std::bit_cast<Eigens>(ours.bits));
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(number)) << bits;
      ASSERT_TRUE(std::isnan(static_cast<float>(Ours(number)))) << bits;
      continue;
    }
    ASSERT_EQ(std::bit_cast<std::uint32_t>(number), std::bit_cast<std::uint32_t>(expected)) << bits;
    // The value itself, those beside it, and the middle between it and the next, which goes to the even one.
    const auto next = static_cast<float>(std::bit_cast<Eigens>(static_cast<std::uint16_t>(bits + 1)));
    const float middle = std::isfinite(next) && std::isfinite(number) ? 0.5f * number + 0.5f * next : number;
    for (const float value : {number, middle, std::nextafter(middle, number), std::nextafter(middle, next)}) {
      if (std::isnan(value)) continue;
      ASSERT_EQ(Ours(value).bits, std::bit_cast<std::uint16_t>(Eigens(value))) << bits << " " << value;
    }
  }
  ASSERT_EQ(Ours(1e30f * 1e10f).bits, std::bit_cast<std::uint16_t>(Eigens(INFINITY)));
  ASSERT_EQ(Ours(65520.0f).bits, std::bit_cast<std::uint16_t>(Eigens(65520.0f)));
}

TEST(Dispatch, ConvertsAsEigenDoes) {
  expect_same_conversions<dispatch::Half, half>();
  expect_same_conversions<dispatch::BFloat16, bfloat16>();
}

}  // namespace
}  // namespace tiedlora_test
