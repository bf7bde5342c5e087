// The CPU's kernels through verify::parity, in memory around which nothing can be accessed.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <tiedlora/eigen.hpp>
#include <tiedlora/ops.hpp>
#include <tiedlora/verify/parity.hpp>
#include <vector>

#include "support/deck.hpp"
#include "support/guarded.hpp"

namespace tiedlora_test {

/// Every operand alone on pages of its own, at their beginning or at their end.
class GuardedCpuBackend : public tiedlora::CpuBackend {
 public:
  class Memory {
   public:
    void* allocate(std::size_t bytes) {
      auto memory = std::make_unique<Bytes>(static_cast<Index>(bytes), ++allocations_ % 2 == 0);
      void* data = memory->data();
      all_.emplace(data, std::move(memory));
      return data;
    }
    void free(void* data) {
      const Bytes& memory = *all_.at(data);
      std::vector<std::byte> rest = memory.everything();
      rest.erase(rest.begin() + memory.place(), rest.begin() + memory.place() + memory.size());
      EXPECT_TRUE(all_poison(std::span<const std::byte>(rest))) << "written outside of an operand";
      all_.erase(data);
    }
    void upload(const void* from, void* to, std::size_t bytes) { std::memcpy(to, from, bytes); }
    void download(const void* from, void* to, std::size_t bytes) { std::memcpy(to, from, bytes); }

   private:
    using Bytes = Guarded<std::byte>;
    std::map<void*, std::unique_ptr<Bytes>> all_;
    std::size_t allocations_ = 0;
  };
  Memory& memory() const { return memory_; }

 private:
  mutable Memory memory_;
};

/// Runs the cases in parameters P, x in X, y and dy in Y, dx in Dx.
template <class P, class X = P, class Y = X, class Dx = X>
void expect_parity(const std::vector<tiedlora::verify::ParityCase>& cases) {
  std::cout << cases.size() << " cases from seed " << cases.front().seed << ", for " << tiedlora::kernel_isa()
            << std::endl;
  std::optional<CrashNote> note;
  const auto report = tiedlora::verify::parity<P, X, Y, Dx>(
      GuardedCpuBackend(), std::span<const tiedlora::verify::ParityCase>(cases),
      {.stop_at_first = true, .margin = 0, .before_case = [&](const std::string& text) {
         note.reset();
         note.emplace(text);
       }});
  EXPECT_TRUE(report.passed()) << report.table();
}

/// As many cases as it takes for every number of tokens and every rank of these to occur so often.
inline std::vector<tiedlora::verify::ParityCase> rounds(tiedlora::verify::ParitySampler&& sampler,
                                                        const std::vector<Index>& tokens,
                                                        const std::vector<Index>& ranks, std::size_t count) {
  return sampler.draw_all(tokens, ranks, count * std::max(tokens.size(), ranks.size()));
}

}  // namespace tiedlora_test
