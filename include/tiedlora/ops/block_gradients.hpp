// Backward in a host's threads. Tokens are cut into blocks whose size does not depend on the number of
// threads; each block adds to gradients of its own, which are then added up in block order: the same bits for
// any number of threads, and no thread waits for another in between.
//
//   tiedlora::BlockGradients<float> blocks(gradients.factors(m), tokens);           // once
//   tiedlora::backward_in_blocks(pool_parallel_for, f, x, h, dy, blocks, dx);       // every step
#pragma once

#include <cstddef>      // size_t
#include <new>          // align_val_t
#include <span>         // span
#include <type_traits>  // is_trivially_copyable, remove_const
#include <utility>      // exchange, forward

#include "../views/config.hpp"
#include "../views/error.hpp"
#include "../views/factors.hpp"
#include "../views/options.hpp"
#include "../views/scalar.hpp"
#include "../views/slice.hpp"
#include "../views/tokens.hpp"
#include "backward.hpp"
#include "unchecked.hpp"

TIEDLORA_BEGIN_NAMESPACE
inline namespace TIEDLORA_ISA {

/// How many blocks that many tokens are cut into: blocks of at most 128 tokens, so that what one stage writes
/// is still in the cache for the next, and at least eight blocks if each gets 16 tokens.
inline Index token_blocks(Index tokens) {
  const Index for_cache = (tokens + 127) / 128, for_threads = detail::smaller(tokens / 16, 8);
  return detail::larger(detail::larger(for_cache, for_threads), 1);
}

/// The tokens of block `index`, in the order of the view: a multiple of 16 except the last.
inline detail::Range token_block(Index tokens, Index index) {
  return detail::part_in_units(tokens, 16, {index, token_blocks(tokens)});
}

/// The gradients of one module, once for each block of tokens.
template <class G>
class BlockGradients {
  static_assert(std::is_trivially_copyable_v<G>);  // it is memory that block() sets to zero

 public:
  /// How many values the gradients of one block have.
  static Index size(const Factors<G>& gradient) {
    return (gradient.A ? gradient.rank * gradient.in_features : 0) +
           (gradient.B ? gradient.rank * gradient.out_features : 0) + (gradient.u ? gradient.rank : 0) +
           (gradient.v ? gradient.out_features : 0);
  }

  BlockGradients() = default;
  /// For the factors that `gradient` has and at most `tokens` tokens, in memory of its own.
  BlockGradients(const Factors<G>& gradient, Index tokens)
      : gradient_(gradient), blocks_(token_blocks(tokens)) {
    const auto bytes = static_cast<std::size_t>(blocks_ * size(gradient)) * sizeof(G);
    owned_ = static_cast<G*>(::operator new(bytes, std::align_val_t(64)));
    memory_ = owned_;
  }
  /// The same in the caller's memory, which modules that run one after the other may share. Throws Error if
  /// it is too small.
  BlockGradients(const Factors<G>& gradient, Index tokens, std::span<G> memory)
      : gradient_(gradient), blocks_(token_blocks(tokens)), memory_(memory.data()) {
    if (static_cast<Index>(memory.size()) < blocks_ * size(gradient))
      detail::fail_at(gradient, "gradients of ", blocks_, " blocks of tokens have ", blocks_ * size(gradient),
                      " values, but the memory given holds ", memory.size());
  }
  BlockGradients(BlockGradients&& other) noexcept
      : gradient_(other.gradient_),
        blocks_(std::exchange(other.blocks_, 0)),
        memory_(std::exchange(other.memory_, nullptr)),
        owned_(std::exchange(other.owned_, nullptr)) {}
  BlockGradients& operator=(BlockGradients&& other) noexcept {
    if (this == &other) return *this;
    ::operator delete(owned_, std::align_val_t(64));
    gradient_ = other.gradient_;
    blocks_ = std::exchange(other.blocks_, 0);
    memory_ = std::exchange(other.memory_, nullptr);
    owned_ = std::exchange(other.owned_, nullptr);
    return *this;
  }
  ~BlockGradients() { ::operator delete(owned_, std::align_val_t(64)); }

  /// Where the blocks are added up.
  const Factors<G>& gradient() const { return gradient_; }
  Index blocks() const { return blocks_; }

  /// Where backward of that block writes, set to zero; null where a factor is not trained. Throws Error if
  /// there is no such block.
  Factors<G> zeroed_block(Index index) const {
    if (index < 0 || index >= blocks_)
      detail::fail_at(gradient_, "block ", index, " does not exist: there are ", blocks_);
    G* next = memory_ + index * size(gradient_);
    const auto take = [&next](const G* wanted, Index count) -> G* {
      if (!wanted) return nullptr;
      G* const taken = next;
      for (Index i = 0; i < count; ++i) *next++ = G(0);
      return taken;
    };
    Factors<G> own = gradient_;
    own.A = take(own.A, own.rank * own.in_features);
    own.a_stride = own.in_features;
    own.B = take(own.B, own.rank * own.out_features);
    own.b_stride = own.out_features;
    own.u = take(own.u, own.rank);
    own.v = take(own.v, own.out_features);
    return own;
  }

  /// Adds the first `blocks` blocks to the gradient, in their order. A slice adds up its own rows, always the
  /// same ones, so that modules with a common factor can be added up one after the other without a barrier.
  /// Throws Error if there are fewer blocks, or no such slice.
  void add_up(Index blocks, const Slice& slice = {}) const {
    if (blocks < 0 || blocks > blocks_)
      detail::fail_at(gradient_, blocks, " blocks were to be added up, but there are ", blocks_);
    if (slice.nth < 1 || slice.ith < 0 || slice.ith >= slice.nth)
      detail::fail_at(gradient_, "slice ", slice.ith, " of ", slice.nth,
                      " does not exist: ith must be at least 0 and less than nth");
    const Factors<G>& g = gradient_;
    const Index stride = size(g);
    const G* next = memory_;
    const auto add_rows = [&](G* to, Index to_stride, Index rows, Index n) {
      if (!to) return;
      for (Index k = slice.ith; k < rows; k += slice.nth)
        for (Index b = 0; b < blocks; ++b) {
          G* const sum = to + k * to_stride;
          const G* const part = next + b * stride + k * n;
          for (Index i = 0; i < n; ++i) sum[i] += part[i];
        }
      next += rows * n;
    };
    add_rows(g.A, g.a_stride, g.rank, g.in_features);
    add_rows(g.B, g.b_stride, g.rank, g.out_features);
    add_rows(g.u, 0, 1, g.rank);
    add_rows(g.v, 0, 1, g.out_features);
  }

 private:
  Factors<G> gradient_ = {};
  Index blocks_ = 0;
  G* memory_ = nullptr;
  G* owned_ = nullptr;
};

/// backward in the threads of a host whose parallel_for(n, body) calls body(i) for i = 0, …, n - 1 and
/// returns when all are done. Adds to blocks.gradient(). Operands are those of backward; options have no
/// scratch, which blocks that run at the same time could not share. Throws Error if the shapes disagree with
/// the module or there are more tokens than `blocks` is for.
template <class B, class ParallelFor, class P, class X, class H, class Dy, class Dx>
void backward_in_blocks(const B& backend, ParallelFor&& parallel_for, const Factors<P>& f, const X& x,
                        const H& h, const Dy& dy, const BlockGradients<accumulator_t<P>>& blocks, Dx&& dx,
                        const CallOptions& o = {}) {
  static_assert(!detail::has_device_memory<B>, "tiedlora: BlockGradients are in the host's memory");
  using Scalar = std::remove_const_t<P>;
  const Tokens<const accumulator_t<P>> hs = detail::input_tokens(h);
  const auto dys = detail::input_tokens(dy);
  const auto xs = detail::input_tokens_or_none<Scalar>(x);
  const auto dxs = detail::output_tokens_or_none<Scalar>(std::forward<Dx>(dx));
  if (!o.scratch.empty())
    detail::fail_at(
        f, "blocks of tokens that run at once cannot share one scratch; leave options.scratch empty");
  if (f.rank > detail::stack_numbers<accumulator_t<P>>)
    detail::fail_at(f, "in blocks of tokens the rank can be at most ",
                    detail::stack_numbers<accumulator_t<P>>);
  detail::check_backward<B>(f, xs, detail::is_given<X>(xs, dys.count, f.in_features), hs, dys,
                            blocks.gradient(), dxs, detail::is_given<Dx>(dxs, dys.count, f.in_features), o);
  const Index count = token_blocks(dys.count);
  if (count > blocks.blocks())
    detail::fail_at(f, dys.count, " tokens make ", count, " blocks, but the BlockGradients given have ",
                    blocks.blocks());
  const Factors<const Scalar> factors = f;
  if (f.rank == 0) return unchecked::backward(backend, factors, xs, hs, dys, blocks.gradient(), dxs, o);
  parallel_for(count, [&](auto i) {
    const auto [begin, end] = token_block(dys.count, static_cast<Index>(i));
    const Index n = end - begin;
    unchecked::backward(backend, factors, xs.is_none() ? xs : xs.tokens(begin, n), hs.tokens(begin, n),
                        dys.tokens(begin, n), blocks.zeroed_block(static_cast<Index>(i)),
                        dxs.is_none() ? dxs : dxs.tokens(begin, n), detail::from_token(o, begin));
  });
  parallel_for(count, [&](auto i) { blocks.add_up(count, {static_cast<Index>(i), count}); });
}
template <class ParallelFor, class P, class X, class H, class Dy, class Dx>
void backward_in_blocks(ParallelFor&& parallel_for, const Factors<P>& f, const X& x, const H& h, const Dy& dy,
                        const BlockGradients<accumulator_t<P>>& blocks, Dx&& dx, const CallOptions& o = {}) {
  backward_in_blocks(CpuBackend(), parallel_for, f, x, h, dy, blocks, std::forward<Dx>(dx), o);
}

}  // namespace TIEDLORA_ISA
TIEDLORA_END_NAMESPACE
