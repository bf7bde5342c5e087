// The sum of a step's gradients over its batches, whichever process computed which: the same bits.
//
// K batches are the leaves of a binary tree. Its node (b, w), w a power of two, is the sum over batches b to
// b + w − 1: node (b, w/2) plus node (b + w/2, w/2), or the former alone where the latter has no batch. So
// the order of additions depends on K and on nothing else. A process has consecutive batches, which are whole
// subtrees, at most two of each size; these it adds up by itself.
//
// The rest is a reduce-scatter and an all-gather in that order: a process gets its slice of the others'
// subtrees, adds up what is left of the tree, and all get all slices. Where each has one subtree, each of N
// processes sends 2 (N − 1) / N of the array, the least that any sum over processes can do.
#pragma once

#include <cstddef>  // size_t
#include <numeric>  // accumulate
#include <span>     // span
#include <vector>   // vector

#include "communicator.hpp"

namespace finetune {

/// How gradients of processes are added up.
enum class Reduction {
  exact,  ///< as above: the same bits for any number of processes
  fast    ///< by MPI_Allreduce, whose order depends on that number
};

/// A node of the tree.
struct Subtree {
  Index begin = 0, width = 1;
  bool operator==(const Subtree&) const = default;
};

/// Appends a node to those before it, and joins what can be joined: merge(i) is to add what belongs to node
/// i + 1, the last, to that of node i, before the two become one. `count`: leaves of the tree.
template <class Merge>
void push_node(std::vector<Subtree>& nodes, Subtree node, Index count, const Merge& merge) {
  nodes.push_back(node);
  for (;;) {
    Subtree& last = nodes.back();
    if (last.begin == 0 && last.width >= count) return;  // the root
    if (last.begin % (2 * last.width) == 0) {
      if (last.begin + last.width < count) return;  // its sibling comes later
      last.width *= 2;                              // it has none
      continue;
    }
    if (nodes.size() < 2 || nodes[nodes.size() - 2].begin + last.width != last.begin) return;
    merge(nodes.size() - 2);
    nodes.pop_back();
    nodes.back().width *= 2;
  }
}

/// The subtrees that leaves [part.begin, part.end) of `count` make by themselves.
std::vector<Subtree> subtrees_of(Share part, Index count);

/// Steps, one after the other; keeps its arrays.
class TreeSum {
 public:
  explicit TreeSum(Communicator& processes, Reduction reduction = Reduction::exact)
      : processes_(processes), reduction_(reduction) {}

  Communicator& processes() const { return processes_; }

  /// A step of `batches` batches over all processes. `gradient`, all zeros before, becomes the sum over them;
  /// loss(i) is to add that of batch i to it and to return its loss. Returns the sum of these.
  template <class Loss>
  double step(Index batches, std::span<float> gradient, const Loss& loss) {
    begin(batches, gradient);
    const std::vector<double> losses = computed_by_all(processes_, batches, [&](Index i) {
      const double one = loss(i);
      add();
      return one;
    });
    finish();
    return std::accumulate(losses.begin(), losses.end(), 0.0);
  }

  /// Memory for steps of `batches` batches, besides the gradient.
  static Index bytes(Index numbers, Index batches, int processes);

 private:
  void begin(Index batches, std::span<float> gradient);
  void add();  // what the gradient holds now, and makes it zero again
  void finish();
  bool is_trivial() const { return count_ == 1 && processes_.size() == 1; }
  void reduce();

  Communicator& processes_;
  Reduction reduction_;
  Index count_ = 0, next_ = 0;
  std::span<float> gradient_ = {};
  std::vector<Subtree> nodes_ = {};              // of this process
  std::vector<std::vector<float>> arrays_ = {};  // what belongs to them
  std::vector<float> received_ = {};
};

}  // namespace finetune
