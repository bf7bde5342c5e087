// Several texts that grow side by side: each step is one batch of what is to be computed of all of them, the
// tokens of a new prompt beside the latest token of a text that is being written.
#pragma once

#include <algorithm>  // min
#include <cstddef>    // size_t
#include <utility>    // move
#include <vector>     // vector

#include <llama/sample.hpp>
#include <llama/tokenizer.hpp>
#include <tiedlora/serving.hpp>

#include "attention.hpp"
#include "engine.hpp"

namespace engine {

using llama::Token;
using llama::Tokenizer;

/// A prompt and what was written after it.
struct Text {
  std::vector<Token> tokens;
  std::size_t limit = 0;  ///< it ends at this many tokens, if not before
  tiedlora::TokenAdapter adapter = {};
  double temperature = 0;
  llama::Random random;
  KvCache cache;
  std::size_t computed = 0;  ///< tokens whose keys and values are in the cache
  bool is_done = false;
};

/// One step: computes at most max_rows tokens and appends one to each text that is computed to its end.
/// `write(i, token)` is called for it; a text is done with an end token or at its limit.
template <class Write>
void step(Engine& engine, const Tokenizer& tokenizer, const tiedlora::AdapterSnapshot<float>& adapters,
          std::vector<Text>& texts, const Write& write) {
  std::vector<Row> rows;
  std::vector<tiedlora::TokenAdapter> uses;  // what each row goes through
  std::vector<std::size_t> writing;          // the texts whose logits are wanted
  auto room = static_cast<std::size_t>(engine.max_rows());
  for (std::size_t i = 0; i < texts.size(); ++i) {
    Text& text = texts[i];
    if (text.is_done) continue;
    const std::size_t end = text.computed + std::min(room, text.tokens.size() - text.computed);
    room -= end - text.computed;
    for (; text.computed < end; ++text.computed) {
      const bool is_last = text.computed + 1 == text.tokens.size();
      rows.push_back({text.tokens[text.computed], static_cast<Index>(text.computed), &text.cache, is_last});
      uses.push_back(text.adapter);
      if (is_last) writing.push_back(i);
    }
  }
  const tiedlora::BatchPlan<float> plan(adapters, uses);
  const std::span<const float> logits = engine.forward(rows, plan);
  const std::size_t vocabulary = writing.empty() ? 0 : logits.size() / writing.size();
  for (std::size_t n = 0; n < writing.size(); ++n) {
    Text& text = texts[writing[n]];
    const auto known = logits.subspan(n * vocabulary, tokenizer.size());  // embeddings may be of more
    const Token token = llama::sample(known, text.temperature, text.random);
    text.tokens.push_back(token);
    text.is_done = tokenizer.is_end(token) || text.tokens.size() >= text.limit;
    write(writing[n], token);
  }
}

}  // namespace engine
