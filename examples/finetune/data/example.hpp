// What a language model is trained on: tokens, and which of them the loss counts.
#pragma once

#include <cstddef>  // size_t
#include <cstdint>  // uint64_t
#include <vector>   // vector

#include <llama/vocabulary.hpp>       // Token
#include <tiedlora/views/config.hpp>  // Index

namespace finetune {

using tiedlora::Index;

/// A sequence that the model reads, of at least two tokens, and which of them it is to predict.
struct Example {
  std::vector<llama::Token> tokens = {};
  std::vector<bool> counted =
      {};                   ///< by token: whether the loss counts that it is predicted; never the first
  std::size_t source = 0;   ///< the file, by its index in DataReport::files
  std::size_t line = 0;     ///< in the file, from 1; 0 for a window of plain text
  std::uint64_t group = 0;  ///< equal where questions, or whole texts without any, are equal except for case,
                            ///< punctuation and spaces
};

}  // namespace finetune
