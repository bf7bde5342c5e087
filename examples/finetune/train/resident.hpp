// How much memory this process has.
#pragma once

#include <sys/resource.h>  // getrusage
#include <unistd.h>        // sysconf

#include <cstdint>  // int64_t
#include <fstream>  // ifstream

namespace finetune {

/// Resident bytes now; 0 where the system does not say.
inline std::int64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::int64_t size = 0, resident = 0;
  return file >> size >> resident ? resident * sysconf(_SC_PAGESIZE) : 0;
}

/// The most there were so far, likewise.
inline std::int64_t peak_resident_bytes() {
#ifdef __APPLE__
  constexpr std::int64_t unit = 1;
#else
  constexpr std::int64_t unit = 1024;
#endif
  rusage usage = {};
  return getrusage(RUSAGE_SELF, &usage) == 0 ? std::int64_t{usage.ru_maxrss} * unit : 0;
}

}  // namespace finetune
