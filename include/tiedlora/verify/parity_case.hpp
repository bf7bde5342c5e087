// One module, some tokens, and what the reference loops compute from them in double.
#pragma once

#include <cmath>    // abs, exp2
#include <cstdint>  // uint64_t
#include <limits>   // numeric_limits
#include <string>   // string, to_string
#include <utility>  // move
#include <vector>   // vector

#include "../backends/reference.hpp"
#include "../views/config.hpp"
#include "../views/error.hpp"
#include "../views/factors.hpp"
#include "../views/options.hpp"
#include "../views/scalar.hpp"
#include "dice.hpp"
#include "guarded_memory.hpp"
#include "matrix.hpp"
#include "tolerance.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace verify {

/// An operand that holds one NaN or infinity.
enum class Spoilt { nothing, A, B, u, v, x, dy };

/// What is run. Everything that the seed does not decide can be switched off separately, so that a failure
/// can be reduced to what it needs.
struct ParityCase {
  Index in = 1, out = 1, rank = 1, tokens = 1;
  std::string present = "ABuv";  ///< A and B always
  std::string trained = "ABuv";  ///< which of those present
  bool wants_dx = true;
  View x = View::dense, h = View::dense, y = View::dense;  ///< where tokens lie
  View dx = View::dense, dh = View::dense, dy = View::dense;
  View factors = View::dense;    ///< dense or padded: rows of A, columns of B
  View gradients = View::dense;  ///< likewise of dA and dB: their strides are their own
  bool overwrite = false;        ///< y and dx
  double scaling = 1;            ///< the module's
  double scale = 1;              ///< the call's
  bool token_scale = false;
  double dropout = 0;       ///< probability; for backends that mask x
  Index slices = 1;         ///< for backends that run in slices
  bool shared_x = false;    ///< also as several modules with one x, for backends that have these calls
  bool tenants = false;     ///< also for tenants, likewise
  bool wide_range = false;  ///< values of very different magnitudes
  Spoilt spoilt = Spoilt::nothing;
  double spoiling_value = std::numeric_limits<double>::quiet_NaN();
  /// What is all zero: A, B, u, v, x and with it h, y for dy, s for the call's scale, t for token_scale. A
  /// spoilt value is the exception: it is then multiplied by zero, and the product is a NaN.
  std::string zeros = "";
  static constexpr const char* all_zeros = "stAuvBxy";  ///< what makes others zero comes first
  std::uint64_t seed = 0;                               ///< of all values, paddings and gathered rows

  bool is_zero(char operand) const { return zeros.find(operand) != std::string::npos; }
  bool has(char factor) const { return present.find(factor) != std::string::npos; }
  bool trains(char factor) const { return has(factor) && trained.find(factor) != std::string::npos; }
  bool needs_dh() const { return trains('A') || trains('u') || wants_dx; }

  std::string text() const {
    using tiedlora::detail::message;
    std::string result = message("in ", in, ", out ", out, ", rank ", rank, ", tokens ", tokens);
    result += message(", factors ", present, ", trained ", trained.empty() ? "none" : trained);
    for (const std::string& feature : features()) result += ", " + feature;
    return result + message(", seed ", seed);
  }

