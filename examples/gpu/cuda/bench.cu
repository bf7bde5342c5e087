// Times of the calls on the device: medians of CUDA events around graphs of many calls, so that neither the
// host's time for a launch nor the events' own is in them.
//
// Cold factors: each call of a graph has a module of its own, of as many as exceed the L2 cache twice; hot:
// one module. Activations are the same in all calls, as a layer's are, which another kernel has just written.
//
// "forward" and "forward+backward" are the library's calls, forward two launches; "forward, one launch" is
// CudaBackend::forward, which the library does not call, where it is one: up to eight tokens.
#include <algorithm>   // max, sort
#include <cstddef>     // byte, size_t
#include <functional>  // function
#include <string>      // string, to_string
#include <vector>      // vector

#include <tiedlora/tiedlora.hpp>

#include "backend.cuh"
#include "commands.hpp"
#include "grouped.cuh"

namespace gpu_cuda {
namespace {

using Size = BenchOptions::Size;

/// Some values of either sign; which ones does not affect the time, but zeros and NaNs might.
template <class T>
Array<T> random_array(Index count) {
  std::vector<T> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<T>(static_cast<float>(tiedlora::detail::mix(i) % 2001) * 1e-3f - 1.0f);
  return Array<T>(values);
}

/// Median seconds of one of the `calls` calls of the body.
double seconds_of(Stream stream, int calls, const std::function<void()>& body) {
  body();  // sizes the workspace
  const Graph graph(stream, body);
  Event begin, end;
  std::vector<double> times;
  constexpr int warm_up = 3, runs = 15;
  for (int run = 0; run < warm_up + runs; ++run) {
    begin.record(stream);
    graph.launch();
    end.record(stream);
    if (run >= warm_up)
      times.push_back(end.since(begin) / calls);
    else
      synchronize(stream);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

template <class P>
class Case {
 public:
  Case(const CudaBackend& backend, const BenchOptions& options, const Size& size, Index rank, Index tokens,
       bool cold)
      : backend_(backend),
        size_(size),
        rank_(rank),
        count_(tokens),
        factor_numbers_(rank * (size.in + size.out)),
        modules_(
            cold ? static_cast<int>(options.cold_bytes /
                                    static_cast<double>(factor_numbers_ * static_cast<Index>(sizeof(P)))) +
                       1
                 : 1),
        calls_(std::max(modules_, options.calls)),
        factors_(random_array<P>(factor_numbers_ * modules_)),
        gradients_(random_array<float>(factor_numbers_ * modules_)),
        x_(random_array<P>(size.in * tokens)),
        dx_(random_array<P>(size.in * tokens)),
        y_(random_array<P>(size.out * tokens)),
        dy_(random_array<P>(size.out * tokens)),
        h_(random_array<float>(rank * tokens)),
        scratch_(random_array<float>(rank * tokens + 1)) {}  // at least scratch_bytes(…)

  int calls() const { return calls_; }
  void forward() const {
    for (int n = 0; n < calls_; ++n)
      tiedlora::forward(backend_, factors(n), input(x_, size_.in), tokens(y_, size_.out), tokens(h_, rank_));
  }
  void forward_in_one_launch() const {
    for (int n = 0; n < calls_; ++n)
      backend_.forward(factors(n), input(x_, size_.in), tokens(y_, size_.out), tokens(h_, rank_), {});
  }
  void forward_and_backward() const {
    CallOptions o;  // backward keeps dh in its scratch
    o.scratch = {reinterpret_cast<std::byte*>(scratch_.data()), scratch_.size() * sizeof(float)};
    for (int n = 0; n < calls_; ++n) {
      const Factors<const P> f = factors(n);
      tiedlora::forward(backend_, f, input(x_, size_.in), tokens(y_, size_.out), tokens(h_, rank_));
      tiedlora::backward(backend_, f, input(x_, size_.in), input(h_, rank_), input(dy_, size_.out),
                         gradients(n), tokens(dx_, size_.in), o);
    }
  }
  /// x read; y read and written; the factors.
  double forward_bytes() const {
    return static_cast<double>(sizeof(P)) *
           static_cast<double>(count_ * (size_.in + 2 * size_.out) + factor_numbers_);
  }
  /// Beside forward's: dy and x read, dx read and written, the factors again, gradients read and written.
  double backward_bytes() const {
    return static_cast<double>(sizeof(P)) *
               static_cast<double>(count_ * (size_.out + 3 * size_.in) + factor_numbers_) +
           8 * static_cast<double>(factor_numbers_);
  }
  double forward_flops() const {
    return 2 * static_cast<double>(count_) * static_cast<double>(factor_numbers_);
  }

 private:
  template <class T>
  Tokens<T> tokens(const Array<T>& array, Index width) const {
    return {.data = array.data(), .width = width, .count = count_, .stride = width};
  }
  template <class T>
  Tokens<const T> input(const Array<T>& array, Index width) const {
    return Tokens<const T>(tokens(array, width));
  }
  template <class T>
  Factors<T> of(T* array, int n) const {
    T* const a = array + n % modules_ * factor_numbers_;
    return {.A = a,
            .a_stride = size_.in,
            .B = a + rank_ * size_.in,
            .b_stride = size_.out,
            .rank = rank_,
            .in_features = size_.in,
            .out_features = size_.out};
  }
  Factors<const P> factors(int n) const { return of<const P>(factors_.data(), n); }
  Factors<float> gradients(int n) const { return of<float>(gradients_.data(), n); }

  const CudaBackend& backend_;
  Size size_;
  Index rank_, count_, factor_numbers_;
  int modules_, calls_;
  Array<P> factors_;
  Array<float> gradients_;
  Array<P> x_, dx_, y_, dy_;
  Array<float> h_, scratch_;
};

template <class P>
void bench_alone(const CudaBackend& backend, const char* type, const BenchOptions& options,
                 const std::function<void(const BenchRow&)>& show) {
  for (const Size& size : options.sizes)
    for (const Index rank : options.ranks)
      for (const Index tokens : options.tokens)
        for (const bool cold : {false, true}) {
          const Case<P> c(backend, options, size, rank, tokens, cold);
          BenchRow row = {.what = "forward",
                          .type = type,
                          .in = size.in,
                          .out = size.out,
                          .rank = rank,
                          .tokens = tokens,
                          .cold = cold};
          row.seconds = seconds_of(backend.stream(), c.calls(), [&] { c.forward(); });
          row.bytes = c.forward_bytes(), row.flops = c.forward_flops();
          show(row);
          if (tokens <= few_tokens && rank <= forward_few_shape::largest_rank) {
            row.what = "forward, one launch";
            row.seconds = seconds_of(backend.stream(), c.calls(), [&] { c.forward_in_one_launch(); });
            show(row);
          }
          row.what = "forward+backward";
          row.seconds = seconds_of(backend.stream(), c.calls(), [&] { c.forward_and_backward(); });
          row.bytes += c.backward_bytes(), row.flops *= 3;
          show(row);
        }
}

/// `tenants` tenants with one token each, in a batch of 64 tokens: with a shared A and B, and with matrices
/// of their own, the latter also in a loop over the tenants.
void bench_tenants(const CudaBackend& backend, Index tenants, const BenchOptions& options,
                   const std::function<void(const BenchRow&)>& show) {
  using P = __nv_bfloat16;
  constexpr Index rank = 16, tokens = 64;
  const Index width = options.width_of_tenants;
  const int calls = options.calls;
  const Array<P> x = random_array<P>(width * tokens), y = random_array<P>(width * tokens);
  const Array<float> h = random_array<float>(rank * tokens);
  const auto view = [&]<class T>(const Array<T>& array, Index features) {
    return Tokens<T>{.data = array.data(), .width = features, .count = tokens, .stride = features};
  };
  tiedlora::ModuleList modules;
  modules.add({.name = "linear", .in_features = width, .out_features = width});
  tiedlora::Scheme shared = tiedlora::schemes::tied_lora();
  shared.A.trained = shared.B.trained = false;
  for (const bool own : {false, true}) {
    const tiedlora::Layout layout(modules, own ? tiedlora::schemes::lora() : shared, rank);
    const Array<P> frozen = random_array<P>(std::max<Index>(1, layout.frozen_count()));
    const Array<P> trained = random_array<P>(layout.trainable_count() * tenants);
    const auto numbers = [](const P* data, Index count) {
      return std::span<const P>(data, static_cast<std::size_t>(count));
    };
    tiedlora::AdapterSet<P> set(modules);
    std::vector<tiedlora::AdapterId> ids;
    for (Index n = 0; n < tenants; ++n)
      ids.push_back(set.add(
          tiedlora::AdapterView<const P>(
              layout, numbers(trained.data() + n * layout.trainable_count(), layout.trainable_count()),
              numbers(frozen.data(), layout.frozen_count())),
          nullptr, {.check_finite = false}));
    std::vector<tiedlora::TokenAdapter> uses;
    for (Index t = 0; t < tokens; ++t) uses.push_back({ids[static_cast<std::size_t>(t % tenants)], 1});
    const tiedlora::BatchPlan<P> plan(set.snapshot(), uses);
    DeviceBatch<P> batch(backend);
    batch.assign(plan);
    BenchRow row = {.what = own ? "LoRAs of their own" : "tenants over one A, B",
                    .type = "bfloat16",
                    .in = width,
                    .out = width,
                    .rank = rank,
                    .tokens = tokens,
                    .tenants = tenants};
    row.seconds = seconds_of(backend.stream(), calls, [&] {
      for (int n = 0; n < calls; ++n) {
        batch.shrink(0, Tokens<const P>(view(x, width)), view(h, rank));
        batch.expand(0, Tokens<const float>(view(h, rank)), view(y, width));
      }
    });
    show(row);
    if (!own) continue;
    row.what = "LoRAs of their own, a loop";
    row.seconds = seconds_of(backend.stream(), calls, [&] {
      for (int n = 0; n < calls; ++n)
        for (Index i = 0; i < tenants; ++i) {
          const Index each = tokens / tenants;
          const Factors<const P> f = tiedlora::factors_at<P>(
              layout, 0, trained.data() + i * layout.trainable_count(), frozen.data());
          tiedlora::forward(backend, f, Tokens<const P>(view(x, width).tokens(i * each, each)),
                            view(y, width).tokens(i * each, each), view(h, rank).tokens(i * each, each));
        }
    });
    show(row);
  }
}

}  // namespace

void bench(const BenchOptions& options, const std::function<void(const BenchRow&)>& show) {
  const OwnStream stream;
  const CudaBackend backend(stream);
  bench_alone<__nv_bfloat16>(backend, "bfloat16", options, show);
  bench_alone<float>(backend, "float", options, show);
  for (const Index tenants : options.tenants) bench_tenants(backend, tenants, options, show);
}

}  // namespace gpu_cuda
