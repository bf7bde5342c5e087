// engine: runs a Llama model, with adapters of tiedlora plugged in.
#include <cstdio>     // fputs
#include <exception>  // exception
#include <iostream>   // cin, cout, cerr

#include "program.hpp"

int main(int argc, char** argv) {
  try {
    return engine::run(argc, argv, std::cin, std::cout, std::cerr);
  } catch (const std::exception& error) {  // a fault of the program's own: run() reports the user's
    std::fputs(error.what(), stderr);
    return engine::failure;
  }
}
