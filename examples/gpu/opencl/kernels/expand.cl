// y += c v ∘ B (u ∘ h), and its backward. With e = c v ∘ dy and d = Bᵀ e:
//   dh = u ∘ d   du += h ∘ d   dB += e (u ∘ h)ᵀ   dv += c dy ∘ B (u ∘ h)

// One work-item for each number of y: (feature, token). Neighbours read neighbours of B, v and y. Where tokens are
// different tenants', each finds its own u and v in the trained array of its adapter.
kernel void expand(Factors f, Tenants tenants, Tokens h, Tokens y, Options o) {
  const long i = (long)get_global_id(0), t = (long)get_global_id(1);
  if (i >= f.out_features) return;
  ulong u = f.u, v = f.v;
  if (tenants.arrays) {
    const ulong own = ((global const ulong*)tenants.arrays)[t];
    if (tenants.u >= 0) u = own + (ulong)tenants.u * sizeof(P);
    if (tenants.v >= 0) v = own + (ulong)tenants.v * sizeof(P);
  }
  global const P* b = (global const P*)f.B + i;
  global const float* hidden = TOKEN(float, h, t);
  float sum = 0;
  for (long k = 0; k < f.rank; ++k) sum += LOAD(P)(b + k * f.b_stride) * (vector_at(u, k) * hidden[k]);
  sum *= token_scaling(o, t) * vector_at(v, i);
  global Y* to = TOKEN(Y, y, t) + i;
  STORE(Y)(o.overwrite ? sum : LOAD(Y)(to) + sum, to);
}

// d, which the next kernel makes dh. One group for each value: (rank, token).
kernel void gradient_of_uh(Factors f, Tokens dy, Tokens dh, Options o) {
  local float partial[GROUP];
  const long k = (long)get_group_id(0), t = (long)get_group_id(1);
  global const P* b = (global const P*)f.B + k * f.b_stride;
  global const Y* features = TOKEN(Y, dy, t);
  float sum = 0;
  for (long i = (long)get_local_id(0); i < f.out_features; i += GROUP)
    sum += LOAD(P)(b + i) * (vector_at(f.v, i) * LOAD(Y)(features + i));
  sum = group_sum(sum, partial);
  if (get_local_id(0) == 0) TOKEN(float, dh, t)[k] = token_scaling(o, t) * sum;
}

// du += h ∘ d over all tokens, dh = u ∘ d. One group for each rank.
kernel void gradient_of_u(Factors f, Tokens h, Tokens dh, ulong du) {
  local float partial[GROUP];
  const long k = (long)get_group_id(0);
  const float u = vector_at(f.u, k);
  float sum = 0;
  for (long t = (long)get_local_id(0); t < dh.count; t += GROUP) {
    global float* d = TOKEN(float, dh, t) + k;
    if (du) sum += TOKEN(float, h, t)[k] * *d;
    *d *= u;
  }
  sum = group_sum(sum, partial);
  if (du && get_local_id(0) == 0) ((global float*)du)[k] += sum;
}

// dB and dv. One work-item for each feature, which needs Σ_t c dy (u ∘ h) of every rank for both.
kernel void gradients_of_b_and_v(Factors f, Tokens h, Tokens dy, Factors gradient, Options o) {
  const long i = (long)get_global_id(0);
  if (i >= f.out_features) return;
  const float v = vector_at(f.v, i);
  float dv = 0;
  for (long k = 0; k < f.rank; ++k) {
    const float u = vector_at(f.u, k);
    float sum = 0;
    for (long t = 0; t < dy.count; ++t)
      sum += token_scaling(o, t) * LOAD(Y)(TOKEN(Y, dy, t) + i) * (u * TOKEN(float, h, t)[k]);
    if (gradient.B) ((global float*)gradient.B)[k * gradient.b_stride + i] += v * sum;
    if (gradient.v) dv += LOAD(P)((global const P*)f.B + k * f.b_stride + i) * sum;
  }
  if (gradient.v) ((global float*)gradient.v)[i] += dv;
}
