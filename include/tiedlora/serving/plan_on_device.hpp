// The arrays of a batch's plan in a backend's own memory.
#pragma once

#include <cstddef>  // byte, size_t
#include <cstring>  // memcpy
#include <vector>   // vector

#include "../ops/backend.hpp"
#include "../views/config.hpp"
#include "batch_plan.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// Holds them: one piece of memory, which grows with the largest batch so far, and one upload per batch.
///
///   PlanOnDevice on_device(backend);                        // once
///   plan.assign(adapters.snapshot(), tokens);               // once per batch
///   on_device.upload(plan);
///   shrink(backend, plan, m, x, h);                         // for every module of every layer
///   expand(backend, plan, m, h, y);
///
/// The set's adapters are views of parameters in the same memory: set.add(AdapterView<const P>(…), owner,
/// {.check_finite = false}), since a check would read them. It serves one batch at a time: the next upload
/// overwrites this one, so the backend must run commands in the order given. A larger batch frees the memory
/// of the last one, whose kernels may still run: free waits for them (DeviceMemory). The backend must outlive
/// it.
template <class B>
class PlanOnDevice {
 public:
  static_assert(detail::has_device_memory<B>,
                "tiedlora: this backend reads the host's memory, and so the plan itself");

  /// Allocates nothing before the first upload.
  explicit PlanOnDevice(const B& backend) : backend_(&backend) {}
  PlanOnDevice(const PlanOnDevice&) = delete;
  PlanOnDevice& operator=(const PlanOnDevice&) = delete;
  ~PlanOnDevice() { free(); }

  /// Copies the plan's arrays and tells it where they are. Throws what the backend's memory throws.
  template <class P>
  void upload(BatchPlan<P>& plan) {
    const auto uses = static_cast<std::size_t>(plan.size()), idle = plan.idle().size();
    const std::size_t trainables = uses * sizeof(Index), idles = trainables + uses * sizeof(const P*),
                      scales = idles + idle * sizeof(Index), bytes = scales + uses * sizeof(float);
    reserve(bytes);
    const auto put = [&](std::size_t place, const auto* values, std::size_t count) {
      if (count > 0) std::memcpy(host_.data() + place, values, count * sizeof *values);
    };
    put(0, plan.rows(), uses), put(trainables, plan.trainables(), uses);
    put(idles, plan.idle().data(), idle), put(scales, plan.scales(), uses);
    auto&& memory = backend_->memory();
    if (bytes > 0) memory.upload(host_.data(), device_, bytes);
    const auto at = [&](std::size_t place) -> const void* {
      return static_cast<const std::byte*>(device_) + place;
    };
    plan.set_device_arrays({.rows = static_cast<const Index*>(at(0)),
                            .scales = static_cast<const float*>(at(scales)),
                            .trainables = static_cast<const P* const*>(at(trainables)),
                            .idle = static_cast<const Index*>(at(idles))});
  }

 private:
  void reserve(std::size_t bytes) {
    if (bytes <= host_.size()) return;
    free();
    auto&& memory = backend_->memory();
    device_ = memory.allocate(2 * bytes);
    host_.resize(2 * bytes);
  }
  void free() {
    if (!device_) return;
    auto&& memory = backend_->memory();
    memory.free(device_);
    device_ = nullptr;
    host_.clear();
  }

  const B* backend_;
  std::vector<std::byte> host_;
  void* device_ = nullptr;
};

TIEDLORA_END_NAMESPACE
