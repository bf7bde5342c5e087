// The adapters that a host holds for its requests: loaded, swapped in and removed while others are in use.
#pragma once

#include <atomic>   // atomic
#include <cstddef>  // size_t
#include <cstdint>  // int32_t, int64_t
#include <limits>   // numeric_limits
#include <memory>   // shared_ptr, weak_ptr
#include <mutex>    // mutex
#include <string>   // string
#include <utility>  // move
#include <vector>   // vector

#include "../adapter/adapter.hpp"
#include "../adapter/finite.hpp"
#include "../adapter/layout.hpp"
#include "../adapter/modules.hpp"
#include "../adapter/quote.hpp"
#include "../adapter/result.hpp"
#include "../views/config.hpp"
#include "../views/error.hpp"
#include "resident.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// The name of an adapter in an AdapterSet. It is never used again, in this or any other set of the process.
/// The upper 32 bits are the set's number, the lower count its adapters 0, 1, 2, … as they were added.
using AdapterId = std::int64_t;
inline constexpr AdapterId no_adapter = -1;  ///< stands for none, where an id is asked for

/// What AdapterSet::add checks.
struct AddOptions {
  /// Whether all parameters are finite: one pass over them, which reads all of a mapped file. Unchecked, an
  /// adapter with a NaN makes every output of its tokens NaN.
  bool check_finite = true;
};

namespace detail {

/// The first id of a new set.
inline AdapterId next_first_id() {
  static std::atomic<AdapterId> sets = 0;
  return sets++ << 32;
}
/// An id for a message: its number in its set.
inline AdapterId number_of(AdapterId id) { return id < 0 ? id : id & 0xffffffff; }

inline constexpr Index residents_per_chunk = 128;

}  // namespace detail

/// The adapters of a set at one moment, whatever is added and removed later. A handle: copies cost a
/// reference count, and the adapters live as long as any copy.
template <class P>
class AdapterSnapshot {
 public:
  using Scalar = P;

  AdapterSnapshot() = default;

  /// Whether an adapter of that id was in the set then.
  bool contains(AdapterId id) const { return find(id) != nullptr; }
  Index size() const { return state_ ? state_->count : 0; }  ///< number of adapters

  /// The host's modules; none if no set made the snapshot.
  const ModuleList& modules() const {
    if (state_) return *state_->modules;
    static const ModuleList* const no_modules = new ModuleList;  // no destructor for the end of a host
    return *no_modules;
  }
  /// Whether a set made it: a default-constructed one holds no adapters and knows no modules.
  bool has_set() const { return state_ != nullptr; }

  /// Factors of the host's module m in that adapter, as for a single adapter's calls; of rank 0 if the
  /// adapter does not adapt it. Throws Error if there is no such adapter or module.
  Factors<const P> factors(AdapterId id, Index m) const {
    const detail::Resident<P>* resident = find(id);
    if (!resident) detail::fail("there is no ", describe(id));
    require_module(m);
    Factors<const P> factors = resident->factors(m);
    if (factors.rank == 0) {  // the host's, so that calls check their operands and do nothing
      factors.in_features = modules()[m].in_features;
      factors.out_features = modules()[m].out_features;
      factors.name = modules()[m].name.c_str();
    }
    return factors;
  }

  /// Null if there is none of that id. For the plan.
  const detail::Resident<P>* find(AdapterId id) const {
    if (!state_ || id < state_->first_id) return nullptr;
    const AdapterId number = id - state_->first_id;
    const auto chunk = static_cast<std::size_t>(number / detail::residents_per_chunk);
    const auto place = static_cast<std::size_t>(number % detail::residents_per_chunk);
    if (chunk >= state_->chunks.size() || !state_->chunks[chunk]) return nullptr;
    const Chunk& residents = *state_->chunks[chunk];  // the last chunk is shorter
    return place < residents.size() && residents[place] ? &residents[place] : nullptr;
  }

