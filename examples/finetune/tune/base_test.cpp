// What is known of a base model before a run: which one it is, and what memory a run takes.
#include "base.hpp"
#include "memory.hpp"
#include "tune_fixture.hpp"
#include "tuner.hpp"

namespace finetune {
namespace {

TEST_F(TuneTest, FingerprintsTellBiasesApart) {
  const auto fingerprint = [&](float bias) {
    llama_test::TinyModel model(llama_test::TinyModel::Numbers::blocks);
    model.architecture = "qwen2";
    for (int layer = 0; layer < 2; ++layer)
      for (const auto& [name, width] : {std::pair("q", 64), {"k", 32}, {"v", 32}})
        model.floats["blk." + std::to_string(layer) + ".attn_" + name + ".bias"].assign(
            static_cast<std::size_t>(width), bias);
    model.write(folder_.path() / "qwen2.gguf");
    return TuneBase({.path = path("qwen2.gguf")}).fingerprint();
  };
  EXPECT_EQ(fingerprint(0.25f), fingerprint(0.25f));
  EXPECT_NE(fingerprint(0.25f), fingerprint(0.5f));
}

// A checkpoint is read as a second adapter with both moments, which then replaces the first.
TEST_F(TuneTest, ARunThatGoesOnTakesMoreMemory) {
  TuneBase base({.path = path("model.gguf")});
  const TrainingDataOptions data = {.reading = {.window = 64}, .batch_tokens = 256};
  const TuneOptions tune = {.scheme = "vera", .rank = 4};
  const tiedlora::Layout layout = layout_of(tune, base.config());
  const MemoryEstimate begins = estimate_memory(base, data, tune, layout, false),
                       goes_on = estimate_memory(base, data, tune, layout, true);
  EXPECT_EQ(goes_on.adapter - begins.adapter, 4 * (3 * layout.trainable_count() + layout.frozen_count()));
  EXPECT_EQ(goes_on.working, begins.working);
}

}  // namespace
}  // namespace finetune
