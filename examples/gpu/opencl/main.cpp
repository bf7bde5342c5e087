// gpu_opencl: kernels of one's own, in OpenCL C.
#include <iostream>  // cout, cerr

#include "../../command_line.hpp"
#include "program.hpp"

int main(int argc, char** argv) {
  return examples::run_main([&] { return gpu_opencl::run(argc, argv, std::cout, std::cerr); });
}
