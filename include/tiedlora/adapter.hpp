// What an adapter is: modules, scheme, layout, the parameters and their gradients, the optimiser, and the
// adapter as a change of the weight.
#pragma once

#include "adapter/adapter.hpp"             // Adapter, AdapterView, Gradients, GradientsView, freeze
#include "adapter/bind_names.hpp"          // bind_names: from an engine's names to modules
#include "adapter/factors_at.hpp"          // factors_at, gradients_at: any pointers
#include "adapter/fingerprint.hpp"         // fingerprint, cache_key
#include "adapter/finite.hpp"              // find_not_finite
#include "adapter/fuse.hpp"                // fuse, split: layers that an engine has fused
#include "adapter/initialize.hpp"          // initialize
#include "adapter/layout.hpp"              // Layout: offsets and counts
#include "adapter/learning_rates.hpp"      // recommended_rates
#include "adapter/maps.hpp"                // map_A, map_B, map_u, map_v
#include "adapter/merge.hpp"               // merge, unmerge, MergedWeight, to_lora, combine
#include "adapter/modules.hpp"             // Module, ModuleList
#include "adapter/name_map.hpp"            // NameMap, names::llama, names::phi3, names::gpt2
#include "adapter/optimizer.hpp"           // AdamW, step_plan, gradient_statistics, clip_factor
#include "adapter/recommended_scheme.hpp"  // recommended_scheme
#include "adapter/scheme.hpp"              // Scheme, schemes::…, init::…
#include "adapter/scheme_names.hpp"        // schemes::named, schemes::names
