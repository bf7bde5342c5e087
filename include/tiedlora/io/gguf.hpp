// LoRA adapters for llama.cpp, both ways.
#pragma once

#include "gguf/architectures.hpp"
#include "gguf/export.hpp"
#include "gguf/load.hpp"
#include "gguf/naming.hpp"
#include "gguf/source.hpp"
