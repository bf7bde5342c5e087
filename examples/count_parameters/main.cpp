// count_parameters: what adapters cost, for well-known models and for any Hugging Face config.json.
#include <cstdio>     // fputs
#include <exception>  // exception
#include <iostream>   // cout, cerr

#include "program.hpp"

int main(int argc, char** argv) {
  try {
    return count_parameters::run(argc, argv, std::cout, std::cerr);
  } catch (const std::exception& error) {  // a fault of the program's own: run() reports the user's
    std::fputs(error.what(), stderr);
    return count_parameters::failure;
  }
}
