// The stages of a call in a host's threads, with its barrier between them: for a pool's parallel_for, for
// callbacks that get (ith, nth), and for OpenMP.
//
//   const auto first = [&](tiedlora::Slice slice) { tiedlora::shrink(factors, x, h, {.slice = slice}); };
//   const auto second = [&](tiedlora::Slice slice) { tiedlora::expand(factors, h, y, {.slice = slice}); };
//   tiedlora::parallel_stages(pool_parallel_for, threads, first, second);
//
// A stage is any function of a Slice: shrink, expand, or those of a batch. Bad operands throw
// in every slice of the first stage that checks them, before any thread waits at the barrier after it.
#pragma once

#include "../views/config.hpp"
#include "../views/error.hpp"
#include "../views/options.hpp"

#if defined(_OPENMP)
#include <omp.h>  // omp_get_num_threads, omp_get_thread_num
#endif

TIEDLORA_BEGIN_NAMESPACE
inline namespace TIEDLORA_ISA {

/// For a host whose parallel_for(n, body) calls body(i) for i = 0, …, n - 1 in its threads and returns when
/// all are done: that is the barrier.
template <class ParallelFor, class... Stages>
void parallel_stages(ParallelFor&& parallel_for, Index nth, Stages&&... stages) {
  if (nth < 1) detail::fail("parallel_stages was given ", nth, " threads; it needs at least 1");
  const auto run = [&](auto& stage) {
    parallel_for(nth, [&](auto ith) { stage(Slice{static_cast<Index>(ith), nth}); });
  };
  (run(stages), ...);
}

/// For a host that calls back in each of its threads, as ggml does: `barrier` waits for all nth of them.
template <class Barrier, class First, class... Rest>
void thread_stages(Slice slice, Barrier&& barrier, First&& first, Rest&&... rest) {
  first(slice);
  ((barrier(), rest(slice)), ...);
}

#if defined(_OPENMP)
/// In a team of OpenMP threads (OMP_NUM_THREADS of them). Inside a parallel region of the host, use
/// thread_stages with `#pragma omp barrier`. An Error ends the program: none may leave a parallel region.
template <class... Stages>
void openmp_stages(Stages&&... stages) {
#pragma omp parallel
  {
    const auto barrier = [] {
#pragma omp barrier
    };
    thread_stages(Slice{omp_get_thread_num(), omp_get_num_threads()}, barrier, stages...);
  }
}
#endif

}  // namespace TIEDLORA_ISA
TIEDLORA_END_NAMESPACE
