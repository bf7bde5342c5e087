// Folders that PEFT wrote (tests/golden/peft_golden.py): every adapted module adds what PEFT says, and no
// other.
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <cmath>
#include <filesystem>
#include <limits>
#include <set>
#include <string>
#include <tiedlora/io/peft.hpp>
#include <tiedlora/tiedlora.hpp>
#include <vector>

#include "support/golden.hpp"
#include "support/io_files.hpp"
#include "support/peft.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

std::vector<std::string> variants() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(peft_folder("")))
    names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

const Golden& golden() {
  static const Golden file = Golden::load("peft.golden");
  return file;
}

/// Compares ΔW·x of every module with the golden file. PEFT's sums are floats of at most 48 + 5 products;
/// ours are exact in double except for the values' own rounding.
template <class P>
void expect_deltas(const Adapter<P>& adapter, const std::string& variant) {
  Index compared = 0;
  for (Index m = 0; m < adapter.layout().size(); ++m) {
    const Module& module = adapter.layout().modules()[m];
    const auto found = golden().tensors().find(variant + "/" + module.name);
    ASSERT_EQ(found != golden().tensors().end(), adapter.layout().rank(m) > 0) << module.name;
    if (adapter.layout().rank(m) == 0) continue;
    const auto x_values = golden().tensor("x." + std::to_string(module.in_features)).as<double>();
    const Eigen::Map<const Eigen::MatrixXd> x(x_values.data(), module.in_features, 2);
    const auto y_values = found->second.as<double>();
    const Eigen::Map<const Eigen::MatrixXd> expected(y_values.data(), module.out_features, 2);
    const Eigen::MatrixXd A = adapter.A(m).template cast<double>(), B = adapter.B(m).template cast<double>();
    Eigen::VectorXd u = Eigen::VectorXd::Ones(A.rows()), v = Eigen::VectorXd::Ones(B.rows());
    if (adapter.layout().scheme().u)
      u = adapter.u(m).template cast<double>(), v = adapter.v(m).template cast<double>();
    const double s = adapter.layout().scaling(m);
    const Eigen::MatrixXd y = s * (v.asDiagonal() * (B * (u.asDiagonal() * (A * x))));
    // |v| |B| |u| |A| |x| bounds the sum of the magnitudes that the rounding errors are relative to.
    const Eigen::MatrixXd magnitude =
        std::abs(s) * (v.cwiseAbs().asDiagonal() *
                       (B.cwiseAbs() * (u.cwiseAbs().asDiagonal() * (A.cwiseAbs() * x.cwiseAbs()))));
    const double tolerance = 56 * double{std::numeric_limits<float>::epsilon()} * magnitude.maxCoeff();
    EXPECT_LE((y - expected).cwiseAbs().maxCoeff(), tolerance) << variant << ", " << module.name;
    ++compared;
  }
  EXPECT_GT(compared, 0);
}

class PeftGolden : public testing::TestWithParam<std::string> {};

TEST_P(PeftGolden, ComputesWhatPeftComputes) {
  const auto loaded = load_peft<float>(peft_folder(GetParam()), modules_of(GetParam()));
  expect_deltas(loaded.adapter, GetParam());
  EXPECT_TRUE(loaded.report.unused.empty());
  EXPECT_TRUE(loaded.report.missing.empty()) << loaded.report.missing.front();
}

TEST_P(PeftGolden, UsesEveryTensorOfTheFile) {
  const auto file = safetensors::open(peft_folder(GetParam()) / "adapter_model.safetensors");
  const auto loaded = load_peft<double>(peft_folder(GetParam()), modules_of(GetParam()));
  std::set<std::string> names;
  for (const auto& tensor : file.tensors()) names.insert(tensor.name);
  EXPECT_EQ(names, std::set<std::string>(loaded.report.used.begin(), loaded.report.used.end()));
}

TEST_P(PeftGolden, SurvivesSavingInEveryForm) {
  const auto loaded = load_peft<float>(peft_folder(GetParam()), modules_of(GetParam()));
  const bool vera = GetParam().starts_with("vera");
  for (const PeftForm form : {PeftForm::lora, PeftForm::smallest, PeftForm::stacked})
    for (const PeftScale scale : {PeftScale::baked, PeftScale::lora_alpha}) {
      const Folder folder;
      const auto saved = save_peft(loaded.adapter, folder.path(), {.form = form, .scale = scale});
      EXPECT_EQ(saved.form, form == PeftForm::smallest          ? (vera ? PeftForm::vera : PeftForm::lora)
                            : form == PeftForm::stacked && vera ? PeftForm::vera
                                                                : form);
      EXPECT_EQ(saved.bytes, std::filesystem::file_size(folder / "adapter_config.json") +
                                 std::filesystem::file_size(folder / "adapter_model.safetensors"));
      const auto again = load_peft<float>(folder.path(), modules_of(GetParam()));
      expect_deltas(again.adapter, GetParam());
      EXPECT_TRUE(again.report.missing.empty());
    }
}

INSTANTIATE_TEST_SUITE_P(Variants, PeftGolden, testing::ValuesIn(variants()),
                         [](const auto& variant) { return variant.param; });

}  // namespace
}  // namespace tiedlora_test
