// What a programming error does without exceptions: a call with tokens of another width says what is wrong
// and aborts.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <tiedlora/tiedlora.hpp>
#include <vector>

int main() {
  tiedlora::ModuleList modules;
  modules.add({.name = "layers.0.proj", .layer = 0, .in_features = 8, .out_features = 6});
  const tiedlora::Adapter<float> adapter(tiedlora::Layout(modules, tiedlora::schemes::lora(), 2));
  std::vector<float> memory(8);
  const tiedlora::Tokens<float> x = {.data = memory.data(), .width = 7, .count = 1, .stride = 7};
  std::signal(SIGABRT, [](int) {
    std::puts("aborted");
    std::fflush(stdout);
    std::_Exit(0);
  });
  tiedlora::shrink(adapter.factors(0), x, x);
  return 1;
}
