/*
 * tiedlora's C interface: adapters from files or new ones, their parameters, forward and backward on
 * pointers, and batches that mix adapters. For C11, and for all that calls C: Rust, Go, Zig, Swift, Python's
 * ctypes. docs/c.md has complete programs.
 *
 * RESULTS. A function that can fail returns a status: TL_OK, or a negative code. tl_last_error() then says in
 * words what was wrong, where, and what to do. What a failed call would have returned through a pointer is
 * left as it was, except handles, which become NULL. No call throws, and no argument ends the program: NULL
 * where a pointer is needed, a number that is not an enumerator, an index out of range and a shape that does
 * not fit are TL_ERROR_ARGUMENT.
 *
 * OWNERSHIP. What a function returns through a `**` belongs to the caller, who passes it to the ..._free of
 * its type. Strings and pointers to parameters belong to the handle that they came from, and die with it;
 * strings of tl_modules_get also with the next tl_modules_add.
 * Calls do not keep the handles that they are given, except tl_set_add, which shares the adapter's
 * parameters: either handle may be freed first.
 *
 * SIZES. Sizes, counts and strides are in elements, not bytes. A shape is out x in, as the weight of a
 * linear layer has it. x, y and h are tokens: `count` of them, token t at data + t * stride, its `width`
 * features side by side: a dense row-major [tokens, features] array has stride = width.
 *
 * THREADS. Any number of threads may read one handle at the same time: forward, backward into gradients of
 * each thread's own, merge, save. A call that takes a handle without const must be the only one to use it,
 * except tl_set_add and tl_set_remove, which may be called at any time. Calls start no threads. tl_last_error
 * is per thread.
 *
 * BINARY INTERFACE. Handles are opaque. A struct begins with its size, which the caller sets to sizeof (the
 * TL_..._INIT do): a library newer than the caller does not touch fields that the caller does not have, an
 * older one refuses fields that it does not know, unless they are zero. Functions and fields are added, never
 * changed, while TL_VERSION_MAJOR stays the same; before 1.0, TL_VERSION_MINOR too.
 */
#ifndef TIEDLORA_H
#define TIEDLORA_H

#include <stddef.h>
#include <stdint.h>

/* The version of this header; TL_VERSION as one number, 10000 * major + 100 * minor + patch. */
#define TL_VERSION_MAJOR 0
#define TL_VERSION_MINOR 1
#define TL_VERSION_PATCH 0
#define TL_VERSION (TL_VERSION_MAJOR * 10000 + TL_VERSION_MINOR * 100 + TL_VERSION_PATCH)

/* TL_SHARED: the library is a shared one; TL_BUILD: this is the library itself. */
#if defined(_WIN32) && defined(TL_SHARED) && defined(TL_BUILD)
#define TL_API __declspec(dllexport)
#elif defined(_WIN32) && defined(TL_SHARED)
#define TL_API __declspec(dllimport)
#elif defined(__GNUC__)
#define TL_API __attribute__((visibility("default")))
#else
#define TL_API
#endif

