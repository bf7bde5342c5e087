// y is added to, so it must be writable.
#include <tiedlora/tiedlora.hpp>

#ifdef TIEDLORA_REFUSED
using Output = const Eigen::MatrixXf;
#else
using Output = Eigen::MatrixXf;
#endif

void run(const tiedlora::Factors<const float>& factors, const Eigen::MatrixXf& x, Output& y,
         Eigen::MatrixXf& h) {
  tiedlora::forward(factors, x, y, h);
}
