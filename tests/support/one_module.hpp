// One adapted module of any shape, with the factors one asks for.
#pragma once

#include <string_view>
#include <tiedlora/adapter.hpp>

#include "support/models.hpp"

namespace tiedlora_test {

struct OneModule {
  Index in = 7, out = 5, rank = 3;
  std::string_view present = "ABuv";  ///< the letters of the factors that are there; always A and B
  std::string_view trained = "ABuv";  ///< of those that are trained
  double scaling = 1.5;
};

inline tiedlora::Layout one_module_layout(const OneModule& what) {
  const auto has = [](std::string_view letters, char letter) {
    return letters.find(letter) != std::string_view::npos;
  };
  tiedlora::Scheme scheme;
  scheme.A.trained = has(what.trained, 'A');
  scheme.B.trained = has(what.trained, 'B');
  if (has(what.present, 'u')) scheme.u = tiedlora::Factor{.trained = has(what.trained, 'u')};
  if (has(what.present, 'v')) scheme.v = tiedlora::Factor{.trained = has(what.trained, 'v')};
  return tiedlora::Layout(one_kind(1, what.in, what.out), scheme, what.rank, {.scaling = what.scaling});
}

}  // namespace tiedlora_test
