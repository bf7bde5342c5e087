// The same modules under other names: those of a file or an engine.
#pragma once

#include <cstddef>           // size_t
#include <initializer_list>  // initializer_list
#include <optional>          // optional
#include <string>            // string
#include <string_view>       // string_view
#include <utility>           // move, pair
#include <vector>            // vector

#include "../views/config.hpp"

TIEDLORA_BEGIN_NAMESPACE

/// One kind of module under both names. A '*' stands for a number (digits, the same on both sides): {.module
/// = "model.layers.*.self_attn.q_proj", .file = "blk.*.attn_q"}.
struct NameRule {
  std::string module = {};  ///< as in Module::name
  std::string file = {};    ///< as in the file or the engine
};

/// Rules between the names of modules and those in a file or an engine; the first that matches applies. A
/// rule matches a whole name, never part of one.
class NameMap {
 public:
  NameMap() = default;
  /// The rules in the order in which they are tried.
  NameMap(std::initializer_list<NameRule> rules) : rules_(rules) {}

  /// Tried after the existing rules.
  void add(NameRule rule) { rules_.push_back(std::move(rule)); }

  /// What the file calls the module; nothing if no rule matches.
  std::optional<std::string> to_file(std::string_view module) const {
    return translate(module, &NameRule::module, &NameRule::file);
  }
  /// Which module the file means; nothing if no rule matches.
  std::optional<std::string> to_module(std::string_view file) const {
    return translate(file, &NameRule::file, &NameRule::module);
  }

  /// The same by the last rule that matches: with the maps below, the name without transformers' prefix.
  std::optional<std::string> to_bare_module(std::string_view file) const {
    std::optional<std::string> found;
    for (const NameRule& rule : rules_)
      if (const auto numbers = match(rule.file, file)) found = fill(rule.module, *numbers);
    return found;
  }

  /// If the pattern, with numbers for its '*', is the whole name: these numbers, in order. Otherwise nothing.
  static std::optional<std::vector<std::string>> match(std::string_view pattern, std::string_view name) {
    std::vector<std::string> numbers;
    std::size_t at = 0;
    for (const char c : pattern) {
      if (c != '*') {
        if (at == name.size() || name[at] != c) return std::nullopt;
        ++at;
        continue;
      }
      std::string digits;
      while (at < name.size() && name[at] >= '0' && name[at] <= '9') digits += name[at++];
      if (digits.empty()) return std::nullopt;
      numbers.push_back(std::move(digits));
    }
    if (at != name.size()) return std::nullopt;
    return numbers;
  }

  /// The pattern with these numbers in place of its '*'.
  static std::string fill(std::string_view pattern, const std::vector<std::string>& numbers) {
    std::string name;
    std::size_t next = 0;
    for (const char c : pattern) {
      if (c != '*')
        name += c;
      else if (next < numbers.size())
        name += numbers[next++];
    }
    return name;
  }

 private:
  std::optional<std::string> translate(std::string_view name, std::string NameRule::* from,
                                       std::string NameRule::* to) const {
    for (const NameRule& rule : rules_)
      if (const auto numbers = match(rule.*from, name)) return fill(rule.*to, *numbers);
    return std::nullopt;
  }

  std::vector<NameRule> rules_;
};

/// What engines that read GGUF files call the modules of transformers' models: llama.cpp's names of tensors
/// without ".weight". Modules may be named with transformers' prefix or without.
namespace names {
/// Llama, and its relatives with separate q, k, v and gate, up (Mistral, Qwen2, Qwen3, Gemma, SmolLM2).
inline NameMap llama() {
  NameMap names;
  for (const char* prefix : {"model.layers.*.", "layers.*."})
    for (const auto& [module, tensor] : {std::pair{"self_attn.q_proj", "attn_q"},
                                         {"self_attn.k_proj", "attn_k"},
                                         {"self_attn.v_proj", "attn_v"},
                                         {"self_attn.o_proj", "attn_output"},
                                         {"mlp.gate_proj", "ffn_gate"},
                                         {"mlp.up_proj", "ffn_up"},
                                         {"mlp.down_proj", "ffn_down"}})
      names.add({std::string(prefix) + module, std::string("blk.*.") + tensor});
  names.add({"lm_head", "output"});
  return names;
}

/// Phi-3, whose q, k and v are one module, and gate and up another.
inline NameMap phi3() {
  NameMap names;
  for (const char* prefix : {"model.layers.*.", "layers.*."})
    for (const auto& [module, tensor] : {std::pair{"self_attn.qkv_proj", "attn_qkv"},
                                         {"self_attn.o_proj", "attn_output"},
                                         {"mlp.gate_up_proj", "ffn_up"},
                                         {"mlp.down_proj", "ffn_down"}})
      names.add({std::string(prefix) + module, std::string("blk.*.") + tensor});
  names.add({"lm_head", "output"});
  return names;
}

/// GPT-2, whose q, k and v are one module.
inline NameMap gpt2() {
  NameMap names;
  for (const char* prefix : {"transformer.h.*.", "h.*."})
    for (const auto& [module, tensor] : {std::pair{"attn.c_attn", "attn_qkv"},
                                         {"attn.c_proj", "attn_output"},
                                         {"mlp.c_fc", "ffn_up"},
                                         {"mlp.c_proj", "ffn_down"}})
      names.add({std::string(prefix) + module, std::string("blk.*.") + tensor});
  names.add({"lm_head", "output"});
  return names;
}

}  // namespace names

TIEDLORA_END_NAMESPACE
