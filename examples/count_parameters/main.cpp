// count_parameters: what adapters cost, for well-known models and for any Hugging Face config.json.
#include <iostream>  // cout, cerr

#include "../command_line.hpp"
#include "program.hpp"

int main(int argc, char** argv) {
  return examples::run_main([&] { return count_parameters::run(argc, argv, std::cout, std::cerr); });
}
