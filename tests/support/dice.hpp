// Random values for tests, the same on every compiler: the engine is specified by the standard, the
// distributions are ours.
#pragma once

#include <Eigen/Core>

#include <cstdint>
#include <iterator>
#include <random>
#include <tiedlora/views/config.hpp>

namespace tiedlora_test {

using tiedlora::Index;

// Column-major whatever Eigen's default is: tokens are columns.
template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>;
template <class T>
using RowMatrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

class Dice {
 public:
  explicit Dice(std::uint64_t seed) : engine_(seed) {}

  std::uint64_t bits() { return engine_(); }
  double uniform(double low = -1, double high = 1) {
    return low + (high - low) * static_cast<double>(engine_() >> 11) * 0x1p-53;
  }
  /// low, …, high: both included.
  Index integer(Index low, Index high) {
    return low + static_cast<Index>(engine_() % static_cast<std::uint64_t>(high - low + 1));
  }
  bool coin() { return engine_() >> 63 != 0; }

  template <class Choices>
  auto pick(const Choices& choices) {
    return std::data(choices)[integer(0, static_cast<Index>(std::size(choices)) - 1)];
  }

  template <class Range>
  void fill(Range&& values, double low = -1, double high = 1) {
    for (auto& value : values)
      value = static_cast<std::remove_reference_t<decltype(value)>>(uniform(low, high));
  }

  template <class T>
  Matrix<T> matrix(Index rows, Index columns, double low = -1, double high = 1) {
    Matrix<T> result(rows, columns);
    for (T *value = result.data(), *end = value + result.size(); value != end; ++value)
      *value = static_cast<T>(uniform(low, high));
    return result;
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace tiedlora_test
