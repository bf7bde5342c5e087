// Gradients of narrow parameters are summed in float; summed in half they would lose small terms.
#include <tiedlora/tiedlora.hpp>

#ifdef TIEDLORA_REFUSED
using Scalar = Eigen::half;
#else
using Scalar = float;
#endif

tiedlora::Gradients<Scalar> make(const tiedlora::Layout& layout) {
  return tiedlora::Gradients<Scalar>(layout);
}
