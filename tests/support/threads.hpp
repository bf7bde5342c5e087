// A host's parallel_for, with threads of its own each time.
#pragma once

#include <atomic>
#include <thread>
#include <tiedlora/views/config.hpp>
#include <vector>

namespace tiedlora_test {

/// Calls body(i) for i = 0, …, n - 1 in `threads` threads, each of which takes the next i.
template <class Body>
void parallel_for(tiedlora::Index threads, tiedlora::Index n, const Body& body) {
  std::atomic<tiedlora::Index> next = 0;
  std::vector<std::thread> team;
  for (tiedlora::Index t = 0; t < threads; ++t)
    team.emplace_back([&] {
      for (tiedlora::Index i = next++; i < n; i = next++) body(i);
    });
  for (std::thread& thread : team) thread.join();
}

}  // namespace tiedlora_test
