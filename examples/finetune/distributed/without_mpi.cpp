// In place of mpi.cpp where there is no MPI.
#include <stdexcept>  // runtime_error

#include "communicator.hpp"

namespace finetune {

std::unique_ptr<Communicator> start_processes() {
  if (has_launcher())
    throw std::runtime_error(
        "several processes were started, but this program was built without MPI: install it (Debian and "
        "Ubuntu: libopenmpi-dev, openmpi-bin), run CMake again and rebuild");
  return nullptr;
}

}  // namespace finetune
