// The consumer program for files, built with and without exceptions: exits with 0 if an adapter comes back as
// it was and what is none is refused without the program's end.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <string>
#include <tiedlora/io.hpp>

int main(int /*argc*/, char** argv) {
  const std::string path = std::string(argv[0]) + ".safetensors";
  tiedlora::ModuleList modules;
  for (int layer = 0; layer < 2; ++layer)
    modules.add({.name = "layers." + std::to_string(layer) + ".proj",
                 .layer = layer,
                 .in_features = 8,
                 .out_features = 6});
  tiedlora::Adapter<float> adapter(tiedlora::Layout(modules, tiedlora::schemes::tied_lora(), 2));
  adapter.initialize(1);
  tiedlora::save_adapter(path, adapter);
  const auto loaded = tiedlora::try_load_adapter<float>(path, {.modules = &modules});
  const bool same = loaded && std::equal(adapter.trainable().begin(), adapter.trainable().end(),
                                         loaded->trainable().begin(), loaded->trainable().end());

  modules.add({.name = "more", .in_features = 1, .out_features = 1});
  const auto other = tiedlora::try_load_adapter<float>(path, {.modules = &modules});
  tiedlora::write_file(path, "not an adapter");
  const auto damaged = tiedlora::try_map_adapter<float>(path);
  std::filesystem::remove(path);
  if (!other) std::printf("%s\n", other.error().c_str());
  if (!damaged) std::printf("%s\n", damaged.error().c_str());
  return same && !other && !damaged ? 0 : 1;
}
