// The features of a token are contiguous: a column of a column-major matrix is a token, a row is not.
#include <tiedlora/tiedlora.hpp>

void run(const tiedlora::Factors<const float>& factors, const Eigen::MatrixXf& all, Eigen::MatrixXf& y,
         Eigen::MatrixXf& h) {
#ifdef TIEDLORA_REFUSED
  tiedlora::forward(factors, all.row(0), y, h);
#else
  tiedlora::forward(factors, all.col(0), y, h);
#endif
}
