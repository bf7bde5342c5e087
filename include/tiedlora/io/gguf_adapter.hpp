// LoRA adapters for llama.cpp, both ways.
#pragma once

#include "gguf_export.hpp"
#include "gguf_load.hpp"
#include "gguf_naming.hpp"
