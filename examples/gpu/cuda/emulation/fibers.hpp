// The threads of CUDA blocks as fibers of one host thread, which switch at barriers only, in an order that a
// seed shuffles. A barrier that a kernel lacks shows as a value that was not there yet: whoever goes first
// runs to his next barrier, and shared memory is poison until it is written.
//
// What it shows: indices, tails, barriers, what a block reads of another's, launches that CUDA refuses, loads
// of 16 bytes that are not aligned. What it does not: time, and what a memory model or a cache may reorder.
#pragma once

#include <setjmp.h>  // _setjmp, _longjmp: NOLINT(modernize-deprecated-headers), those switch without a system call
#include <ucontext.h>  // makecontext, swapcontext

#include <algorithm>   // swap
#include <cstddef>     // byte, size_t
#include <cstdint>     // uint64_t
#include <cstring>     // memset
#include <functional>  // function
#include <memory>      // make_unique, unique_ptr
#include <stdexcept>   // runtime_error
#include <string>      // string
#include <vector>      // vector

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};
inline dim3 threadIdx, blockIdx, blockDim, gridDim;  // of the fiber that runs

namespace cuda_emulation {

inline constexpr unsigned warp_lanes = 32;

enum class Wait { nothing, warp, block, grid, done };

struct Block {
  static constexpr std::size_t guard = 64;  // bytes of poison on either side of shared memory
  dim3 index;
  std::vector<std::byte> shared;
  unsigned waiting = 0;

  std::byte* memory() { return shared.data() + guard; }
};

/// What the lanes of a warp hand each other. Two of each: who is a barrier ahead must not overwrite what a
/// slower lane still reads.
struct Warp {
  Block* block;
  unsigned waiting = 0;
  struct Exchange {
    std::uint32_t words[warp_lanes][6];
  } exchanges[2] = {};
};

class Grid {
 public:
  static Grid& get() {
    static Grid grid;
    return grid;
  }

  std::uint64_t seed = 1;
  int multiprocessors = 4;
  dim3 largest_grid = {2147483647, 65535, 65535};          ///< CUDA's; a test may lower it
  static constexpr std::size_t shared_bytes = 227 * 1024;  ///< what a block can have on an H100

  /// Throws where CUDA refuses a launch; one whose blocks wait for each other must fit on the device.
  void check(const dim3& blocks, unsigned threads, std::size_t shared, bool at_once) const {
    if (threads == 0 || threads > 1024 || threads % warp_lanes != 0)
      throw std::runtime_error("a block has whole warps, and at most 1024 threads");
    if (blocks.x == 0 || blocks.y == 0 || blocks.z == 0)
      throw std::runtime_error("a grid has at least one block");
    if (blocks.x > largest_grid.x || blocks.y > largest_grid.y || blocks.z > largest_grid.z)
      throw std::runtime_error("a grid has in y and z at most 65535 blocks, in x 2147483647");
    if (shared > shared_bytes) throw std::runtime_error("more shared memory than a block can have");
    if (at_once && static_cast<std::uint64_t>(blocks.x) * blocks.y * blocks.z >
                       static_cast<std::uint64_t>(multiprocessors))
      throw std::runtime_error("a cooperative launch of more blocks than run at once");
  }
  /// For a thread: its kernel goes on, and the launch throws at its end.
  void report(const char* what) { reported_ = what; }

  /// Runs the blocks one after another, or, for kernels with barriers across the grid, all at once.
  void run(const dim3& blocks, unsigned threads, std::size_t shared, bool at_once,
           const std::function<void()>& body) {
    gridDim = blocks, blockDim = {threads};
    body_ = &body, reported_ = nullptr;
    std::vector<dim3> order;
    for (unsigned z = 0; z < blocks.z; ++z)
      for (unsigned y = 0; y < blocks.y; ++y)
        for (unsigned x = 0; x < blocks.x; ++x) order.push_back({x, y, z});
    shuffle(order);
    const std::size_t together = at_once ? order.size() : 1;
    for (std::size_t first = 0; first < order.size(); first += together)
      run_together(order.data() + first, together, threads, shared);
  }

  Block& block() { return *warps_[current_->warp].block; }
  unsigned lane() const { return current_->thread % warp_lanes; }
  void wait(Wait what) {
    current_->waits = what;
    if (_setjmp(current_->place) == 0) _longjmp(scheduler_, 1);
  }
  /// Puts down what this lane gives and waits for the others' of its warp.
  const Warp::Exchange& exchange(const std::uint32_t* words, std::size_t count) {
    Warp::Exchange& exchange = warps_[current_->warp].exchanges[current_->exchanges++ % 2];
    std::memcpy(exchange.words[lane()], words, count * sizeof *words);
    wait(Wait::warp);
    return exchange;
  }

