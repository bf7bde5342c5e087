// Text from the model, token by token.
#pragma once

#include <cstdint>      // int32_t, uint64_t
#include <span>         // span
#include <type_traits>  // type_identity
#include <vector>       // vector

#include "random.hpp"
#include "sample.hpp"
#include "transformer.hpp"

namespace llama {

/// The `count` tokens that follow the prompt, or those up to one of which is_end(token). Only the first
/// `known` tokens come: a model may have rows for more than its tokenizer has. Throws tiedlora::Error if the
/// prompt is empty or the temperature negative.
template <class T, class IsEnd>
std::vector<std::int32_t> generate(Transformer<T>& model, const std::type_identity_t<Model<T>>& weights,
                                   const tiedlora::Adapter<T>* adapter, std::span<const std::int32_t> prompt,
                                   Index count, double temperature, std::uint64_t seed, Index known,
                                   const IsEnd& is_end) {
  if (prompt.empty()) throw tiedlora::Error("generate: the prompt is empty; give at least one token");
  if (!(temperature >= 0))
    throw tiedlora::Error("generate: the temperature is " + std::to_string(temperature) + "; use 0 or more");
  Random random(seed);
  KeyValueCache<T> cache(model.config(), static_cast<Index>(prompt.size()) + count);
  std::vector<T> logits(static_cast<std::size_t>(model.config().vocabulary));
  std::vector<std::int32_t> text;
  text.reserve(static_cast<std::size_t>(count));
  while (static_cast<Index>(text.size()) < count) {
    const auto next = text.empty() ? prompt : std::span<const std::int32_t>(&text.back(), 1);
    model.extend(weights, adapter, cache, next, logits.data());
    const std::int32_t token =
        sample<T>(std::span(logits).first(static_cast<std::size_t>(known)), temperature, random);
    if (is_end(token)) break;
    text.push_back(token);
  }
  return text;
}
template <class T>
std::vector<std::int32_t> generate(Transformer<T>& model, const std::type_identity_t<Model<T>>& weights,
                                   const tiedlora::Adapter<T>* adapter, std::span<const std::int32_t> prompt,
                                   Index count, double temperature, std::uint64_t seed) {
  return generate(model, weights, adapter, prompt, count, temperature, seed, model.config().vocabulary,
                  [](std::int32_t) { return false; });
}

}  // namespace llama
