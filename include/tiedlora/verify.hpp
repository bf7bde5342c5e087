// Checks for your own kernels and derivatives, without a test framework.
#pragma once

#include "verify/gradient_check.hpp"  // check_gradients: against finite differences
#include "verify/parity.hpp"          // parity: any backend against the reference loops
