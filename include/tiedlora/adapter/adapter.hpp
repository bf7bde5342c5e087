// The parameters of an adapter: owned (Adapter), wrapped (AdapterView), and their gradients.
#pragma once

#include <algorithm>         // copy, fill, transform
#include <cstdint>           // uint64_t
#include <initializer_list>  // initializer_list
#include <memory>            // shared_ptr
#include <optional>          // optional
#include <span>              // span
#include <utility>           // move

#include "../views/config.hpp"
#include "../views/error.hpp"
#include "../views/factors.hpp"
#include "../views/scalar.hpp"
#include "aligned_array.hpp"
#include "factors_at.hpp"
#include "initialize.hpp"
#include "layout.hpp"
#include "maps.hpp"
#include "quote.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// An adapter in the caller's memory: a mapped file, pinned memory, a tenant's slot. P may be const. Owns no
/// memory.
template <class P>
class AdapterView {
 public:
  using Scalar = std::remove_const_t<P>;

  /// The arrays in layout order. Throws Error if their lengths are not the layout's counts.
  AdapterView(Layout layout, std::span<P> trainable, std::span<const Scalar> frozen)
      : layout_(std::move(layout)), trainable_(trainable), frozen_(frozen) {
    if (static_cast<Index>(trainable.size()) != layout_.trainable_count() ||
        static_cast<Index>(frozen.size()) != layout_.frozen_count())
      detail::fail(detail::message("an adapter of this layout has ", layout_.trainable_count(),
                                   " trainable and ", layout_.frozen_count(),
                                   " frozen parameters, but the arrays given hold ", trainable.size(),
                                   " and ", frozen.size()));
  }

  /// Where each parameter is; the trainable parameters, in layout order; the frozen ones.
  const Layout& layout() const { return layout_; }
  std::span<P> trainable() const { return trainable_; }
  std::span<const Scalar> frozen() const { return frozen_; }
  /// Module m's share of the arrays, for the calls. Throws Error unless 0 <= m < layout().size().
  Factors<const Scalar> factors(Index m) const {
    return factors_at<Scalar>(layout_, m, trainable_.data(), frozen_.data());
  }
  /// Eigen maps of module m's factors: A r×in, B out×r, u r, v out; empty where absent.
  auto A(Index m) const { return map_A(factors(m)); }
  auto B(Index m) const { return map_B(factors(m)); }
  auto u(Index m) const { return map_u(factors(m)); }
  auto v(Index m) const { return map_v(factors(m)); }

 private:
  Layout layout_;
  std::span<P> trainable_;
  std::span<const Scalar> frozen_;
};

/// An adapter that owns its parameters: one flat array of trainable and one of frozen ones, 64-byte aligned,
/// zero until initialised or filled. Copies are deep, except that a shared frozen array stays shared and
/// read-only. Views (spans, maps, Factors) stay valid across a move and die with the adapter. An adapter that
/// was moved from may be assigned to; any other use of its parameters is an Error.
template <class P>
class Adapter {
 public:
  using Scalar = P;

  /// All parameters zero.
  explicit Adapter(Layout layout)
      : layout_(std::move(layout)),
        trainable_(layout_.trainable_count()),
        frozen_(std::make_shared<AlignedArray<P>>(layout_.frozen_count())) {}

  /// With a frozen array that other adapters use too: many tenants over one A, B. Throws Error if its length
  /// is not the layout's.
  Adapter(Layout layout, std::shared_ptr<const AlignedArray<P>> shared_frozen)
      : layout_(std::move(layout)),
        trainable_(layout_.trainable_count()),
        shared_frozen_(std::move(shared_frozen)) {
    const Index size = shared_frozen_ ? shared_frozen_->size() : 0;
    if (!shared_frozen_ || size != layout_.frozen_count())
      detail::fail(detail::message("an adapter of this layout has ", layout_.frozen_count(),
                                   " frozen parameters, but the array to share holds ", size));
  }

  /// With existing parameters, in layout order. Throws Error if their number is not the layout's.
  Adapter(Layout layout, AlignedArray<P> trainable, AlignedArray<P> frozen)
      : layout_(std::move(layout)),
        trainable_(std::move(trainable)),
        frozen_(std::make_shared<AlignedArray<P>>(std::move(frozen))) {
    (void)AdapterView<const P>(layout_, trainable_.span(), frozen_->span());  // which checks the lengths
  }

  Adapter(const Adapter& other)
      : layout_(other.layout_),
        seed_(other.seed_),
        trainable_(other.trainable_),
        frozen_(other.frozen_ ? std::make_shared<AlignedArray<P>>(*other.frozen_) : nullptr),
        shared_frozen_(other.shared_frozen_) {}
  Adapter(Adapter&&) noexcept = default;
  Adapter& operator=(Adapter other) noexcept {
    layout_ = std::move(other.layout_);
    seed_ = other.seed_;
    trainable_ = std::move(other.trainable_);
    frozen_ = std::move(other.frozen_);
    shared_frozen_ = std::move(other.shared_frozen_);
    return *this;
  }
  ~Adapter() = default;

