// gpu_cuda: tiedlora's calls by CUDA kernels, checked, trained with and measured.
#include <iostream>  // cerr, cout

#include "../../command_line.hpp"
#include "program.hpp"

int main(int argc, char** argv) {
  return examples::run_main([&] { return gpu_cuda::run(argc, argv, std::cout, std::cerr); });
}
