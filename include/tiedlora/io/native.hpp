// This project's own files: any adapter exactly, and checkpoints of its training.
#pragma once

#include "native/adapter.hpp"
#include "native/checkpoint.hpp"
