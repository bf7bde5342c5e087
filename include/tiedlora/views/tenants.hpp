// Where the tokens of many adapters over one A, B have their own u and v.
#pragma once

#include "config.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// Plain and trivially copyable.
template <class P>
struct Tenants {
  const P* const* arrays = nullptr;  ///< by token: the trained array of its adapter
  Index u = -1;                      ///< where the module's u begins in it; -1: u is common to all, or absent
  Index v = -1;                      ///< likewise
};

TIEDLORA_END_NAMESPACE
