// What an Eigen user would write without this library: the formula and its textbook derivatives, as
// expressions. The peer that the library is measured against.
#pragma once

#include <Eigen/Core>  // MatrixXf, VectorXf

#include "problem.hpp"

namespace bench {

/// One module's factors and gradients as Eigen matrices. A is row-major, as the library has it: with Eigen's
/// default order its products take up to three times as long at T = 1. Factors that the scheme has not are
/// empty.
class EigenPeer {
 public:
  using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

  EigenPeer(const tiedlora::Adapter<float>& adapter, Index m)
      : A_(adapter.A(m)),
        B_(adapter.B(m)),
        u_(adapter.u(m)),
        v_(adapter.v(m)),
        s_(static_cast<float>(adapter.layout().scaling(m))),
        trains_AB_(adapter.layout().is_trained(tiedlora::FactorId::A)),
        dA(RowMajor::Zero(A_.rows(), A_.cols())),
        dB(Eigen::MatrixXf::Zero(B_.rows(), B_.cols())),
        du(Eigen::VectorXf::Zero(u_.size())),
        dv(Eigen::VectorXf::Zero(v_.size())) {}

  void forward(Activations& a) const {
    if (u_.size() == 0)
      a.y.noalias() += s_ * (B_ * (A_ * a.x));
    else
      a.y.noalias() += s_ * v_.asDiagonal() * (B_ * (u_.asDiagonal() * (A_ * a.x)));
  }

  /// Needs a.h = A x.
  void backward(Activations& a) {
    if (u_.size() == 0) {
      const Eigen::MatrixXf e = s_ * a.dy;
      const Eigen::MatrixXf dh = B_.transpose() * e;
      dB.noalias() += e * a.h.transpose();
      dA.noalias() += dh * a.x.transpose();
      a.dx.noalias() += A_.transpose() * dh;
    } else {
      const Eigen::MatrixXf e = s_ * v_.asDiagonal() * a.dy;
      const Eigen::MatrixXf uh = u_.asDiagonal() * a.h;
      const Eigen::MatrixXf d = B_.transpose() * e;
      const Eigen::MatrixXf dh = u_.asDiagonal() * d;
      dv += s_ * a.dy.cwiseProduct(B_ * uh).rowwise().sum();
      du += a.h.cwiseProduct(d).rowwise().sum();
      if (trains_AB_) {
        dB.noalias() += e * uh.transpose();
        dA.noalias() += dh * a.x.transpose();
      }
      a.dx.noalias() += A_.transpose() * dh;
    }
  }

 private:
  RowMajor A_;
  Eigen::MatrixXf B_;
  Eigen::VectorXf u_, v_;
  float s_;
  bool trains_AB_;

 public:
  RowMajor dA;  ///< gradients, added to
  Eigen::MatrixXf dB;
  Eigen::VectorXf du, dv;
};

}  // namespace bench
