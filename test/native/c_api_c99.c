/* The C interface from plain C99: what a C program sees of the shared library. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "native/include/personascope.h"

#define EXPECT(condition)                                                                               \
  do {                                                                                                  \
    if (!(condition)) {                                                                                 \
      fprintf(stderr, "line %d: not true: %s (%s)\n", __LINE__, #condition, personascope_last_error()); \
      return 1;                                                                                         \
    }                                                                                                   \
  } while (0)

int main(void) {
  /* Two latents along the axes: codes are the positive coordinates, largest first. */
  const personascope_sae_config config = {2, 2, 2, 1, 0};
  const float axes[4] = {1, 0, 0, 1}, no_bias[2] = {0, 0};
  const float x[6] = {1, 2, 3, -1, -1, -1};
  uint32_t indices[6], counts[3];
  float values[6], back[6];
  float broken[2];
  personascope_sae* sae = NULL;
  broken[0] = 0;
  broken[1] = NAN;
  EXPECT(personascope_sae_create(&config, axes, axes, no_bias, no_bias, &sae) == PERSONASCOPE_OK);
  EXPECT(personascope_sae_encode(sae, x, 3, indices, values, counts) == PERSONASCOPE_OK);
  EXPECT(counts[0] == 2 && indices[0] == 1 && values[0] == 2 && indices[1] == 0 && values[1] == 1);
  EXPECT(counts[1] == 1 && indices[2] == 0 && values[2] == 3);
  EXPECT(counts[2] == 0);
  EXPECT(personascope_sae_decode(sae, indices, values, counts, 3, back) == PERSONASCOPE_OK);
  EXPECT(back[0] == 1 && back[1] == 2 && back[2] == 3 && back[3] == 0 && back[4] == 0 && back[5] == 0);
  EXPECT(personascope_sae_encode(sae, broken, 1, indices, values, counts) == PERSONASCOPE_NON_FINITE);
  EXPECT(strstr(personascope_last_error(), "NaN") != NULL);
  personascope_sae_destroy(sae);
  printf("personascope %s, %s, %d threads: C99 program passed\n", personascope_version(), personascope_isa(),
         personascope_threads());
  return 0;
}
