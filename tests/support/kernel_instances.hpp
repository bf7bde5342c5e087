// The kernels that are not inlined, for all types in memory (of 32 registers not every size of tile, which
// costs time and nothing else). Tests know them as compiled elsewhere (kernel_instances.cpp, once for each
// build), for they are most of what a test takes to compile.
#pragma once

#include <Eigen/Core>
#include <tiedlora/forward_backward.hpp>

#ifndef TIEDLORA_INSTANCE
#define TIEDLORA_INSTANCE extern template
#endif

#define TIEDLORA_SUM_ROWS(J, In, c_stride, fetches, Out, Into)                                        \
  TIEDLORA_INSTANCE void tiedlora::kernels::sum_rows<J, In, c_stride, fetches, Out>(                  \
      const tiedlora::kernels::SumRows<In, c_stride, fetches>&, Out* const*, tiedlora::kernels::Into, \
      tiedlora::Index);
#define TIEDLORA_FEW_ROWS(R, In, Out, Into)                                                                  \
  TIEDLORA_INSTANCE void tiedlora::kernels::few_rows<R, In, Out>(const In* const*, tiedlora::Index,          \
                                                                 const float*, Out* const*, tiedlora::Index, \
                                                                 tiedlora::kernels::Into, tiedlora::Index);
#define TIEDLORA_SIDE_BY_SIDE(R, J, In, Out)                                      \
  TIEDLORA_INSTANCE void tiedlora::kernels::few_rows_side_by_side<R, J, In, Out>( \
      const In* const*, const float*, Out* const*, bool, tiedlora::Index, tiedlora::kernels::Ahead);
#define TIEDLORA_DOT_TILE(K, T, padded, fetches, P, X)                                       \
  TIEDLORA_INSTANCE void tiedlora::kernels::dot_tile<K, T, padded, fetches>(                 \
      const tiedlora::kernels::DotRows<P>&, const X* const*, tiedlora::Index, float* const*, \
      tiedlora::Index, bool);
#define TIEDLORA_FACTOR_ROWS(K, T, has_dots, has_z, has_gradient, P)                          \
  TIEDLORA_INSTANCE void tiedlora::kernels::factor_rows<K, T, has_dots, has_z, has_gradient>( \
      const tiedlora::kernels::FactorRows<P>&, const tiedlora::kernels::FactorTokens<T>&, tiedlora::Index);

#define TIEDLORA_SUMS(In, c_stride, fetches, Out, Into)  \
  TIEDLORA_SUM_ROWS(1, In, c_stride, fetches, Out, Into) \
  TIEDLORA_SUM_ROWS(2, In, c_stride, fetches, Out, Into) \
  TIEDLORA_SUM_ROWS(4, In, c_stride, fetches, Out, Into) \
  TIEDLORA_SUM_ROWS((tiedlora::kernels::many_registers ? 8 : 6), In, c_stride, fetches, Out, Into)
#define TIEDLORA_FEW(In, Out, Into)   \
  TIEDLORA_FEW_ROWS(1, In, Out, Into) \
  TIEDLORA_FEW_ROWS(2, In, Out, Into) \
  TIEDLORA_FEW_ROWS(4, In, Out, Into)
#define TIEDLORA_ROWS_SIDE_BY_SIDE(J, In, Out) \
  TIEDLORA_SIDE_BY_SIDE(1, J, In, Out)         \
  TIEDLORA_SIDE_BY_SIDE(2, J, In, Out)         \
  TIEDLORA_SIDE_BY_SIDE(4, J, In, Out)
#define TIEDLORA_DOTS_OF(K, padded, P, X)                                                \
  TIEDLORA_DOT_TILE(K, 1, padded, false, P, X)                                           \
  TIEDLORA_DOT_TILE(K, 2, padded, false, P, X)                                           \
  TIEDLORA_DOT_TILE(K, (tiedlora::kernels::many_registers ? 4 : 3), padded, false, P, X) \
  TIEDLORA_DOT_TILE(K, tiedlora::kernels::dot_tokens, padded, true, P, X)
#define TIEDLORA_DOTS(padded, P, X) \
  TIEDLORA_DOTS_OF(1, padded, P, X) TIEDLORA_DOTS_OF(2, padded, P, X) TIEDLORA_DOTS_OF(4, padded, P, X)
