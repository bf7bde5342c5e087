// Prints the instruction set that this build's kernels use, for the log.
#include <cstdio>
#include <tiedlora/views/config.hpp>

int main() { std::printf("Kernels: %s\n", tiedlora::kernel_isa()); }
