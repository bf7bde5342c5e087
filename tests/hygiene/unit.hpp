// What the units offer each other: adapters pass between them. Each is unit.cpp, compiled for another
// instruction set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <tiedlora/adapter.hpp>
#include <vector>

#include "sizes.hpp"

#define TIEDLORA_DECLARE_UNIT(unit)                                                                  \
  namespace unit {                                                                                   \
  const char* isa();                                                                                 \
  tiedlora::Adapter<float> make_adapter(); /* initialized */                                         \
  void train(tiedlora::Adapter<float>& adapter);                                                     \
  std::vector<double> results(const tiedlora::Adapter<float>& adapter); /* of every call there is */ \
  std::uint64_t identity(const tiedlora::Adapter<float>& adapter);                                   \
  extern const SharedSizes sizes;                                                                    \
  }

TIEDLORA_DECLARE_UNIT(baseline)
TIEDLORA_DECLARE_UNIT(avx2)
TIEDLORA_DECLARE_UNIT(avx512)
