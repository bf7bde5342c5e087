// The frozen model that `gpu_opencl train` adapts: y = x + W x in every layer. W is width × width, column-major.

// One work-item for each value: (feature, token).
kernel void base_layer(global const float* W, Tokens x, Tokens y) {
  const long i = (long)get_global_id(0), t = (long)get_global_id(1);
  if (i >= x.width) return;
  global const float* from = TOKEN(float, x, t);
  float sum = from[i];
  for (long j = 0; j < x.width; ++j) sum += W[j * x.width + i] * from[j];
  TOKEN(float, y, t)[i] = sum;
}

kernel void base_layer_backward(global const float* W, Tokens dy, Tokens dx) {
  const long j = (long)get_global_id(0), t = (long)get_global_id(1);
  if (j >= dx.width) return;
  global const float* from = TOKEN(float, dy, t);
  float sum = from[j];
  for (long i = 0; i < dx.width; ++i) sum += W[j * dx.width + i] * from[i];
  TOKEN(float, dx, t)[j] = sum;
}

// dy of the mean of squared errors: scale (y - target).
kernel void loss_backward(Tokens y, Tokens target, Tokens dy, float scale) {
  const long i = (long)get_global_id(0), t = (long)get_global_id(1);
  if (i < y.width) TOKEN(float, dy, t)[i] = scale * (TOKEN(float, y, t)[i] - TOKEN(float, target, t)[i]);
}

kernel void set_to_zero(global float* numbers, long count) {
  const long i = (long)get_global_id(0);
  if (i < count) numbers[i] = 0;
}
