// The CPU backend for all types in memory, compiled once for each build (kernel_instances_*.cpp) and
// optimised as the build says, and the loops in double that results are compared with: most of what a test
// takes to compile, and to run.
#pragma once

#include <tiedlora/eigen.hpp>
#include <tiedlora/ops.hpp>

#ifndef TIEDLORA_INSTANCE
#define TIEDLORA_INSTANCE extern template
#define TIEDLORA_INSTANCES_OF_ALL
#endif

namespace tiedlora {

// Of parameters P with x and dx in X, y and dy in Y; shrink_backward has x and dx of types of their own.
#define TIEDLORA_SECOND_HALF(P, X, Dx)                                                                 \
  TIEDLORA_INSTANCE                                                                                    \
  void CpuBackend::shrink_backward<P, X, Dx>(const Factors<const P>&, const Tokens<const X>&,          \
                                             const Tokens<const float>&, const Factors<float>&,        \
                                             const Tokens<Dx>&, const CallOptions&) const;             \
  TIEDLORA_INSTANCE                                                                                    \
  void CpuBackend::shrink_backward<P, X, Dx>(                                                          \
      std::span<const Factors<const P>>, const Tokens<const X>&, std::span<const Tokens<const float>>, \
      std::span<const Factors<float>>, const Tokens<Dx>&, CallOptions) const;
#define TIEDLORA_INSTANCES(P, X)                                                                        \
  TIEDLORA_INSTANCE                                                                                     \
  void CpuBackend::shrink<P, X>(const Factors<const P>&, const Tokens<const X>&, const Tokens<float>&,  \
                                const CallOptions&) const;                                              \
  TIEDLORA_INSTANCE                                                                                     \
  void CpuBackend::shrink<P, X>(std::span<const Factors<const P>>, const Tokens<const X>&,              \
                                std::span<const Tokens<float>>, const CallOptions&) const;              \
  TIEDLORA_INSTANCE                                                                                     \
  void CpuBackend::expand<P, X>(const Factors<const P>&, const Tokens<const float>&, const Tokens<X>&,  \
                                const CallOptions&) const;                                              \
  TIEDLORA_INSTANCE                                                                                     \
  void CpuBackend::expand<P, X>(const Factors<const P>&, const Tenants<P>&, const Tokens<const float>&, \
                                const Tokens<X>&, const CallOptions&) const;                            \
  TIEDLORA_INSTANCE                                                                                     \
  void CpuBackend::expand_backward<P, X>(const Factors<const P>&, const Tokens<const float>&,           \
                                         const Tokens<const X>&, const Factors<float>&,                 \
                                         const Tokens<float>&, const CallOptions&) const;               \
  TIEDLORA_SECOND_HALF(P, X, float)                                                                     \
  TIEDLORA_SECOND_HALF(P, X, Eigen::half)                                                               \
  TIEDLORA_SECOND_HALF(P, X, Eigen::bfloat16)
#define TIEDLORA_INSTANCES_OF(P)     \
  TIEDLORA_INSTANCES(P, float)       \
  TIEDLORA_INSTANCES(P, Eigen::half) \
  TIEDLORA_INSTANCES(P, Eigen::bfloat16)

#define TIEDLORA_INSTANCES_OF_LOOPS                                                                          \
  TIEDLORA_INSTANCE                                                                                          \
  void reference::shrink<const double, double, double>(                                                      \
      const Factors<const double>&, const Tokens<const double>&, const Tokens<double>&, const CallOptions&); \
  TIEDLORA_INSTANCE                                                                                          \
  void reference::expand<const double, double, double>(                                                      \
      const Factors<const double>&, const Tokens<const double>&, const Tokens<double>&, const CallOptions&); \
  TIEDLORA_INSTANCE                                                                                          \
  void reference::expand_backward<const double, double, double>(                                             \
      const Factors<const double>&, const Tokens<const double>&, const Tokens<const double>&,                \
      const Factors<double>&, const Tokens<double>&, const CallOptions&);                                    \
  TIEDLORA_INSTANCE                                                                                          \
  void reference::shrink_backward<const double, double, double, double>(                                     \
      const Factors<const double>&, const Tokens<const double>&, const Tokens<const double>&,                \
      const Factors<double>&, const Tokens<double>&, const CallOptions&);

#ifdef TIEDLORA_INSTANCES_OF_ALL
TIEDLORA_INSTANCES_OF(float)
TIEDLORA_INSTANCES_OF(Eigen::half)
TIEDLORA_INSTANCES_OF(Eigen::bfloat16)
TIEDLORA_INSTANCES_OF_LOOPS
#endif

}  // namespace tiedlora
