// The model in float, compiled once: all other files only call it. The layers' backward, which is as much
// again, has a file of its own.
#include "trainee.hpp"

namespace llama {

extern template void layer_backward(const Pass<float>&, const Layer<float>&, const LayerActivations<float>&,
                                    const Workspace<float>&, const BackwardWorkspace<float>&, bool);
template class Transformer<float>;

}  // namespace llama
