// A stand-in for the few things of ggml that docs/integration.md uses, written for its test: tensors of
// contiguous floats, and custom nodes that run() calls as the engine's threads would.
#pragma once

#include <cstddef>  // size_t
#include <cstdint>  // int64_t
#include <deque>    // deque
#include <thread>   // thread
#include <vector>   // vector

struct ggml_tensor {
  std::int64_t ne[4] = {1, 1, 1, 1};  // sizes, the fastest first
  std::size_t nb[4] = {};             // strides in bytes
  ggml_tensor* src[4] = {};
  char name[64] = {};
  void* data = nullptr;

  void (*fun)(ggml_tensor*, int, int, void*) = nullptr;
  void* user_data = nullptr;

  /// As the engine's threads would, which wait for each other at the end.
  void run(int nth) {
    std::vector<std::thread> threads;
    for (int ith = 0; ith < nth; ++ith) threads.emplace_back([=, this] { fun(this, ith, nth, user_data); });
    for (std::thread& thread : threads) thread.join();
  }
};

struct ggml_context {
  std::deque<ggml_tensor> tensors;  // in the order of a graph
  std::deque<std::vector<float>> memory;
};

enum ggml_type { GGML_TYPE_F32 };
using ggml_custom_op_t = void (*)(ggml_tensor*, int ith, int nth, void* user_data);
inline constexpr int GGML_N_TASKS_MAX = -1;

/// A node with memory of its own.
inline ggml_tensor* ggml_custom_4d(ggml_context* ctx, ggml_type, std::int64_t ne0, std::int64_t ne1,
                                   std::int64_t ne2, std::int64_t ne3, ggml_tensor** args, int n_args,
                                   ggml_custom_op_t fun, int /*n_tasks*/, void* user_data) {
  const auto floats = static_cast<std::size_t>(ne0 * ne1 * ne2 * ne3);
  ggml_tensor& node = ctx->tensors.emplace_back();
  node.ne[0] = ne0, node.ne[1] = ne1, node.ne[2] = ne2, node.ne[3] = ne3;
  node.nb[0] = sizeof(float), node.nb[1] = static_cast<std::size_t>(ne0) * sizeof(float);
  node.data = ctx->memory.emplace_back(floats).data();
  for (int i = 0; i < n_args; ++i) node.src[i] = args[i];
  node.fun = fun, node.user_data = user_data;
  return &node;
}

/// A node that writes where a lies.
inline ggml_tensor* ggml_custom_inplace(ggml_context* ctx, ggml_tensor* a, ggml_tensor** args, int n_args,
                                        ggml_custom_op_t fun, int /*n_tasks*/, void* user_data) {
  ggml_tensor& node = ctx->tensors.emplace_back(*a);
  node.src[0] = a;
  for (int i = 0; i < n_args; ++i) node.src[i + 1] = args[i];
  node.fun = fun, node.user_data = user_data;
  return &node;
}
