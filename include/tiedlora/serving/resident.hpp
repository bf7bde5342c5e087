// One adapter as a set holds it: where the host's modules are in its layout, its parameters, and who owns
// them.
#pragma once

#include <algorithm>  // max
#include <cstddef>    // size_t
#include <cstdint>    // int32_t
#include <memory>     // make_shared, shared_ptr
#include <string>     // string
#include <utility>    // move
#include <vector>     // vector

#include "../adapter/factors_at.hpp"
#include "../adapter/layout.hpp"
#include "../adapter/modules.hpp"
#include "../adapter/quote.hpp"
#include "../adapter/result.hpp"
#include "../views/config.hpp"
#include "../views/error.hpp"
#include "../views/factors.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace detail {

/// Where the host's modules are in a layout. All adapters of equal layouts share one.
struct Placement {
  Layout layout;
  std::vector<std::int32_t> module_of;  ///< by the host's module; -1: not adapted
  Index largest_rank = 0;

  /// The layout's module for the host's module m; -1 if it is not adapted.
  Index operator[](Index m) const { return module_of[static_cast<std::size_t>(m)]; }
  Index rank(Index m) const { return (*this)[m] < 0 ? 0 : layout.rank((*this)[m]); }

  /// Fails if an adapted module is not among the host's, or has another shape there.
  static Result<std::shared_ptr<const Placement>> make(const Layout& layout, const ModuleList& host) {
    Placement placement = {layout, {}, 0};
    placement.module_of.assign(static_cast<std::size_t>(host.size()), -1);
    std::string missing;
    Index missing_count = 0;
    for (Index m = 0; m < layout.size(); ++m) {
      if (layout.rank(m) == 0) continue;
      const Module& module = layout.modules()[m];
      const auto found = host.try_find(module.name);
      if (!found) {
        constexpr Index most_named = 8;
        if (missing_count++ < most_named) missing += (missing.empty() ? "" : ", ") + in_quotes(module.name);
        continue;
      }
      const Module& own = host[*found];
      if (own.in_features != module.in_features || own.out_features != module.out_features)
        return Failure{message("module ", detail::in_quotes(module.name), " is ", own.out_features, "x",
                               own.in_features, " in the host, but the adapter is for ", module.out_features,
                               "x", module.in_features, " (out x in; wrong base model?)")};
      placement.module_of[static_cast<std::size_t>(*found)] = static_cast<std::int32_t>(m);
      placement.largest_rank = std::max(placement.largest_rank, layout.rank(m));
    }
    if (missing_count > 0)
      return Failure{message("the host has no module for ", missing_count, " of the adapter's ",
                             layout.size(), ": ", missing, missing_count > 8 ? ", …" : "",
                             " (the host's first is ", in_quotes(host.size() ? host[0].name : std::string()),
                             "; wrong base model, or names that need mapping?)")};
    return std::make_shared<const Placement>(std::move(placement));
  }
};

/// One adapter of a set: its parameters and who owns them. Empty: the id was removed.
template <class P>
struct Resident {
  std::shared_ptr<const Placement> placement = nullptr;
  std::shared_ptr<const void> owner = nullptr;
  const P* trainable = nullptr;
  const P* frozen = nullptr;

  explicit operator bool() const { return placement != nullptr; }
  /// Rank 0 if the host's module m is not adapted. m is not checked: calls do it once for all residents.
  Factors<const P> factors(Index m) const {
    const Index own = (*placement)[m];
    return own < 0 ? Factors<const P>{} : factors_at<P>(placement->layout, own, trainable, frozen);
  }
};

}  // namespace detail
TIEDLORA_END_NAMESPACE
