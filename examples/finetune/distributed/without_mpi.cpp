// In place of mpi.cpp where there is no MPI.
#include <stdexcept>  // runtime_error

#include "communicator.hpp"

namespace finetune {

std::unique_ptr<Communicator> start_processes() {
  if (has_launcher())
    throw std::runtime_error(
        "a launcher such as mpirun started this program, which was built without MPI: install MPI (Debian "
        "and Ubuntu: libopenmpi-dev, openmpi-bin), run CMake again and rebuild; or start one process "
        "without a launcher");
  return nullptr;
}

}  // namespace finetune
