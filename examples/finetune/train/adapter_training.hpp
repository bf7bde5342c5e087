// An adapter as it is trained, by whichever loop: gradients, optimiser, checkpoints, and the end of a step.
#pragma once

#include <algorithm>   // fill
#include <cmath>       // isfinite
#include <cstdint>     // uint64_t
#include <filesystem>  // path
#include <span>        // span
#include <utility>     // move

#include <finetune/distributed/communicator.hpp>
#include <finetune/settings.hpp>  // Rates
#include <tiedlora/adapter.hpp>
#include <tiedlora/io/native.hpp>  // save_checkpoint

#include "trainee.hpp"  // StepResult

namespace finetune {

struct AdapterTraining {
  AdapterTraining(const tiedlora::Layout& layout, const Rates& rates, double decay, std::uint64_t seed)
      : adapter(layout),
        gradients(layout),
        optimizer(layout,
                  {.learning_rate = rates.rate,
                   .rates =
                       tiedlora::PerFactor{
                           .A = 1, .B = rates.b_multiple, .u = rates.uv_multiple, .v = rates.uv_multiple},
                   .weight_decay = decay}) {
    adapter.initialize(seed);
  }

  void save(const std::filesystem::path& path, const tiedlora::TrainingPosition& position) const {
    tiedlora::save_checkpoint(path, adapter, optimizer, position);
  }
  /// Throws tiedlora::Error for a checkpoint of another adapter.
  tiedlora::TrainingPosition resume(const std::filesystem::path& path) {
    tiedlora::Checkpoint<float> checkpoint =
        tiedlora::load_checkpoint<float>(path, {.modules = &adapter.layout().modules()});
    if (!(checkpoint.adapter.layout() == adapter.layout()))
      throw tiedlora::Error(path.string() +
                            " holds an adapter of another scheme or rank; to continue from it, use those "
                            "it was started with");
    adapter = std::move(checkpoint.adapter);
    optimizer = std::move(checkpoint.optimizer);
    return checkpoint.position;
  }
  /// Gives every process what the first has.
  void share(Communicator& processes) {
    for (const std::span<float> numbers :
         {adapter.trainable(), optimizer.first_moment(), optimizer.second_moment()})
      processes.broadcast(std::as_writable_bytes(numbers));
    optimizer.set_step_count(processes.from_first(optimizer.step_count()));
  }
  void update(double rate_factor, double gradient_scale) {
    optimizer.step(adapter.trainable(), gradients.values(),
                   {.rate_factor = rate_factor, .gradient_scale = gradient_scale});
  }

  tiedlora::Adapter<float> adapter;
  tiedlora::Gradients<float> gradients;
  tiedlora::AdamW<float> optimizer;
};

/// Completes what is known of a step whose gradients are there, calls update(gradient scale) unless something
/// is not finite, and zeroes them.
template <class Update>
void finish_step(StepResult& result, std::span<float> gradients, double largest_norm, const Update& update) {
  const tiedlora::GradientStatistics statistics = tiedlora::gradient_statistics(gradients);
  result.gradient_norm = statistics.norm;
  result.finite = std::isfinite(result.loss) && statistics.finite;
  if (result.finite) update(tiedlora::clip_factor(statistics.norm, largest_norm));
  std::fill(gradients.begin(), gradients.end(), 0.0f);
}

}  // namespace finetune
