// Processes that MPI connects.
#include <mpi.h>

#include <algorithm>  // count, max, min
#include <climits>    // INT_MAX
#include <csignal>    // pthread_sigmask
#include <cstdlib>    // exit
#include <stdexcept>  // runtime_error

#include <fmt/format.h>
#include <finetune/train/interrupt.hpp>  // stop_signals

#include "communicator.hpp"

namespace finetune {

namespace {

int count_of(Index count) {
  if (count > INT_MAX)
    throw std::runtime_error(fmt::format("{} values are more than one MPI message can have", count));
  return static_cast<int>(count);
}

MPI_Datatype type_of(Index element_bytes) {
  return element_bytes == 1 ? MPI_BYTE : element_bytes == 4 ? MPI_FLOAT : MPI_DOUBLE;
}

/// Of MPI_COMM_WORLD. What goes wrong in MPI ends all processes, with its message: MPI's own custom.
class MpiProcesses final : public Communicator {
 public:
  MpiProcesses() {
    int given = 0;
    MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &given);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
    char host[MPI_MAX_PROCESSOR_NAME] = {};
    int length = 0;
    MPI_Get_processor_name(host, &length);
    const std::string mask = core_mask();
    const std::vector<std::string> hosts = gather_texts({host, static_cast<std::size_t>(length)});
    const std::vector<std::string> masks = gather_texts(mask);
    int sharing = 0;  // the cores of this one
    here_ = 0;
    for (std::size_t r = 0; r < hosts.size(); ++r) {
      names_.push_back(fmt::format("process {} on {}", r, hosts[r]));
      const bool is_here = hosts[r] == hosts[static_cast<std::size_t>(rank_)];
      here_ += is_here ? 1 : 0;
      sharing += is_here && masks[r] == mask ? 1 : 0;
    }
    cores_ = std::max(1, static_cast<int>(std::count(mask.begin(), mask.end(), '1')) / sharing);
  }
  ~MpiProcesses() override { MPI_Finalize(); }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  const std::string& name(int rank) const override { return names_[static_cast<std::size_t>(rank)]; }
  int on_this_machine() const override { return here_; }
  int cores() const override { return cores_; }

  void all_gather(std::byte* all, Index element_bytes, std::span<const Share> parts) override {
    std::vector<int> counts, begins;
    for (const Share& part : parts) {
      counts.push_back(count_of(part.size()));
      begins.push_back(count_of(part.begin));
    }
    MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, all, counts.data(), begins.data(),
                   type_of(element_bytes), MPI_COMM_WORLD);
  }
  void broadcast(std::span<std::byte> bytes) override {
    constexpr std::size_t most = std::size_t{1} << 30;
    for (std::size_t begin = 0; begin < bytes.size(); begin += most) {
      const std::span<std::byte> piece = bytes.subspan(begin, std::min(most, bytes.size() - begin));
      MPI_Bcast(piece.data(), static_cast<int>(piece.size()), MPI_BYTE, 0, MPI_COMM_WORLD);
    }
  }
  void exchange(std::span<const Message<const float>> sent,
                std::span<const Message<float>> received) override {
    std::vector<MPI_Request> requests;
    for (const auto& [rank, numbers] : received)
      MPI_Irecv(numbers.data(), count_of(std::ssize(numbers)), MPI_FLOAT, rank, 0, MPI_COMM_WORLD,
                &requests.emplace_back());
    for (const auto& [rank, numbers] : sent)
      MPI_Isend(numbers.data(), count_of(std::ssize(numbers)), MPI_FLOAT, rank, 0, MPI_COMM_WORLD,
                &requests.emplace_back());
    MPI_Waitall(static_cast<int>(requests.size()), requests.data(), MPI_STATUSES_IGNORE);
  }
  void all_reduce(std::span<float> values) override {
    MPI_Allreduce(MPI_IN_PLACE, values.data(), count_of(std::ssize(values)), MPI_FLOAT, MPI_SUM,
                  MPI_COMM_WORLD);
  }
  [[noreturn]] void abort(int status) override {
    MPI_Abort(MPI_COMM_WORLD, status);
    std::exit(status);
  }

 private:
  int rank_ = 0, size_ = 1, here_ = 1, cores_ = 1;
  std::vector<std::string> names_;
};

/// "Open MPI v4.1.4"
std::string library_name() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = {};
  int length = 0;
  MPI_Get_library_version(text, &length);
  const std::string_view name(text, static_cast<std::size_t>(length));
  return std::string(name.substr(0, name.find_first_of(",\n")));
}

}  // namespace

std::unique_ptr<Communicator> start_processes() {
  if (!has_launcher()) return nullptr;
  const SignalsBlocked blocked;
  auto processes = std::make_unique<MpiProcesses>();
  const std::string several = several_by_launcher();
  if (processes->size() == 1 && !several.empty())
    throw std::runtime_error(fmt::format(
        "the launcher started several processes ({}), but each would run alone: it belongs to an MPI "
        "other than {}, which this program is built with; use that one's mpirun, or srun with a matching "
        "--mpi. For "
        "independent runs, unset {}",
        several, library_name(), several.substr(0, several.find('='))));
  return processes;
}

}  // namespace finetune
