// The parity kit: right backends pass.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <tiedlora/eigen.hpp>
#include <tiedlora/ops.hpp>
#include <tiedlora/verify.hpp>
#include <vector>

#include "support/kernel_instances.hpp"
#include "support/plain_backend.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;
using Eigen::bfloat16;
using Eigen::half;

// As on a GPU: addresses mean nothing on the host. They are not even canonical there, so that who follows one
// crashes.
class FakeDevice {
 public:
  struct Heap {
    void* allocate(std::size_t bytes) const {
      ++live;
      return device(std::malloc(bytes));
    }
    void free(void* data) const {
      --live;
      std::free(host(data));
    }
    void upload(const void* from, void* to, std::size_t bytes) const { std::memcpy(host(to), from, bytes); }
    void download(const void* from, void* to, std::size_t bytes) const { std::memcpy(to, host(from), bytes); }
  };
  Heap memory() const { return {}; }
  inline static Index live = 0;

  void shrink(const Plain::F& f, const Plain::In& x, const Plain::Out& h, const CallOptions& o) const {
    plain_.shrink(host(f), View(x), View(h), host(o));
  }
  void expand(const Plain::F& f, const Plain::In& h, const Plain::Out& y, const CallOptions& o) const {
    plain_.expand(host(f), View(h), View(y), host(o));
  }
  void expand_backward(const Plain::F& f, const Plain::In& h, const Plain::In& dy, const Factors<float>& g,
                       const Plain::Out& dh, const CallOptions& o) const {
    plain_.expand_backward(host(f), View(h), View(dy), host(g), View(dh), host(o));
  }
  void shrink_backward(const Plain::F& f, const Plain::In& x, const Plain::In& dh, const Factors<float>& g,
                       const Plain::Out& dx, const CallOptions& o) const {
    plain_.shrink_backward(host(f), View(x), View(dh), host(g), View(dx), host(o));
  }

 private:
  static constexpr std::uintptr_t offset = std::uintptr_t{1} << 62;
  static void* device(void* p) {
    return reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(p) + offset);
  }
  template <class T>
  static T* host(T* p) {
    return p ? reinterpret_cast<T*>(reinterpret_cast<std::uintptr_t>(p) - offset) : nullptr;
  }
  template <class T>
  static Factors<T> host(Factors<T> f) {
    f.A = host(f.A), f.B = host(f.B), f.u = host(f.u), f.v = host(f.v);
    return f;
  }
  static CallOptions host(CallOptions o) {
    o.token_scale = host(o.token_scale);
    return o;
  }
  template <class T>
  struct View : Tokens<T> {
    explicit View(const Tokens<T>& tokens) : Tokens<T>(tokens) {
      this->data = host(this->data), this->rows = host(this->rows);
      if (!this->pointers) return;
      for (Index t = 0; t < this->count; ++t) hosts.push_back(host(host(this->pointers)[t]));
      this->pointers = this->count > 0 ? hosts.data() : host(this->pointers);
    }
    std::vector<T*> hosts;
  };

  Plain plain_;
};

verify::ParityOptions quick() { return {.cases = 64}; }

template <class P = float, class X = P, class Y = X, class Dx = X, class B>
void expect_passes(const B& backend) {
  const verify::Parity report = verify::parity<P, X, Y, Dx>(backend, quick());
  EXPECT_TRUE(report.passed()) << report.table();
  EXPECT_TRUE(report.deterministic);
}

TEST(Parity, TheReferencePasses) {
  expect_passes(ReferenceBackend{});
  expect_passes<double>(ReferenceBackend{});
  expect_passes<half, bfloat16, float, half>(ReferenceBackend{});
}

TEST(Parity, TheCpuBackendPasses) {
  expect_passes(CpuBackend{});
  expect_passes<half>(CpuBackend{});
  expect_passes<bfloat16>(CpuBackend{});
  expect_passes<float, bfloat16>(CpuBackend{});
  expect_passes<half, float, bfloat16, half>(CpuBackend{});
}

TEST(Parity, ABackendOfTheUsersOwnPasses) {
  expect_passes(Plain{});
  expect_passes(PlainModules{});
}

TEST(Parity, AllOperandsLieInTheBackendsMemory) {
  expect_passes(FakeDevice{});
  EXPECT_EQ(FakeDevice::live, 0);
}

TEST(Parity, TheTableSaysWhatWasCheckedAndHowNear) {
  const verify::Parity report = verify::parity(PlainModules{}, quick());
  for (const char* check : {"shrink: h", "expand: y", "expand_backward: dh", "expand_backward: dB",
                            "expand_backward: du", "expand_backward: dv", "shrink_backward: dA",
                            "shrink_backward: dx", "shrink of modules: h", "shrink_backward of modules: dx",
                            "finite differences: dA", "beside NaN or infinity: y", "no tokens", "rank 0"}) {
    const auto row = std::find_if(report.rows.begin(), report.rows.end(),
                                  [&](const verify::ParityRow& r) { return r.check == check; });
    ASSERT_NE(row, report.rows.end()) << check << "\n" << report.table();
    EXPECT_GT(row->checked, 0) << check;
    EXPECT_LT(row->worst, 1) << check;
    EXPECT_NE(report.table().find(check), std::string::npos);
  }
  EXPECT_EQ(report.first_failure(), nullptr);
}

}  // namespace
}  // namespace tiedlora_test
