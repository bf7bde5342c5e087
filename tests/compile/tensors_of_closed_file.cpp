// A loop over the tensors of a file that is closed before the loop begins reads memory that is gone.
#include <tiedlora/io/safetensors.hpp>

tiedlora::Index count(const char* path) {
  tiedlora::Index numbers = 0;
#ifdef TIEDLORA_REFUSED
  for (const auto& tensor : tiedlora::safetensors::open(path).tensors()) numbers += tensor.count();
#else
  const auto file = tiedlora::safetensors::open(path);
  for (const auto& tensor : file.tensors()) numbers += tensor.count();
#endif
  return numbers;
}
