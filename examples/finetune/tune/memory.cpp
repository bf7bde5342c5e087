#include "memory.hpp"

#include <algorithm>  // max, min
#include <fstream>    // ifstream

#include <finetune/data/text_data.hpp>        // size_text
#include <finetune/distributed/tree_sum.hpp>  // TreeSum

namespace finetune {

namespace {

bool has_bfloat16_products(const TuneBase& base) {
  bool has = false;
  auto model = base.model();
  llama::for_weights(model, [&](const llama::Weight<float>& weight) { has = has || weight.in_bfloat16; });
  return has;
}

/// The widest operand of a product, rounded: gradients of gate and up stand together, and so do logits.
Index rounded_bytes(const llama::Config& config, const TrainingDataOptions& data) {
  const Index chunk = llama::cross_entropy_chunk<float>(config.vocabulary, data.batch_tokens);
  return static_cast<Index>(sizeof(llama::Bfloat16)) *
         std::max({2 * config.feed_forward * data.batch_tokens, config.qkv_width() * data.batch_tokens,
                   config.width * data.batch_tokens, config.vocabulary * chunk});
}

}  // namespace

std::string MemoryEstimate::text() const {
  std::string parts = fmt::format("{} of weights in the file", size_text(double(weights)));
  if (copy > 0) parts += fmt::format(", {} of their copy as floats", size_text(double(copy)));
  return fmt::format("about {}: {}, {} for a step, {} for evaluations, {} for the adapter",
                     size_text(double(total())), parts, size_text(double(working)),
                     size_text(double(evaluation)), size_text(double(adapter)));
}

MemoryEstimate estimate_memory(TuneBase& base, const TrainingDataOptions& data, const TuneOptions& tune,
                               const tiedlora::Layout& layout, bool resume, int processes) {
  const Index longest = std::min(data.batch_tokens, data.reading.window);
  const Index threads = base.pool().size();
  const auto words = static_cast<Index>(sizeof(float));
  MemoryEstimate estimate = {.weights = base.weight_bytes(), .copy = base.copy_bytes()};
  // A panel of a quantised weight for each thread.
  const Index panels = threads *
                       std::max(llama::task_features * llama::panel_numbers,
                                llama::panel_rows * llama::task_features_of_blocks) *
                       words;
  estimate.working = llama::Transformer<float>::working_bytes(
                         base.config(), tune.recompute ? llama::Keep::inputs : llama::Keep::every_layer,
                         layout, data.batch_tokens, longest, static_cast<int>(threads)) +
                     panels;
  const llama::AdapterMap map(base.config(), layout);
  estimate.evaluation = llama::Activations<float>(base.config(), llama::Keep::one_layer, data.batch_tokens,
                                                  map.h_ranks(), llama::Memory::counted)
                            .bytes();
  if (has_bfloat16_products(base)) estimate.working += panels / 2 + rounded_bytes(base.config(), data);
  if (tune.dropout > 0)
    estimate.working += threads * tiedlora::token_block(data.batch_tokens, 0).end *
                        std::max(base.config().feed_forward, base.config().width) * words;
  const Index copies = resume ? 2 : 1;
  estimate.adapter = ((2 + 3 * copies) * layout.trainable_count() + copies * layout.frozen_count()) * words +
                     TreeSum::bytes(layout.trainable_count(), tune.accumulate, processes);
  return estimate;
}

std::optional<std::int64_t> available_memory() {
  const auto number_in = [](const char* path) -> std::optional<std::int64_t> {
    std::ifstream file(path);
    std::int64_t number = 0;
    if (file >> number) return number;
    return std::nullopt;  // "max": no limit
  };
  std::optional<std::int64_t> available;
  std::ifstream file("/proc/meminfo");
  for (std::string key, line; file >> key; std::getline(file, line))
    if (std::int64_t kilobytes = 0; key == "MemAvailable:" && file >> kilobytes) available = 1024 * kilobytes;
  const auto limit = number_in("/sys/fs/cgroup/memory.max"),
             used = number_in("/sys/fs/cgroup/memory.current");
  if (limit && used) {
    std::int64_t files = 0;
    std::ifstream statistics("/sys/fs/cgroup/memory.stat");
    std::string key;
    for (std::int64_t bytes = 0; statistics >> key >> bytes;)
      if (key == "active_file" || key == "inactive_file") files += bytes;
    available = std::min(available.value_or(*limit), *limit - *used + files);
  }
  return available;
}

}  // namespace finetune
