#include <string>  // string

#include "commands.hpp"
#include "device.cuh"

namespace gpu_cuda {

std::string find_device(std::string& why) { return device_name(why); }

}  // namespace gpu_cuda
