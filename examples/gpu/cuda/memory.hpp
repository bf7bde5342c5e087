// Memory on the device.
#pragma once

#include <algorithm>  // max
#include <cstddef>    // size_t
#include <stdexcept>  // runtime_error
#include <utility>    // exchange
#include <vector>     // vector

#include "device.cuh"
#include "kernels/product.cuh"

namespace gpu_cuda {

/// What a backend's memory() returns (DeviceMemory in ops/backend.hpp). Transfers are in the stream's order
/// and done when they return; free waits for all kernels (device_free).
struct Heap {
  Stream stream = {};

  void* allocate(std::size_t bytes) const { return device_allocate(bytes); }
  void free(void* data) const { device_free(data); }
  void upload(const void* from, void* to, std::size_t bytes) const {
    copy_to_device(from, to, bytes, stream);
    synchronize(stream);
  }
  void download(const void* from, void* to, std::size_t bytes) const {
    copy_to_host(from, to, bytes, stream);
    synchronize(stream);
  }
};

/// Values on the device.
template <class T>
class Array {
 public:
  Array() = default;
  explicit Array(std::size_t size)
      : data_(size ? static_cast<T*>(device_allocate(size * sizeof(T))) : nullptr), size_(size) {}
  explicit Array(const std::vector<T>& values) : Array(values.size()) { upload(values.data()); }
  Array(Array&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Array& operator=(Array&& other) noexcept {
    std::swap(data_, other.data_), std::swap(size_, other.size_);
    return *this;
  }
  ~Array() {
    if (data_) device_free(data_);
  }

  T* data() const { return data_; }
  std::size_t size() const { return size_; }
  /// Other values, in the memory that it has where that is enough.
  void assign(const std::vector<T>& values, Stream stream) {
    if (values.size() > size_) *this = Array(std::max(values.size(), 2 * size_));
    if (!values.empty()) copy_to_device(values.data(), data_, values.size() * sizeof(T), stream);
  }
  /// All values, in the stream's order.
  void upload(const T* from, Stream stream = {}) {
    if (size_ == 0) return;
    copy_to_device(from, data_, size_ * sizeof(T), stream);
    synchronize(stream);
  }
  std::vector<T> download(Stream stream = {}) const {
    std::vector<T> values(size_);
    if (size_ == 0) return values;
    copy_to_host(data_, values.data(), size_ * sizeof(T), stream);
    synchronize(stream);
    return values;
  }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Where partial sums meet. It grows when a call needs more than any before; so that a captured graph never
/// allocates, run what is to be captured once before. Outgrown arrays are kept, for graphs that hold their
/// addresses; it grows at least to twice its size, so that all of them are no more than the last.
class Room {
 public:
  Workspace get(Index sums, Index tickets, Stream stream) {
    if (static_cast<std::size_t>(sums) > sums_.size() ||
        static_cast<std::size_t>(tickets) > tickets_.size()) {
      if (is_capturing(stream))
        throw std::runtime_error("CUDA: the workspace cannot grow inside a graph; run the step once before");
      const auto larger = [](std::size_t size, Index wanted) {
        return std::max(2 * size, static_cast<std::size_t>(wanted));
      };
      outgrown_sums_.push_back(std::exchange(sums_, Array<float>(larger(sums_.size(), sums))));
      outgrown_tickets_.push_back(std::exchange(tickets_, Array<unsigned>(larger(tickets_.size(), tickets))));
      if (tickets_.size() > 0) set_bytes(tickets_.data(), 0, tickets_.size() * sizeof(unsigned), stream);
    }
    return {sums_.data(), tickets_.data()};
  }

 private:
  Array<float> sums_;
  Array<unsigned> tickets_;
  std::vector<Array<float>> outgrown_sums_;
  std::vector<Array<unsigned>> outgrown_tickets_;
};

}  // namespace gpu_cuda
