// A backend with memory of its own, on a machine without a device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <tiedlora/ops.hpp>
#include <utility>
#include <vector>

#include "support/plain_backend.hpp"

namespace tiedlora_test {

// As on a GPU: addresses mean nothing on the host. They are not even canonical there, so that who follows one
// crashes. And a kernel runs after its call has returned: at the latest possible moment, when upload,
// download or free wait for it.
class FakeDevice {
 public:
  struct Heap {
    void* allocate(std::size_t bytes) const {
      ++live;
      return device(std::malloc(bytes));
    }
    void free(void* data) const {
      finish();
      --live;
      std::free(host(data));
    }
    // An empty array may have no address.
    void upload(const void* from, void* to, std::size_t bytes) const {
      finish();
      if (bytes > 0) std::memcpy(host(to), from, bytes);
    }
    void download(const void* from, void* to, std::size_t bytes) const {
      finish();
      if (bytes > 0) std::memcpy(to, host(from), bytes);
    }
  };
  Heap memory() const { return {}; }
  inline static Index live = 0;
  /// Kernels that have been started and have not run.
  inline static std::vector<std::function<void()>> in_flight;

  void shrink(const Plain::F& f, const Plain::In& x, const Plain::Out& h, const CallOptions& o) const {
    in_flight.push_back([=] { Plain().shrink(host(f), View(x), View(h), host(o)); });
  }
  void expand(const Plain::F& f, const Plain::In& h, const Plain::Out& y, const CallOptions& o) const {
    in_flight.push_back([=] { Plain().expand(host(f), View(h), View(y), host(o)); });
  }
  void expand_backward(const Plain::F& f, const Plain::In& h, const Plain::In& dy, const Factors<float>& g,
                       const Plain::Out& dh, const CallOptions& o) const {
    in_flight.push_back(
        [=] { Plain().expand_backward(host(f), View(h), View(dy), host(g), View(dh), host(o)); });
  }
  void shrink_backward(const Plain::F& f, const Plain::In& x, const Plain::In& dh, const Factors<float>& g,
                       const Plain::Out& dx, const CallOptions& o) const {
    in_flight.push_back(
        [=] { Plain().shrink_backward(host(f), View(x), View(dh), host(g), View(dx), host(o)); });
  }

 private:
  static void finish() {
    for (const auto& kernel : std::exchange(in_flight, {})) kernel();
  }
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
};

}  // namespace tiedlora_test
