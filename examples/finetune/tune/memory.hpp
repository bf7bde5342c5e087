// How much memory a run takes, before it takes it.
#pragma once

#include <cstdint>   // int64_t
#include <optional>  // optional
#include <string>    // string

#include "base.hpp"

namespace finetune {

/// Bytes.
struct MemoryEstimate {
  Index weights = 0;  ///< of the file, mapped: the system drops what it needs elsewhere and reads it again
  Index copy = 0;     ///< of the weights as floats
  Index working = 0;  ///< activations and scratch of a step
  Index evaluation = 0;
  Index adapter = 0;  ///< parameters, gradients and their sums, both moments, the best parameters until then

  Index total() const { return weights + copy + working + evaluation + adapter; }
  /// What must still be there where the model is open: the file is mapped, the copy is made.
  Index needed() const { return total() - weights - copy; }
  std::string text() const;
};

/// Per process. `resume`: a checkpoint is read beside the adapter that it then replaces.
MemoryEstimate estimate_memory(TuneBase& base, const TrainingDataOptions& data, const TuneOptions& tune,
                               const tiedlora::Layout& layout, bool resume, int processes = 1);

/// What this process may still take: of the machine, or of what its control group is allowed. What the system
/// keeps of files counts as free. Nothing where the system does not say.
std::optional<std::int64_t> available_memory();

}  // namespace finetune
