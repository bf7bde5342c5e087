// Baselines: the expressions that an Eigen user writes, and the same mathematics done with care on the matrix
// products of Eigen or of OpenBLAS.
#pragma once

#include <Eigen/Core>  // MatrixXf, VectorXf

#include <utility>  // as_const

#include "baselines/products.hpp"
#include "harness/problem.hpp"

namespace bench {

/// The formula and its textbook derivatives as expressions, with whatever temporaries Eigen makes.
class Naive {
 public:
  explicit Naive(Problem& problem) : p_(problem) {}

  void forward(Activations<float>& a) const {
    const auto A = f_.A(0);
    const auto B = f_.B(0);
    if (f_.u(0).size() == 0)
      a.y += s_ * (B * (A * a.x));
    else
      a.y += s_ * f_.v(0).asDiagonal() * (B * (f_.u(0).asDiagonal() * (A * a.x)));
  }

  /// Needs a.h = A x.
  void backward(Activations<float>& a) const {
    auto dA = p_.gradients.A(0);
    auto dB = p_.gradients.B(0);
    Eigen::MatrixXf e, uh, dh;
    if (f_.u(0).size() == 0) {
      e = s_ * a.dy;
      uh = a.h;
      dh = f_.B(0).transpose() * e;
    } else {
      auto du = p_.gradients.u(0);
      auto dv = p_.gradients.v(0);
      e = s_ * f_.v(0).asDiagonal() * a.dy;
      uh = f_.u(0).asDiagonal() * a.h;
      const Eigen::MatrixXf d = f_.B(0).transpose() * e;
      dv += s_ * a.dy.cwiseProduct(f_.B(0) * uh).rowwise().sum();
      du += a.h.cwiseProduct(d).rowwise().sum();
      dh = f_.u(0).asDiagonal() * d;
    }
    if (dB.size() > 0) dB += e * uh.transpose();
    if (dA.size() > 0) dA += dh * a.x.transpose();
    a.dx += f_.A(0).transpose() * dh;
  }

 private:
  Problem& p_;
  const tiedlora::Adapter<float>& f_ = std::as_const(p_.adapter);
  float s_ = static_cast<float>(p_.layout.scaling(0));
};

/// The same with care: scratch is allocated once, nothing aliases, u and s are folded into the small r×T
/// panel, and v into the smaller operand: B where tokens are many, dy or the product where they are few.
template <class Products>
class Careful {
 public:
  explicit Careful(Problem& problem)
      : p_(problem),
        few_tokens_(p_.shape.tokens <= p_.shape.rank),
        small_(p_.shape.rank, p_.shape.tokens),
        d_(p_.shape.rank, p_.shape.tokens),
        product_(p_.shape.out, p_.shape.tokens),
        folded_B_(p_.shape.out, p_.shape.rank),
        G_(p_.shape.out, p_.shape.rank),
        sv_(s_ * f_.v(0)) {}

  void forward(Activations<float>& a) {
    const auto A = f_.A(0);
    const auto B = f_.B(0);
    const auto u = f_.u(0);
    const auto v = f_.v(0);
    Products::set(a.h, A, a.x);
    if (u.size() > 0)
      small_.noalias() = (s_ * u).asDiagonal() * a.h;
    else
      small_ = s_ * a.h;
    if (v.size() == 0) {
      Products::add(a.y, B, small_);
    } else if (few_tokens_) {
      Products::set(product_, B, small_);
      a.y.array() += product_.array().colwise() * v.array();
    } else {
      folded_B_.noalias() = v.asDiagonal() * B;
      Products::add(a.y, folded_B_, small_);
    }
  }

  /// Needs a.h = A x.
  void backward(Activations<float>& a) {
    const auto A = f_.A(0);
    auto dA = p_.gradients.A(0);
    f_.v(0).size() == 0 ? through_matrix(a) : through_matrix_and_v(a);
    if (const auto u = f_.u(0); u.size() > 0) {
      auto du = p_.gradients.u(0);
      du.noalias() += a.h.cwiseProduct(d_).rowwise().sum();
      d_.array().colwise() *= u.array();
    }
    if (dA.size() > 0) Products::add(dA, d_, a.x.transpose());
    Products::add(a.dx, A.transpose(), d_);
  }

 private:
  // Leaves d = s Bᵀ dy and adds to dB.
  void through_matrix(const Activations<float>& a) {
    auto dB = p_.gradients.B(0);
    small_ = s_ * a.h;
    Products::set(d_, f_.B(0).transpose(), a.dy);
    d_ *= s_;
    if (dB.size() > 0) Products::add(dB, a.dy, small_.transpose());
  }

  // Leaves d = Bᵀ(s v∘dy), and adds to dB and dv. Both follow from G = dy (u∘h)ᵀ, out×r, which for very few
  // tokens is more work than one product more.
  void through_matrix_and_v(const Activations<float>& a) {
    const auto B = f_.B(0);
    auto dB = p_.gradients.B(0);
    auto dv = p_.gradients.v(0);
    small_.noalias() = f_.u(0).asDiagonal() * a.h;
    if (few_tokens_) {
      product_.array() = a.dy.array().colwise() * sv_.array();
      Products::set(d_, B.transpose(), product_);
    } else {
      folded_B_.noalias() = sv_.asDiagonal() * B;
      Products::set(d_, folded_B_.transpose(), a.dy);
    }
    if (few_tokens_ && p_.shape.tokens <= 4) {
      if (dB.size() > 0) Products::add(dB, product_, small_.transpose());
      Products::set(product_, B, small_);
      dv.noalias() += s_ * a.dy.cwiseProduct(product_).rowwise().sum();
    } else {
      Products::set(G_, a.dy, small_.transpose());
      if (dB.size() > 0) dB.noalias() += sv_.asDiagonal() * G_;
      dv.noalias() += s_ * B.cwiseProduct(G_).rowwise().sum();
    }
  }

  Problem& p_;
  const tiedlora::Adapter<float>& f_ = std::as_const(p_.adapter);
  float s_ = static_cast<float>(p_.layout.scaling(0));
  bool few_tokens_;
  Eigen::MatrixXf small_, d_;     // r×T
  Eigen::MatrixXf product_;       // out×T
  Eigen::MatrixXf folded_B_, G_;  // out×r
  Eigen::VectorXf sv_;            // out, or empty
};

}  // namespace bench
