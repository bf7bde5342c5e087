// What the kernels are given: the library's views, by value and bit for bit as the host has them. Addresses are
// those of shared virtual memory, the same on both sides; here they are integers, since OpenCL C lets no struct
// that is an argument hold pointers. GROUP, the work-items of a group, and the types P, X and Y are options of the
// build: float, binary16 or bfloat16.

typedef ushort binary16;
typedef ushort bfloat16;

float load_float(global const float* from) { return *from; }
float load_binary16(global const binary16* from) { return vload_half(0, (global const half*)from); }
float load_bfloat16(global const bfloat16* from) { return as_float((uint)*from << 16); }

void store_float(float value, global float* to) { *to = value; }
void store_binary16(float value, global binary16* to) { vstore_half_rte(value, 0, (global half*)to); }
void store_bfloat16(float value, global bfloat16* to) {
  const uint bits = as_uint(value), even = (bits >> 16) & 1;  // to nearest, ties to even
  *to = (ushort)(isnan(value) ? (bits >> 16 | 0x40) : (bits + 0x7fff + even) >> 16);
}

// LOAD(P)(from) is load_float(from) where P is float.
#define JOIN(a, b) a##b
#define LOAD(type) JOIN(load_, type)
#define STORE(type) JOIN(store_, type)

// tiedlora::Tokens
typedef struct {
  ulong data;
  long width, count, stride;
  ulong rows, pointers;
  long first_feature;
} Tokens;

ulong address_of_token(Tokens view, long t, ulong bytes) {
  if (view.pointers) return ((global const ulong*)view.pointers)[t] + (ulong)view.first_feature * bytes;
  const long slot = view.rows ? ((global const long*)view.rows)[t] : t;
  return view.data + (ulong)(slot * view.stride) * bytes;
}
// The features of one token, which are contiguous.
#define TOKEN(type, view, t) ((global type*)address_of_token(view, t, sizeof(type)))

// tiedlora::Factors. In gradients an address of 0 means: not trained.
typedef struct {
  ulong A;
  long a_stride;
  ulong B;
  long b_stride;
  ulong u, v;
  float scaling;
  long rank, in_features, out_features;
  int module;
  ulong name;
} Factors;

// tiedlora::Tenants
typedef struct {
  ulong arrays;
  long u, v;
} Tenants;

// What is left of CallOptions: the module's scaling times the call's, one more factor for each token.
typedef struct {
  ulong token_scale;
  float scale;
  int overwrite;
} Options;

float token_scaling(Options o, long t) {
  return o.token_scale ? o.scale * ((global const float*)o.token_scale)[t] : o.scale;
}

// u or v at i; without memory they are ones.
float vector_at(ulong vector, long i) { return vector ? LOAD(P)((global const P*)vector + i) : 1.0f; }

// The sum of every work-item's value, for all of the group. `partial` has GROUP values of local memory. The order
// of additions is fixed, so that the same call gives the same bits.
float group_sum(float value, local float* partial) {
  const int me = (int)get_local_id(0);
  partial[me] = value;
  barrier(CLK_LOCAL_MEM_FENCE);
  for (int half_group = GROUP / 2; half_group > 0; half_group /= 2) {
    if (me < half_group) partial[me] += partial[me + half_group];
    barrier(CLK_LOCAL_MEM_FENCE);
  }
  return partial[0];
}
