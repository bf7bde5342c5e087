// One module through the best kernels of this processor: exits with 0 if they compute A x.
#include <cstdio>
#include <tiedlora/dispatch.hpp>

int main() {
  const float A[] = {1, 2, 3}, x[] = {3, 2, 1};
  float h[] = {0};
  const tiedlora::Factors<const float> f = {
      .A = A, .a_stride = 3, .rank = 1, .in_features = 3, .out_features = 1};
  const tiedlora::DispatchBackend backend;
  tiedlora::shrink(backend, f, tiedlora::Tokens<const float>{x, 3, 1, 3},
                   tiedlora::Tokens<float>{h, 1, 1, 1});
  std::printf("%s: %g\n", backend.isa(), static_cast<double>(h[0]));
  return h[0] == 10 ? 0 : 1;
}
