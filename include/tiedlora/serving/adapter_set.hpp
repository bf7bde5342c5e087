// The adapters that a host holds for its requests: loaded, swapped in and removed while others are in use.
#pragma once

#include <algorithm>  // max
#include <cstddef>    // size_t
#include <cstdint>    // int32_t
#include <limits>     // numeric_limits
#include <memory>     // shared_ptr, weak_ptr
#include <mutex>      // mutex
#include <string>     // string
#include <utility>    // move
#include <vector>     // vector

#include "../adapter/adapter.hpp"
#include "../adapter/layout.hpp"
#include "../adapter/modules.hpp"
#include "../adapter/result.hpp"
#include "../views/config.hpp"
#include "../views/error.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// The name of an adapter in an AdapterSet: 0, 1, 2, … in the order in which they were added, never used
/// again.
using AdapterId = std::int32_t;
inline constexpr AdapterId no_adapter = -1;

namespace detail {

/// Where the host's modules are in a layout. One for all the adapters of equal layouts.
struct Placement {
  Layout layout;
  std::vector<std::int32_t> module_of;  ///< by the host's module; -1: not adapted
  Index largest_rank = 0;

  /// The layout's module for the host's module m, -1 where it is not adapted.
  Index operator[](Index m) const { return module_of[static_cast<std::size_t>(m)]; }
  Index rank(Index m) const { return (*this)[m] < 0 ? 0 : layout.rank((*this)[m]); }

  /// Fails where an adapted module is not the host's, or has another shape there.
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
        if (missing_count++ < most_named) missing += (missing.empty() ? "\"" : ", \"") + module.name + "\"";
        continue;
      }
      const Module& own = host[*found];
      if (own.in_features != module.in_features || own.out_features != module.out_features)
        return Failure{message("module \"", module.name, "\" is ", own.out_features, "x", own.in_features,
                               " in the host, but the adapter is for ", module.out_features, "x",
                               module.in_features, " (out x in; wrong base model?)")};
      placement.module_of[static_cast<std::size_t>(*found)] = static_cast<std::int32_t>(m);
      placement.largest_rank = std::max(placement.largest_rank, layout.rank(m));
    }
    if (missing_count > 0)
      return Failure{message("the host has no module for ", missing_count, " of the adapter's ",
                             layout.size(), ": ", missing, missing_count > 8 ? ", …" : "",
                             " (the host's first is \"", host.size() ? host[0].name : std::string(),
                             "\"; wrong base model, or names that need mapping?)")};
    return std::make_shared<const Placement>(std::move(placement));
  }
};

/// One adapter of a set: its numbers and who owns them. None: an id that was removed.
template <class P>
struct Resident {
  std::shared_ptr<const Placement> placement = nullptr;
  std::shared_ptr<const void> owner = nullptr;
  const P* trainable = nullptr;
  const P* frozen = nullptr;

  explicit operator bool() const { return placement != nullptr; }
  /// Rank 0 where the host's module m is not adapted.
  Factors<const P> factors(Index m) const {
    const Index own = (*placement)[m];
    return own < 0 ? Factors<const P>{} : factors_at<P>(placement->layout, own, trainable, frozen);
  }
};

inline constexpr Index residents_per_chunk = 128;

}  // namespace detail

/// The adapters of a set as they were at one moment, whatever is added and removed later. A handle: copies
/// cost a reference count, and the adapters live as long as one of them.
template <class P>
class AdapterSnapshot {
 public:
  using Scalar = P;

  AdapterSnapshot() = default;

  bool contains(AdapterId id) const { return find(id) != nullptr; }
  Index size() const { return state_ ? state_->count : 0; }  ///< number of adapters

  /// The host's modules. Only of a snapshot that a set has made.
  const ModuleList& modules() const { return *state_->modules; }

  /// Factors of the host's module m in that adapter, as for a single adapter's calls; of rank 0 where the
  /// adapter does not adapt it. Throws Error if it is not there.
  Factors<const P> factors(AdapterId id, Index m) const {
    const detail::Resident<P>* resident = find(id);
    if (!resident) detail::fail(detail::message("there is no adapter ", id, " in this snapshot"));
    return resident->factors(m);
  }

  /// Null where there is none of that id. For the plan.
  const detail::Resident<P>* find(AdapterId id) const {
    if (!state_ || id < 0) return nullptr;
    const auto chunk = static_cast<std::size_t>(id / detail::residents_per_chunk);
    const auto place = static_cast<std::size_t>(id % detail::residents_per_chunk);
    if (chunk >= state_->chunks.size() || !state_->chunks[chunk]) return nullptr;
    const Chunk& residents = *state_->chunks[chunk];  // the last chunk is shorter
    return place < residents.size() && residents[place] ? &residents[place] : nullptr;
  }

 private:
  template <class>
  friend class AdapterSet;

