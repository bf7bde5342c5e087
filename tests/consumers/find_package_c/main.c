/* The consumer program in C: exits with 0 if the library is the header's and says what it refuses. */
#include <stdio.h>
#include <tiedlora.h>

int main(void) {
  tl_adapter* adapter;
  const tl_status status = tl_adapter_load("no such file", NULL, NULL, &adapter);
  printf("version %d: %s\n", tl_version(), tl_last_error());
  return tl_version() == TL_VERSION && status == TL_ERROR_FILE && adapter == NULL ? 0 : 1;
}
