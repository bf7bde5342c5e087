// What can be adapted: the host model's linear modules.
#pragma once

#include <cstdint>        // uint64_t
#include <limits>         // numeric_limits
#include <optional>       // optional
#include <string>         // string
#include <string_view>    // string_view
#include <unordered_map>  // unordered_map
#include <utility>        // move
#include <vector>         // vector

#include "../views/config.hpp"
#include "../views/error.hpp"
#include "quote.hpp"
#include "result.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// One linear module of the host model: y = W x with W of out_features × in_features.
struct Module {
  /// Full path, unique: what PEFT writes after "base_model.model.".
  std::string name = {};
  /// Which layer it belongs to; -1: none (lm_head, embeddings).
  int layer = -1;
  /// What modules of different layers have in common, e.g. "q_proj". Empty: the last component of name.
  std::string kind = {};
  /// Modules of one layer with equal labels read the same x. Empty: shared only within its kind.
  std::string input = {};
  Index in_features = 0;   ///< length of x
  Index out_features = 0;  ///< length of y
  bool operator==(const Module&) const = default;
};

/// The modules of a model, in the order in which they were added. (layer, kind) may repeat: experts.
class ModuleList {
 public:
  /// Adds a module and returns its index. Throws Error, naming the module, if the name is empty or taken, a
  /// size is not positive, out_features × in_features overflows, layer < -1, or a module of the same layer
  /// claims the same input with other in_features.
  Index add(Module module) { return detail::value_or_fail(try_add(std::move(module))); }

  /// The same; if the module is refused, the list is unchanged and the Result says why.
  Result<Index> try_add(Module module) {
    using detail::message;
    if (module.name.empty())
      return Failure{
          "a module has an empty name; give the full path, e.g. \"model.layers.0.self_attn.q_proj\""};
    if (index_by_name_.count(module.name))
      return Failure{
          message("module ", detail::in_quotes(module.name), " was already added; names must be unique")};
    if (module.in_features <= 0 || module.out_features <= 0)
      return Failure{message("module ", detail::in_quotes(module.name), " has shape ", module.out_features,
                             "x", module.in_features, " (out x in); both sizes must be positive")};
    if (module.out_features > std::numeric_limits<Index>::max() / module.in_features)
      return Failure{message("module ", detail::in_quotes(module.name), ": ", module.out_features, " x ",
                             module.in_features, " (out x in) overflows the index type")};
    if (module.layer < -1)
      return Failure{message("module ", detail::in_quotes(module.name), " has layer ", module.layer,
                             "; use -1 for a module outside the layers")};
    if (module.kind.empty()) module.kind = module.name.substr(module.name.rfind('.') + 1);

    // A label the user wrote and one private to a kind never coincide: they differ in their first letter.
    const int input = intern(module.input.empty() ? "k" + module.kind : "i" + module.input);
    const int kind = intern("k" + module.kind);
    // If memory runs out on the way, the list is as it was.
    make_room(modules_);
    make_room(labels_);
    int& occurrences = occurrences_[pair_key(module.layer, kind)];
    const auto [reader, is_first] = first_reader_.try_emplace(pair_key(module.layer, input), size());
    if (!is_first) {
      const Module& other = modules_[static_cast<std::size_t>(reader->second)];
      if (other.in_features != module.in_features)
        return Failure{message("module ", detail::in_quotes(module.name), " has ", module.in_features,
                               " in_features but reads the same input of layer ", module.layer, " as ",
                               detail::in_quotes(other.name), " with ", other.in_features,
                               "; give it an input label (and kind) of its own")};
    }
    Undo undo = {first_reader_, reader->first, is_first};
    index_by_name_.emplace(module.name, size());
    undo.is_needed = false;
    labels_.push_back({kind, input, occurrences++, reader->second});
    modules_.push_back(std::move(module));
    return size() - 1;
  }

  /// How many modules there are.
  Index size() const { return static_cast<Index>(modules_.size()); }
  /// Throws Error unless 0 <= m < size(); as does labels.
  const Module& operator[](Index m) const { return modules_[checked(m)]; }
  auto begin() const { return modules_.begin(); }
  auto end() const { return modules_.end(); }

  /// The index of the module of that name; nothing if there is none.
  std::optional<Index> try_find(std::string_view name) const {
    const auto found = index_by_name_.find(std::string(name));
    if (found == index_by_name_.end()) return std::nullopt;
    return found->second;
  }

  /// The index of the module of that name. Throws Error if there is none.
  Index find(std::string_view name) const {
    if (const auto m = try_find(name)) return *m;
    detail::fail(not_found(name).message);
  }

  /// The message where try_find finds nothing.
  Failure not_found(std::string_view name) const {
    return {detail::message(
        "no module is named ", detail::in_quotes(name), " in this list of ", size(),
        size() ? detail::message(" (the first is ", detail::in_quotes(modules_.front().name), ")")
               : std::string())};
  }

  /// Small integers that stand for a module's labels: equal exactly where the labels are. Independent of the
  /// layer.
  struct Labels {
    int kind = 0;   ///< stands for Module::kind
    int input = 0;  ///< stands for Module::input
    int occurrence =
        0;  ///< How many modules of the same layer and kind stand before this one (the expert's number).
    Index first_reader = 0;  ///< The first module of the list that reads the same x: it names that input.
  };
  /// The labels of module m.
  const Labels& labels(Index m) const { return labels_[checked(m)]; }

 private:
  std::size_t checked(Index m) const {
    if (m < 0 || m >= size())
      detail::fail("module ", m, " does not exist: the list has ", size(), " modules");
    return static_cast<std::size_t>(m);
  }
  static std::uint64_t pair_key(int layer, int label) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(layer)) << 32 |
           static_cast<std::uint32_t>(label);
  }
  // Forgets a module's input again, unless it was added.
  struct Undo {
    std::unordered_map<std::uint64_t, Index>& first_reader;
    std::uint64_t key;
    bool is_needed;
    ~Undo() {
      if (is_needed) first_reader.erase(key);
    }
  };
  template <class T>
  static void make_room(std::vector<T>& of) {
    if (of.size() == of.capacity()) of.reserve(2 * of.size() + 1);
  }
  int intern(const std::string& label) {
    return label_ids_.try_emplace(label, static_cast<int>(label_ids_.size())).first->second;
  }

  std::vector<Module> modules_;
  std::vector<Labels> labels_;
  std::unordered_map<std::string, Index> index_by_name_;
  std::unordered_map<std::string, int> label_ids_;
  std::unordered_map<std::uint64_t, Index> first_reader_;  // of (layer, input)
  std::unordered_map<std::uint64_t, int> occurrences_;     // of (layer, kind)
};

TIEDLORA_END_NAMESPACE
