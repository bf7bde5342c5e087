// The processes of a run, and what they tell each other.
#pragma once

#include <cstddef>      // byte
#include <cstdint>      // uint64_t
#include <limits>       // numeric_limits
#include <memory>       // unique_ptr
#include <span>         // span, as_writable_bytes
#include <string>       // string
#include <string_view>  // string_view
#include <type_traits>  // is_trivially_copyable
#include <vector>       // vector

#include <tiedlora/views/config.hpp>  // Index

namespace finetune {

using tiedlora::Index;

/// [begin, end) of an array.
struct Share {
  Index begin = 0, end = 0;
  Index size() const { return end - begin; }
};

/// Share number `ith` of `count` things in `nth` parts of about one size, in whole units, except the last.
inline Share share_of(Index count, int ith, int nth, Index unit = 1) {
  const Index units = (count + unit - 1) / unit;
  const auto border = [&](Index i) {
    return units * i / nth * unit < count ? units * i / nth * unit : count;
  };
  return {border(ith), border(ith + 1)};
}

/// Values for another process, or room for those it sends.
template <class T>
struct Message {
  int rank = 0;
  std::span<T> numbers = {};
};

/// All calls but those of rank, size and abort are made by every process, in one order, from one thread each.
class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;  ///< from 0; the first process reads checkpoints, writes files and speaks
  virtual int size() const = 0;
  /// "process 1 on host-b"
  virtual const std::string& name(int rank) const = 0;
  virtual int on_this_machine() const = 0;  ///< processes, this one counted
  bool is_first() const { return rank() == 0; }

  /// Every process has filled its part of an array of elements of 1, 4 or 8 bytes, and gets the others'.
  virtual void all_gather(std::byte* all, Index element_bytes, std::span<const Share> parts) = 0;
  /// Every process gets what the first has.
  virtual void broadcast(std::span<std::byte> bytes) = 0;
  /// Sends and receives. Between two processes, messages pair in the order in which both list them.
  virtual void exchange(std::span<const Message<const float>> sent,
                        std::span<const Message<float>> received) = 0;
  /// The sum over processes, in whatever order is fastest.
  virtual void all_reduce(std::span<float> values) = 0;
  /// Ends all processes with this exit status.
  [[noreturn]] virtual void abort(int status) = 0;
  /// This one's share of the machine's cores, at least one: those that the launcher has bound it to, among
  /// the processes that it has bound to the same.
  virtual int cores() const = 0;

  template <class T>
  void all_gather(std::span<T> all, std::span<const Share> parts) {
    static_assert(std::is_trivially_copyable_v<T>);
    all_gather(reinterpret_cast<std::byte*>(all.data()), static_cast<Index>(sizeof(T)), parts);
  }
  /// One number of each process, by rank.
  template <class T>
  std::vector<T> gather(const T& mine) {
    std::vector<T> all(static_cast<std::size_t>(size()));
    all[static_cast<std::size_t>(rank())] = mine;
    std::vector<Share> parts;
    for (int r = 0; r < size(); ++r) parts.push_back({r, r + 1});
    all_gather(std::span<T>(all), parts);
    return all;
  }
  std::vector<std::string> gather_texts(std::string_view mine);
  template <class T>
  T from_first(T value) {
    static_assert(std::is_trivially_copyable_v<T>);
    broadcast(std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }
  void broadcast_text(std::string& text);
  /// Whether it is so on any process.
  bool any(bool mine);
};

/// number(i) for each i below `count`, of which each process computes a part.
template <class Number>
std::vector<double> computed_by_all(Communicator& processes, Index count, const Number& number) {
  std::vector<double> numbers(static_cast<std::size_t>(count));
  std::vector<Share> parts;
  for (int r = 0; r < processes.size(); ++r) parts.push_back(share_of(count, r, processes.size()));
  const Share mine = parts[static_cast<std::size_t>(processes.rank())];
  for (Index i = mine.begin; i < mine.end; ++i) numbers[static_cast<std::size_t>(i)] = number(i);
  processes.all_gather(std::span(numbers), parts);
  return numbers;
}

/// The mean of loss(i) for i below `count`, each weighing weight(i), of which each process computes a part;
/// added up in order, for the same bits with any number of processes. NaN where nothing weighs anything.
template <class Weight, class Loss>
double mean_by_all(Communicator& processes, Index count, const Weight& weight, const Loss& loss) {
  const std::vector<double> parts = computed_by_all(
      processes, count, [&](Index i) { return weight(i) > 0 ? loss(i) * double(weight(i)) : 0.0; });
  double sum = 0, weights = 0;
  for (Index i = 0; i < count; ++i) {
    sum += parts[static_cast<std::size_t>(i)];
    weights += double(weight(i));
  }
  return weights > 0 ? sum / weights : std::numeric_limits<double>::quiet_NaN();
}

/// Throws std::invalid_argument for a step of fewer batches than processes. `size_option` makes them smaller.
void check_batches(Index accumulate, const Communicator& processes, std::string_view size_option, Index size);

/// Where there is one process only.
Communicator& single_process();

/// All processes that mpirun, srun or the like started, or this one alone. To be called first in main, and
/// to live until its end. Threads that it starts get none of the signals that an Interrupt waits for. Throws
/// std::runtime_error under a launcher if the program was built without MPI, and if a launcher started
/// several and the program was built with another MPI: each would believe that it is alone, and write the
/// same files.
std::unique_ptr<Communicator> start_processes();

/// Whether something like mpirun started this process.
bool has_launcher();

/// What the launcher says of the number of processes where it is above 1, such as "PMI_SIZE=4"; else nothing.
std::string several_by_launcher();

/// The cores that this process may use, one character each: '1' where it may.
std::string core_mask();

}  // namespace finetune
