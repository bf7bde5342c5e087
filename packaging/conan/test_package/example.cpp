#include <cstdio>
#include <tiedlora/io.hpp>
#include <tiedlora/tiedlora.hpp>

int main() {
  tiedlora::ModuleList modules;
  modules.add({.name = "layers.0.proj", .layer = 0, .in_features = 8, .out_features = 6});
  const tiedlora::Layout layout(modules, tiedlora::schemes::tied_lora(), 2);
  std::printf("%td trainable parameters\n", layout.trainable_count());
  return tiedlora::sniff("no such file").kind == tiedlora::FileKind::missing ? 0 : 1;
}