  using Chunk = std::vector<detail::Resident<P>>;
  struct State {
    std::shared_ptr<const ModuleList> modules;
    std::vector<std::shared_ptr<const Chunk>> chunks;  // null: all removed
    Index count = 0;
  };
  explicit AdapterSnapshot(std::shared_ptr<const State> state) : state_(std::move(state)) {}

  std::shared_ptr<const State> state_;
};

/// Any number of adapters for one host model. Its functions may be called from any threads at once; each
/// takes the set's one lock for the time of a table look-up. Calls that compute take none: they go by a
/// snapshot. An adapter beyond its numbers costs about 200 bytes where many have one Layout.
template <class P>
class AdapterSet {
 public:
  using Scalar = P;

  explicit AdapterSet(ModuleList modules)
      : modules_(std::make_shared<const ModuleList>(std::move(modules))) {}

  const ModuleList& modules() const { return *modules_; }

  /// Takes an adapter for some or all of the host's modules, found by name. Throws Error where an adapted
  /// module is not among the host's (naming those) or has another shape there.
  AdapterId add(Adapter<P> adapter) { return detail::value_or_fail(try_add(std::move(adapter))); }
  /// One that others use as well. It must not be written any more.
  AdapterId add(std::shared_ptr<const Adapter<P>> adapter) {
    return detail::value_or_fail(try_add(std::move(adapter)));
  }
  /// One in memory of the caller's, such as a mapped file, which lives as long as `owner` is held.
  AdapterId add(const AdapterView<const P>& view, std::shared_ptr<const void> owner) {
    return detail::value_or_fail(try_add(view, std::move(owner)));
  }

  /// The same, with the reason in the Result: adapters come from outside.
  Result<AdapterId> try_add(Adapter<P> adapter) {
    return try_add(std::make_shared<const Adapter<P>>(std::move(adapter)));
  }
  Result<AdapterId> try_add(std::shared_ptr<const Adapter<P>> adapter) {
    if (!adapter) return Failure{"an adapter to add is null"};
    const AdapterView<const P> view = adapter->view();
    return try_add(view, std::move(adapter));
  }
  Result<AdapterId> try_add(const AdapterView<const P>& view, std::shared_ptr<const void> owner) {
    std::shared_ptr<const State> outdated;  // dies after the lock is gone
    const std::lock_guard<std::mutex> lock(mutex_);
    auto placement = place(view.layout());
    if (!placement) return placement.failure();
    if (next_ == std::numeric_limits<AdapterId>::max()) return Failure{"an AdapterSet has run out of ids"};
    outdated.swap(published_);
    const AdapterId id = next_++;
    if (id % detail::residents_per_chunk == 0) chunks_.push_back({new_chunk(), 0, false});
    OwnChunk& chunk = writable_chunk(id);
    chunk.residents->push_back(
        {*std::move(placement), std::move(owner), view.trainable().data(), view.frozen().data()});
    ++chunk.count, ++count_;
    return id;
  }

  /// Takes it out of snapshots made from now on; it lives until the last that holds it is gone. False where
  /// there was none of that id.
  bool remove(AdapterId id) {
    // What may be the last hold on an adapter: they die after the lock is gone.
    detail::Resident<P> removed;
    std::shared_ptr<const Chunk> emptied;
    std::shared_ptr<const State> outdated;
    const std::lock_guard<std::mutex> lock(mutex_);
    if (id < 0 || id >= next_) return false;
    OwnChunk& chunk = chunks_[chunk_of(id)];
    const auto place = static_cast<std::size_t>(id % detail::residents_per_chunk);
    if (!chunk.residents || !(*chunk.residents)[place]) return false;
    outdated.swap(published_);
    std::swap(removed, (*writable_chunk(id).residents)[place]);
    --count_;
    // The last chunk is still being filled.
    if (--chunk.count == 0 && chunk_of(id) != chunk_of(next_)) emptied = std::move(chunk.residents);
    return true;
  }

  /// What is in the set now. To be taken once for a batch.
  AdapterSnapshot<P> snapshot() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!published_) {
      auto state = std::make_shared<State>();
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

  Index size() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return count_;
  }

 private:
  using Chunk = typename AdapterSnapshot<P>::Chunk;
  using State = typename AdapterSnapshot<P>::State;
  struct OwnChunk {
    std::shared_ptr<Chunk> residents;
    Index count;        // of residents that are there
    bool is_published;  // snapshots hold it: to be copied before it is written
  };

  static std::size_t chunk_of(AdapterId id) {
    return static_cast<std::size_t>(id / detail::residents_per_chunk);
  }

  static std::shared_ptr<Chunk> new_chunk() {
    auto chunk = std::make_shared<Chunk>();
    chunk->reserve(static_cast<std::size_t>(detail::residents_per_chunk));
    return chunk;
  }

  // The chunk of that id, after copying it where snapshots hold it: not the whole table for each change.
  OwnChunk& writable_chunk(AdapterId id) {
    OwnChunk& chunk = chunks_[chunk_of(id)];
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
  AdapterId next_ = 0;
  Index count_ = 0;
};

TIEDLORA_END_NAMESPACE
