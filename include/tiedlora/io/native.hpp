// This project's own files: any adapter exactly, and checkpoints of its training.
#pragma once

#include "native/checkpoint.hpp"
#include "native/file.hpp"
#include "native/load.hpp"
#include "native/map.hpp"
#include "native/save.hpp"
