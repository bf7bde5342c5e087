// Any bytes as a safetensors file: what is accepted must hold together, and read.
#include <cstdlib>
#include <numeric>
#include <tiedlora/io/safetensors.hpp>
#include <vector>

#include "fuzz.hpp"

void tiedlora_fuzz(std::span<const std::byte> bytes) {
  using namespace tiedlora;
  const auto file = safetensors::try_parse(bytes);
  if (!file) {
    require(!file.error().empty());
    return;
  }
  const std::byte* end = bytes.data() + bytes.size();
  for (auto tensor = file->tensors().rbegin(); tensor != file->tensors().rend(); ++tensor) {
    require(tensor->bytes.data() + tensor->bytes.size() == end);
    end = tensor->bytes.data();
    require(file->find(tensor->name) == &*tensor);
    if (tensor->dtype == safetensors::Dtype::other) continue;
    std::vector<double> numbers(static_cast<std::size_t>(tensor->count()));
    require(static_cast<bool>(safetensors::try_read(*tensor, std::span(numbers))));
    const auto floats = safetensors::in_place<float>(*tensor);
    (void)std::accumulate(floats.begin(), floats.end(), 0.0f);
  }
}
