// Norms of ΔW through the factors: ΔW itself, out × in, is never formed.
#pragma once

#include <Eigen/Core>  // Matrix
#include <Eigen/QR>    // HouseholderQR

#include <algorithm>  // min

#include <tiedlora/tiedlora.hpp>

namespace adapter_tool {

using tiedlora::Index;

/// s · diag(v) B diag(u) and A, in double: ΔW = outer · inner.
struct Product {
  Eigen::MatrixXd outer;  ///< out × r
  Eigen::MatrixXd inner;  ///< r × in
};

inline Product product(const tiedlora::Adapter<float>& adapter, Index m) {
  const auto f = adapter.factors(m);
  Product result{Eigen::MatrixXd::Zero(f.out_features, f.rank), Eigen::MatrixXd::Zero(f.rank, f.in_features)};
  if (f.rank == 0) return result;
  result.inner = adapter.A(m).cast<double>();
  result.outer = adapter.B(m).cast<double>() * adapter.layout().scaling(m);
  if (f.u) result.outer *= adapter.u(m).cast<double>().asDiagonal();
  if (f.v) result.outer = adapter.v(m).cast<double>().asDiagonal() * result.outer;
  return result;
}

/// The difference as one product, whose rank is the sum of both.
inline Product difference(const Product& a, const Product& b) {
  Product result{Eigen::MatrixXd(a.outer.rows(), a.outer.cols() + b.outer.cols()),
                 Eigen::MatrixXd(a.inner.rows() + b.inner.rows(), a.inner.cols())};
  result.outer << a.outer, -b.outer;
  result.inner << a.inner, b.inner;
  return result;
}

/// The Frobenius norm ‖outer · inner‖. With outer = Q R and innerᵀ = P S it is ‖R Sᵀ‖, of r × r. (The traces
/// of outerᵀ outer and inner innerᵀ would do as well, but lose half the digits of small differences.)
inline double norm(const Product& p) {
  if (p.inner.rows() == 0) return 0;
  if (!p.outer.allFinite() || !p.inner.allFinite()) return std::numeric_limits<double>::quiet_NaN();
  const auto upper = [](const Eigen::MatrixXd& matrix) {
    const Eigen::HouseholderQR<Eigen::MatrixXd> qr(matrix);
    const Index rows = std::min(matrix.rows(), matrix.cols());
    return Eigen::MatrixXd(qr.matrixQR().topRows(rows).template triangularView<Eigen::Upper>());
  };
  return (upper(p.outer) * upper(p.inner.transpose()).transpose()).norm();
}

}  // namespace adapter_tool
