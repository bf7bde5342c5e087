// The CPU backend for all types in memory, compiled once for each build (kernel_instances_*.cpp): it is most
// of what a test takes to compile.
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

#ifdef TIEDLORA_INSTANCES_OF_ALL
TIEDLORA_INSTANCES_OF(float)
TIEDLORA_INSTANCES_OF(Eigen::half)
TIEDLORA_INSTANCES_OF(Eigen::bfloat16)
#endif

}  // namespace tiedlora
