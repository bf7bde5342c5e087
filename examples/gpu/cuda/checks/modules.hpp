// Modules with one A, and graphs.
#pragma once

#include <span>    // span
#include <string>  // string, to_string
#include <vector>  // vector

#include "../backend.cuh"
#include "support.hpp"

namespace gpu_cuda::checks {

/// q, k and v: one launch where tokens are few.
inline void forward_of_modules_with_one_a() {
  constexpr Index in = 1100, rank = 13, widths[] = {300, 520, 64};
  Dice dice(3);
  const OwnStream stream;
  const CudaBackend backend(stream);
  const OnBoth a(dice, in, rank);
  std::vector<OnBoth> bs, us;
  std::vector<Factors<const float>> here, there;
  for (const Index out : widths) {
    bs.emplace_back(dice, out, rank);
    us.emplace_back(dice, rank, 1);
    Factors<const float> f = {.A = a.host.data(),
                              .a_stride = in,
                              .B = bs.back().host.data(),
                              .b_stride = out,
                              .u = us.back().host.data(),
                              .rank = rank,
                              .in_features = in,
                              .out_features = out};
    here.push_back(f);
    f.A = a.device.data(), f.B = bs.back().device.data(), f.u = us.back().device.data();
    there.push_back(f);
  }
  for (const Index count : {1, 3, 8, 9}) {
    const std::string tokens = " of " + std::to_string(count) + " tokens";
    OnBoth x(dice, in, count), h(dice, rank, count);
    std::vector<OnBoth> ys;
    std::vector<Tokens<float>> y;
    for (const Index out : widths) {
      ys.emplace_back(dice, out, count);
      y.push_back(ys.back().there());
    }
    const CallOptions o = {.scale = 0.75};
    backend.forward(std::span<const Factors<const float>>(there), Tokens<const float>(x.there()),
                    std::span<const Tokens<float>>(y), h.there(), o);
    for (std::size_t m = 0; m < here.size(); ++m) {
      tiedlora::forward(here[m], x.here(), ys[m].here(), h.here(), o);
      ys[m].require_equal("y" + tokens + ", module " + std::to_string(m), bound(rank, in), stream);
    }
    h.require_equal("h" + tokens, bound(1, in), stream);
  }
}

/// More modules than a launch has room for: dA and dx are those of the sum of their dh.
inline void shrink_backward_of_modules_with_one_a() {
  constexpr Index in = 300, rank = 6, count = 20;
  constexpr std::size_t modules = 6;
  Dice dice(6);
  const OwnStream stream;
  const CudaBackend backend(stream);
  const OnBoth a(dice, in, rank);
  OnBoth x(dice, in, count);
  std::vector<OnBoth> dhs;
  for (std::size_t m = 0; m < modules; ++m) dhs.emplace_back(dice, rank, count);
  std::vector<Tokens<const float>> dh_here, dh_there;
  for (OnBoth& dh : dhs) dh_here.push_back(dh.here()), dh_there.push_back(dh.there());
  const auto all = []<class T>(T* data) {
    return std::vector<Factors<T>>(
        modules, {.A = data, .a_stride = in, .rank = rank, .in_features = in, .out_features = 0});
  };
  for (const bool overwrite : {false, true}) {
    OnBoth da(dice, in, rank), dx(dice, in, count);
    const auto here = all(a.host.data()), there = all(static_cast<const float*>(a.device.data()));
    const auto gradients_here = all(da.host.data()), gradients_there = all(da.device.data());
    const CallOptions o = {.overwrite = overwrite};
    tiedlora::shrink_backward(std::span<const Factors<const float>>(here), Tokens<const float>(x.here()),
                              dh_here, gradients_here, dx.here(), o);
    tiedlora::shrink_backward(backend, std::span<const Factors<const float>>(there),
                              Tokens<const float>(x.there()), dh_there, gradients_there, dx.there(), o);
    da.require_equal("dA", bound(count, modules), stream);
    dx.require_equal("dx", bound(rank, modules), stream);
  }
}

/// A graph cannot grow the workspace; when it has been grown, the graph's launches give the call's bits.
inline void graph_needs_its_workspace_before() {
  constexpr Index in = 2100, rank = 20, count = 5;
  Dice dice(4);
  const OwnStream stream;
  const CudaBackend backend(stream);
  const OnBoth a(dice, in, rank), x(dice, in, count);
  OnBoth h(dice, rank, count);
  const Factors<const float> f = {
      .A = a.device.data(), .a_stride = in, .rank = rank, .in_features = in, .out_features = 0};
  const auto body = [&] { backend.shrink(f, Tokens<const float>(x.there()), h.there(), {}); };
  bool was_refused = false;
  try {
    const Graph graph(stream, body);
  } catch (const std::runtime_error&) {
    was_refused = true;
  }
  require(was_refused, "a graph was captured whose workspace was not there");
  body();
  h.host = h.device.download(stream);
  const Graph graph(stream, body);
  h.device.upload(std::vector<float>(h.host.size()).data(), stream);
  graph.launch();
  h.require_equal("h of the graph", 0, stream);
}

}  // namespace gpu_cuda::checks
