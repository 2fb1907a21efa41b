/* Loads an SAE (a SAELens folder), encodes activations, and prints which latents were active most.
 *
 *   encode_stats <sae folder> <activations> [top]
 *
 * <activations> is a file of fp32 values [tokens, d_model], row-major, without a header. Prints one line for
 * the first token's codes and one for each of the `top` (10) latents of largest mean:
 *
 *   token 0: latent:value ...
 *   latent mean active max
 */
#include <personascope.h>
#include <stdio.h>
#include <stdlib.h>

#define TOKENS_AT_ONCE 4096

static int failed(const char* what) {
  fprintf(stderr, "%s: %s\n", what, personascope_last_error());
  return 1;
}

static int print_codes(const personascope_sae* sae, const float* x) {
  personascope_codes* codes = NULL;
  uint32_t c;
  if (personascope_sae_encode_codes(sae, x, 1, &codes) != PERSONASCOPE_OK) return failed("encode");
  printf("token 0:");
  for (c = 0; c < personascope_codes_offsets(codes)[1]; ++c)
    printf(" %lu:%.9g", (unsigned long)personascope_codes_indices(codes)[c],
           personascope_codes_values(codes)[c]);
  printf("\n");
  personascope_codes_destroy(codes);
  return 0;
}

/* Encodes the file piece by piece. Statistics take the activations themselves, so that codes never leave the
 * library. */
static int collect(const personascope_sae* sae, personascope_stats* stats, FILE* file) {
  const size_t width = (size_t)personascope_sae_width(sae);
  float* x = malloc(TOKENS_AT_ONCE * width * sizeof *x);
  size_t tokens, all = 0;
  int status = x ? 0 : 1;
  while (status == 0 && (tokens = fread(x, width * sizeof *x, TOKENS_AT_ONCE, file)) > 0) {
    if (all == 0) status = print_codes(sae, x);
    if (status == 0 && personascope_stats_add(stats, sae, x, tokens, NULL) != PERSONASCOPE_OK)
      status = failed("statistics");
    all += tokens;
  }
  free(x);
  return status;
}

static int print_largest(const personascope_stats* stats, size_t latents, size_t top) {
  double* sum = malloc(latents * sizeof *sum);
  double* active = malloc(latents * sizeof *active);
  float* max = malloc(latents * sizeof *max);
  uint64_t rows = 0;
  int status = sum && active && max ? 0 : 1;
  if (status == 0 && personascope_stats_read(stats, &rows, sum, NULL, active, max) != PERSONASCOPE_OK)
    status = failed("statistics");
  for (; status == 0 && top > 0; --top) {
    size_t best = 0, l;
    for (l = 1; l < latents; ++l)
      if (sum[l] > sum[best]) best = l;
    if (!(sum[best] > 0)) break;
    printf("%lu %.9g %.0f %.9g\n", (unsigned long)best, sum[best] / (double)rows, active[best], max[best]);
    sum[best] = -1;
  }
  free(sum);
  free(active);
  free(max);
  return status;
}

int main(int argc, char** argv) {
  personascope_sae* sae = NULL;
  personascope_stats* stats = NULL;
  FILE* file;
  int status;
  if (argc < 3) {
    fprintf(stderr, "usage: encode_stats <sae folder> <activations> [top]\n");
    return 2;
  }
  if (personascope_sae_load(argv[1], &sae) != PERSONASCOPE_OK) return failed("load");
  if (personascope_stats_create(personascope_sae_latents(sae), 0, &stats) != PERSONASCOPE_OK) {
    personascope_sae_destroy(sae);
    return failed("statistics");
  }
  file = fopen(argv[2], "rb");
  if (file) {
    status = collect(sae, stats, file);
    fclose(file);
    if (status == 0)
      status = print_largest(stats, (size_t)personascope_sae_latents(sae),
                             argc > 3 ? (size_t)strtoul(argv[3], NULL, 10) : 10);
  } else {
    perror(argv[2]);
    status = 1;
  }
  personascope_stats_destroy(stats);
  personascope_sae_destroy(sae);
  return status;
}