  /// Where each parameter is; the trainable parameters, in layout order; the frozen ones. After a move only
  /// the layout is left: the others throw Error.
  const Layout& layout() const { return layout_; }
  std::span<P> trainable() { return require_numbers(), trainable_.span(); }
  std::span<const P> trainable() const { return require_numbers(), trainable_.span(); }
  std::span<const P> frozen() const { return frozen_array().span(); }
  /// Whether it was moved from.
  bool is_moved_from() const { return !frozen_ && !shared_frozen_; }

  /// Initialises every factor as the scheme says, with the same bits on every compiler. A shared frozen array
  /// is left as it is. Throws Error for a scheme that cannot learn or whose ΔW would not start at zero.
  void initialize(std::uint64_t seed) {
    detail::initialize<P>(layout_, seed, trainable(), frozen_ ? frozen_->span() : std::span<P>());
    seed_ = seed;
  }

  /// The seed of the last initialisation, if any. A file has the seed in place of the values of a frozen
  /// factor that are still those that it generates.
  std::optional<std::uint64_t> seed() const { return seed_; }
  /// For parameters that were initialised elsewhere.
  void set_seed(std::uint64_t seed) { seed_ = seed; }

  /// The frozen array, to be shared with other adapters. From then on it is read-only here too.
  std::shared_ptr<const AlignedArray<P>> share_frozen() {
    require_numbers();
    if (frozen_) shared_frozen_ = std::move(frozen_);
    return shared_frozen_;
  }

  /// Module m's share of the arrays, for the calls. Throws Error unless 0 <= m < layout().size().
  Factors<const P> factors(Index m) const {
    const P* const frozen = frozen_array().data();
    return factors_at<P>(layout_, m, trainable_.data(), frozen);
  }

  /// Eigen maps of module m's factors: A r×in, B out×r, u r, v out; empty where absent. Writing through one
  /// changes every module that shares the factor. From a non-const adapter they are writable, and a shared
  /// frozen factor is an Error: read it through std::as_const.
  auto A(Index m) const { return map_A(factors(m)); }
  auto B(Index m) const { return map_B(factors(m)); }
  auto u(Index m) const { return map_u(factors(m)); }
  auto v(Index m) const { return map_v(factors(m)); }
  auto A(Index m) { return map_A(writable_factors(FactorId::A, m)); }
  auto B(Index m) { return map_B(writable_factors(FactorId::B, m)); }
  auto u(Index m) { return map_u(writable_factors(FactorId::u, m)); }
  auto v(Index m) { return map_v(writable_factors(FactorId::v, m)); }

  /// The same parameters as a view, which must not outlive the adapter.
  AdapterView<const P> view() const { return {layout_, trainable(), frozen()}; }

  /// The same adapter with parameters of another type, each rounded once (from double to half or bfloat16 by
  /// way of float, as Eigen converts). Shares nothing.
  template <class Q>
  Adapter<Q> cast() const {
    const auto convert = [](const P& value) { return static_cast<Q>(value); };
    require_numbers();
    Adapter<Q> result(layout_);
    result.seed_ = seed_;
    std::transform(trainable_.begin(), trainable_.end(), result.trainable_.begin(), convert);
    std::transform(frozen().begin(), frozen().end(), result.frozen_->begin(), convert);
    return result;
  }

 private:
  template <class Q>
  friend class Adapter;

  void require_numbers() const {
    if (is_moved_from()) detail::fail("this adapter was moved from and is empty");
  }
  const AlignedArray<P>& frozen_array() const {
    require_numbers();
    return frozen_ ? *frozen_ : *shared_frozen_;
  }

  Factors<P> writable_factors(FactorId id, Index m) {
    require_numbers();
    if (!frozen_ && layout_.group(id, m) && !layout_.is_trained(id))
      detail::fail(detail::message(
          "module ", detail::in_quotes(layout_.modules()[m].name), ": factor ", to_string(id),
          " is frozen in an array that other adapters share; read it through std::as_const(adapter)"));
    return detail::place_factors<P>(layout_, m, trainable_.data(), frozen_ ? frozen_->data() : nullptr);
  }

  Layout layout_;
  std::optional<std::uint64_t> seed_;
  AlignedArray<P> trainable_;
  // Exactly one of the two is set; after a move, neither.
  std::shared_ptr<AlignedArray<P>> frozen_;
  std::shared_ptr<const AlignedArray<P>> shared_frozen_;
};

/// Gradients of an adapter's trainable parameters, in the same order; backward adds to them. G is the
/// accumulator type: float beside narrow parameters.
template <class G>
class Gradients {
 public:
  static_assert(!is_narrow<G>,
                "tiedlora: gradients are summed in the accumulator type: use Gradients<float> beside half "
                "and bfloat16");
  using Scalar = G;

