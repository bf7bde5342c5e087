// The base model of a run: weights as they are computed, tokenizer, chat template.
#pragma once

#include <cstdint>   // uint64_t
#include <memory>    // unique_ptr
#include <optional>  // optional
#include <string>    // string

#include <llama/base_model.hpp>
#include <llama/float_copy.hpp>
#include <llama/thread_pool.hpp>
#include <llama/transformer.hpp>
#include <tiedlora/adapter/adapter.hpp>

#include "options.hpp"

extern template class llama::Transformer<float>;  // train/model.cpp

namespace finetune {

class TuneBase {
 public:
  /// Throws std::runtime_error for what is not a model that is computed here, and std::invalid_argument where
  /// the processor has no products of bfloat16.
  explicit TuneBase(const ModelOptions& options);
  TuneBase(const TuneBase&) = delete;
  TuneBase& operator=(const TuneBase&) = delete;

  const llama::Model<float>& model() const { return model_; }
  const llama::Config& config() const { return file_.model().config; }
  const llama::BaseModel& file() const { return file_; }
  const llama::Tokenizer& tokenizer() const { return tokenizer_; }
  /// Null for a model without a template, and for one whose template cannot be used.
  const llama::Chat* chat() const { return chat_ ? &*chat_ : nullptr; }
  /// Why the template cannot be used, and what to do: for the error of what needs it. Empty if it can be, and
  /// where there is none.
  const std::string& chat_problem() const { return chat_problem_; }
  llama::ThreadPool& pool() { return pool_; }

  /// The window, or where it is 0 the default, which is no longer than a batch. Throws std::invalid_argument
  /// for one that is longer than what the model was made for.
  DataOptions with_window(DataOptions reading, Index batch_tokens) const;

  /// Of the weights as they lie in the file, and of their copy as floats.
  Index weight_bytes() const;
  Index copy_bytes() const { return copy_ ? llama::FloatCopy::bytes(file_.model()) : 0; }
  /// "Q4_1 and F32", the types of the matrices.
  std::string types() const;
  /// Of sizes, positions, norms, biases and some rows of every matrix: tells models apart, not every change
  /// of one.
  std::uint64_t fingerprint() const;
  /// Of every byte of the weights in the file, which are read for it.
  std::uint64_t weights_hash() const;

  /// An adapter for this base: a native file, a PEFT folder or a GGUF file. Says on stdout what it lacks.
  /// Throws an exception that names the path and what does not fit.
  tiedlora::Adapter<float> load_adapter(const std::filesystem::path& path) const;

 private:
  llama::BaseModel file_;
  llama::ThreadPool pool_;
  llama::Tokenizer tokenizer_;
  std::string chat_problem_;
  std::optional<llama::Chat> chat_;
  std::unique_ptr<llama::FloatCopy> copy_;
  llama::Model<float> model_;
};

}  // namespace finetune
