// A stand-in for the few things of ggml that docs/integration.md uses, written for its test: tensors of
// contiguous floats, and custom nodes that run() calls as the engine's threads would.
#pragma once

#include <cstddef>  // size_t
#include <cstdint>  // int64_t
#include <deque>    // deque
#include <thread>   // jthread
#include <vector>   // vector

struct ggml_tensor {
  std::int64_t ne[4] = {1, 1, 1, 1};  // sizes, the fastest first
  std::size_t nb[4] = {};             // strides in bytes
  ggml_tensor* src[4] = {};
  char name[64] = {};
  void* data = nullptr;

  void (*fun)(ggml_tensor*, int, int, void*) = nullptr;
  void* user_data = nullptr;

  void run(int nth) {
    std::vector<std::jthread> threads;
    for (int ith = 0; ith < nth; ++ith) threads.emplace_back([=, this] { fun(this, ith, nth, user_data); });
  }
};

struct ggml_context {
  std::deque<ggml_tensor> tensors;
};

inline constexpr int GGML_N_TASKS_MAX = -1;

inline ggml_tensor* ggml_custom_inplace(ggml_context* ctx, ggml_tensor* a, ggml_tensor** args, int n_args,
                                        void (*fun)(ggml_tensor*, int, int, void*), int /*n_tasks*/,
                                        void* user_data) {
  ggml_tensor& node = ctx->tensors.emplace_back(*a);
  node.src[0] = a;
  for (int i = 0; i < n_args; ++i) node.src[i + 1] = args[i];
  node.fun = fun, node.user_data = user_data;
  return &node;
}
