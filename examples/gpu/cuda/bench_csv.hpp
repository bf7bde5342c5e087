// The table of times, the same columns as compare.py writes. What is measured may have a comma in its name.
#pragma once

#include <string>  // string

#include <fmt/format.h>

#include "commands.hpp"

namespace gpu_cuda {

inline std::string csv_header() {
  return "by,what,type,in,out,rank,tokens,tenants,factors,microseconds,gigabytes_per_second,teraflops";
}
inline std::string csv_line(const BenchRow& row) {
  return fmt::format("tiedlora,\"{}\",{},{},{},{},{},{},{},{:.3f},{:.1f},{:.2f}", row.what, row.type, row.in,
                     row.out, row.rank, row.tokens, row.tenants, row.cold ? "cold" : "hot", 1e6 * row.seconds,
                     row.seconds > 0 ? 1e-9 * row.bytes / row.seconds : 0,
                     row.seconds > 0 ? 1e-12 * row.flops / row.seconds : 0);
}

}  // namespace gpu_cuda
