// Views and arithmetic in one include, without Eigen: shrink, expand, forward, their backward, and the
// Backend that computes them. All that a translation unit for a higher instruction set, or a .cu file,
// includes of this library. Eigen's matrices as operands: <tiedlora/eigen.hpp> beside it.
#pragma once

#include "backends/cpu.hpp"         // CpuBackend
#include "backends/reference.hpp"   // ReferenceBackend
#include "ops/backend.hpp"          // Backend, scratch_bytes
#include "ops/backward.hpp"         // expand_backward, shrink_backward, backward, check_backward
#include "ops/block_gradients.hpp"  // BlockGradients, backward_in_blocks: backward in a host's threads
#include "ops/forward.hpp"          // shrink, expand, forward, check_forward
#include "ops/shared_input.hpp"     // shrink and shrink_backward of modules that read the same x
#include "ops/threads.hpp"          // parallel_stages, thread_stages: the stages in a host's threads
#include "ops/unchecked.hpp"        // unchecked::forward, unchecked::backward
#include "views/factors.hpp"        // Factors, slice_in, slice_out
#include "views/options.hpp"        // CallOptions, Slice, Dropout
#include "views/tokens.hpp"         // Tokens, none
