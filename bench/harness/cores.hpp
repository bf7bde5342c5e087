// Which core a thread runs on. A thread that moves to another core finds its caches empty.
#pragma once

#include <sched.h>  // sched_getaffinity, sched_setaffinity

#include <vector>  // vector

namespace bench {

/// The cores that this program was allowed when it first asked; to be called before anything is pinned.
inline const std::vector<int>& allowed_cores() {
  static const std::vector<int> cores = [] {
    cpu_set_t set;
    sched_getaffinity(0, sizeof set, &set);
    std::vector<int> list;
    for (int core = 0; core < CPU_SETSIZE; ++core)
      if (CPU_ISSET(static_cast<std::size_t>(core), &set)) list.push_back(core);
    return list;
  }();
  return cores;
}

inline void pin_this_thread(int core) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(static_cast<std::size_t>(core), &one);
  sched_setaffinity(0, sizeof one, &one);
}

}  // namespace bench
