// engine: runs a Llama model, with adapters of tiedlora plugged in.
#include <iostream>  // cin, cout, cerr

#include "../command_line.hpp"
#include "program.hpp"

int main(int argc, char** argv) {
  return examples::run_main([&] { return engine::run(argc, argv, std::cin, std::cout, std::cerr); });
}
