// What every header needs: the index type, the version and the namespaces.
#pragma once

#include <cstddef>  // ptrdiff_t

#define TIEDLORA_VERSION_MAJOR 0
#define TIEDLORA_VERSION_MINOR 1
#define TIEDLORA_VERSION_PATCH 0

#if defined(__cpp_exceptions) || defined(__EXCEPTIONS) || defined(_CPPUNWIND)
#define TIEDLORA_EXCEPTIONS 1
#else
#define TIEDLORA_EXCEPTIONS 0
#endif

// Types, and whatever a program has once, live in tiedlora::v1 and are the same in every translation unit.
// Views and arithmetic (views/, ops/, backends/) are compiled differently under different instruction-set
// flags, so each set has an inline namespace of its own, TIEDLORA_ISA: a program may hold SSE2 and AVX-512
// units of <tiedlora/ops.hpp> without the linker keeping one body for both.
#if defined(__AVX512F__)
#define TIEDLORA_ISA_VECTOR avx512
#elif defined(__AVX2__)
#define TIEDLORA_ISA_VECTOR avx2
#elif defined(__AVX__)
#define TIEDLORA_ISA_VECTOR avx
#elif defined(__SSE4_1__)
#define TIEDLORA_ISA_VECTOR sse4
#elif defined(__SSE2__) || defined(_M_X64)
#define TIEDLORA_ISA_VECTOR sse2
#elif defined(__ARM_FEATURE_SVE)  // nothing here uses it, but the compiler may
#define TIEDLORA_ISA_VECTOR neon_sve
#elif defined(__aarch64__) || defined(_M_ARM64)
#define TIEDLORA_ISA_VECTOR neon
#else
#define TIEDLORA_ISA_VECTOR scalar
#endif
#if defined(__FMA__)
#define TIEDLORA_ISA_FMA _fma
#else
#define TIEDLORA_ISA_FMA
#endif
#if defined(__F16C__)
#define TIEDLORA_ISA_HALF _f16c
#else
#define TIEDLORA_ISA_HALF
#endif
#if defined(__AVX512BF16__)
#define TIEDLORA_ISA_BFLOAT16 _bf16
#else
#define TIEDLORA_ISA_BFLOAT16
#endif
#define TIEDLORA_CONCAT_(a, b, c, d) a##b##c##d
#define TIEDLORA_CONCAT(a, b, c, d) TIEDLORA_CONCAT_(a, b, c, d)
#define TIEDLORA_ISA \
  TIEDLORA_CONCAT(TIEDLORA_ISA_VECTOR, TIEDLORA_ISA_FMA, TIEDLORA_ISA_HALF, TIEDLORA_ISA_BFLOAT16)
#define TIEDLORA_STRING_(x) #x
#define TIEDLORA_STRING(x) TIEDLORA_STRING_(x)

// Every header of the library stands between these two.
#define TIEDLORA_BEGIN_NAMESPACE \
  namespace tiedlora {           \
  inline namespace v1 {
#define TIEDLORA_END_NAMESPACE \
  }                            \
  }

// A member function of a view: inlined wherever it is called, so that no unit has a body of it to share, and
// callable in CUDA kernels.
#if defined(__CUDACC__)
#define TIEDLORA_VIEW __attribute__((always_inline)) __host__ __device__ inline
#else
#define TIEDLORA_VIEW __attribute__((always_inline)) inline
#endif

TIEDLORA_BEGIN_NAMESPACE

/// Sizes, counts and strides, in elements unless a name says bytes. Signed, as Eigen's.
using Index = std::ptrdiff_t;

inline namespace TIEDLORA_ISA {

/// The instruction set this translation unit was compiled for, e.g. "avx512_fma_f16c_bf16".
/// A plain build on x86-64 is SSE2 and several times slower than -march=native.
constexpr const char* kernel_isa() { return TIEDLORA_STRING(TIEDLORA_ISA); }

}  // namespace TIEDLORA_ISA
TIEDLORA_END_NAMESPACE
