// Memory of a resident tenant of LLaMA2-7B: by the counts of its Layout, and in this process's heap and
// resident set.
#pragma once

#include <malloc.h>  // mallinfo2, malloc_trim
#include <unistd.h>  // sysconf

#include <fstream>  // ifstream
#include <string>   // string, to_string
#include <utility>  // move

#include "harness/plan.hpp"
#include "harness/problem.hpp"

namespace bench {

/// The attention of LLaMA2-7B, as the Tied-LoRA paper adapts it: 32 layers of a fused qkv, 4096 → 12288.
inline tiedlora::ModuleList llama2_7b() {
  tiedlora::ModuleList modules;
  for (int layer = 0; layer < 32; ++layer)
    modules.add({.name = "model.layers." + std::to_string(layer) + ".self_attn.qkv_proj",
                 .layer = layer,
                 .kind = "qkv",
                 .in_features = 4096,
                 .out_features = 12288});
  return modules;
}

inline double heap_bytes() {
  const struct mallinfo2 info = mallinfo2();
  return static_cast<double>(info.uordblks + info.hblkhd);
}
inline double resident_bytes() {
  double all = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> all >> resident;
  return resident * static_cast<double>(sysconf(_SC_PAGESIZE));
}

/// Adds `tenants` adapters of one scheme to a set, in bfloat16, the frozen factors in common.
inline void measure_tenants(Report& report, const tiedlora::Scheme& scheme, Index rank, Index tenants) {
  using P = Eigen::bfloat16;
  const tiedlora::Layout layout(llama2_7b(), scheme, rank);
  tiedlora::Adapter<P> base(layout);
  const auto frozen = base.share_frozen();
  tiedlora::AdapterSet<P> set(layout.modules());
  set.add(tiedlora::Adapter<P>(layout, frozen));  // with what one has for all
  malloc_trim(0);  // pages that are free but resident would hide the first tenants
  const double heap = heap_bytes(), resident = resident_bytes();
  for (Index n = 0; n < tenants; ++n) {
    tiedlora::Adapter<P> tenant(layout, frozen);
    fill(tenant.trainable(), static_cast<std::uint32_t>(n));
    set.add(std::move(tenant));
  }
  const auto count = static_cast<double>(tenants);
  report.number("tenants", count);
  report.number("numbers", static_cast<double>(layout.trainable_count()) * sizeof(P));
  report.number("heap", (heap_bytes() - heap) / count);
  report.number("resident", (resident_bytes() - resident) / count);
  report.number("shared", static_cast<double>(layout.frozen_count()) * sizeof(P));
}

inline void add_tenants(Plan& plan) {
  const auto with_frozen_A_and_B = [](tiedlora::Scheme scheme) {
    scheme.A.trained = scheme.B.trained = false;
    scheme.A.init = scheme.B.init = tiedlora::init::given();
    return scheme;
  };
  const tiedlora::Scheme tied = tl6.make(), shared = with_frozen_A_and_B(tied);
  tiedlora::Scheme only_u = shared;
  only_u.v.reset();
  for (const Index rank : {8, 32}) {
    const auto add = [&](const std::string& name, const tiedlora::Scheme& scheme, Index tenants) {
      plan.add("tenants/" + name + "/r:" + std::to_string(rank),
               [=](Report& report, const Pace&) { measure_tenants(report, scheme, rank, tenants); });
    };
    // A few hundred megabytes each.
    add("lora", lora.make(), 256 / rank);
    add("tl6", tied, 1024 / rank);
    add("u_and_v", shared, 256);
    add("u", only_u, 10000);
  }
}

}  // namespace bench
