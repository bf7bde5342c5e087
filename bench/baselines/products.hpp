// Matrix products as the careful baselines use them: c = a b and c += a b, by Eigen or by OpenBLAS. Operands
// are Eigen matrices, maps or transposes of them, of float.
#pragma once

#include <Eigen/Core>  // noalias

#include <cblas.h>

namespace bench {

struct EigenProducts {
  template <class C, class A, class B>
  static void set(C& c, const A& a, const B& b) {
    c.noalias() = a * b;
  }
  template <class C, class A, class B>
  static void add(C& c, const A& a, const B& b) {
    c.noalias() += a * b;
  }
};

struct OpenBlasProducts {
  template <class C, class A, class B>
  static void set(C& c, const A& a, const B& b) {
    multiply(0.0f, c, a, b);
  }
  template <class C, class A, class B>
  static void add(C& c, const A& a, const B& b) {
    multiply(1.0f, c, a, b);
  }

 private:
  // c = beta c + a b. Row-major memory is the transpose of column-major memory, which is what OpenBLAS is
  // told. Vectors have routines of their own, as Eigen chooses them by itself.
  template <class C, class A, class B>
  static void multiply(float beta, C& c, const A& a, const B& b) {
    const int m = size(a.rows()), n = size(b.cols()), k = size(a.cols());
    if constexpr (C::IsRowMajor) {
      auto c_transposed = c.transpose();
      multiply(beta, c_transposed, b.transpose(), a.transpose());
    } else if (n == 1) {
      matrix_times_vector(a, b.data(), next_row(b), beta, c.data(), 1);
    } else if (m == 1) {
      matrix_times_vector(b.transpose(), a.data(), next_column(a), beta, c.data(), next_column(c));
    } else if (k == 1 && beta == 1) {
      cblas_sger(CblasColMajor, m, n, 1, a.data(), next_row(a), b.data(), next_column(b), c.data(),
                 next_column(c));
    } else {
      cblas_sgemm(CblasColMajor, operation<A>(), operation<B>(), m, n, k, 1, a.data(), size(a.outerStride()),
                  b.data(), size(b.outerStride()), beta, c.data(), next_column(c));
    }
  }

  template <class A>
  static void matrix_times_vector(const A& a, const float* x, int x_step, float beta, float* y, int y_step) {
    const int inner = size(A::IsRowMajor ? a.cols() : a.rows());
    const int outer = size(A::IsRowMajor ? a.rows() : a.cols());
    cblas_sgemv(CblasColMajor, operation<A>(), inner, outer, 1, a.data(), size(a.outerStride()), x, x_step,
                beta, y, y_step);
  }

  // Elements from one row, or column, to the next.
  template <class A>
  static int next_row(const A& a) {
    return A::IsRowMajor ? size(a.outerStride()) : 1;
  }
  template <class A>
  static int next_column(const A& a) {
    return A::IsRowMajor ? 1 : size(a.outerStride());
  }
  template <class A>
  static CBLAS_TRANSPOSE operation() {
    return A::IsRowMajor ? CblasTrans : CblasNoTrans;
  }
  static int size(Eigen::Index n) { return static_cast<int>(n); }
};

}  // namespace bench
