// What of the backend the parity kit does not look at: forward in one launch, graphs, batches, the optimiser.
#include <exception>  // exception
#include <string>     // string
#include <vector>     // vector

#include "checks/batch.hpp"
#include "checks/modules.hpp"
#include "checks/optimizer.hpp"
#include "commands.hpp"

namespace gpu_cuda {

std::vector<Check> all_checks() {
  using namespace checks;
  return {
      {"forward_of_modules_with_one_A", forward_of_modules_with_one_a},
      {"shrink_backward_of_modules_with_one_A", shrink_backward_of_modules_with_one_a},
      {"graph_needs_its_workspace_before", graph_needs_its_workspace_before},
      {"batch_of_tenants_and_others", batch_of_tenants_and_others},
      {"batch_of_tenants", batch_of_tenants},
      {"batch_with_several_adapters_for_a_token", batch_with_several_adapters_for_a_token},
      {"batch_without_adapters", batch_without_adapters},
      {"batch_of_more_features_than_a_block", batch_of_more_features_than_a_block},
      {"batch_is_sent_once_for_all_modules", batch_is_sent_once_for_all_modules},
      {"batch_of_more_pieces_than_65535", batch_of_more_pieces_than_65535},
      {"optimizer_steps_and_clips", [] { OptimizerCheck().steps_and_clips(); }},
      {"optimizer_leaves_out_steps_that_are_not_finite",
       [] { OptimizerCheck().leaves_out_steps_that_are_not_finite(); }},
  };
}

std::string fault_of(const Check& check) {
  try {
    check.run();
    return {};
  } catch (const std::exception& error) {
    return error.what();
  }
}

}  // namespace gpu_cuda
