// For the tests: a small random Llama model and its GGUF file.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <tiedlora/io/gguf.hpp>
#include <utility>
#include <vector>

#include "support/dice.hpp"
#include "support/gguf_bytes.hpp"

namespace llama_test {

using tiedlora::Index;
using tiedlora_test::Dice;
using tiedlora_test::GgufBytes;

/// The characters by which vocabularies write bytes, in UTF-8.
inline std::string byte_character(unsigned byte) {
  unsigned next = 256;
  for (unsigned b = 0; b < byte; ++b) next += !((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174);
  const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  const unsigned c = printable ? byte : next;
  if (c < 128) return {static_cast<char>(c)};
  return {static_cast<char>(0xc0 | c >> 6), static_cast<char>(0x80 | (c & 63))};
}

/// Two layers of width 64, 4 heads, 2 of keys and values, 96 hidden features. What a test needs otherwise it
/// changes before `write`.
struct TinyModel {
  enum class Numbers { floats, blocks };

  std::map<std::string, std::vector<float>> floats;  ///< tensors of F32, row-major; "….bias" has its own name
  std::map<std::string, std::string> blocks;         ///< tensors of Q4_1; token_embd is Q8_0
  std::map<std::string, std::pair<Index, Index>> matrices;  ///< in, out
  std::vector<std::string> tokens, merges;
  std::vector<std::int32_t> token_types;
  std::string architecture = "llama", pre = "smollm";
  std::string chat_template =
      "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
      "{{ '<|im_start|>system\nBe brief<|im_end|>\n' }}{% endif %}"
      "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
      "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
  std::uint32_t context = 128;

  explicit TinyModel(Numbers numbers, std::uint64_t seed = 1) {
    for (const char* name : {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}) tokens.emplace_back(name);
    for (unsigned byte = 0; byte < 256; ++byte) tokens.push_back(byte_character(byte));
    for (const auto& [left, right] : {std::pair("l", "l"),
                                      {"h", "e"},
                                      {"he", "ll"},
                                      {"hell", "o"},
                                      {"Ġ", "w"},
                                      {"o", "r"},
                                      {"Ġw", "or"},
                                      {"Ġ", "Ġ"}}) {
      tokens.push_back(std::string(left) + right);
      merges.push_back(std::string(left) + " " + right);
    }
    token_types.assign(tokens.size(), 1);
    std::fill_n(token_types.begin(), 3, 3);

    Dice dice(seed);
    add("token_embd", 64, static_cast<Index>(tokens.size()), numbers, dice);
    for (int layer = 0; layer < 2; ++layer) {
      const std::string prefix = "blk." + std::to_string(layer) + ".";
      for (const char* name : {"attn_norm", "ffn_norm"}) dice.fill(vector(prefix + name), 0.5, 1.5);
      add(prefix + "attn_q", 64, 64, numbers, dice);
      add(prefix + "attn_k", 64, 32, numbers, dice);
      add(prefix + "attn_v", 64, 32, numbers, dice);
      add(prefix + "attn_output", 64, 64, numbers, dice);
      add(prefix + "ffn_gate", 64, 96, numbers, dice);
      add(prefix + "ffn_up", 64, 96, numbers, dice);
      add(prefix + "ffn_down", 96, 64, numbers, dice);
    }
    dice.fill(vector("output_norm"), 0.5, 1.5);
    add("output", 64, static_cast<Index>(tokens.size()), numbers, dice);
  }

  void write(const std::filesystem::path& path) const {
    using tiedlora::gguf::Type;
    using tiedlora::gguf::ValueType;
    GgufBytes bytes;
    bytes.head(floats.size() + blocks.size(), 16);
    bytes.value("general.architecture", std::string_view(architecture))
        .value(architecture + ".block_count", std::uint32_t{2})
        .value(architecture + ".context_length", context)
        .value(architecture + ".embedding_length", std::uint32_t{64})
        .value(architecture + ".feed_forward_length", std::uint32_t{96})
        .value(architecture + ".attention.head_count", std::uint32_t{4})
        .value(architecture + ".attention.head_count_kv", std::uint32_t{2})
        .value(architecture + ".attention.layer_norm_rms_epsilon", 1e-5f)
        .value(architecture + ".rope.freq_base", 10000.0f)
        .value("tokenizer.ggml.model", std::string_view("gpt2"))
        .value("tokenizer.ggml.pre", std::string_view(pre))
        .value("tokenizer.ggml.eos_token_id", std::uint32_t{2})
        .value("tokenizer.chat_template", std::string_view(chat_template));
    const auto texts = [&bytes](std::string_view key, const std::vector<std::string>& list) {
      bytes.text(key)
          .number(ValueType::array)
          .number(ValueType::text)
          .number(static_cast<std::uint64_t>(list.size()));
      for (const std::string& text : list) bytes.text(text);
    };
    texts("tokenizer.ggml.tokens", tokens);
    texts("tokenizer.ggml.merges", merges);
    bytes.text("tokenizer.ggml.token_type").number(ValueType::array).number(ValueType::i32);
    bytes.number(static_cast<std::uint64_t>(token_types.size()));
    for (const std::int32_t type : token_types) bytes.number(type);

    std::string data;
    const auto place = [&](const std::string& name, Type type, std::string_view content) {
      const auto matrix = matrices.find(name);
      std::vector<std::uint64_t> shape = {content.size() / sizeof(float)};  // all vectors are F32
      if (matrix != matrices.end())
        shape = {static_cast<std::uint64_t>(matrix->second.first),
                 static_cast<std::uint64_t>(matrix->second.second)};
      bytes.tensor(name.ends_with(".bias") ? name : name + ".weight", shape, type, data.size());
      data += content;
      data.append((32 - data.size() % 32) % 32, '\0');
    };
    for (const auto& [name, numbers] : floats)
      place(name, Type::F32, {reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(float)});
    for (const auto& [name, content] : blocks)
      place(name, name == "token_embd" ? Type::Q8_0 : Type{3}, content);
    bytes.pad().raw(data);
    std::ofstream(path, std::ios::binary) << bytes.str();
  }

 private:
  std::vector<float>& vector(const std::string& name) {
    floats[name].resize(64);
    return floats[name];
  }

  void add(const std::string& name, Index in, Index out, Numbers numbers, Dice& dice) {
    matrices[name] = {in, out};
    if (numbers == Numbers::floats) {
      floats[name].resize(static_cast<std::size_t>(in * out));
      // Small embeddings: what comes next is to depend on the layers, and so on what came before.
      const double most = name == "token_embd" ? 0.03 : 0.3;
      dice.fill(floats[name], -most, most);
      return;
    }
    const auto half = [this, &name](double value) {
      const auto bits = Eigen::numext::bit_cast<std::uint16_t>(Eigen::half(static_cast<float>(value)));
      blocks[name] += {static_cast<char>(bits & 255), static_cast<char>(bits >> 8)};
    };
    for (Index block = 0; block < in * out / 32; ++block) {
      const bool is_embedding = name == "token_embd";
      half(dice.uniform(0.5, 1) * (is_embedding ? 0.03 / 127 : 0.6 / 15));
      if (!is_embedding) half(dice.uniform(-0.35, -0.25));
      for (int i = 0; i < (is_embedding ? 32 : 16); ++i) {
        const auto byte = static_cast<char>(dice.bits() >> 56);
        blocks[name] += is_embedding && byte == '\x80' ? '\0' : byte;
      }
    }
  }
};

}  // namespace llama_test
