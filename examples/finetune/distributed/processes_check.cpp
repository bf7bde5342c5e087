// For the tests: what only several processes can show. To be run by mpirun; the exit status says whether all
// was right.
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "agreement.hpp"
#include "tree_sum.hpp"

namespace {

using finetune::AgreedError;
using finetune::Communicator;
using finetune::Index;

int faults = 0;

void expect(bool holds, const char* what, const Communicator& processes) {
  if (holds) return;
  std::fprintf(stderr, "%s: %s\n", processes.name(processes.rank()).c_str(), what);
  ++faults;
}

/// Values of such different magnitudes that another order of additions gives other bits.
void add_batch(Index batch, std::vector<float>& sum) {
  for (std::size_t i = 0; i < sum.size(); ++i) {
    const auto x = static_cast<unsigned>(batch * 7919 + static_cast<Index>(i) * 104729);
    sum[i] += static_cast<float>((x * 2654435761u) >> 8) * ((x & 3) == 0 ? 1e6f : 1.0f) *
              ((x & 4) == 0 ? 1.0f : -1.0f);
  }
}

/// Two steps, so that arrays of the first are used again.
std::vector<float> summed(Communicator& processes, Index batches, std::size_t numbers, double& loss,
                          finetune::Reduction reduction = finetune::Reduction::exact) {
  finetune::TreeSum sum(processes, reduction);
  std::vector<float> gradient(numbers);
  for (int step = 0; step < 2; ++step) {
    std::fill(gradient.begin(), gradient.end(), 0.0f);
    loss = sum.step(batches, gradient, [&](Index i) {
      add_batch(i, gradient);
      return 0.1 * static_cast<double>(i + 1);
    });
  }
  return gradient;
}

void check_sums(Communicator& processes) {
  for (const std::size_t numbers : {std::size_t{1}, std::size_t{40}, std::size_t{1000}})
    for (Index batches = 0; batches < 12; ++batches) {
      double alone = 0, together = 0;
      const std::vector<float> right = summed(finetune::single_process(), batches, numbers, alone);
      expect(summed(processes, batches, numbers, together) == right, "a sum has other bits", processes);
      expect(alone == together, "a loss has other bits", processes);
    }
  // Of two terms there is one order only.
  double loss = 0;
  if (processes.size() == 2)
    expect(summed(processes, 2, 1000, loss, finetune::Reduction::fast) == summed(processes, 2, 1000, loss),
           "MPI adds up something else", processes);
}

template <class Work>
std::string error_of(const Work& work) {
  try {
    work();
  } catch (const AgreedError& error) {
    return error.what();
  }
  return "";
}

void check_agreement(Communicator& processes) {
  const int last = processes.size() - 1;
  const bool is_last = processes.rank() == last;
  const std::string& name = processes.name(last);
  std::vector<float> parameters(100, 1.0f);
  finetune::check_same_parameters(processes, parameters, 1);
  if (is_last) parameters[99] = 1.0000001f;
  std::string said = error_of([&] { finetune::check_same_parameters(processes, parameters, 40); });
  expect(said.find("after step 40 " + name) == 0, "other parameters were not named", processes);

  const nlohmann::ordered_json key = {{"base", "x"}, {"data", is_last ? "b" : "a"}};
  said = error_of([&] { finetune::check_same_run(processes, key); });
  expect(said.find(name + " differs from " + processes.name(0) + " in \"data\": \"b\" instead of \"a\"") == 0,
         "other data were not named", processes);

  const auto fails = [&](bool here) {
    return error_of([&] {
      finetune::all_or_none(processes, [&] {
        if (here) throw std::runtime_error("no such file");
      });
    });
  };
  expect(fails(is_last) == name + ": no such file", "an error of one was not everybody's", processes);
  expect(fails(false).empty(), "there was no error", processes);

  expect(processes.any(is_last) && !processes.any(false), "any() is wrong", processes);
  expect(processes.from_first(processes.rank() + 5) == 5, "from_first() is wrong", processes);
  std::string text = processes.is_first() ? "a longer text" : "";
  processes.broadcast_text(text);
  expect(text == "a longer text", "broadcast_text() is wrong", processes);
  expect(processes.gather_texts(std::string(static_cast<std::size_t>(processes.rank()), 'x')).back() ==
             std::string(static_cast<std::size_t>(last), 'x'),
         "gather_texts() is wrong", processes);
  expect(processes.on_this_machine() == processes.size(), "on_this_machine() is wrong", processes);
  // Of the same cores, or of cores of its own.
  const std::vector<std::string> masks = processes.gather_texts(finetune::core_mask());
  const std::string& mask = masks[static_cast<std::size_t>(processes.rank())];
  const auto cores = std::count(mask.begin(), mask.end(), '1');
  const auto sharing = std::count(masks.begin(), masks.end(), mask);
  expect(processes.cores() == std::max<std::ptrdiff_t>(1, cores / sharing), "cores() is wrong", processes);
}

}  // namespace

int main() {
  const auto processes = finetune::start_processes();
  if (!processes || processes->size() < 2) return 2;
  check_sums(*processes);
  check_agreement(*processes);
  return processes->any(faults > 0) ? 1 : 0;
}
