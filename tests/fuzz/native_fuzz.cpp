// Any bytes as a native file or checkpoint: what is accepted loads, and holds what its layout says.
#include <cstdlib>
#include <tiedlora/io/native.hpp>

#include "fuzz.hpp"

void tiedlora_fuzz(std::span<const std::byte> bytes) {
  using namespace tiedlora;
  auto file = safetensors::try_parse(bytes);
  if (!file) return;
  // Values from seeds cost time: few of them.
  const auto native = tiedlora::detail::try_native_file(*std::move(file), {.max_seeded_numbers = 10'000});
  if (!native) {
    require(!native.error().empty());
    return;
  }
  const Layout& layout = native->layout();
  const auto checked = try_read_adapter<float>(*native);
  require(checked || !checked.error().empty());
  const NativeLoadOptions unchecked = {.check_checksum = false, .check_finite = false};
  const auto adapter = try_read_adapter<float>(*native, unchecked);
  require(static_cast<bool>(adapter));
  require(static_cast<Index>(adapter->trainable().size()) == layout.trainable_count());
  require(static_cast<Index>(adapter->frozen().size()) == layout.frozen_count());
  for (Index m = 0; m < layout.size(); ++m) {
    const auto factors = adapter->factors(m);
    require(factors.rank == 0 || (factors.A && factors.B));
  }
  const auto checkpoint = tiedlora::detail::try_read_checkpoint<float>(*native, unchecked);
  require(checkpoint || !checkpoint.error().empty());
}
