// Any bytes as a file of which nothing is known: something is said of it, and nothing that a terminal would
// obey.
#include <cstdlib>
#include <tiedlora/io/sniff.hpp>

#include "fuzz.hpp"

void tiedlora_fuzz(std::span<const std::byte> bytes) {
  const tiedlora::SniffedFile found = tiedlora::sniff_bytes(bytes);
  require((found.kind == tiedlora::FileKind::unknown) == found.what.empty());
  require(tiedlora::detail::escaped(found.what) == found.what);
  const std::string shown = tiedlora::detail::escaped(as_text(bytes));
  require(tiedlora::detail::escaped(shown) == shown);
  require(shown.size() <= 4 * bytes.size());
}