  /// What distinguishes it from a plain call on dense matrices.
  std::vector<std::string> features() const {
    using tiedlora::detail::message;
    std::vector<std::string> result;
    const auto add = [&](bool is_there, const std::string& what) {
      if (is_there) result.push_back(what);
    };
    const auto view = [&](const char* operand, View v) {
      static const char* const names[] = {"", " padded", " gathered by rows", " by pointers",
                                          " by pointers with a first_feature"};
      add(v != View::dense, std::string(operand) + names[static_cast<std::size_t>(v)]);
    };
    view("x", x), view("h", h), view("y", y), view("dx", dx), view("dh", dh), view("dy", dy);
    view("A and B", factors), view("dA and dB", gradients);
    add(!wants_dx, "without dx");
    add(overwrite, "overwrite");
    add(scaling != 1, message("scaling ", scaling));
    add(scale != 1 && !is_zero('s'), message("scale ", scale));
    add(token_scale && !is_zero('t'), "token_scale");
    add(dropout != 0, message("dropout ", dropout));
    add(slices != 1, message(slices, " slices"));
    add(shared_x, "modules with one x"), add(tenants, "tenants");
    add(wide_range, "values of a wide range");
    static const char* const operands[] = {"", "A", "B", "u", "v", "x", "dy"};
    add(spoilt != Spoilt::nothing,
        message(std::isnan(spoiling_value) ? "NaN in " : "infinity in ", operands[static_cast<int>(spoilt)]));
    add(zeros == all_zeros, "zeros in all else");
    for (const char operand : zeros == all_zeros ? "" : zeros)
      result.push_back(operand == 's'   ? "scale 0"
                       : operand == 't' ? "token_scale 0"
                       : operand == 'y' ? "zeros in dy"
                       : operand == 'x' ? "zeros in x and h"
                                        : std::string("zeros in ") + operand);
    return result;
  }
};

