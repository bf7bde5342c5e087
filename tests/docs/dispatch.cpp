// builds.md's backend that picks an instruction set at run time: the same results as without it.
#include <gtest/gtest.h>

#include <tiedlora/dispatch.hpp>
#include <tiedlora/tiedlora.hpp>

#include "support/models.hpp"

namespace {

TEST(DocsDispatch, ComputesWhatThisUnitComputes) {
  const int m = 0;
  tiedlora::Adapter<float> adapter(
      tiedlora::Layout(tiedlora_test::one_kind(1, 70, 50), tiedlora::schemes::lora(), 4));
  for (float& number : adapter.trainable()) number = 0.125f;
  tiedlora::Gradients<float> gradients(adapter.layout());
  const Eigen::MatrixXf x = Eigen::MatrixXf::Random(70, 9), dy = Eigen::MatrixXf::Random(50, 9);
  Eigen::MatrixXf y = dy, expected = dy, dx = x, h(4, 9);
  tiedlora::forward(adapter.factors(m), x, expected, h);
#include "dispatch.inc"
  // Sums of at most 70 products, in another order: each rounds by less than 70 ε of its norm.
  EXPECT_LE((y - expected).norm(), 70 * 0x1p-23f * expected.norm());
}

}  // namespace