 private:
  struct Fiber {
    ucontext_t start;
    jmp_buf place;
    std::unique_ptr<std::byte[]> stack;
    bool has_started = false;
    std::size_t number = 0, warp = 0;
    unsigned thread = 0, exchanges = 0;
    Wait waits = Wait::nothing;
  };
  static constexpr std::size_t stack_bytes = 128 * 1024;

  template <class T>
  void shuffle(std::vector<T>& values) {
    for (std::size_t i = values.size(); i > 1; --i) {
      seed = seed * 6364136223846793005u + 1442695040888963407u;
      std::swap(values[i - 1], values[(seed >> 33) % i]);
    }
  }

  // A fiber runs one thread of a kernel after another, so that it is made once.
  static void live() {
    for (;;) {
      (*get().body_)();
      get().wait(Wait::done);
    }
  }

  void resume(Fiber& fiber) {
    current_ = &fiber;
    threadIdx = {fiber.thread, 0, 0};
    blockIdx = warps_[fiber.warp].block->index;
    if (_setjmp(scheduler_) != 0) return;
    if (fiber.has_started) _longjmp(fiber.place, 1);
    fiber.has_started = true;
    if (!fiber.stack) fiber.stack = std::make_unique<std::byte[]>(stack_bytes);
    getcontext(&fiber.start);
    fiber.start.uc_stack.ss_sp = fiber.stack.get();
    fiber.start.uc_stack.ss_size = stack_bytes;
    makecontext(&fiber.start, live, 0);
    setcontext(&fiber.start);
  }

  void collect(std::size_t first, std::size_t count, std::vector<Fiber*>& ready) const {
    ready.clear();
    for (std::size_t i = first; i < first + count; ++i)
      if (fibers_[i]->waits == Wait::nothing) ready.push_back(fibers_[i].get());
  }

  void run_together(const dim3* indices, std::size_t count, unsigned threads, std::size_t shared) {
    std::vector<Block> blocks(count);
    warps_.clear();
    for (std::size_t b = 0; b < count; ++b) {
      blocks[b].index = indices[b];
      blocks[b].shared.assign(shared + 2 * Block::guard, std::byte{0xff});  // NaN in every format
      for (unsigned w = 0; w < threads / warp_lanes; ++w) warps_.push_back({&blocks[b]});
    }
    while (fibers_.size() < count * threads) fibers_.push_back(std::make_unique<Fiber>());
    const std::size_t all = count * threads;
    for (std::size_t i = 0; i < all; ++i) {
      Fiber& fiber = *fibers_[i];
      fiber.number = i;
      fiber.warp = i / warp_lanes;
      fiber.thread = static_cast<unsigned>(i % threads);
      fiber.waits = Wait::nothing;
      fiber.exchanges = 0;
    }
    std::size_t done = 0, at_grid = 0;
    // A warp goes on until it waits for others: as far ahead of them as barriers let it, which shows those
    // that are missing between what they read and what it writes next.
    std::vector<std::size_t> ready_warps;
    std::vector<Fiber*> ready;
    std::size_t turn = (seed >> 33) % (all / warp_lanes);
    while (done < all) {
      collect(turn * warp_lanes, warp_lanes, ready);
      if (ready.empty()) {
        ready_warps.clear();
        for (std::size_t w = 0; w < all / warp_lanes; ++w) {
          collect(w * warp_lanes, warp_lanes, ready);
          if (!ready.empty()) ready_warps.push_back(w);
        }
        if (ready_warps.empty()) fail("a barrier that not all threads reach");
        shuffle(ready_warps);
        turn = ready_warps.front();
        continue;
      }
      shuffle(ready);
      for (Fiber* const fiber : ready) {
        resume(*fiber);
        Warp& warp = warps_[fiber->warp];
        const auto arrive = [&](auto& waiting, std::size_t expected) {  // at a barrier of `expected` fibers
          if (++waiting < expected) return;
          waiting = 0;
          const std::size_t first = fiber->number / expected * expected;
          for (std::size_t i = first; i < first + expected; ++i) fibers_[i]->waits = Wait::nothing;
        };
        switch (fiber->waits) {
          case Wait::warp:
            arrive(warp.waiting, warp_lanes);
            break;
          case Wait::block:
            arrive(warp.block->waiting, threads);
            break;
          case Wait::grid:
            arrive(at_grid, all);
            break;
          default:
            ++done;
        }
      }
    }
    for (Block& block : blocks)
      for (std::size_t i = 0; i < Block::guard; ++i)
        if (block.shared[i] != std::byte{0xff} ||
            block.shared[block.shared.size() - 1 - i] != std::byte{0xff})
          fail("a write outside of shared memory");
    if (reported_) fail(reported_);
  }

  [[noreturn]] void fail(const char* what) {
    fibers_.clear();  // those that wait in the middle of something
    throw std::runtime_error(what);
  }

  const std::function<void()>* body_ = nullptr;
  const char* reported_ = nullptr;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Warp> warps_;
  Fiber* current_ = nullptr;
  jmp_buf scheduler_;
};

}  // namespace cuda_emulation
