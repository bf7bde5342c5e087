// What the files of a base model say of it, in whichever form.
#pragma once

#include <string>  // string

#include "config.hpp"

namespace llama {

struct BaseConfig {
  Config sizes = {};
  std::string architecture = {};  ///< by GGUF's name: "llama" (Mistral too), "qwen2" or "qwen3"
  std::string name = {};          ///< what the file calls the model; may be empty
  Index context = 0;              ///< tokens of the longest text that it was trained for
  bool biases = false;            ///< of q, k and v
};

/// Takes 0 for the width of heads where width / heads says it.
inline void set_head_width(Config& sizes, Index head_width) {
  sizes.own_head_width = head_width * sizes.heads == sizes.width ? 0 : head_width;
}

}  // namespace llama
