// Files, in one include. Needs nlohmann/json besides what tiedlora.hpp needs: CMake target tiedlora::io.
#pragma once

#include "io/checkpoint.hpp"
#include "io/file.hpp"
#include "io/gguf.hpp"
#include "io/gguf_adapter.hpp"
#include "io/json.hpp"
#include "io/model_modules.hpp"
#include "io/native.hpp"
#include "io/peft.hpp"
#include "io/safetensors.hpp"
