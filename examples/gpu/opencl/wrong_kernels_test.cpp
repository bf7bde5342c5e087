// Kernels with the slips that kernels have: the parity kit catches each, in the call where it is.
#include <gtest/gtest.h>

#include <string>
#include <tiedlora/verify.hpp>

#include "backend.hpp"
#include "test_device.hpp"

namespace gpu_opencl {
namespace {

struct Slip {
  const char *name, *right, *wrong;
  const char* call;  // where it is caught first; empty: wherever a case has such a view, or a race goes wrong
};
void PrintTo(const Slip& slip, std::ostream* out) { *out << slip.name; }

class WrongKernels : public OpenCl, public testing::WithParamInterface<Slip> {};

TEST_P(WrongKernels, AreCaught) {
  const Slip& slip = GetParam();
  std::string source = kernel_source();
  const std::size_t place = source.find(slip.right);
  ASSERT_NE(place, std::string::npos) << "the kernels have changed: nothing to spoil";
  ASSERT_EQ(source.find(slip.right, place + 1), std::string::npos) << "which of them?";
  source.replace(place, std::string(slip.right).size(), slip.wrong);
  const auto report =
      tiedlora::verify::parity(Backend(device(), source), {.cases = 64, .stop_at_first = true});
  ASSERT_NE(report.first_failure(), nullptr) << report.table();
  const std::string call = report.first_failure()->call;
  EXPECT_TRUE(call == slip.call || !*slip.call) << report.table();
}

INSTANTIATE_TEST_SUITE_P(
    All, WrongKernels,
    testing::Values(
        Slip{"BarrierBetweenTheSums",
             "partial[me] += partial[me + half_group];\n    barrier(CLK_LOCAL_MEM_FENCE);",
             "partial[me] += partial[me + half_group];", "shrink"},
        Slip{"StrideOfA", "module.A + k * module.a_stride;", "module.A + k * x.width;", "shrink"},
        Slip{"TailOfX", "i < x.width; i += GROUP)", "i < x.width / GROUP * GROUP; i += GROUP)", "shrink"},
        Slip{"RowsOfTheView", "view.rows ? ((global const long*)view.rows)[t] : t", "t", ""},
        Slip{"FirstFeatureOfPointers", " + (ulong)view.first_feature * bytes", "", ""},
        Slip{"ScaleOfTheCall", "sum *= token_scaling(o, t) * vector_at(v, i);",
             "sum *= f.scaling * vector_at(v, i);", "expand"},
        Slip{"ScaleOfTheToken", "sum *= token_scaling(o, t) * vector_at(v, i);",
             "sum *= o.scale * vector_at(v, i);", "expand"},
        Slip{"ZerosOfH", "++k) sum += LOAD(P)(b + k * f.b_stride) * (vector_at(u, k) * hidden[k]);",
             "++k)\n    if (hidden[k] != 0) sum += LOAD(P)(b + k * f.b_stride) * (vector_at(u, k) * "
             "hidden[k]);",
             "expand"},
        Slip{"UOfTenants", "if (tenants.u >= 0) u = own", "if (tenants.u >= 0 && t == 0) u = own",
             "expand of tenants"},
        Slip{"EndOfTheFeatures", "if (i >= f.out_features) return;\n  ulong u", "ulong u", ""},
        Slip{"OverwriteOfY", "o.overwrite ? sum : LOAD(Y)(to) + sum", "LOAD(Y)(to) + sum", "expand"},
        Slip{"VInDh", "(vector_at(f.v, i) * LOAD(Y)(features + i))", "LOAD(Y)(features + i)",
             "expand_backward"},
        Slip{"UInDh", "*d *= u;", "", "expand_backward"},
        Slip{"SumOverTokensOfDu", "t < dh.count; t += GROUP", "t < min(dh.count, (long)GROUP); t += GROUP",
             "expand_backward"},
        Slip{"StrideOfDb", "k * gradient.b_stride + i] += v * sum", "k * f.out_features + i] += v * sum",
             "expand_backward"},
        Slip{"AccumulationOfDa", "k * module.da_stride + i] += sum", "k * module.da_stride + i] = sum",
             "shrink_backward"},
        Slip{"TwoModulesWithOneDa", "if (modules.all[other].dA == module.dA) return;", ";",
             "shrink_backward of modules"},
        Slip{"LastRankOfDx", "k < module.rank; ++k)\n      sum", "k < module.rank - 1; ++k)\n      sum",
             "shrink_backward"}),
    [](const auto& instance) { return std::string(instance.param.name); });

}  // namespace
}  // namespace gpu_opencl
