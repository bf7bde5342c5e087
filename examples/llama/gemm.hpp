// Products of matrices: oneDNN's where it is installed, else Eigen's. (On one core of a Zen 4, for the widths
// of SmolLM2-135M and 512 tokens: oneDNN 0.9 of the multipliers' peak, OpenBLAS 0.85, Eigen 0.65. OpenBLAS
// takes kernels of 2004 on processors that it does not know.)
#pragma once

#include <Eigen/Core>

#include <stdexcept>  // logic_error, runtime_error
#include <string>     // string, to_string

#include "bfloat16.hpp"
#include "config.hpp"

#if LLAMA_ONEDNN
#include <dnnl.h>

#include <cstdint>  // uint16_t

extern "C" {
void omp_set_num_threads(int);  // oneDNN's threads are OpenMP's
#if LLAMA_ONEDNN_BFLOAT16
// Exported, but in no header of its.
dnnl_status_t dnnl_gemm_bf16bf16f32(char transa, char transb, dnnl_dim_t M, dnnl_dim_t N, dnnl_dim_t K,
                                    float alpha, const std::uint16_t* A, dnnl_dim_t lda,
                                    const std::uint16_t* B, dnnl_dim_t ldb, float beta, float* C,
                                    dnnl_dim_t ldc);
#endif
}
#endif

namespace llama {

/// A matrix in memory, column by column, or its transpose.
template <class T>
struct Operand {
  const T* data;
  Index stride;  ///< from one column to the next
  bool transposed = false;
};

/// C (m×n, columns `stride` apart) = A B, or with `adds` C + A B. A is m×k and B k×n. In one thread; the bits
/// follow from the sizes alone.
template <class T>
void gemm(Index m, Index n, Index k, const Operand<T>& A, const Operand<T>& B, T* C, Index stride,
          bool adds) {
  using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;
  using Map = Eigen::Map<const Matrix, 0, Eigen::OuterStride<>>;
  using Result = Eigen::Map<Matrix, 0, Eigen::OuterStride<>>;
  const auto map = [](const Operand<T>& x, Index rows, Index columns) {
    return x.transposed ? Map(x.data, columns, rows, Eigen::OuterStride<>(x.stride))
                        : Map(x.data, rows, columns, Eigen::OuterStride<>(x.stride));
  };
  const Map a = map(A, m, k), b = map(B, k, n);
  Result c(C, m, n, Eigen::OuterStride<>(stride));
  const auto set = [&](const auto& product) {
    if (adds)
      c.noalias() += product;
    else
      c.noalias() = product;
  };
  if (A.transposed && B.transposed)
    set(a.transpose() * b.transpose());
  else if (A.transposed)
    set(a.transpose() * b);
  else if (B.transposed)
    set(a * b.transpose());
  else
    set(a * b);
}

#if LLAMA_ONEDNN
namespace detail {
inline void one_thread() {
  thread_local const bool one_thread = (omp_set_num_threads(1), true);
  static_cast<void>(one_thread);
}
inline void check(dnnl_status_t status, Index m, Index n, Index k) {
  if (status != dnnl_success)
    throw std::runtime_error("oneDNN cannot multiply matrices of " + std::to_string(m) + ", " +
                             std::to_string(k) + " and " + std::to_string(n) + ": status " +
                             std::to_string(static_cast<int>(status)));
}
}  // namespace detail

inline void gemm(Index m, Index n, Index k, const Operand<float>& A, const Operand<float>& B, float* C,
                 Index stride, bool adds) {
  detail::one_thread();
  // Its matrices are row-major: Cᵀ = Bᵀ Aᵀ.
  detail::check(dnnl_sgemm(B.transposed ? 'T' : 'N', A.transposed ? 'T' : 'N', n, m, k, 1, B.data, B.stride,
                           A.data, A.stride, adds ? 1.0f : 0.0f, C, stride),
                m, n, k);
}
#endif

/// What computes products of floats and bfloat16 in this process: another one rounds differently. For keys of
/// runs that continue to the same bits.
inline std::string product_kernels() {
#if LLAMA_ONEDNN
  const dnnl_version_t* version = dnnl_version();
  return "oneDNN " + std::to_string(version->major) + "." + std::to_string(version->minor) + "." +
         std::to_string(version->patch) + ", ISA " +
         std::to_string(static_cast<int>(dnnl_get_effective_cpu_isa()));
#else
  return "Eigen";
#endif
}

/// Whether this processor multiplies bfloat16 faster than float, and this build can.
inline bool has_bfloat16_products() {
#if LLAMA_ONEDNN && LLAMA_ONEDNN_BFLOAT16 && defined(__x86_64__)
  return __builtin_cpu_supports("avx512bf16") != 0;
#else
  return false;
#endif
}

/// The same of bfloat16, accumulated in float. Only where has_bfloat16_products().
inline void gemm(Index m, Index n, Index k, const Operand<Bfloat16>& A, const Operand<Bfloat16>& B, float* C,
                 Index stride, bool adds) {
#if LLAMA_ONEDNN && LLAMA_ONEDNN_BFLOAT16
  detail::one_thread();
  const auto bits = [](const Bfloat16* data) { return &data->bits; };
  detail::check(
      dnnl_gemm_bf16bf16f32(B.transposed ? 'T' : 'N', A.transposed ? 'T' : 'N', n, m, k, 1, bits(B.data),
                            B.stride, bits(A.data), A.stride, adds ? 1.0f : 0.0f, C, stride),
      m, n, k);
#else
  static_cast<void>(m), static_cast<void>(n), static_cast<void>(k), static_cast<void>(A),
      static_cast<void>(B);
  static_cast<void>(C), static_cast<void>(stride), static_cast<void>(adds);
  throw std::logic_error("this build has no products of bfloat16");
#endif
}

}  // namespace llama
