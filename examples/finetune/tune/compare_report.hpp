// What a comparison leaves: a table, a picture, and which candidate to take.
#pragma once

#include <cstdint>     // int64_t
#include <filesystem>  // path
#include <span>        // span

#include "compare.hpp"

namespace finetune {

/// What all candidates share.
struct Compared {
  std::int64_t steps = 0;  ///< of those that stayed to the end
  double base_loss = 0;    ///< nats a token
};

/// Prints the result, and writes compare.csv, result.txt and, where gnuplot is there, compare.png.
void report(const std::filesystem::path& folder, std::span<const Candidate> candidates,
            std::span<const double> weights, const Compared& compared);

}  // namespace finetune
