// Calls the target with every file of the folders named: seeds, and what once crashed.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "fuzz.hpp"

int main(int argc, char** argv) {
  int files = 0;
  for (int i = 1; i < argc; ++i)
    for (const auto& entry : std::filesystem::recursive_directory_iterator(argv[i])) {
      if (!entry.is_regular_file()) continue;
      std::ifstream file(entry.path(), std::ios::binary);
      // Its own allocation of exactly its size, so that AddressSanitizer sees the first byte beyond.
      const std::vector<char> bytes(std::istreambuf_iterator<char>(file), {});
      tiedlora_fuzz(std::as_bytes(std::span(bytes)));
      ++files;
    }
  std::printf("%d inputs\n", files);
  return files > 0 ? 0 : 1;
}
