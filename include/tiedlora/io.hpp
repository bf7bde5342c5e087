// Files, in one include. Needs nlohmann/json besides what tiedlora.hpp needs: CMake target tiedlora::io.
#pragma once

#include "io/file.hpp"           // files read whole, mapped, and written at once or not at all
#include "io/gguf.hpp"           // LoRA adapters for llama.cpp
#include "io/json/json.hpp"      // JSON, of bounded depth and size
#include "io/model_modules.hpp"  // the module list of a base model
#include "io/native.hpp"         // any adapter exactly, and checkpoints
#include "io/peft.hpp"           // folders of Hugging Face PEFT
#include "io/safetensors.hpp"    // safetensors files
#include "io/sniff.hpp"          // what a file or a folder is
