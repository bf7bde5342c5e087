// Values in a device's memory.
#pragma once

#include <cstddef>  // size_t
#include <span>     // span
#include <vector>   // vector

#include "device.hpp"

namespace gpu_opencl {

/// `size` elements of T, freed with this. The device must outlive it.
template <class T>
class Array {
 public:
  /// Not initialised.
  Array(Device& device, std::size_t size)
      : device_(&device),
        data_(static_cast<T*>(device.allocate((size > 0 ? size : 1) * sizeof(T)))),
        size_(size) {}
  Array(Device& device, std::span<const T> values) : Array(device, values.size()) { upload(values); }
  ~Array() { device_->free(data_); }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  T* data() const { return data_; }  ///< the device's: not to be dereferenced here
  std::size_t size() const { return size_; }
  std::span<T> span() const { return {data_, size_}; }  ///< likewise

  void upload(std::span<const T> values) { device_->upload(values.data(), data_, values.size_bytes()); }
  std::vector<T> download() const {
    std::vector<T> values(size_);
    device_->download(data_, values.data(), size_ * sizeof(T));
    return values;
  }

 private:
  Device* device_;
  T* data_;
  std::size_t size_;
};

}  // namespace gpu_opencl
