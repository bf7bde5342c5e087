// See kernel_instances.hpp.
#define TIEDLORA_INSTANCE template
#include "support/kernel_instances.hpp"

namespace tiedlora {
TIEDLORA_INSTANCES_OF_LOOPS
}  // namespace tiedlora
