// What a run has before its first step.
#pragma once

#include <memory>  // unique_ptr
#include <string>  // string

#include <finetune/data/batches.hpp>              // Batches
#include <finetune/data/folder_lock.hpp>          // FolderLock
#include <finetune/distributed/communicator.hpp>  // Communicator
#include <nlohmann/json.hpp>

#include "base.hpp"
#include "data.hpp"
#include "memory.hpp"
#include "options.hpp"
#include "tuner.hpp"

namespace finetune {

/// What each process prepares on its own. The first looks after the folder, which is its alone.
struct Preparation {
  /// `options` receive the window. Says on stdout what it finds; throws what the command line prints.
  Preparation(TrainOptions& options, const Communicator& processes);

  std::unique_ptr<FolderLock> lock;
  TuneBase base;
  std::string base_name;
  tiedlora::Layout layout;
  TuneData data;  ///< whose training examples are in `batches`
  MemoryEstimate memory;
  LanguageModel model;
  Batches batches;
};

/// Everything that the run's bits depend on but its steps. Throws AgreedError, naming the process, where some
/// have another model, other data or other options.
nlohmann::ordered_json agreed_key(const TrainOptions& options, const Preparation& run,
                                  Communicator& processes);

}  // namespace finetune
