// Tokens are columns. A row-major x of the same shape has its tokens' features far apart and would have to be
// copied.
#include <tiedlora/tiedlora.hpp>

#ifdef TIEDLORA_REFUSED
using Input = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
#else
using Input = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>;
#endif

void run(const tiedlora::Factors<const float>& factors, const Input& x, Eigen::MatrixXf& y,
         Eigen::MatrixXf& h) {
  tiedlora::forward(factors, x, y, h);
}
