// AdamW over an adapter's flat array in one launch: tiedlora::StepPlan<float>, at most four segments, each with its
// constants.

typedef struct {
  long offset, count;
  float gradient_scale, beta1, rest1, beta2, rest2, keep, rate, root, epsilon;
} StepSegment;
typedef struct {
  StepSegment segments[4];
  int size;
} StepPlan;

// One work-item for each parameter: p, its moments m and v and its gradient g.
kernel void adamw(global float* p, global const float* g, global float* m, global float* v, StepPlan plan) {
  const long i = (long)get_global_id(0);
  for (int s = 0; s < plan.size; ++s) {
    const StepSegment c = plan.segments[s];
    if (i < c.offset || i >= c.offset + c.count) continue;
    const float gradient = c.gradient_scale * g[i];
    m[i] = c.beta1 * m[i] + c.rest1 * gradient;
    v[i] = c.beta2 * v[i] + c.rest2 * gradient * gradient;
    p[i] = c.keep * p[i] - c.rate * m[i] / (sqrt(v[i]) * c.root + c.epsilon);
  }
}
