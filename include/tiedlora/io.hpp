// Files, in one include. Needs nlohmann/json besides what tiedlora.hpp needs: CMake target tiedlora::io.
#pragma once

#include "io/file.hpp"
#include "io/json.hpp"
#include "io/safetensors.hpp"
