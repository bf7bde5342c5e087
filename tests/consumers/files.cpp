// The consumer program for files, built with and without exceptions: exits with 0 if an adapter comes back as
// it was and what is not one is refused without ending the program.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <string>
#include <tiedlora/adapter/bind_names.hpp>
#include <tiedlora/io.hpp>
#include <vector>

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

  // Each of the other readers, of the same bytes, of a folder that is none and of names that do not fit.
  bool refused = true;
  const auto expect_refusal = [&refused](const auto& result) {
    refused = refused && !result;
    if (!result) std::printf("%s\n", result.error().c_str());
  };
  expect_refusal(other);
  expect_refusal(damaged);
  expect_refusal(tiedlora::safetensors::try_open(path));
  expect_refusal(tiedlora::gguf::try_open(path));
  expect_refusal(tiedlora::try_load_checkpoint<float>(path));
  expect_refusal(tiedlora::try_model_modules(path));
  expect_refusal(tiedlora::try_load_peft<float>(path, modules));
  const std::vector<std::string> names = {"blk.0.proj.weight"};
  expect_refusal(tiedlora::try_bind_names(adapter.layout(), names));
  std::filesystem::remove(path);
  return same && refused ? 0 : 1;
}
