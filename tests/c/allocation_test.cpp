// allocation_test GOLDEN DIR: memory runs out in every place of every call of the C interface that allocates:
// each says TL_ERROR_MEMORY, gives no handle, and works when it is called again.
#include <tiedlora.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

namespace {

long left = -1;            // allocations until one fails; negative: none does
std::size_t smallest = 0;  // of those that may
constexpr std::size_t larger = 900;

void* allocate(std::size_t bytes, std::size_t alignment) {
  if (left == 0 && bytes >= smallest) throw std::bad_alloc();
  if (left > 0 && bytes >= smallest) --left;
  const std::size_t rounded = (std::max<std::size_t>(bytes, 1) + alignment - 1) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, rounded);
  if (!memory) throw std::bad_alloc();
  return memory;
}

int failures = 0;

// Runs a call that makes something, which it frees, until it has had all the memory that it wants.
template <class Call, class Undo>
void run_out(const char* what, const Call& call, const Undo& undo, std::size_t from = 0) {
  smallest = from;
  for (long allowed = 0;; ++allowed) {
    left = allowed;
    const tl_status status = call();
    left = -1;
    if (status == TL_OK) {
      std::printf("%s: %ld allocations\n", what, allowed);
      return undo();
    }
    if (status == TL_ERROR_MEMORY && std::strlen(tl_last_error()) > 0 && allowed < 100000) continue;
    std::printf("%s with %ld allocations: status %d, %s\n", what, allowed, status, tl_last_error());
    ++failures;
    return;
  }
}

}  // namespace

void* operator new(std::size_t bytes) { return allocate(bytes, alignof(std::max_align_t)); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return allocate(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const std::string golden = argv[1], base = golden + "/peft_base.safetensors", peft = golden + "/peft/lora",
                    gguf = golden + "/gguf/llama_f16.gguf",
                    file = std::string(argv[2]) + "/adapter.safetensors",
                    copy = std::string(argv[2]) + "/out_of_memory.safetensors";
  tl_modules* modules = nullptr;
  tl_adapter *adapter = nullptr, *other = nullptr;
  const auto free_other = [&] { tl_adapter_free(other); };
  run_out(
      "tl_modules_of_model", [&] { return tl_modules_of_model(base.c_str(), &modules); },
      [&] { tl_modules_free(modules); });
  run_out(
      "tl_adapter_load, PEFT", [&] { return tl_adapter_load(peft.c_str(), nullptr, nullptr, &other); },
      free_other, larger);
  run_out(
      "tl_adapter_load, GGUF", [&] { return tl_adapter_load(gguf.c_str(), nullptr, nullptr, &other); },
      free_other);
  run_out(
      "tl_adapter_load", [&] { return tl_adapter_load(file.c_str(), nullptr, nullptr, &adapter); }, [] {},
      larger);
  if (!adapter) return 1;
  run_out("tl_adapter_save", [&] { return tl_adapter_save(adapter, copy.c_str(), nullptr); }, [] {}, larger);
  run_out("tl_adapter_cast", [&] { return tl_adapter_cast(adapter, TL_BF16, &other); }, free_other);
  run_out("tl_adapter_modules", [&] { return tl_adapter_modules(adapter, &modules); }, [] {});
  run_out(
      "tl_modules_add",
      [&] {
        return tl_modules_add(modules, "a.module.with.a.long.name", 0, nullptr, nullptr, 4, 4, nullptr);
      },
      [] {});
  run_out(
      "tl_adapter_new", [&] { return tl_adapter_new(modules, "vera", 2, 1, TL_F32, &other); }, free_other);

  tl_set* set = nullptr;
  tl_plan* plan = nullptr;
  tl_id id = TL_NO_ADAPTER;
  run_out("tl_set_new", [&] { return tl_set_new(modules, TL_F32, &set); }, [] {});
  run_out("tl_set_add", [&] { return tl_set_add(set, adapter, &id); }, [] {});
  run_out("tl_plan_new", [&] { return tl_plan_new(set, &plan); }, [] {});
  if (tl_set_count(set) != 1) ++failures;  // those that failed have left nothing
  const tl_id ids[] = {id, id, TL_NO_ADAPTER};
  run_out(
      "tl_plan_assign",
      [&] {
        const tl_status status = tl_plan_assign(plan, set, 3, ids, nullptr);
        tl_index width = -1, count = -1;
        left = -1;
        if (tl_plan_room(plan, &width, &count) != TL_OK || count != (status == TL_OK ? 2 : 0)) ++failures;
        return status;
      },
      [] {});

  // Calls that compute allocate nothing.
  float x[3 * 24] = {}, y[3 * 16] = {}, h[3 * 4] = {};
  const tl_input xs = tl_input_of(x, TL_F32, 24, 3);
  const tl_output ys = tl_output_of(y, TL_F32, 16, 3), hs = tl_output_of(h, TL_F32, 4, 3);
  left = 0;
  if (tl_forward(adapter, 0, &xs, &ys, &hs, nullptr) != TL_OK ||
      tl_plan_forward(plan, 0, &xs, &ys, &hs, nullptr) != TL_OK)
    ++failures;
  left = -1;
  run_out("tl_set_remove", [&] { return tl_set_remove(set, id); }, [] {});
  tl_plan_free(plan);
  tl_set_free(set);
  tl_modules_free(modules);
  tl_adapter_free(adapter);
  return failures;
}
