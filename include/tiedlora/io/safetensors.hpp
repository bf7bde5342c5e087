// safetensors files, read in place and written.
#pragma once

#include "safetensors/file.hpp"
