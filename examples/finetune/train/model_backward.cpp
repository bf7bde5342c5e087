// Backward through one layer of the model in float; see model.cpp.
#include <llama/layer.hpp>

namespace llama {

template void layer_backward(const Pass<float>&, const Layer<float>&, const LayerActivations<float>&,
                             const Workspace<float>&, const BackwardWorkspace<float>&, bool);

}  // namespace llama
