// From a wrong result to the likely fault: the smallest case that still shows it, and which slip in the
// formula would give exactly these values.
#pragma once

#include <algorithm>    // fill
#include <cmath>        // abs, isfinite
#include <string>       // string
#include <string_view>  // string_view
#include <utility>      // move, swap
#include <vector>       // vector

#include "../views/config.hpp"
#include "../views/slice.hpp"
#include "findings.hpp"
#include "matrix.hpp"
#include "parity_case.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace verify {
inline namespace TIEDLORA_ISA {

/// Cases a little simpler than this one, the largest simplifications first; views before sizes, since a
/// single token would hide which view it is.
inline std::vector<ParityCase> simpler_cases(const ParityCase& c) {
  std::vector<ParityCase> result;
  const auto with = [&](auto member, const auto& value) {
    if (c.*member == value) return;
    result.push_back(c);
    result.back().*member = value;
  };
  for (const auto view : {&ParityCase::x, &ParityCase::h, &ParityCase::y, &ParityCase::dx, &ParityCase::dh,
                          &ParityCase::dy, &ParityCase::factors, &ParityCase::gradients}) {
    with(view, View::dense);
    if (c.*view > View::padded) with(view, View::padded);
    if (c.*view == View::cut_pointers) with(view, View::pointers);
  }
  for (const auto size : {&ParityCase::tokens, &ParityCase::rank, &ParityCase::in, &ParityCase::out})
    if (c.*size > 1) with(size, Index(1)), with(size, c.*size / 2);
  for (const auto flag : {&ParityCase::token_scale, &ParityCase::overwrite, &ParityCase::wide_range,
                          &ParityCase::shared_x, &ParityCase::tenants})
    with(flag, false);
  with(&ParityCase::wants_dx, true);
  with(&ParityCase::scale, 1.0), with(&ParityCase::scaling, 1.0), with(&ParityCase::dropout, 0.0);
  with(&ParityCase::slices, Index(1)), with(&ParityCase::spoilt, Spoilt::nothing);
  for (const char operand : c.zeros) {
    std::string fewer = c.zeros;
    fewer.erase(fewer.find(operand), 1);
    with(&ParityCase::zeros, fewer);
  }
  for (const char factor : {'A', 'B', 'u', 'v'}) {
    const auto without = [&](std::string factors) {
      if (const std::size_t place = factors.find(factor); place != std::string::npos) factors.erase(place, 1);
      return factors;
    };
    with(&ParityCase::trained, without(c.trained));
    if (factor == 'u' || factor == 'v') with(&ParityCase::present, without(c.present));
  }
  for (const auto size : {&ParityCase::tokens, &ParityCase::rank, &ParityCase::in, &ParityCase::out})
    for (Index n = tiedlora::detail::larger(2, c.*size - 16); n < c.*size; ++n) with(size, n);
  return result;
}

/// The simplest case found that still fails, by steps that all fail.
template <class Fails>
ParityCase simplest_failing(ParityCase c, const Fails& fails) {
  int runs = 0;
  for (bool found = true; found;) {
    found = false;
    for (const ParityCase& simpler : simpler_cases(c)) {
      if (++runs > 2000) return c;  // a case of thousands of features that fails at the last only
      if (!fails(simpler)) continue;
      c = simpler;
      found = true;
      break;
    }
  }
  return c;
}

/// A slip in the formula, expressed as other values in the right one.
struct Slip {
  const char* text;
  void (*make)(const ParityCase& c, Numbers& n);
  std::string_view operands = {};  ///< of these results; empty: of any
};
inline void clear_rank(Matrix& m, Index k) {
  for (Index i = 0; i < m.rows; ++i) m(i, k) = 0;
}
inline void clear_feature(Matrix& m, Index i) {
  for (Index j = 0; j < m.columns; ++j) m(i, j) = 0;
}
/// Every column of m, or the one of n, times these.
inline void multiply(Matrix& m, const Matrix& by) {
  for (Index j = 0; j < m.columns; ++j)
    for (Index i = 0; i < m.rows; ++i) m(i, j) *= by(i, 0);
}
/// The same memory, read as if the other index came first.
inline void read_transposed(Matrix& m) {
  Matrix read(m.rows, m.columns);
  for (Index j = 0; j < m.columns; ++j)
    for (Index i = 0; i < m.rows; ++i) read(i, j) = m.values[static_cast<std::size_t>(i * m.columns + j)];
  m = std::move(read);
}
inline constexpr Slip slips[] = {
    {"token_scale is not applied", [](const ParityCase&, Numbers& n) { n.token_scale.clear(); }},
    {"the options' scale is not applied", [](const ParityCase&, Numbers& n) { n.scale = 1; }},
    {"the module's scaling is not applied", [](const ParityCase&, Numbers& n) { n.scaling = 1; }},
    {"scaling, scale and token_scale are not applied",
     [](const ParityCase&, Numbers& n) { n.scaling = n.scale = 1, n.token_scale.clear(); }},
    {"u is not applied",
     [](const ParityCase&, Numbers& n) { std::fill(n.u.values.begin(), n.u.values.end(), 1.0); }},
    {"v is not applied",
     [](const ParityCase&, Numbers& n) { std::fill(n.v.values.begin(), n.v.values.end(), 1.0); }},
    {"u and v are swapped",
     [](const ParityCase& c, Numbers& n) {
       if (c.rank == c.out) std::swap(n.u, n.v);
     }},
    {"A is read as if its ranks were contiguous",
     [](const ParityCase&, Numbers& n) { read_transposed(n.A); }},
    {"B is read as if its ranks were contiguous",
     [](const ParityCase&, Numbers& n) { read_transposed(n.B); }},
    // Where there is only one rank, feature or token, a call that writes nothing would look like these.
    {"the last rank is left out",
     [](const ParityCase& c, Numbers& n) {
       if (c.rank < 2) return;
       clear_rank(n.A, c.rank - 1), clear_rank(n.B, c.rank - 1);
       clear_feature(n.given_h, c.rank - 1), clear_feature(n.given_dh, c.rank - 1);
     }},
    {"the last input feature is left out",
     [](const ParityCase& c, Numbers& n) {
       if (c.in > 1) clear_feature(n.x, c.in - 1), clear_feature(n.A, c.in - 1);
     }},
    {"the last output feature is left out",
     [](const ParityCase& c, Numbers& n) {
       if (c.out > 1) clear_feature(n.dy, c.out - 1), clear_feature(n.B, c.out - 1);
     }},
    {"the last token is left out",
     [](const ParityCase& c, Numbers& n) {
       if (c.tokens < 2) return;
       for (Matrix* m : {&n.x, &n.dy, &n.given_h, &n.given_dh}) clear_rank(*m, c.tokens - 1);
     }},
    {"the module's scaling is applied twice", [](const ParityCase&, Numbers& n) { n.scaling *= n.scaling; }},
    {"the options' scale is applied twice", [](const ParityCase&, Numbers& n) { n.scale *= n.scale; }},
    {"token_scale is applied twice",
     [](const ParityCase&, Numbers& n) {
       for (float& scale : n.token_scale) scale *= scale;
     }},
    {"scaling, scale and token_scale are applied twice",
     [](const ParityCase&, Numbers& n) {
       n.scaling *= n.scaling, n.scale *= n.scale;
       for (float& scale : n.token_scale) scale *= scale;
     }},
    {"token_scale is that of the call's first token, for all tokens",
     [](const ParityCase&, Numbers& n) {
       if (!n.token_scale.empty()) n.token_scale.assign(n.token_scale.size(), n.token_scale[0]);
     }},
    {"u is applied twice", [](const ParityCase&, Numbers& n) { multiply(n.given_h, n.u); }, "y dB dv"},
    {"u is applied twice", [](const ParityCase&, Numbers& n) { multiply(n.u, n.u); }, "dh"},
    {"u is applied, which does not belong here",
     [](const ParityCase&, Numbers& n) { multiply(n.given_h, n.u); }, "du"},
    {"v is applied twice", [](const ParityCase&, Numbers& n) { multiply(n.v, n.v); }, "y dh dB du"},
    {"v is applied, which does not belong here", [](const ParityCase&, Numbers& n) { multiply(n.dy, n.v); },
     "dv"},
    {"dropout is not applied", [](const ParityCase&, Numbers& n) { n.dropout.probability = 0; }},
    {"dropout ignores first_token", [](const ParityCase&, Numbers& n) { n.dropout.first_token = 0; }},
    {"dropout ignores step", [](const ParityCase&, Numbers& n) { n.dropout.step = 0; }},
    {"dropout ignores input", [](const ParityCase&, Numbers& n) { n.dropout.input = 0; }},
    {"dropout sets to zero, but does not scale the rest",
     [](const ParityCase& c, Numbers& n) {
       const double keep = 1 - c.dropout;
       for (Matrix* m : {&n.x, &n.A})
         for (double& value : m->values) value *= keep;
     },
     "h dA dx"},
};

/// Whether these are the values found, except for rounding and for a `relative` part of their magnitudes.
inline bool explains(const Matrix& numbers, const Finding& finding, double relative) {
  if (numbers.values.size() != finding.values.values.size()) return false;
  for (std::size_t i = 0; i < numbers.values.size(); ++i) {
    const double error = std::abs(numbers.values[i] - finding.values.values[i]),
                 magnitude = finding.magnitude.values[i] + std::abs(numbers.values[i]);
    if (!(error <= finding.tolerance(numbers.values[i], magnitude) + relative * magnitude)) return false;
  }
  return true;
}

/// The descriptions of the slips that give the values found, if the right formula does not.
template <class Acc>
std::string likely_slips(const ParityCase& c, const Numbers& before, const Finding& finding) {
  if (finding.values.values.empty() || c.rank == 0) return {};
  Numbers right = before;
  compute_by_reference<Acc>(c, right);
  const auto result = [&](const Numbers& n) -> const Matrix& {
    const std::string_view o = finding.operand;
    return o == "h"    ? n.h
           : o == "y"  ? n.y
           : o == "dh" ? n.dh
           : o == "dx" ? n.dx
           : o == "dA" ? n.dA
           : o == "dB" ? n.dB
           : o == "du" ? n.du
                       : n.dv;
  };
  std::string text;
  for (const Slip& slip : slips) {
    if (!slip.operands.empty() && slip.operands.find(finding.operand) == std::string_view::npos) continue;
    Numbers n = before;
    n.given_h = right.given_h, n.given_dh = right.given_dh;
    slip.make(c, n);
    compute_by_reference<Acc>(c, n, finding.call != "forward" && finding.call != "backward");
    const Matrix& slipped = result(n);
    if (explains(slipped, finding, 0)) text += (text.empty() ? "" : "; or ") + std::string(slip.text);
  }
  // A rounding to the 8 bits of a bfloat16, at most.
  const bool sums_are_short = c.rank * tiedlora::detail::larger(c.in, c.out) * c.tokens <= 8;
  if (text.empty() && sums_are_short && explains(result(right), finding, 0x1p-7))
    text = "something on the way is rounded to 16 bits, or to tf32";
  return text;
}

/// What follows from the views that a fault depends on. `features` is what the smallest case needs to fail.
inline std::string slips_of_views(const std::vector<std::string>& features) {
  static constexpr struct {
    const char *view, *slip;
  } views[] = {{" padded", "'s stride is ignored, or another operand's is used"},
               {" gathered by rows", "'s rows are ignored"},
               {" by pointers", "'s pointers are ignored"},
               {" by pointers with a first_feature", "'s first_feature is ignored"}};
  std::string text;
  for (const std::string& feature : features)
    for (const auto& [view, slip] : views) {
      const std::string_view ending = view;
      const std::size_t place = feature.find(ending);
      if (place == std::string::npos || place + ending.size() != feature.size()) continue;
      text += (text.empty() ? "" : "; or ") + feature.substr(0, place) + slip;
    }
  return text;
}

}  // namespace TIEDLORA_ISA
}  // namespace verify
TIEDLORA_END_NAMESPACE
