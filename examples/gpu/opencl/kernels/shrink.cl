// h = A x for up to four modules that read the same x, and its backward: dA += dh xᵀ, dx += Aᵀ dh.

// What the calls that read x need of a module. `hidden` is h or dh, rank × tokens.
typedef struct {
  ulong A;
  long a_stride;
  ulong dA;
  long da_stride;
  long rank;
  Tokens hidden;
} InputModule;
typedef struct {
  InputModule all[4];
  int count;
} InputModules;

// One group for each number of h: group (row of all modules' A, token).
kernel void shrink(InputModules modules, Tokens x) {
  local float partial[GROUP];
  long k = (long)get_group_id(0);
  const long t = (long)get_group_id(1);
  int m = 0;
  while (k >= modules.all[m].rank) k -= modules.all[m++].rank;
  const InputModule module = modules.all[m];

  global const P* a = (global const P*)module.A + k * module.a_stride;
  global const X* features = TOKEN(X, x, t);
  float sum = 0;
  for (long i = (long)get_local_id(0); i < x.width; i += GROUP) sum += LOAD(P)(a + i) * LOAD(X)(features + i);
  sum = group_sum(sum, partial);
  if (get_local_id(0) == 0) TOKEN(float, module.hidden, t)[k] = sum;
}

// One work-item for each number of dA: (feature, row of all modules' A). Modules with one A have one gradient: the
// first of them adds up all, since two work-items must not add to the same number.
kernel void gradient_of_a(InputModules modules, Tokens x) {
  const long i = (long)get_global_id(0);
  if (i >= x.width) return;
  long k = (long)get_global_id(1);
  int m = 0;
  while (k >= modules.all[m].rank) k -= modules.all[m++].rank;
  const InputModule module = modules.all[m];
  if (!module.dA) return;
  for (int other = 0; other < m; ++other)
    if (modules.all[other].dA == module.dA) return;

  float sum = 0;
  for (int other = m; other < modules.count; ++other) {
    if (modules.all[other].dA != module.dA) continue;
    const Tokens dh = modules.all[other].hidden;
    for (long t = 0; t < x.count; ++t) sum += TOKEN(float, dh, t)[k] * LOAD(X)(TOKEN(X, x, t) + i);
  }
  ((global float*)module.dA)[k * module.da_stride + i] += sum;
}

// One work-item for each number of dx: (feature, token).
kernel void gradient_of_x(InputModules modules, Tokens dx, int overwrite) {
  const long i = (long)get_global_id(0), t = (long)get_global_id(1);
  if (i >= dx.width) return;
  float sum = 0;
  for (int m = 0; m < modules.count; ++m) {
    const InputModule module = modules.all[m];
    global const P* a = (global const P*)module.A + i;
    for (long k = 0; k < module.rank; ++k)
      sum += LOAD(P)(a + k * module.a_stride) * TOKEN(float, module.hidden, t)[k];
  }
  global Y* to = TOKEN(Y, dx, t) + i;
  STORE(Y)(overwrite ? sum : LOAD(Y)(to) + sum, to);
}