  /// For messages: an adapter that is not here, and why.
  std::string describe(AdapterId id) const {
    const bool is_of_another = id >= 0 && state_ && id >> 32 != state_->first_id >> 32;
    return detail::message("adapter ", detail::number_of(id), " in this snapshot (",
                           is_of_another ? "its id belongs to another AdapterSet"
                           : has_set()   ? "removed, or never added"
                                         : "the snapshot was not made by an AdapterSet",
                           ")");
  }
  /// Throws Error unless the host has a module m.
  void require_module(Index m) const {
    if (m < 0 || m >= modules().size())
      detail::fail("module ", m, " does not exist: the host has ", modules().size(), " modules");
  }

 private:
  template <class>
  friend class AdapterSet;

  using Chunk = std::vector<detail::Resident<P>>;
  struct State {
    AdapterId first_id = 0;
    std::shared_ptr<const ModuleList> modules;
    std::vector<std::shared_ptr<const Chunk>> chunks;  // null: all removed
    Index count = 0;
  };
  explicit AdapterSnapshot(std::shared_ptr<const State> state) : state_(std::move(state)) {}

  std::shared_ptr<const State> state_;
};

/// Any number of adapters for one host model. Its functions may be called from any number of threads at the
/// same time; each holds the set's one lock for a moment: add to compare the layout with those that are
/// there, and the first snapshot after a change to copy a table that has one entry for every 128 adapters
/// ever added. Calls that compute take no lock: they use a snapshot. Besides its parameters an adapter costs
/// about 200 bytes, if many have the same Layout.
template <class P>
class AdapterSet {
 public:
  using Scalar = P;

  /// For the host model with these modules; empty at first.
  explicit AdapterSet(ModuleList modules)
      : modules_(std::make_shared<const ModuleList>(std::move(modules))) {}

  /// The host's modules, whose indices the calls use.
  const ModuleList& modules() const { return *modules_; }

  /// Adds an adapter for some or all of the host's modules, found by name. Throws Error if adapted modules
  /// are not among the host's (it names them) or have another shape there.
  AdapterId add(Adapter<P> adapter, const AddOptions& options = {}) {
    return detail::value_or_fail(try_add(std::move(adapter), options));
  }
  /// An adapter that others use too. It must no longer be written to.
  AdapterId add(std::shared_ptr<const Adapter<P>> adapter, const AddOptions& options = {}) {
    return detail::value_or_fail(try_add(std::move(adapter), options));
  }
  /// An adapter in the caller's memory, such as a mapped file, which lives as long as `owner`.
  AdapterId add(const AdapterView<const P>& view, std::shared_ptr<const void> owner,
                const AddOptions& options = {}) {
    return detail::value_or_fail(try_add(view, std::move(owner), options));
  }

  /// The same, with the reason in the Result: adapters come from outside.
  Result<AdapterId> try_add(Adapter<P> adapter, const AddOptions& options = {}) {
    return try_add(std::make_shared<const Adapter<P>>(std::move(adapter)), options);
  }
  Result<AdapterId> try_add(std::shared_ptr<const Adapter<P>> adapter, const AddOptions& options = {}) {
    if (!adapter) return Failure{"the adapter to add is null"};
    if (adapter->is_moved_from()) return Failure{"the adapter to add was moved from and is empty"};
    const AdapterView<const P> view = adapter->view();
    return try_add(view, std::move(adapter), options);
  }
  Result<AdapterId> try_add(const AdapterView<const P>& view, std::shared_ptr<const void> owner,
                            const AddOptions& options = {}) {
    if (options.check_finite)
      if (Status finite = try_check_finite(view); !finite) return finite.failure();
    std::shared_ptr<const State> outdated;  // dies after the lock is gone
    const std::lock_guard<std::mutex> lock(mutex_);
    auto placement = place(view.layout());
    if (!placement) return placement.failure();
    if (next_ == std::numeric_limits<std::int32_t>::max())
      return Failure{"this AdapterSet has given out all its ids; make another"};
    outdated.swap(published_);
    const AdapterId number = next_;
    if (chunk_of(number) == chunks_.size()) chunks_.push_back({new_chunk(), 0, false});
    OwnChunk& chunk = writable_chunk(number);
    chunk.residents->push_back(
        {*std::move(placement), std::move(owner), view.trainable().data(), view.frozen().data()});
    ++next_, ++chunk.count, ++count_;  // where memory ran out, the set is as it was
    return first_id_ + number;
  }