  /// All zero.
  explicit Gradients(Layout layout)
      : layout_(std::move(layout)), values_(layout_.trainable_count(), PageQuarter::third) {}

  /// The adapter's layout; gradients are in the order of its trainable array.
  const Layout& layout() const { return layout_; }
  /// Throws Error after a move, as does everything that needs the values.
  std::span<G> values() { return require_numbers(), values_.span(); }
  std::span<const G> values() const { return require_numbers(), values_.span(); }
  /// To be called before the next step's first backward.
  void set_zero() {
    require_numbers();
    std::fill(values_.begin(), values_.end(), G(0));
  }

  /// Adds those of another thread or replica. Throws Error if their layouts differ.
  void add(const Gradients& other) {
    if (!(layout_ == other.layout_)) detail::fail("gradients of different layouts cannot be added");
    std::transform(values().begin(), values().end(), other.values().begin(), values_.begin(),
                   [](const G& a, const G& b) { return a + b; });
  }

  /// Where backward of module m writes; null where a factor is not trained.
  Factors<G> factors(Index m) { return gradients_at(layout_, m, values().data()); }
  Factors<const G> factors(Index m) const { return gradients_at(layout_, m, values().data()); }

  /// Eigen maps: A r×in, B out×r, u r, v out; empty where not trained.
  auto A(Index m) { return map_A(factors(m)); }
  auto B(Index m) { return map_B(factors(m)); }
  auto u(Index m) { return map_u(factors(m)); }
  auto v(Index m) { return map_v(factors(m)); }
  auto A(Index m) const { return map_A(factors(m)); }
  auto B(Index m) const { return map_B(factors(m)); }
  auto u(Index m) const { return map_u(factors(m)); }
  auto v(Index m) const { return map_v(factors(m)); }

 private:
  void require_numbers() const {
    if (values_.size() != layout_.trainable_count())
      detail::fail("these gradients were moved from and are empty");
  }

  Layout layout_;
  AlignedArray<G> values_;
};

/// Gradients in the caller's memory, one value for each trainable parameter. Owns no memory.
template <class G>
class GradientsView {
 public:
  static_assert(
      !is_narrow<G>,
      "tiedlora: gradients are summed in the accumulator type: use GradientsView<float> beside half "
      "and bfloat16");
  using Scalar = G;

  /// In layout order. Throws Error if the length is not the layout's count.
  GradientsView(Layout layout, std::span<G> values) : layout_(std::move(layout)), values_(values) {
    if (static_cast<Index>(values.size()) != layout_.trainable_count())
      detail::fail("gradients of this layout have ", layout_.trainable_count(),
                   " values, but the array given holds ", values.size());
  }

  /// The adapter's layout, and the values in its order.
  const Layout& layout() const { return layout_; }
  std::span<G> values() const { return values_; }
  /// Where backward of module m writes, and the same as Eigen maps; null or empty where a factor is not
  /// trained.
  Factors<G> factors(Index m) const { return gradients_at(layout_, m, values_.data()); }
  auto A(Index m) const { return map_A(factors(m)); }
  auto B(Index m) const { return map_B(factors(m)); }
  auto u(Index m) const { return map_u(factors(m)); }
  auto v(Index m) const { return map_v(factors(m)); }

 private:
  Layout layout_;
  std::span<G> values_;
};

/// The same function with those factors frozen, as a base to share: `Adapter tenant(base.layout(),
/// base.share_frozen())` then trains and stores the other factors only. They are 0 in it: copy
/// base.trainable() there to go on from the base, or initialize it.
template <class P>
Adapter<P> freeze(const Adapter<P>& adapter, std::initializer_list<FactorId> factors) {
  const Layout& layout = adapter.layout();
  Scheme scheme = layout.scheme();
  const auto freeze_factor = [](Factor& factor) {
    factor.trained = false;
    factor.init = init::given();
  };
  for (const FactorId id : factors) {
    if (!scheme.find(id))
      detail::fail(detail::message("this scheme has no factor ", to_string(id), " to freeze"));
    if (id == FactorId::A) freeze_factor(scheme.A);
    if (id == FactorId::B) freeze_factor(scheme.B);
    if (id == FactorId::u && scheme.u) freeze_factor(*scheme.u);
    if (id == FactorId::v && scheme.v) freeze_factor(*scheme.v);
  }
  const Layout frozen_layout = layout.with_scheme(scheme);
  const auto frozen = std::make_shared<AlignedArray<P>>(frozen_layout.frozen_count());
  Adapter<P> result(frozen_layout, frozen);
  for (const FactorId id : all_factors) {
    const auto from = layout.is_trained(id) ? adapter.trainable() : adapter.frozen();
    const auto to = frozen_layout.is_trained(id) ? result.trainable() : frozen->span();
    const Layout::Segment source = layout.segment(id), target = frozen_layout.segment(id);
    std::copy_n(from.begin() + source.offset, source.count, to.begin() + target.offset);
  }
  return result;
}

TIEDLORA_END_NAMESPACE