#ifdef __cplusplus
#define TL_NOEXCEPT noexcept
extern "C" {
#else
#define TL_NOEXCEPT
#endif

/* ---- Errors, version ---- */

/* What functions that can fail return: one of these. */
typedef int tl_status;
enum {
  TL_OK = 0,
  TL_ERROR_ARGUMENT = -1, /* the caller's mistake */
  TL_ERROR_FILE = -2,     /* a file is not there, damaged, of another model, or cannot be written */
  TL_ERROR_MEMORY = -3,   /* out of memory */
  TL_ERROR_INTERNAL = -4  /* a fault of this library: please report it with its text */
};

/* The message of this thread's last failed call; "" if none failed. UTF-8, without control characters, cut
 * after 2047 bytes. Valid until the thread's next call that fails. */
TL_API const char* tl_last_error(void) TL_NOEXCEPT;

/* TL_VERSION of the library that is running, to be compared with the header's. */
TL_API int tl_version(void) TL_NOEXCEPT;

/* The instruction set that it was compiled for, e.g. "avx2_fma_f16c". "sse2" is several times slower. */
TL_API const char* tl_kernel_isa(void) TL_NOEXCEPT;

/* ---- Types ---- */

/* Sizes, counts and strides, in elements. */
typedef ptrdiff_t tl_index;

/* How a value is stored. TL_F16 and TL_BF16 are two bytes each: IEEE 754's binary16, and the upper half
 * of a float. Sums, h and gradients are floats for all three. */
typedef int tl_type;
enum { TL_F32 = 0, TL_F16 = 1, TL_BF16 = 2 };

typedef struct tl_modules tl_modules; /* the host model's linear layers */
typedef struct tl_adapter tl_adapter; /* an adapter with its parameters */
typedef struct tl_set tl_set;         /* adapters that are loaded and removed while others are in use */
typedef struct tl_plan tl_plan;       /* which token of a batch goes through which adapters */

/* Tokens that a call reads, or writes. `rows`: NULL, or `count` slots; token t then lies at data + rows[t] *
 * stride, and those of an output must differ. `data` needs the alignment of one element. */
typedef struct tl_input {
  size_t size;
  const void* data;     /* first feature of slot 0 */
  tl_type type;         /* of the features */
  tl_index width;       /* features of one token */
  tl_index count;       /* tokens */
  tl_index stride;      /* from slot to slot, in elements */
  const tl_index* rows; /* slot of each token; NULL: the t-th */
} tl_input;

/* The same, to be written. */
typedef struct tl_output {
  size_t size;
  void* data;           /* first feature of slot 0 */
  tl_type type;         /* of the features */
  tl_index width;       /* features of one token */
  tl_index count;       /* tokens */
  tl_index stride;      /* from slot to slot, in elements */
  const tl_index* rows; /* slot of each token, all different; NULL: the t-th */
} tl_output;

/* Dense row-major [count, width]. */
static inline tl_input tl_input_of(const void* data, tl_type type, tl_index width, tl_index count) {
  const tl_input x = {sizeof(tl_input), data, type, width, count, width, NULL};
  return x;
}
static inline tl_output tl_output_of(void* data, tl_type type, tl_index width, tl_index count) {
  const tl_output y = {sizeof(tl_output), data, type, width, count, width, NULL};
  return y;
}

/* ---- Modules: what can be adapted ---- */

/* One linear layer, y = W x with W of out_features x in_features. */
typedef struct tl_module {
  size_t size;
  const char* name;     /* full path, e.g. "model.layers.0.self_attn.q_proj" */
  const char* kind;     /* what it is in every layer, e.g. "q_proj" */
  const char* input;    /* modules of a layer with equal labels read the same x; "": only those of its kind */
  int layer;            /* -1: outside the layers */
  tl_index in_features; /* length of x */
  tl_index out_features; /* length of y */
  tl_index rank;         /* 0: not adapted; of a module list: 0 */
  double scaling;        /* what the adapter's output is multiplied by; of a module list: 0 */
  int backward_needs_x;  /* whether tl_backward reads x */
} tl_module;
#define TL_MODULE_INIT {sizeof(tl_module), NULL, NULL, NULL, 0, 0, 0, 0, 0.0, 0}

/* An empty list. */
TL_API tl_status tl_modules_new(tl_modules** modules) TL_NOEXCEPT;
TL_API void tl_modules_free(tl_modules* modules) TL_NOEXCEPT; /* NULL: nothing happens; all ..._free alike */

/* Adds a module. kind NULL: the last component of the name. input NULL: a label private to its kind. Its
 * index, counted from 0 in the order of adding, goes to *index unless that is NULL. Names must be unique. */
TL_API tl_status tl_modules_add(tl_modules* modules, const char* name, int layer, const char* kind,
                                const char* input, tl_index in_features, tl_index out_features,
                                tl_index* index) TL_NOEXCEPT;

/* The linear modules of a base model: a safetensors file, or a folder of transformers. Paths are UTF-8.
 * Shapes are taken as out x in: of a model that stores in x out, as GPT-2's Conv1D, in_features and
 * out_features are exchanged, and its list must be made with tl_modules_add. */
TL_API tl_status tl_modules_of_model(const char* path, tl_modules** modules) TL_NOEXCEPT;

TL_API tl_index tl_modules_count(const tl_modules* modules) TL_NOEXCEPT; /* 0 for NULL */
/* Its strings are valid until the next tl_modules_add to this list. */
TL_API tl_status tl_modules_get(const tl_modules* modules, tl_index m, tl_module* module) TL_NOEXCEPT;

/* ---- Adapters ---- */

/* A new adapter, all parameters zero until tl_adapter_initialize. scheme: "lora", "lora_fused", "vera",
 * "tl5", "tl6", "tl6_v0", "lora_fa", "share_lora_a", "share_lora_b", "share_lora_ab", or "grouped:G", which
 * is tl6 with A and B tied over each G layers. scaling: LoRA's is alpha / rank, the Tied-LoRA paper's 1. */
TL_API tl_status tl_adapter_new(const tl_modules* modules, const char* scheme, tl_index rank, double scaling,
                                tl_type type, tl_adapter** adapter) TL_NOEXCEPT;

/* Modules of GGUF files: how they are called here, and how the rows of the host's q and k are ordered. */
enum {
  TL_GGUF_AS_IN_FILE = 0,   /* "blk.0.attn_q", rows as in the file: for hosts that run GGUF models */
  TL_GGUF_TRANSFORMERS = 1, /* names and rows as transformers has them; needs heads, kv_heads for llama */
  TL_GGUF_TRANSFORMERS_NAMES = 2 /* its names, rows as in the file */
};

/* How tl_adapter_load reads a file. */
typedef struct tl_load_options {
  size_t size;
  tl_type type;      /* of the parameters in memory, whatever the file's is */
  int partial;       /* not 0: leave out what cannot be applied (tl_adapter_report); 0: that is an error */
  int gguf;          /* TL_GGUF_... */
  tl_index heads;    /* of the model: num_attention_heads */
  tl_index kv_heads; /* num_key_value_heads */
} tl_load_options;
#define TL_LOAD_OPTIONS_INIT {sizeof(tl_load_options), TL_F32, 0, TL_GGUF_AS_IN_FILE, 0, 0}

/* Loads a native file of tiedlora, a PEFT folder (LoRA, VeRA) or a GGUF LoRA adapter: which it is follows
 * from its bytes. modules: the host's list, against which names and shapes are checked; modules that it does
 * not adapt get rank 0 (for a native file the list must be the same). NULL: the modules that the file names.
 * options NULL: TL_LOAD_OPTIONS_INIT. TL_ERROR_FILE for what is damaged, of another model, not finite, or not
 * an adapter. */
TL_API tl_status tl_adapter_load(const char* path, const tl_modules* modules, const tl_load_options* options,
                                 tl_adapter** adapter) TL_NOEXCEPT;

/* Writes a native file, which holds any adapter exactly; the path has the old file or the new one, whatever
 * happens. base_model: the name of the model that it belongs to; NULL: as it was loaded. */
TL_API tl_status tl_adapter_save(const tl_adapter* adapter, const char* path,
                                 const char* base_model) TL_NOEXCEPT;

/* Frees it; what a set or a plan still uses of it lives on. NULL: nothing happens. */
TL_API void tl_adapter_free(tl_adapter* adapter) TL_NOEXCEPT;

/* Initialises every factor as the scheme says, with the same values for a seed on every machine; the adapter
 * changes nothing yet. TL_ERROR_ARGUMENT for schemes without an initialisation, such as those of loaded
 * adapters with frozen factors of their own. */
TL_API tl_status tl_adapter_initialize(tl_adapter* adapter, uint64_t seed) TL_NOEXCEPT;

/* The same adapter in another type, each parameter rounded once: train in TL_F32, serve in TL_BF16. */
TL_API tl_status tl_adapter_cast(const tl_adapter* adapter, tl_type type, tl_adapter** copy) TL_NOEXCEPT;

TL_API tl_index tl_adapter_count(const tl_adapter* adapter) TL_NOEXCEPT; /* of modules; 0 for NULL */
TL_API tl_status tl_adapter_module(const tl_adapter* adapter, tl_index m, tl_module* module) TL_NOEXCEPT;
TL_API tl_status tl_adapter_find(const tl_adapter* adapter, const char* name, tl_index* m) TL_NOEXCEPT;
TL_API tl_status tl_adapter_modules(const tl_adapter* adapter, tl_modules** modules) TL_NOEXCEPT; /* a copy */

/* For loaded adapters: the base model's name, and a line for each thing that was left out or should be known;
 * "" if there is nothing. */
TL_API const char* tl_adapter_base_model(const tl_adapter* adapter) TL_NOEXCEPT;
TL_API const char* tl_adapter_report(const tl_adapter* adapter) TL_NOEXCEPT;

/* The parameters: two flat arrays without padding, of the adapter's type, 64-byte aligned. The first is all
 * that training changes: its length is the parameter count, an optimiser is one loop over it. Its order is
 * that of gradients. An adapter that is in a set must not be written. */
TL_API tl_status tl_adapter_trainable(tl_adapter* adapter, void** data, tl_index* count) TL_NOEXCEPT;
TL_API tl_status tl_adapter_frozen(const tl_adapter* adapter, const void** data, tl_index* count) TL_NOEXCEPT;
TL_API tl_status tl_adapter_type(const tl_adapter* adapter, tl_type* type) TL_NOEXCEPT;

/* Where in these arrays one module's factors are, for your own kernels:
 * y += scaling * v o B(u o A x), row k of A at A + k * a_stride, column k of B at B + k * b_stride; u, v
 * NULL: ones. */
typedef struct tl_factors {
  size_t size;
  const void* A;         /* rank rows of in_features values */
  tl_index a_stride;     /* from row to row */
  const void* B;         /* rank columns of out_features values */
  tl_index b_stride;     /* from column to column */
  const void* u;         /* rank values, or NULL */
  const void* v;         /* out_features values, or NULL */
  double scaling;        /* of the module */
  tl_index rank;         /* 0: not adapted */
  tl_index in_features;  /* length of x */
  tl_index out_features; /* length of y */
} tl_factors;
#define TL_FACTORS_INIT {sizeof(tl_factors), NULL, 0, NULL, 0, NULL, NULL, 0.0, 0, 0, 0}
/* The pointers are valid until the adapter is freed. */
TL_API tl_status tl_adapter_factors(const tl_adapter* adapter, tl_index m, tl_factors* factors) TL_NOEXCEPT;

/* ---- Forward and backward of one module ---- */

/* What a call can be told beyond its operands. */
typedef struct tl_options {
  size_t size;
  double scale; /* multiplies the module's scaling */
  const float*
      token_scale; /* NULL, or one more factor for each token; not in batches, which have their own */
  int overwrite;   /* y (backward: dx) is set, not added to */
  tl_index ith,    /* which part, from 0 */
      nth;       /* part ith of nth of shrink or expand, for the host's threads: the same bits for any nth */
  void* scratch; /* NULL, or memory for the calls' h, in bytes; without it they use the stack */
  size_t scratch_bytes; /* of scratch */
} tl_options;
#define TL_OPTIONS_INIT {sizeof(tl_options), 1.0, NULL, 0, 0, 1, NULL, 0}

/* h = A x. x: in_features wide. h: rank wide, TL_F32, as many tokens. options NULL: TL_OPTIONS_INIT. */
TL_API tl_status tl_shrink(const tl_adapter* adapter, tl_index m, const tl_input* x, const tl_output* h,
                           const tl_options* options) TL_NOEXCEPT;

/* y += scale * scaling * v o B(u o h). y: out_features wide. */
TL_API tl_status tl_expand(const tl_adapter* adapter, tl_index m, const tl_input* h, const tl_output* y,
                           const tl_options* options) TL_NOEXCEPT;

/* Both: y, which holds the base layer's output, becomes the adapted layer's. h NULL where backward will not
 * need it. It takes no slice (ith, nth): tl_shrink and tl_expand do, with the host's barrier between them. */
TL_API tl_status tl_forward(const tl_adapter* adapter, tl_index m, const tl_input* x, const tl_output* y,
                            const tl_output* h, const tl_options* options) TL_NOEXCEPT;

/* Adds to gradients, an array as long as the trainable one and in its order (floats, for every type), and to
 * dx. dy: out_features wide. h as forward left it. gradients NULL: only dx. dx NULL: only gradients. x may be
 * NULL where A is frozen or gradients are not wanted; dx has x's type. Two calls whose modules share factors
 * must not add to one array at the same time. */
TL_API tl_status tl_backward(const tl_adapter* adapter, tl_index m, const tl_input* x, const tl_input* h,
                             const tl_input* dy, float* gradients, const tl_output* dx,
                             const tl_options* options) TL_NOEXCEPT;

/* W += scale * scaling * diag(v) B diag(u) A, each element rounded once: element (i, j) of rows x columns =
 * out_features x in_features at weight + i * row_stride + j * column_stride. Dense and row-major: columns, 1.
 */
TL_API tl_status tl_merge(const tl_adapter* adapter, tl_index m, void* weight, tl_type type, tl_index rows,
                          tl_index columns, tl_index row_stride, tl_index column_stride,
                          double scale) TL_NOEXCEPT;

/* ---- Many adapters in one batch of tokens ---- */

typedef int64_t tl_id; /* of an adapter in a set, never used again in this process */
#define TL_NO_ADAPTER ((tl_id) - 1)

/* A set for hosts with these modules; its adapters are all of one type. */
TL_API tl_status tl_set_new(const tl_modules* modules, tl_type type, tl_set** set) TL_NOEXCEPT;
TL_API void tl_set_free(tl_set* set) TL_NOEXCEPT;

/* Adds an adapter for some or all of the modules, found by name. It must not be written from now on. */
TL_API tl_status tl_set_add(tl_set* set, const tl_adapter* adapter, tl_id* id) TL_NOEXCEPT;
/* Plans that have it keep it. TL_ERROR_ARGUMENT if there is none of that id. */
TL_API tl_status tl_set_remove(tl_set* set, tl_id id) TL_NOEXCEPT;
TL_API tl_index tl_set_count(const tl_set* set) TL_NOEXCEPT; /* 0 for NULL */

/* A plan without tokens, to be assigned before each batch, and read by its calls in any number of threads. */
TL_API tl_status tl_plan_new(const tl_set* set, tl_plan** plan) TL_NOEXCEPT;
TL_API void tl_plan_free(tl_plan* plan) TL_NOEXCEPT;

/* Token t of `tokens` goes through adapters[t] (TL_NO_ADAPTER: none) times scales[t]; scales NULL: ones. The
 * adapters are those of the set at this moment. After an error the plan has no tokens. */
TL_API tl_status tl_plan_assign(tl_plan* plan, const tl_set* set, tl_index tokens, const tl_id* adapters,
                                const float* scales) TL_NOEXCEPT;
/* Any number of adapters for each token: use i is of token_of[i], adapters[i], scales[i] (NULL: ones). */
TL_API tl_status tl_plan_assign_uses(tl_plan* plan, const tl_set* set, tl_index tokens, tl_index uses,
                                     const tl_index* token_of, const tl_id* adapters,
                                     const float* scales) TL_NOEXCEPT;

/* What h needs: room for `count` tokens of `width` values, at any module. */
TL_API tl_status tl_plan_room(const tl_plan* plan, tl_index* width, tl_index* count) TL_NOEXCEPT;

/* As tl_shrink, tl_expand, tl_forward for all tokens of the batch, each with the bits of a call for it alone.
 * m is the index of the module in the set's list. h is scratch between the stages, in the plan's order. */
TL_API tl_status tl_plan_shrink(const tl_plan* plan, tl_index m, const tl_input* x, const tl_output* h,
                                const tl_options* options) TL_NOEXCEPT;
TL_API tl_status tl_plan_expand(const tl_plan* plan, tl_index m, const tl_input* h, const tl_output* y,
                                const tl_options* options) TL_NOEXCEPT;
TL_API tl_status tl_plan_forward(const tl_plan* plan, tl_index m, const tl_input* x, const tl_output* y,
                                 const tl_output* h, const tl_options* options) TL_NOEXCEPT;

#ifdef __cplusplus
}
#endif
#endif