  /// Removes it: snapshots made from now on do not have it, and it dies with the last that has. False if
  /// there was none of that id.
  bool remove(AdapterId id) {
    // May be the last to hold an adapter: they die after the lock is released.
    detail::Resident<P> removed;
    std::shared_ptr<const Chunk> emptied;
    std::shared_ptr<const State> outdated;
    const std::lock_guard<std::mutex> lock(mutex_);
    if (id < first_id_ || id - first_id_ >= next_) return false;
    const AdapterId number = id - first_id_;
    OwnChunk& chunk = chunks_[chunk_of(number)];
    const auto place = static_cast<std::size_t>(number % detail::residents_per_chunk);
    if (!chunk.residents || !(*chunk.residents)[place]) return false;
    outdated.swap(published_);
    std::swap(removed, (*writable_chunk(number).residents)[place]);
    --count_;
    // The last chunk is still being filled.
    if (--chunk.count == 0 && chunk_of(number) != chunk_of(next_)) emptied = std::move(chunk.residents);
    return true;
  }

  /// What is in the set now. Take one for each batch.
  AdapterSnapshot<P> snapshot() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!published_) {
      auto state = std::make_shared<State>();
      state->first_id = first_id_;
      state->modules = modules_;
      state->chunks.reserve(chunks_.size());
      for (OwnChunk& chunk : chunks_) {
        state->chunks.push_back(chunk.residents);
        chunk.is_published = true;
      }
      state->count = count_;
      published_ = std::move(state);
    }
    return AdapterSnapshot<P>(published_);
  }

  /// How many adapters there are now.
  Index size() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return count_;
  }

 private:
  // Before the lock: it reads all parameters.
  static Status try_check_finite(const AdapterView<const P>& view) {
    if constexpr (detail::has_float_bits<P>)
      for (const auto& [what, numbers] :
           {std::pair("trainable", view.trainable()), {"frozen", view.frozen()}})
        if (const auto found = find_not_finite(numbers))
          return Failure{detail::message("the adapter to add has ", found->count,
                                         " values that are not finite: number ", found->first, " of its ",
                                         numbers.size(), " ", what, " parameters is ", found->value,
                                         " (AddOptions{.check_finite = false} adds it anyway)")};
    return success();
  }

  using Chunk = typename AdapterSnapshot<P>::Chunk;
  using State = typename AdapterSnapshot<P>::State;
  struct OwnChunk {
    std::shared_ptr<Chunk> residents;
    Index count;        // of residents that are there
    bool is_published;  // snapshots hold it: to be copied before it is written
  };

  static std::size_t chunk_of(AdapterId number) {
    return static_cast<std::size_t>(number / detail::residents_per_chunk);
  }

  static std::shared_ptr<Chunk> new_chunk() {
    auto chunk = std::make_shared<Chunk>();
    chunk->reserve(static_cast<std::size_t>(detail::residents_per_chunk));
    return chunk;
  }

  // The chunk of that number, after copying it where snapshots hold it: not the whole table for each change.
  OwnChunk& writable_chunk(AdapterId number) {
    OwnChunk& chunk = chunks_[chunk_of(number)];
    if (chunk.is_published) {
      auto copy = new_chunk();
      copy->assign(chunk.residents->begin(), chunk.residents->end());
      chunk.residents = std::move(copy);
      chunk.is_published = false;
    }
    return chunk;
  }

  Result<std::shared_ptr<const detail::Placement>> place(const Layout& layout) {
    std::shared_ptr<const detail::Placement> found;
    std::erase_if(placements_, [&](const std::weak_ptr<const detail::Placement>& weak) {
      const auto placement = weak.lock();
      if (placement && !found && placement->layout == layout) found = placement;
      return !placement;
    });
    if (found) return found;
    auto made = detail::Placement::make(layout, *modules_);
    if (made) placements_.push_back(*made);
    return made;
  }

  std::shared_ptr<const ModuleList> modules_;
  mutable std::mutex mutex_;
  mutable std::vector<OwnChunk> chunks_;
  mutable std::shared_ptr<const State> published_;  // null: something changed since
  std::vector<std::weak_ptr<const detail::Placement>> placements_;
  AdapterId first_id_ = detail::next_first_id();
  AdapterId next_ = 0;  // number in this set
  Index count_ = 0;
};

TIEDLORA_END_NAMESPACE
