#define TIEDLORA_INSTANCE template
#include "kernel_instances.hpp"