#define TIEDLORA_FACTOR_PASSES(has_dots, has_z, has_gradient, P) \
  TIEDLORA_FACTOR_ROWS(1, 1, has_dots, has_z, has_gradient, P)   \
  TIEDLORA_FACTOR_ROWS(2, 1, has_dots, has_z, has_gradient, P)   \
  TIEDLORA_FACTOR_ROWS(1, 2, has_dots, has_z, has_gradient, P)   \
  TIEDLORA_FACTOR_ROWS(2, 2, has_dots, has_z, has_gradient, P)

// Parameters P, tokens X.
#define TIEDLORA_KERNELS(P, X)                                              \
  TIEDLORA_SUMS(P, tiedlora::kernels::panel_ranks, false, X, IntoTokens<P>) \
  TIEDLORA_SUMS(X, 1, false, float, IntoRanks<P>)                           \
  TIEDLORA_SUMS(X, 1, true, float, IntoRanks<P>)                            \
  TIEDLORA_FEW(P, X, IntoTokens<P>)                                         \
  TIEDLORA_FEW(X, float, IntoRanks<P>)                                      \
  TIEDLORA_FEW_ROWS(8, X, float, IntoRanks<P>)                              \
  TIEDLORA_DOTS(false, P, X) TIEDLORA_DOT_TILE(8, 1, false, false, P, X)
#define TIEDLORA_KERNELS_OF_PARAMETERS(P)       \
  TIEDLORA_KERNELS(P, float)                    \
  TIEDLORA_KERNELS(P, Eigen::half)              \
  TIEDLORA_KERNELS(P, Eigen::bfloat16)          \
  TIEDLORA_FACTOR_PASSES(true, true, true, P)   \
  TIEDLORA_FACTOR_PASSES(true, true, false, P)  \
  TIEDLORA_FACTOR_PASSES(true, false, true, P)  \
  TIEDLORA_FACTOR_PASSES(true, false, false, P) \
  TIEDLORA_FACTOR_PASSES(false, true, true, P)  \
  TIEDLORA_FACTOR_PASSES(false, true, false, P) \
  TIEDLORA_FACTOR_PASSES(false, false, true, P)
// A panel of narrow parameters is in float, and so are packed rows.
#define TIEDLORA_KERNELS_OF_PANELS(P)                                                     \
  TIEDLORA_SUMS(float, tiedlora::kernels::panel_ranks, false, float, IntoTokens<P>)       \
  TIEDLORA_SUMS(float, tiedlora::kernels::panel_ranks, false, Eigen::half, IntoTokens<P>) \
  TIEDLORA_SUMS(float, tiedlora::kernels::panel_ranks, false, Eigen::bfloat16, IntoTokens<P>)

TIEDLORA_KERNELS_OF_PARAMETERS(float)
TIEDLORA_KERNELS_OF_PARAMETERS(Eigen::half)
TIEDLORA_KERNELS_OF_PARAMETERS(Eigen::bfloat16)
TIEDLORA_KERNELS_OF_PANELS(Eigen::half)
TIEDLORA_KERNELS_OF_PANELS(Eigen::bfloat16)
TIEDLORA_DOTS(true, float, float)
TIEDLORA_DOTS(true, float, Eigen::half)
TIEDLORA_DOTS(true, float, Eigen::bfloat16)

// Tokens go past copies of rows, gradients past few tokens, and tokens past gradients of few ranks.
#define TIEDLORA_ALL_SIDE_BY_SIDE(In, Out) \
  TIEDLORA_ROWS_SIDE_BY_SIDE(1, In, Out)   \
  TIEDLORA_ROWS_SIDE_BY_SIDE(2, In, Out)   \
  TIEDLORA_ROWS_SIDE_BY_SIDE(4, In, Out)
#define TIEDLORA_GRADIENTS_SIDE_BY_SIDE(In) \
  TIEDLORA_ALL_SIDE_BY_SIDE(In, float)      \
  TIEDLORA_SIDE_BY_SIDE(8, 1, In, float) TIEDLORA_SIDE_BY_SIDE(8, 2, In, float)
TIEDLORA_ALL_SIDE_BY_SIDE(float, Eigen::half)
TIEDLORA_ALL_SIDE_BY_SIDE(float, Eigen::bfloat16)
TIEDLORA_GRADIENTS_SIDE_BY_SIDE(float)
TIEDLORA_GRADIENTS_SIDE_BY_SIDE(Eigen::half)
TIEDLORA_GRADIENTS_SIDE_BY_SIDE(Eigen::bfloat16)