inline namespace TIEDLORA_ISA {

/// All operands and results of a case in double.
struct Numbers {
  Matrix A, B, u, v, x, dy;      ///< A in×r, B out×r, u r×1, v out×1
  Matrix y, dx, dA, dB, du, dv;  ///< before the calls, then after
  Matrix h, dh;                  ///< results
  Matrix given_h, given_dh;      ///< what the stages that read h and dh are given
  double scaling = 1, scale = 1;
  std::vector<float> token_scale;  ///< empty: none
  bool overwrite = false;
  Dropout dropout;

  CallOptions options() const {
    return {.scale = scale,
            .token_scale = token_scale.empty() ? nullptr : token_scale.data(),
            .overwrite = overwrite,
            .dropout = dropout};
  }
};

/// The case's, in the middle of a run and of a batch: nothing that the mask depends on is 0.
inline Dropout dropout_of(const ParityCase& c) {
  return {.probability = c.dropout, .seed = c.seed, .step = 2, .input = 3, .first_token = 4};
}

/// call(o) for every slice of the case in turn.
template <class Call>
void for_each_slice(const ParityCase& c, CallOptions o, const Call& call) {
  for (Index ith = 0; ith < c.slices; ++ith) {
    o.slice = {ith, c.slices};
    call(o);
  }
}

/// Sets to zero what the case wants to be zero.
inline void set_zeros(const ParityCase& c, Numbers& n) {
  const auto clear = [&](char operand, Matrix& m) {
    if (c.is_zero(operand)) m = Matrix(m.rows, m.columns);
  };
  clear('A', n.A), clear('B', n.B), clear('u', n.u), clear('v', n.v), clear('x', n.x), clear('y', n.dy);
  if (c.is_zero('s')) n.scale = 0;
  if (c.is_zero('t')) n.token_scale.assign(n.token_scale.size(), 0);
}

/// The values of a case, as parameters P, x in X, y and dy in Y, and dx in Dx can hold them.
template <class P, class X, class Y, class Dx>
Numbers draw_numbers(const ParityCase& c) {
  using Acc = accumulator_t<P>;
  Dice dice(c.seed);
  // From 2^-10 to 1 where a binary16 could overflow, elsewhere from 2^-16 to 2^16.
  constexpr bool narrow =
      smallest_roundoff<P>() + smallest_roundoff<X>() + smallest_roundoff<Y>() + smallest_roundoff<Dx>() > 0;
  const auto draw = [&]<class T>(Index rows, Index columns, T) {
    Matrix m(rows, columns);
    for (double& value : m.values) {
      value = dice.uniform();
      if (c.wide_range) value *= std::exp2(dice.uniform(narrow ? -10 : -16, narrow ? 0 : 16));
    }
    m.round<T>();
    return m;
  };
  Numbers n;
  n.A = draw(c.in, c.rank, P()), n.B = draw(c.out, c.rank, P());
  n.u = draw(c.rank, 1, P()), n.v = draw(c.out, 1, P());
  n.x = draw(c.in, c.tokens, X()), n.dy = draw(c.out, c.tokens, Y());
  n.y = draw(c.out, c.tokens, Y()), n.dx = draw(c.in, c.tokens, Dx());
  n.dA = draw(c.in, c.rank, Acc()), n.dB = draw(c.out, c.rank, Acc());
  n.du = draw(c.rank, 1, Acc()), n.dv = draw(c.out, 1, Acc());
  n.scaling = c.scaling, n.scale = c.scale, n.overwrite = c.overwrite;
  if (c.token_scale)
    for (Index t = 0; t < c.tokens; ++t) n.token_scale.push_back(static_cast<float>(dice.uniform()));
  n.dropout = dropout_of(c);
  set_zeros(c, n);
  if (c.spoilt != Spoilt::nothing) {
    Matrix* const operands[] = {nullptr, &n.A, &n.B, &n.u, &n.v, &n.x, &n.dy};
    std::vector<double>& values = operands[static_cast<int>(c.spoilt)]->values;
    if (!values.empty())
      values[static_cast<std::size_t>(dice.integer(0, static_cast<Index>(values.size()) - 1))] =
          c.spoiling_value;
  }
  return n;
}

/// Views of the values, for the loops.
inline Factors<double> factors_of(const ParityCase& c, Matrix& A, Matrix& B, Matrix& u, Matrix& v,
                                  double scaling, const std::string& wanted) {
  const auto pointer = [&](Matrix& m, char factor) {
    return wanted.find(factor) != std::string::npos ? m.values.data() : nullptr;
  };
  return {.A = pointer(A, 'A'),
          .a_stride = c.in,
          .B = pointer(B, 'B'),
          .b_stride = c.out,
          .u = pointer(u, 'u'),
          .v = pointer(v, 'v'),
          .scaling = scaling,
          .rank = c.rank,
          .in_features = c.in,
          .out_features = c.out,
          .name = "case"};
}

/// Fills in the results. The second stage starts from what the first would hand it in Acc, or from given_h
/// and given_dh if they are there.
template <class Acc>
void compute_by_reference(const ParityCase& c, Numbers& n, bool halves_are_given = false) {
  std::string trained;
  for (const char factor : {'A', 'B', 'u', 'v'})
    if (c.trains(factor)) trained += factor;
  const Factors<const double> f = factors_of(c, n.A, n.B, n.u, n.v, n.scaling, c.present);
  const Factors<double> g = factors_of(c, n.dA, n.dB, n.du, n.dv, n.scaling, trained);
  const CallOptions o = n.options();
  const auto in = [](const Matrix& m) { return m.tokens(); };
  n.h = n.dh = Matrix(c.rank, c.tokens);
  reference::shrink(f, in(n.x), n.h.tokens(), o);
  if (!halves_are_given) n.given_h = n.h, n.given_h.round<Acc>();
  reference::expand(f, in(n.given_h), n.y.tokens(), o);
  reference::expand_backward(f, in(n.given_h), in(n.dy), g, n.dh.tokens(), o);
  if (!halves_are_given) n.given_dh = n.dh, n.given_dh.round<Acc>();
  reference::shrink_backward(f, in(n.x), in(n.given_dh), g, n.dx.tokens(), o);
}

/// The absolute value of every operand: the results are then the sums of magnitudes that bounds refer to.
inline Numbers magnitudes(Numbers n) {
  for (Matrix* m : {&n.A, &n.B, &n.u, &n.v, &n.x, &n.dy, &n.y, &n.dx, &n.dA, &n.dB, &n.du, &n.dv, &n.given_h,
                    &n.given_dh})
    *m = absolute(std::move(*m));
  n.scaling = std::abs(n.scaling), n.scale = std::abs(n.scale);
  for (float& value : n.token_scale) value = std::abs(value);
  return n;
}

}  // namespace TIEDLORA_ISA
}  // namespace verify
TIEDLORA_END_NAMESPACE
