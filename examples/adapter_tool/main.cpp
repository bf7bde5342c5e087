// adapter_tool: info, convert, merge and diff of low-rank adapters.
#include <cstdio>     // fputs
#include <exception>  // exception
#include <iostream>   // cout, cerr

#include "program.hpp"

int main(int argc, char** argv) {
  try {
    return adapter_tool::run(argc, argv, std::cout, std::cerr);
  } catch (const std::exception& error) {  // a fault of the program's own: run() reports the user's
    std::fputs(error.what(), stderr);
    return adapter_tool::failure;
  }
}
