/* interface_test GOLDEN DIR: every function of tiedlora.h from C: results against DIR/expected.bin
 * (expected.cpp), bit by bit, and what each refuses. Exits with the number of checks that failed. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tiedlora.h>

static int failures = 0;
static void check(int holds, int line, const char* what) {
  if (holds) return;
  ++failures;
  printf("line %d: %s\n  last error: %s\n", line, what, tl_last_error());
}
#define CHECK(condition) check(condition, __LINE__, #condition)
#define OK(call) check((call) == TL_OK, __LINE__, #call)
/* The call must return that code and give this phrase as its reason. */
#define REFUSED(code, phrase, call) \
  check((call) == (code) && strstr(tl_last_error(), phrase) != NULL, __LINE__, #call " (" phrase ")")

/* ---- What expected.cpp has, too ---- */

enum { IN = 24, ROWS = 16, RANK = 4, TOKENS = 5, MODULE = 2 };

static float number(tl_index i, tl_index seed) { return (float)((i * 37 + seed * 11) % 129 - 64) / 64; }

/* Exact for these values: they have seven bits. */
static uint16_t half_of(float f) {
  uint32_t bits;
  memcpy(&bits, &f, sizeof bits);
  const uint32_t exponent = (bits >> 23 & 255) - 127 + 15;
  return f == 0 ? 0 : (uint16_t)((bits >> 16 & 0x8000) | exponent << 10 | (bits >> 13 & 0x3ff));
}
static uint16_t bfloat16_of(float f) {
  uint32_t bits;
  memcpy(&bits, &f, sizeof bits);
  return (uint16_t)(bits >> 16);
}
static size_t size_of(tl_type type) { return type == TL_F32 ? 4 : 2; }
static void fill(void* array, tl_type type, tl_index n, tl_index seed) {
  for (tl_index i = 0; i < n; ++i) {
    const float f = number(i, seed);
    const uint16_t narrow = type == TL_F16 ? half_of(f) : bfloat16_of(f);
    if (type == TL_F32)
      memcpy((float*)array + i, &f, sizeof f);
    else
      memcpy((uint16_t*)array + i, &narrow, sizeof narrow);
  }
}

static FILE* expected;
static void same(int line, const void* array, size_t bytes, const char* what) {
  void* wanted = malloc(bytes);
  const int holds = wanted && fread(wanted, 1, bytes, expected) == bytes && memcmp(wanted, array, bytes) == 0;
  check(holds, line, what);
  free(wanted);
}
#define SAME(array, bytes) same(__LINE__, array, bytes, #array)

static tl_modules* host(void) {
  tl_modules* modules;
  OK(tl_modules_new(&modules));
  for (int layer = 0; layer < 2; ++layer)
    for (int k = 0; k < 2; ++k) {
      char name[32];
      tl_index index = -1;
      snprintf(name, sizeof name, "layers.%d.%s", layer, k ? "k" : "q");
      OK(tl_modules_add(modules, name, layer, NULL, "x", IN, k ? 8 : ROWS, &index));
      CHECK(index == 2 * layer + k);
    }
  return modules;
}

static char folder[1024], golden[1024];
static const char* path_in(const char* of, const char* name) {
  static char path[2200];
  snprintf(path, sizeof path, "%s/%s", of, name);
  return path;
}

/* ---- Results ---- */

static void new_adapter(void) {
  tl_modules* modules = host();
  tl_adapter* adapter;
  OK(tl_adapter_new(modules, "tl6", RANK, 0.5, TL_F32, &adapter));
  tl_modules_free(modules);
  OK(tl_adapter_initialize(adapter, 3));
  void* data;
  tl_index count;
  OK(tl_adapter_trainable(adapter, &data, &count));
  SAME(data, (size_t)count * 4);
  /* TL6: A and B for all layers, u of each layer, v of each module. */
  CHECK(count == RANK * IN + RANK * (ROWS + 8) + 2 * RANK + 2 * (ROWS + 8));
  const void* frozen;
  OK(tl_adapter_frozen(adapter, &frozen, &count));
  CHECK(count == 0);
  tl_adapter_free(adapter);
}

static void forward_and_backward(const tl_adapter* adapter, tl_type type) {
  unsigned char x[TOKENS * IN * 4], y[TOKENS * ROWS * 4], halves[TOKENS * ROWS * 4], dy[TOKENS * ROWS * 4],
      dx[TOKENS * IN * 4];
  float h[TOKENS * RANK], gradients[512] = {0};
  fill(x, type, TOKENS * IN, 1);
  fill(y, type, TOKENS * ROWS, 2);
  fill(halves, type, TOKENS * ROWS, 2);
  fill(dy, type, TOKENS * ROWS, 3);
  fill(dx, type, TOKENS * IN, 4);
  const tl_input xs = tl_input_of(x, type, IN, TOKENS), dys = tl_input_of(dy, type, ROWS, TOKENS),
                 h_in = tl_input_of(h, TL_F32, RANK, TOKENS);
  const tl_output ys = tl_output_of(y, type, ROWS, TOKENS), dxs = tl_output_of(dx, type, IN, TOKENS),
                  hs = tl_output_of(h, TL_F32, RANK, TOKENS),
                  halves_y = tl_output_of(halves, type, ROWS, TOKENS);
  OK(tl_forward(adapter, MODULE, &xs, &ys, &hs, NULL));
  SAME(h, sizeof h);
  SAME(y, TOKENS * ROWS * size_of(type));

  /* The stages, in two slices each, give the same bits; so does forward without h. */
  memset(h, 0, sizeof h);
  for (int half = 0; half < 2; ++half)
    for (tl_index ith = 0; ith < 2; ++ith) {
      tl_options options = TL_OPTIONS_INIT;
      options.ith = ith;
      options.nth = 2;
      if (half == 0)
        OK(tl_shrink(adapter, MODULE, &xs, &hs, &options));
      else
        OK(tl_expand(adapter, MODULE, &h_in, &halves_y, &options));
    }
  CHECK(memcmp(y, halves, TOKENS * ROWS * size_of(type)) == 0);
  fill(halves, type, TOKENS * ROWS, 2);
  OK(tl_forward(adapter, MODULE, &xs, &halves_y, NULL, NULL));
  CHECK(memcmp(y, halves, TOKENS * ROWS * size_of(type)) == 0);

  tl_options options = TL_OPTIONS_INIT;
  options.scale = 0.5;
  OK(tl_backward(adapter, MODULE, &xs, &h_in, &dys, gradients, &dxs, &options));
  SAME(gradients, 248 * sizeof(float));
  SAME(dx, TOKENS * IN * size_of(type));

  /* dx alone needs no x and no gradients, and is the same. */
  unsigned char alone[TOKENS * IN * 4];
  fill(alone, type, TOKENS * IN, 4);
  const tl_output alone_dx = tl_output_of(alone, type, IN, TOKENS);
  OK(tl_backward(adapter, MODULE, NULL, &h_in, &dys, NULL, &alone_dx, &options));
  CHECK(memcmp(dx, alone, TOKENS * IN * size_of(type)) == 0);
}

static void all_of_type(tl_type type) {
  tl_load_options options = TL_LOAD_OPTIONS_INIT;
  options.type = type;
  tl_adapter* adapter;
  OK(tl_adapter_load(path_in(folder, "adapter.safetensors"), NULL, &options, &adapter));
  tl_type loaded;
  OK(tl_adapter_type(adapter, &loaded));
  CHECK(loaded == type);
  forward_and_backward(adapter, TL_F32);
  forward_and_backward(adapter, TL_F16);
  forward_and_backward(adapter, TL_BF16);
  unsigned char weight[ROWS * IN * 4];
  fill(weight, type, ROWS * IN, 5);
  OK(tl_merge(adapter, MODULE, weight, type, ROWS, IN, IN, 1, 0.75));
  SAME(weight, ROWS * IN * size_of(type));
  tl_adapter_free(adapter);
}

static void batch(void) {
  tl_modules* modules = host();
  tl_adapter *tied, *lora;
  OK(tl_adapter_load(path_in(folder, "adapter.safetensors"), modules, NULL, &tied));
  OK(tl_adapter_new(modules, "lora", 2, 1, TL_F32, &lora));
  void* data;
  tl_index count;
  OK(tl_adapter_trainable(lora, &data, &count));
  fill(data, TL_F32, count, 7);
  tl_set* set;
  tl_id a, b;
  OK(tl_set_new(modules, TL_F32, &set));
  tl_modules_free(modules);
  OK(tl_set_add(set, tied, &a));
  OK(tl_set_add(set, lora, &b));
  CHECK(tl_set_count(set) == 2);
  tl_adapter_free(tied); /* the set keeps its parameters */
  tl_adapter_free(lora);

  tl_plan* plan;
  OK(tl_plan_new(set, &plan));
  const tl_id adapters[TOKENS] = {a, TL_NO_ADAPTER, b, a, b};
  const float scales[TOKENS] = {1, 1, 0.5f, 0.25f, 1};
  OK(tl_plan_assign(plan, set, TOKENS, adapters, scales));
  OK(tl_set_remove(set, b)); /* the plan keeps it */
  CHECK(tl_set_count(set) == 1);
  tl_index width, room;
  OK(tl_plan_room(plan, &width, &room));
  CHECK(width == RANK && room == 4);

  const tl_index slots[TOKENS] = {6, 0, 2, 5, 3};
  float x[TOKENS * IN], y[7 * 20], halves[7 * 20], h[TOKENS * RANK];
  fill(x, TL_F32, TOKENS * IN, 1);
  fill(y, TL_F32, 7 * 20, 2);
  fill(halves, TL_F32, 7 * 20, 2);
  const tl_input xs = tl_input_of(x, TL_F32, IN, TOKENS), h_in = tl_input_of(h, TL_F32, RANK, TOKENS);
  tl_output ys = tl_output_of(y, TL_F32, ROWS, TOKENS), hs = tl_output_of(h, TL_F32, RANK, TOKENS);
  ys.stride = 20;
  ys.rows = slots;
  OK(tl_plan_forward(plan, MODULE, &xs, &ys, &hs, NULL));
  SAME(y, sizeof y);
  ys.data = halves;
  OK(tl_plan_shrink(plan, MODULE, &xs, &hs, NULL));
  OK(tl_plan_expand(plan, MODULE, &h_in, &ys, NULL));
  CHECK(memcmp(y, halves, sizeof y) == 0);

  REFUSED(TL_ERROR_ARGUMENT, "removed, or never added", tl_plan_assign(plan, set, TOKENS, adapters, NULL));
  OK(tl_plan_room(plan, &width, &room));
  CHECK(width == 0 && room == 0); /* of no tokens after an error */
  const tl_index token_of[2] = {1, 1};
  const tl_id twice[2] = {a, a};
  OK(tl_plan_assign_uses(plan, set, TOKENS, 2, token_of, twice, NULL));
  OK(tl_plan_room(plan, &width, &room));
  CHECK(room == 2);
  REFUSED(TL_ERROR_ARGUMENT, "module 4 does not exist", tl_plan_shrink(plan, 4, &xs, &hs, NULL));
  const tl_index outside[2] = {1, TOKENS};
  REFUSED(TL_ERROR_ARGUMENT, "token 5, but the batch has 5 tokens",
          tl_plan_assign_uses(plan, set, TOKENS, 2, outside, twice, NULL));
  REFUSED(TL_ERROR_ARGUMENT, "adapters is NULL", tl_plan_assign(plan, set, TOKENS, NULL, NULL));
  OK(tl_plan_assign_uses(plan, set, TOKENS, 2, token_of, twice, NULL));
  REFUSED(TL_ERROR_ARGUMENT, "token_of is NULL",
          tl_plan_assign_uses(plan, set, TOKENS, 2, NULL, twice, NULL));
  OK(tl_plan_room(plan, &width, &room));
  CHECK(room == 0); /* not the plan before */
  REFUSED(TL_ERROR_ARGUMENT, "-1", tl_plan_assign(plan, set, -1, adapters, NULL));
  REFUSED(TL_ERROR_ARGUMENT, "set is NULL", tl_plan_assign(plan, NULL, TOKENS, adapters, NULL));
  REFUSED(TL_ERROR_ARGUMENT, "plan is NULL", tl_plan_assign(NULL, set, TOKENS, adapters, NULL));
  REFUSED(TL_ERROR_ARGUMENT, "plan is NULL", tl_plan_room(NULL, &width, &room));
  REFUSED(TL_ERROR_ARGUMENT, "plan is NULL", tl_plan_forward(NULL, 0, &xs, &ys, &hs, NULL));
  REFUSED(TL_ERROR_ARGUMENT, "there is no adapter 1 in", tl_set_remove(set, b));
  tl_plan_free(plan);
  tl_set_free(set);
}

static void other_formats(void) {
  tl_adapter* adapter;
  void* data;
  tl_index count;
  OK(tl_adapter_load(path_in(golden, "peft/lora"), NULL, NULL, &adapter));
  OK(tl_adapter_trainable(adapter, &data, &count));
  SAME(data, (size_t)count * 4);
  tl_adapter_free(adapter);

  tl_load_options options = TL_LOAD_OPTIONS_INIT;
  options.type = TL_F16;
  OK(tl_adapter_load(path_in(golden, "gguf/llama_f16.gguf"), NULL, &options, &adapter));
  OK(tl_adapter_trainable(adapter, &data, &count));
  SAME(data, (size_t)count * 2);
  tl_module module = TL_MODULE_INIT;
  OK(tl_adapter_module(adapter, 0, &module));
  CHECK(strncmp(module.name, "blk.", 4) == 0);
  tl_adapter_free(adapter);

  options.gguf = TL_GGUF_TRANSFORMERS_NAMES;
  OK(tl_adapter_load(path_in(golden, "gguf/llama_f16.gguf"), NULL, &options, &adapter));
  OK(tl_adapter_module(adapter, 0, &module));
  CHECK(strncmp(module.name, "model.layers.", 13) == 0);
  tl_adapter_free(adapter);
  options.gguf = TL_GGUF_TRANSFORMERS;
  REFUSED(TL_ERROR_FILE, "number of heads",
          tl_adapter_load(path_in(golden, "gguf/llama_f16.gguf"), NULL, &options, &adapter));
  options.gguf = 3;
  REFUSED(TL_ERROR_ARGUMENT, "TL_GGUF_",
          tl_adapter_load(path_in(golden, "gguf/llama_f16.gguf"), NULL, &options, &adapter));

  tl_modules* modules;
  OK(tl_modules_of_model(path_in(golden, "peft_base.safetensors"), &modules));
  CHECK(tl_modules_count(modules) > 0);
  OK(tl_adapter_load(path_in(golden, "peft/lora"), modules, NULL, &adapter));
  CHECK(tl_adapter_count(adapter) == tl_modules_count(modules));
  tl_adapter_free(adapter);
  tl_modules_free(modules);
}

/* ---- What an adapter says of itself ---- */

static void description(void) {
  tl_adapter *adapter, *copy, *again;
  OK(tl_adapter_load(path_in(folder, "adapter.safetensors"), NULL, NULL, &adapter));
  CHECK(tl_adapter_count(adapter) == 4);
  CHECK(strcmp(tl_adapter_base_model(adapter), "a/base") == 0);
  CHECK(strcmp(tl_adapter_report(adapter), "") == 0);
  tl_index m = -1;
  OK(tl_adapter_find(adapter, "layers.1.q", &m));
  CHECK(m == MODULE);
  REFUSED(TL_ERROR_ARGUMENT, "no module is named \"layers.9\"", tl_adapter_find(adapter, "layers.9", &m));
  CHECK(m == MODULE);
  tl_module module = TL_MODULE_INIT;
  OK(tl_adapter_module(adapter, m, &module));
  CHECK(strcmp(module.name, "layers.1.q") == 0 && strcmp(module.kind, "q") == 0);
  CHECK(strcmp(module.input, "x") == 0 && module.layer == 1 && module.in_features == IN);
  CHECK(module.out_features == ROWS && module.rank == RANK && module.scaling == 0.5 &&
        module.backward_needs_x);
  tl_factors factors = TL_FACTORS_INIT;
  OK(tl_adapter_factors(adapter, m, &factors));
  void* data;
  tl_index count;
  OK(tl_adapter_trainable(adapter, &data, &count));
  CHECK(factors.A == data && factors.a_stride == IN && factors.b_stride == ROWS && factors.u && factors.v);
  CHECK(factors.rank == RANK && factors.scaling == 0.5);

  tl_modules* modules;
  OK(tl_adapter_modules(adapter, &modules));
  CHECK(tl_modules_count(modules) == 4);
  OK(tl_modules_get(modules, 3, &module));
  CHECK(strcmp(module.name, "layers.1.k") == 0 && module.rank == 0);
  REFUSED(TL_ERROR_ARGUMENT, "module 4 does not exist", tl_modules_get(modules, 4, &module));
  tl_modules_free(modules);

  /* Saved in bfloat16 and loaded as floats: the values have seven bits. */
  OK(tl_adapter_cast(adapter, TL_BF16, &copy));
  OK(tl_adapter_save(copy, path_in(folder, "copy.safetensors"), NULL));
  tl_adapter_free(copy);
  OK(tl_adapter_load(path_in(folder, "copy.safetensors"), NULL, NULL, &again));
  CHECK(strcmp(tl_adapter_base_model(again), "a/base") == 0);
  void* loaded;
  OK(tl_adapter_trainable(again, &loaded, &count));
  CHECK(memcmp(data, loaded, (size_t)count * 4) == 0);
  tl_adapter_free(again);
  tl_adapter_free(adapter);

  OK(tl_adapter_load(path_in(folder, "peft"), NULL, NULL, &adapter));
  CHECK(strstr(tl_adapter_report(adapter), "base_model.model.layers.0.q.base_layer.weight\n") != NULL);
  tl_adapter_free(adapter);
}

/* ---- What is refused ---- */

static void refused_arguments(void) {
  tl_modules *modules = host(), *more;
  tl_adapter* adapter = (tl_adapter*)1;
  REFUSED(TL_ERROR_ARGUMENT, "modules is NULL", tl_modules_new(NULL));
  REFUSED(TL_ERROR_ARGUMENT, "modules is NULL", tl_modules_add(NULL, "a", 0, NULL, NULL, 1, 1, NULL));
  REFUSED(TL_ERROR_ARGUMENT, "name is NULL", tl_modules_add(modules, NULL, 0, NULL, NULL, 1, 1, NULL));
  REFUSED(TL_ERROR_ARGUMENT, "already added",
          tl_modules_add(modules, "layers.0.q", 0, NULL, NULL, 1, 1, NULL));
  REFUSED(TL_ERROR_ARGUMENT, "positive", tl_modules_add(modules, "a", 0, NULL, NULL, -1, 1, NULL));
  CHECK(tl_modules_count(modules) == 4 && tl_modules_count(NULL) == 0);
  REFUSED(TL_ERROR_FILE, "nowhere", tl_modules_of_model(path_in(folder, "nowhere"), &more));
  CHECK(more == NULL);

  REFUSED(TL_ERROR_ARGUMENT, "grouped:G", tl_adapter_new(modules, "tl7", 4, 1, TL_F32, &adapter));
  CHECK(adapter == NULL);
  REFUSED(TL_ERROR_ARGUMENT, "grouped:G", tl_adapter_new(modules, "grouped:0", 4, 1, TL_F32, &adapter));
  REFUSED(TL_ERROR_ARGUMENT, "grouped:G",
          tl_adapter_new(modules, "grouped:9999999999999999999", 4, 1, TL_F32, &adapter));
  REFUSED(TL_ERROR_ARGUMENT, "the type 3", tl_adapter_new(modules, "lora", 4, 1, 3, &adapter));
  REFUSED(TL_ERROR_ARGUMENT, "rank -1", tl_adapter_new(modules, "lora", -1, 1, TL_F32, &adapter));
  REFUSED(TL_ERROR_ARGUMENT, "scheme is NULL", tl_adapter_new(modules, NULL, 4, 1, TL_F32, &adapter));
  REFUSED(TL_ERROR_ARGUMENT, "modules is NULL", tl_adapter_new(NULL, "lora", 4, 1, TL_F32, &adapter));
  REFUSED(TL_ERROR_ARGUMENT, "adapter is NULL", tl_adapter_new(modules, "lora", 4, 1, TL_F32, NULL));
#ifndef ALLOCATION_ENDS_THE_PROGRAM
  /* 2^50 parameters, more than any machine's memory: an error, not a crash. */
  OK(tl_modules_new(&more));
  OK(tl_modules_add(more, "huge", 0, NULL, NULL, (tl_index)1 << 40, (tl_index)1 << 20, NULL));
  REFUSED(TL_ERROR_MEMORY, "memory", tl_adapter_new(more, "lora", (tl_index)1 << 20, 1, TL_F32, &adapter));
  tl_modules_free(more);
#endif

  OK(tl_adapter_new(modules, "grouped:1", 4, 1, TL_F32, &adapter));
  tl_module module = {0};
  REFUSED(TL_ERROR_ARGUMENT, "size", tl_adapter_module(adapter, 0, &module));
  module.size = sizeof module;
  REFUSED(TL_ERROR_ARGUMENT, "module 4 does not exist", tl_adapter_module(adapter, 4, &module));
  REFUSED(TL_ERROR_ARGUMENT, "module -1 does not exist", tl_adapter_module(adapter, -1, &module));
  REFUSED(TL_ERROR_ARGUMENT, "module is NULL", tl_adapter_module(adapter, 0, NULL));
  REFUSED(TL_ERROR_ARGUMENT, "adapter is NULL", tl_adapter_module(NULL, 0, &module));
  REFUSED(TL_ERROR_ARGUMENT, "data is NULL", tl_adapter_trainable(adapter, NULL, NULL));
  REFUSED(TL_ERROR_ARGUMENT, "type 9", tl_adapter_cast(adapter, 9, &(tl_adapter*){NULL}));
  CHECK(tl_adapter_count(NULL) == 0 && strcmp(tl_adapter_report(NULL), "") == 0);

  float x[TOKENS * IN] = {0}, y[TOKENS * ROWS] = {0}, h[TOKENS * 4] = {0}, gradients[1024];
  tl_input xs = tl_input_of(x, TL_F32, IN, TOKENS);
  const tl_input hs = tl_input_of(h, TL_F32, 4, TOKENS), dys = tl_input_of(y, TL_F32, ROWS, TOKENS);
  const tl_output h_out = tl_output_of(h, TL_F32, 4, TOKENS), h_half = tl_output_of(h, TL_F16, 4, TOKENS);
  tl_output ys = tl_output_of(y, TL_F32, ROWS, TOKENS);
  REFUSED(TL_ERROR_ARGUMENT, "adapter is NULL", tl_forward(NULL, 0, &xs, &ys, NULL, NULL));
  REFUSED(TL_ERROR_ARGUMENT, "x is NULL", tl_forward(adapter, 0, NULL, &ys, NULL, NULL));
  REFUSED(TL_ERROR_ARGUMENT, "y is NULL", tl_forward(adapter, 0, &xs, NULL, NULL, NULL));
  REFUSED(TL_ERROR_ARGUMENT, "module 7 does not exist", tl_forward(adapter, 7, &xs, &ys, NULL, NULL));
  REFUSED(TL_ERROR_ARGUMENT, "y has 16 features, but out_features is 8",
          tl_forward(adapter, 1, &xs, &ys, NULL, NULL));
  REFUSED(TL_ERROR_ARGUMENT, "TL_F32", tl_shrink(adapter, 0, &xs, &h_half, NULL));
  REFUSED(TL_ERROR_ARGUMENT, "h is NULL", tl_shrink(adapter, 0, &xs, NULL, NULL));
  xs.type = -5;
  REFUSED(TL_ERROR_ARGUMENT, "x has the type -5", tl_forward(adapter, 0, &xs, &ys, NULL, NULL));
  xs = tl_input_of(NULL, TL_F32, IN, TOKENS);
  REFUSED(TL_ERROR_ARGUMENT, "x is null", tl_forward(adapter, 0, &xs, &ys, NULL, NULL));
  xs = tl_input_of(x, TL_F32, IN, -1);
  ys.count = -1;
  REFUSED(TL_ERROR_ARGUMENT, "-1 tokens", tl_forward(adapter, 0, &xs, &ys, NULL, NULL));
  ys.count = TOKENS;
  xs = tl_input_of(x, TL_F32, IN, TOKENS);
  xs.stride = 1;
  REFUSED(TL_ERROR_ARGUMENT, "overlap", tl_forward(adapter, 0, &xs, &ys, NULL, NULL));
  xs.stride = IN;
  xs.size = 8;
  REFUSED(TL_ERROR_ARGUMENT, "x->size is 8", tl_forward(adapter, 0, &xs, &ys, NULL, NULL));
  xs.size = sizeof xs;
  tl_options options = {0};
  REFUSED(TL_ERROR_ARGUMENT, "options->size is 0", tl_forward(adapter, 0, &xs, &ys, NULL, &options));
  options.size = sizeof options;
  REFUSED(TL_ERROR_ARGUMENT, "slice 0 of 0", tl_forward(adapter, 0, &xs, &ys, NULL, &options));
  options.nth = 1;
  options.scratch_bytes = 64;
  REFUSED(TL_ERROR_ARGUMENT, "scratch is NULL", tl_forward(adapter, 0, &xs, &ys, NULL, &options));
  /* A caller of a newer version: its fields may be there, if they are zero. */
  struct {
    tl_options known;
    size_t newer;
  } future = {TL_OPTIONS_INIT, 0};
  future.known.size = sizeof future;
  OK(tl_forward(adapter, 0, &xs, &ys, &h_out, &future.known));
  future.newer = 1;
  REFUSED(TL_ERROR_ARGUMENT, "newer version", tl_forward(adapter, 0, &xs, &ys, NULL, &future.known));

  REFUSED(TL_ERROR_ARGUMENT, "x is none", tl_backward(adapter, 0, NULL, &hs, &dys, gradients, NULL, NULL));
  REFUSED(TL_ERROR_ARGUMENT, "dy is NULL", tl_backward(adapter, 0, &xs, &hs, NULL, gradients, NULL, NULL));
  REFUSED(TL_ERROR_ARGUMENT, "h is NULL", tl_backward(adapter, 0, &xs, NULL, &dys, gradients, NULL, NULL));
  const tl_output dx = tl_output_of(x, TL_BF16, IN, TOKENS);
  REFUSED(TL_ERROR_ARGUMENT, "same type", tl_backward(adapter, 0, &xs, &hs, &dys, NULL, &dx, NULL));

  REFUSED(TL_ERROR_ARGUMENT, "the weight is 3x24", tl_merge(adapter, 0, y, TL_F32, 3, IN, IN, 1, 1));
  REFUSED(TL_ERROR_ARGUMENT, "weight is null", tl_merge(adapter, 0, NULL, TL_F32, ROWS, IN, IN, 1, 1));
  REFUSED(TL_ERROR_ARGUMENT, "the type 4", tl_merge(adapter, 0, y, 4, ROWS, IN, IN, 1, 1));

  tl_set* set;
  tl_id id = 5;
  REFUSED(TL_ERROR_ARGUMENT, "the type 3", tl_set_new(modules, 3, &set));
  CHECK(set == NULL && tl_set_count(set) == 0);
  OK(tl_set_new(modules, TL_BF16, &set));
  REFUSED(TL_ERROR_ARGUMENT, "tl_adapter_cast", tl_set_add(set, adapter, &id));
  REFUSED(TL_ERROR_ARGUMENT, "adapter is NULL", tl_set_add(set, NULL, &id));
  REFUSED(TL_ERROR_ARGUMENT, "set is NULL", tl_set_add(NULL, adapter, &id));
  REFUSED(TL_ERROR_ARGUMENT, "set is NULL", tl_plan_new(NULL, &(tl_plan*){NULL}));
  CHECK(id == 5);
  tl_set_free(set);
  tl_adapter_free(adapter);
  tl_modules_free(modules);
  tl_modules_free(NULL);
  tl_adapter_free(NULL);
  tl_set_free(NULL);
  tl_plan_free(NULL);
}

static void refused_files(void) {
  tl_adapter* adapter = (tl_adapter*)1;
  REFUSED(TL_ERROR_FILE, "nowhere.safetensors",
          tl_adapter_load(path_in(folder, "nowhere.safetensors"), NULL, NULL, &adapter));
  CHECK(adapter == NULL);
  REFUSED(TL_ERROR_ARGUMENT, "path is NULL", tl_adapter_load(NULL, NULL, NULL, &adapter));
  REFUSED(TL_ERROR_FILE, "", tl_adapter_load("", NULL, NULL, &adapter));
  REFUSED(TL_ERROR_FILE, "a folder", tl_adapter_load(golden, NULL, NULL, &adapter));

  /* The adapter's file, cut. */
  char bytes[300];
  FILE* whole = fopen(path_in(folder, "adapter.safetensors"), "rb");
  FILE* cut = whole ? fopen(path_in(folder, "cut.safetensors"), "wb") : NULL;
  CHECK(cut && fread(bytes, 1, sizeof bytes, whole) == sizeof bytes);
  if (!cut) return;
  CHECK(fwrite(bytes, 1, sizeof bytes, cut) == sizeof bytes);
  fclose(whole);
  fclose(cut);
  REFUSED(TL_ERROR_FILE, "cut.safetensors",
          tl_adapter_load(path_in(folder, "cut.safetensors"), NULL, NULL, &adapter));

  /* For other modules than the host's, and where it cannot be written. */
  tl_modules* modules;
  OK(tl_modules_new(&modules));
  OK(tl_modules_add(modules, "layers.0.q", 0, NULL, "x", IN + 1, ROWS, NULL));
  REFUSED(TL_ERROR_FILE, "wrong base model",
          tl_adapter_load(path_in(folder, "adapter.safetensors"), modules, NULL, &adapter));
  REFUSED(TL_ERROR_FILE, "", tl_adapter_load(path_in(golden, "peft/lora"), modules, NULL, &adapter));
  OK(tl_adapter_new(modules, "lora", 2, 1, TL_F32, &adapter));
  REFUSED(TL_ERROR_FILE, "nowhere", tl_adapter_save(adapter, path_in(folder, "nowhere/a.safetensors"), NULL));
  tl_adapter_free(adapter);
  tl_modules_free(modules);
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  snprintf(golden, sizeof golden, "%s", argv[1]);
  snprintf(folder, sizeof folder, "%s", argv[2]);
  CHECK(tl_version() == TL_VERSION && strcmp(tl_last_error(), "") == 0 && strlen(tl_kernel_isa()) > 0);
  expected = fopen(path_in(folder, "expected.bin"), "rb");
  if (!expected) return 2;
  new_adapter();
  all_of_type(TL_F32);
  all_of_type(TL_F16);
  all_of_type(TL_BF16);
  batch();
  other_formats();
  CHECK(fgetc(expected) == EOF);
  fclose(expected);
  description();
  refused_arguments();
  refused_files();
  if (failures == 0) printf("all holds, with %s kernels\n", tl_kernel_isa());
  return failures != 0;
}
