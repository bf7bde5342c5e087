// Any text as the metadata of a native file or of a checkpoint: what is accepted can be written and reads
// back.
#include <cstdlib>
#include <tiedlora/io/native.hpp>

#include "fuzz.hpp"

void tiedlora_fuzz(std::span<const std::byte> bytes) {
  using namespace tiedlora;
  const auto native = tiedlora::detail::try_parse_native_metadata(as_text(bytes));
  require(native || !native.error().empty());
  if (native) {
    const auto text = tiedlora::detail::try_native_metadata_text(*native);
    require(static_cast<bool>(text));
    const auto again = tiedlora::detail::try_parse_native_metadata(*text);
    require(again && again->layout == native->layout && again->base_model == native->base_model &&
            again->seed == native->seed && again->seeded == native->seeded);
  }
  const auto checkpoint = tiedlora::detail::try_parse_checkpoint_metadata(as_text(bytes));
  require(checkpoint || !checkpoint.error().empty());
}
