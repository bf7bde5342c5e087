/* What docs/c.md shows of batches, called: the block of the page stands where it would. */
#include <stdio.h>
#include <string.h>
#include <tiedlora.h>

int main(void) {
  enum { tokens = 2 };
  tl_modules* modules;
  tl_adapter* adapter;
  tl_modules_new(&modules);
  const tl_index m = 0;
  if (tl_modules_add(modules, "layers.0.proj", 0, NULL, NULL, 3, 2, NULL) != TL_OK) return 1;
  if (tl_adapter_new(modules, "lora", 1, 1, TL_F32, &adapter) != TL_OK) return 1;
  void* numbers;
  tl_index numbers_count;
  if (tl_adapter_trainable(adapter, &numbers, &numbers_count) != TL_OK || numbers_count != 5) return 1;
  memcpy(numbers, (const float[]){1, 2, 3, 10, 20}, 5 * sizeof(float)); /* A, then B */

  tl_id id = TL_NO_ADAPTER;
  const float scales[tokens] = {1, 0.5f}, x_numbers[tokens * 3] = {1, 1, 1, 1, 0, 0};
  float y_numbers[tokens * 2] = {0}, h_numbers[tokens] = {0};
  tl_index width, count;
  const tl_input x = tl_input_of(x_numbers, TL_F32, 3, tokens);
  const tl_output y = tl_output_of(y_numbers, TL_F32, 2, tokens),
                  h = tl_output_of(h_numbers, TL_F32, 1, tokens);
#define ids ((const tl_id[tokens]){id, id}) /* once there is an id */
#include "c_batch.inc"
#undef ids

  printf("%g %g %g %g, %td x %td\n", y_numbers[0], y_numbers[1], y_numbers[2], y_numbers[3], width, count);
  tl_plan_free(plan);
  tl_set_free(set);
  tl_adapter_free(adapter);
  tl_modules_free(modules);
  return 0;
}
