// A block of the caller's matrix is an output although it is a temporary object; a temporary matrix would be
// lost.
#include <tiedlora/tiedlora.hpp>

void run(const tiedlora::Factors<const float>& factors, const Eigen::MatrixXf& x, Eigen::MatrixXf& y,
         Eigen::MatrixXf& h) {
#ifdef TIEDLORA_REFUSED
  tiedlora::forward(factors, x, Eigen::MatrixXf(y.leftCols(x.cols())), h);
#else
  tiedlora::forward(factors, x, y.leftCols(x.cols()), h);
#endif
}
