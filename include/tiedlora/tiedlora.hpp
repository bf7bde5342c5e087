// The core of tiedlora in one include: low-rank adapters whose matrices are tied across layers. Needs Eigen
// only.
#pragma once

#include "adapter.hpp"           // Adapter, AdapterView, Gradients, freeze
#include "batch.hpp"             // AdapterSet, BatchPlan: many adapters in one batch
#include "bind_names.hpp"        // bind_names: from an engine's names to modules
#include "fingerprint.hpp"       // fingerprint, cache_key
#include "forward_backward.hpp"  // shrink, expand, forward, backward
#include "fuse.hpp"              // fuse, split: layers that an engine has fused
#include "layout.hpp"            // Layout: offsets and counts
#include "merge.hpp"             // merge, unmerge, MergedWeight, to_lora, combine
#include "modules.hpp"           // Module, ModuleList
#include "name_map.hpp"          // NameMap, names::llama, names::gpt2
#include "optimizer.hpp"         // AdamW, gradient_statistics, clip_factor
#include "options.hpp"           // CallOptions, Slice, Dropout
#include "parallel.hpp"          // parallel_stages, thread_stages: the halves in a host's threads
#include "scheme.hpp"            // Scheme, schemes::…, init::…
#include "shared_input.hpp"      // shrink and shrink_backward of modules that read the same x
#include "tokens.hpp"            // Tokens
