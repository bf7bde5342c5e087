// Where to find each token's u and v when many adapters share one A and B.
#pragma once

#include "config.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// Plain and trivially copyable.
template <class P>
struct Tenants {
  const P* const* arrays = nullptr;  ///< by token: the trainable array of its adapter
  Index u = -1;                      ///< where the module's u begins in it; -1: u is common to all, or absent
  Index v = -1;                      ///< likewise
};

TIEDLORA_END_NAMESPACE
