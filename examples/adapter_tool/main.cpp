// adapter_tool: info, convert, merge and diff of low-rank adapters.
#include <iostream>  // cout, cerr

#include "../command_line.hpp"
#include "program.hpp"

int main(int argc, char** argv) {
  return examples::run_main([&] { return adapter_tool::run(argc, argv, std::cout, std::cerr); });
}
