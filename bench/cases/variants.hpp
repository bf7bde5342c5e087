// 16-bit types against float, odd widths against round ones, dispatched kernels against those of this build.
#pragma once

#include "harness/plan.hpp"

namespace bench {

void add_variants(Plan& plan);

}  // namespace bench
