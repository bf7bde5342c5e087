#include "communicator.hpp"

#include <sched.h>  // sched_getaffinity

#include <algorithm>  // any_of, copy, count, max
#include <cstdlib>    // atoi, exit, getenv
#include <stdexcept>  // invalid_argument
#include <thread>     // hardware_concurrency

#include <fmt/format.h>

namespace finetune {

namespace {

class SingleProcess final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  const std::string& name(int) const override { return name_; }
  int on_this_machine() const override { return 1; }
  void all_gather(std::byte*, Index, std::span<const Share>) override {}
  void broadcast(std::span<std::byte>) override {}
  void exchange(std::span<const Message<const float>>, std::span<const Message<float>>) override {}
  void all_reduce(std::span<float>) override {}
  [[noreturn]] void abort(int status) override { std::exit(status); }
  int cores() const override {
    const std::string mask = core_mask();
    return static_cast<int>(std::count(mask.begin(), mask.end(), '1'));
  }

 private:
  std::string name_ = "process 0";
};

}  // namespace

void check_batches(Index accumulate, const Communicator& processes, std::string_view size_option,
                   Index size) {
  if (accumulate < processes.size())
    throw std::invalid_argument(
        fmt::format("--accumulate {}: a step has too few batches for {} processes; give --accumulate {} or "
                    "more, with a smaller {} (now {}) for steps of the same size",
                    accumulate, processes.size(), processes.size(), size_option, size));
}

Communicator& single_process() {
  static SingleProcess process;
  return process;
}

bool has_launcher() {
  // Open MPI, MPICH and its relatives, Slurm's srun, and what starts by PMIx.
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMI_RANK", "PMIX_RANK"})
    if (std::getenv(name)) return true;
  return !several_by_launcher().empty();
}

std::string several_by_launcher() {
  // The innermost speaks: mpirun within a job of Slurm starts its own number.
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS", "SLURM_STEP_NUM_TASKS"})
    if (const char* count = std::getenv(name))
      return std::atoi(count) > 1 ? fmt::format("{}={}", name, count) : std::string();
  return "";
}

std::string core_mask() {
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    std::string mask;
    for (std::size_t core = 0; core < CPU_SETSIZE; ++core) mask += CPU_ISSET(core, &set) ? '1' : '0';
    return mask;
  }
#endif
  return std::string(std::max(1u, std::thread::hardware_concurrency()), '1');
}

std::vector<std::string> Communicator::gather_texts(std::string_view mine) {
  std::vector<Share> parts;
  Index end = 0;
  for (const Index length : gather(static_cast<Index>(mine.size()))) {
    parts.push_back({end, end + length});
    end += length;
  }
  std::string all(static_cast<std::size_t>(end), '\0');
  std::copy(mine.begin(), mine.end(), all.begin() + parts[static_cast<std::size_t>(rank())].begin);
  all_gather(std::span<char>(all), parts);
  std::vector<std::string> texts;
  for (const Share& part : parts)
    texts.push_back(all.substr(static_cast<std::size_t>(part.begin), static_cast<std::size_t>(part.size())));
  return texts;
}

void Communicator::broadcast_text(std::string& text) {
  text.resize(from_first(text.size()));
  broadcast(std::as_writable_bytes(std::span(text)));
}

bool Communicator::any(bool mine) {
  const std::vector<unsigned char> all = gather(static_cast<unsigned char>(mine));
  return std::any_of(all.begin(), all.end(), [](unsigned char one) { return one != 0; });
}

}  // namespace finetune
