// The core of tiedlora in one include: low-rank adapters whose matrices are tied across layers. Everything
// but files (io.hpp) and checks for your own kernels (verify.hpp). Needs Eigen only.
#pragma once

#include "adapter.hpp"  // what an adapter is: Layout, Adapter, Gradients, AdamW, merge
#include "eigen.hpp"    // Eigen's matrices as tokens
#include "ops.hpp"      // forward, backward and their stages
#include "serving.hpp"  // many adapters in one batch of tokens
