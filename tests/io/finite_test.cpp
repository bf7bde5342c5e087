// Adapters with NaN or infinite values are refused by every loader, which names file, tensor, place and
// value.
#include <gtest/gtest.h>

#include <limits>
#include <tiedlora/io.hpp>

#include "support/gguf_llama.hpp"
#include "support/io_files.hpp"

namespace tiedlora_test {
namespace {

using namespace tiedlora;

constexpr float nan_number = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();

Adapter<float> adapter_to_break() {
  Dice dice(7);
  return gguf_llama::filled(gguf_llama::llama_modules(), schemes::lora(), dice);
}

TEST(FiniteFiles, PeftNamesTensorAndPlace) {
  const Folder folder;
  Adapter<float> adapter = adapter_to_break();
  adapter.A(1)(2, 3) = nan_number;
  adapter.A(1)(2, 5) = infinity;
  save_peft(adapter, folder / "peft");
  expect_failure(
      try_load_peft<float>(folder / "peft"),
      {(folder / "peft").string(), "adapter_model.safetensors", "layers.0.self_attn.k_proj.lora_A.weight",
       "has NaN at [2, 3]; 2 of its 24 values are not finite", "check_finite"});
  expect_failure(try_load_peft<float>(folder / "peft", adapter.layout().modules()), {"NaN at [2, 3]"});
  EXPECT_TRUE(try_load_peft<float>(folder / "peft", {.check_finite = false}));
}

TEST(FiniteFiles, PeftNamesThePlaceInBAsItStandsInTheFile) {
  const Folder folder;
  Adapter<float> adapter = adapter_to_break();
  adapter.B(0)(9, 1) = -infinity;
  save_peft(adapter, folder / "peft");
  expect_failure(try_load_peft<Eigen::bfloat16>(folder / "peft"),
                 {"q_proj.lora_B.weight", "has -infinity at [9, 1]; 1 of its 36 values is not finite"});
}

TEST(FiniteFiles, GgufNamesTensorAndPlace) {
  const Folder folder;
  Adapter<float> adapter = adapter_to_break();
  adapter.A(0)(1, 6) = nan_number;
  const auto naming = gguf_llama::naming(gguf::Order::gguf);
  for (const gguf::Type type : {gguf::Type::F32, gguf::Type::F16, gguf::Type::BF16}) {
    export_gguf(adapter, folder / "x", naming, {.type = type});
    expect_failure(try_load_gguf<float>(folder / "x", naming),
                   {"\"blk.0.attn_q.weight.lora_a\" has NaN at [6, 1]"});
    EXPECT_TRUE(try_load_gguf<float>(folder / "x", naming, {.check_finite = false}));
  }
}

TEST(FiniteFiles, NativeFilesAndCheckpointsAreRefused) {
  const Folder folder;
  Adapter<float> adapter = adapter_to_break();
  AdamW<float> optimizer(adapter.layout());
  save_checkpoint(folder / "x", adapter, optimizer, {});
  EXPECT_TRUE(try_load_checkpoint<float>(folder / "x"));
  optimizer.second_moment()[4] = infinity;
  save_checkpoint(folder / "x", adapter, optimizer, {});
  EXPECT_TRUE(try_load_adapter<float>(folder / "x"));
  expect_failure(try_load_checkpoint<float>(folder / "x"),
                 {"\"optimizer.second_moment\" has infinity at [4]"});
  adapter.trainable()[20] = nan_number;
  save_checkpoint(folder / "x", adapter, optimizer, {});
  expect_failure(try_load_adapter<float>(folder / "x"), {"\"trainable\" has NaN at [20]"});
  expect_failure(try_load_checkpoint<float>(folder / "x"), {"\"trainable\" has NaN at [20]"});
  EXPECT_TRUE(try_load_adapter<float>(folder / "x", {.check_finite = false}));
  EXPECT_TRUE(try_load_checkpoint<float>(folder / "x", {.check_finite = false}));
}

TEST(FiniteFiles, NumbersBeyondTheTypeThatIsAskedForAreNamed) {
  const Folder folder;
  Adapter<float> adapter = adapter_to_break();
  adapter.trainable()[5] = 1e6f;  // a half ends at 65504
  save_adapter(folder / "x", adapter);
  EXPECT_TRUE(try_load_adapter<float>(folder / "x"));
  expect_failure(try_load_adapter<Eigen::half>(folder / "x"), {"\"trainable\"", "[5]", "overflows the type"});
}

}  // namespace
}  // namespace tiedlora_test
