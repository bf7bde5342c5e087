// Numbers in JSON, which has no NaN and no infinity.
#pragma once

#include <cmath>  // isfinite

#include <nlohmann/json.hpp>

namespace finetune {

/// null stands for what is not finite.
template <class Json = nlohmann::ordered_json>
Json json_number(double number) {
  return std::isfinite(number) ? Json(number) : Json();
}

}  // namespace finetune
