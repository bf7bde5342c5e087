// Adapters for the engine's linear layers: from GGUF and native files and PEFT folders.
#pragma once

#include <filesystem>  // path

#include <llama/gguf_model.hpp>
#include <tiedlora/adapter/adapter.hpp>
#include <tiedlora/adapter/modules.hpp>
#include <tiedlora/io/gguf/naming.hpp>  // Order

namespace engine {

using llama::GgufModel;
using tiedlora::gguf::Order;

/// The engine's linear layers under the names that PEFT has for them; module m is the weight of number m.
tiedlora::ModuleList modules_of(const GgufModel& model);

/// Whether the user has to say in which order the adapter has the rows of q and k: all but GGUF files.
bool tells_no_order(const std::filesystem::path& path);

/// Reads an adapter in any of the three formats, told apart by what it is. `order` says of native files and
/// PEFT folders in which order they have the rows of q and k; GGUF files have them as the engine does. Throws
/// an exception that names the path for what cannot be read.
tiedlora::Adapter<float> load_adapter(const std::filesystem::path& path, const GgufModel& model, Order order);

}  // namespace engine
