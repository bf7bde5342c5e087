// Which of the three formats an adapter file has.
#pragma once

#include <cstdint>     // uint8_t
#include <filesystem>  // path
#include <stdexcept>   // runtime_error

#include <fmt/format.h>
#include <tiedlora/adapter/quote.hpp>
#include <tiedlora/io/sniff.hpp>

namespace examples {

enum class AdapterFormat : std::uint8_t { native, peft, gguf };

/// By content, not by name. For anything else throws std::runtime_error, which says what it is.
inline AdapterFormat format_of(const std::filesystem::path& path) {
  using tiedlora::FileKind;
  const tiedlora::SniffedFile found = tiedlora::sniff(path);
  if (found.kind == FileKind::peft_folder) return AdapterFormat::peft;
  if (found.kind == FileKind::gguf) return AdapterFormat::gguf;
  if (found.kind == FileKind::native) return AdapterFormat::native;
  throw std::runtime_error(fmt::format(
      "{} is {} (an adapter is expected: a PEFT folder, a GGUF LoRA adapter or a native file of tiedlora)",
      tiedlora::detail::in_quotes(path.string()), found.what.empty() ? "of an unknown kind" : found.what));
}

}  // namespace examples
