// Everything that the bits of a run depend on: a resumed run must be the one that was started.
#pragma once

#include <llama/gemm.hpp>  // product_kernels
#include <nlohmann/json.hpp>

#include "data.hpp"
#include "tuner.hpp"  // rates_of

namespace finetune {

/// Apart from the steps, and from the number of processes where that counts.
inline nlohmann::ordered_json run_key(const ModelOptions& model, const TuneBase& base,
                                      const TrainingDataOptions& data, const TuneData& read,
                                      const TuneOptions& tune) {
  const Rates rates = rates_of(tune, base.config());
  nlohmann::ordered_json key = {{"base", fmt::format("{:016x}", base.fingerprint())},
                                {"float_base", model.float_base},
                                {"bfloat16", model.bfloat16},
                                {"kernels", std::string(tiedlora::kernel_isa())},
                                {"products", llama::product_kernels()},
                                {"data", fmt::format("{:016x}", read.report.hash)},
                                {"tokens", fmt::format("{:016x}", read.tokens_hash)},
                                {"examples", read.training_examples},
                                {"validation", fmt::format("{:016x}", read.validation_hash)},
                                {"held_out", data.held_out},
                                {"window", data.reading.window},
                                {"loss_on_all", data.reading.loss_on_all},
                                {"system", data.reading.system},
                                {"batch_tokens", data.batch_tokens},
                                {"scheme", tune.scheme},
                                {"rank", tune.rank},
                                {"scaling", tune.scaling},
                                {"targets", tune.targets},
                                {"rate", rates.rate},
                                {"uv_multiple", rates.uv_multiple},
                                {"b_multiple", rates.b_multiple},
                                {"schedule", tune.schedule},
                                {"warm_up", tune.warm_up},
                                {"weight_decay", tune.weight_decay},
                                {"clip_norm", tune.clip_norm},
                                {"dropout", tune.dropout},
                                {"accumulate", tune.accumulate},
                                {"seed", tune.seed}};
  if (!tune.layers.empty()) key["layers"] = tune.layers;
  return key;
}

}  // namespace finetune
