// Every call of <tiedlora/ops.hpp>, on operands from another unit. TIEDLORA_UNIT names this unit's namespace.
// It includes nothing else of the library: that is all that a unit for a higher instruction set may do.
#include "operands.hpp"

namespace TIEDLORA_UNIT {

using namespace tiedlora;

template <class P>
void all_calls(const Operands<P>& on) {
  using Acc = accumulator_t<P>;
  const Factors<const P>& f = on.f;
  const Factors<Acc>& gradient = on.gradient;
  const Tokens<const P>&x = on.x, &dy = on.dy;
  const Tokens<P>&y = on.y, &dx = on.dx;
  const Tokens<Acc>&h = on.h, &dh = on.dh;
  const Dropout dropout = {.probability = 0.25, .seed = 3};

  shrink(f, x, h);
  expand(f, h, y, {.scale = 0.5, .token_scale = on.token_scale});
  forward(f, x, y, h);
  forward(f, x, y, {.overwrite = true, .scratch = on.scratch});
  forward(f, x, y, h, {.dropout = dropout});
  expand(f, h.tokens(1, 1), y.features(0, f.out_features).tokens(1, 1));
  expand_backward(f, h, dy, gradient, dh);
  shrink_backward(f, x, dh, gradient, dx);
  backward(f, x, h, dy, gradient, dx, {.scratch = on.scratch});
  backward(f, x, h, dy, gradient);
  backward(f, x, h, dy, gradient, dx, {.dropout = dropout});
  for (Index t = 0; t < 2; ++t) {
    const Index n = t + 1;
    forward(f, x.tokens(t, n), y.tokens(t, n), h.tokens(t, n));
    backward(f, x.tokens(t, n), h.tokens(t, n), dy.tokens(t, n), gradient, dx.tokens(t, n));
  }

  // The formulas in loops, and without checks.
  const ReferenceBackend loops;
  forward(loops, f, x, y, h, {.dropout = dropout});
  backward(loops, f, x, h, dy, gradient, dx, {.dropout = dropout});
  check_forward(CpuBackend(), f, x, y, h);
  check_backward(CpuBackend(), f, x, h, dy, gradient, dx);
  unchecked::forward(CpuBackend(), f, x, y, h);
  unchecked::forward(CpuBackend(), f, x, y);
  unchecked::backward(CpuBackend(), f, x, Tokens<const Acc>(h), dy, gradient, dx);

  // Modules with one input.
  const Factors<const P> modules[] = {f, f};
  const Tokens<Acc> hs[] = {h, dh};
  const Tokens<const Acc> dhs[] = {h, dh};
  const Factors<Acc> gradients[] = {gradient, gradient};
  shrink(std::span<const Factors<const P>>(modules), x, hs);
  shrink_backward(std::span<const Factors<const P>>(modules), x, dhs, gradients, dx);

  // A host's threads, one after the other.
  const auto parallel_for = [](Index n, const auto& body) {
    for (Index i = 0; i < n; ++i) body(i);
  };
  const auto first = [&](Slice slice) { shrink(f, x, h, {.slice = slice}); };
  const auto second = [&](Slice slice) { expand(f, h, y, {.slice = slice}); };
  parallel_stages(parallel_for, 2, first, second);
  thread_stages(Slice{}, [] {}, first, second);
  BlockGradients<Acc> own(gradient, x.count);
  own = BlockGradients<Acc>(gradient, x.count);
  backward_in_blocks(parallel_for, f, x, h, dy, own, dx);
  backward_in_blocks(parallel_for, f, x, h, dy, BlockGradients<Acc>(gradient, x.count, on.blocks), none);

  // A device's part of the module.
  const Factors<const P> inputs = slice_in(f, 1, f.in_features - 2), outputs = slice_out(f, 1, 2);
  shrink(inputs, x.features(1, inputs.in_features), h);
  expand(outputs, h, y.features(1, 2));
}

const char* isa() { return kernel_isa(); }

void use(const Operands<float>& operands) { all_calls(operands); }
void use(const Operands<Short>& operands) { all_calls(operands); }

void fail(const Operands<float>& on) { shrink(on.f, on.x.features(0, 1), on.h); }

}  // namespace TIEDLORA_UNIT
