/* personascope: the C interface.
 *
 * Every call that can fail returns a personascope_status; personascope_last_error() then says, in the calling
 * thread, what was found and what was expected. Handles are opaque and belong to the caller, who destroys
 * them. A personascope_sae is immutable and may be used by any number of threads; a personascope_stats by one
 * at a time. Matrices are row-major fp32. No call keeps a pointer it was given beyond its return.
 *
 * Files are mapped. Where another program shortens one, or its disk fails, the system sends SIGBUS to whoever
 * reads it; a handler that the first file installs makes PERSONASCOPE_IO of that, and passes on what is not
 * its own to the handler that was there. One that is installed later should do the same.
 */
#ifndef PERSONASCOPE_H
#define PERSONASCOPE_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define PERSONASCOPE_API __attribute__((visibility("default")))
#else
#define PERSONASCOPE_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum personascope_status {
  PERSONASCOPE_OK = 0,
  PERSONASCOPE_INVALID_ARGUMENT = 1, /* a call that can never work */
  PERSONASCOPE_NOT_FOUND = 2,
  PERSONASCOPE_FORMAT = 3,
  PERSONASCOPE_NON_FINITE = 4, /* NaN or Inf in data; the error text locates the first */
  PERSONASCOPE_IO = 5,
  PERSONASCOPE_OUT_OF_MEMORY = 6,
  PERSONASCOPE_ABORTED = 7,
  PERSONASCOPE_INTERNAL = 8
} personascope_status;

/* "0.1.0" */
PERSONASCOPE_API const char* personascope_version(void);
/* Text of the calling thread's last failure; "" if there was none. Valid until its next failing call. */
PERSONASCOPE_API const char* personascope_last_error(void);
/* Name of a status, e.g. "ERR_NON_FINITE". */
PERSONASCOPE_API const char* personascope_status_name(personascope_status status);

/* Threads that kernels use (1 to 1024); results never depend on it. */
PERSONASCOPE_API personascope_status personascope_set_threads(int threads);
PERSONASCOPE_API int personascope_threads(void);
/* Instruction set in force: "reference", "avx2" or "avx512"; refused if the CPU lacks it. */
PERSONASCOPE_API personascope_status personascope_set_isa(const char* isa);
PERSONASCOPE_API const char* personascope_isa(void);

/* ---- Sparse autoencoders (TopK) -------------------------------------------------------------------- */

typedef struct personascope_sae personascope_sae;

typedef struct personascope_sae_config {
  uint64_t latents;
  uint64_t width;                /* of activations, d_model */
  uint64_t k;                    /* codes a token, at most */
  int32_t subtract_decoder_bias; /* not 0: b_dec is subtracted from inputs first */
  int32_t encoder_width_major; /* 0: w_enc is [latents, width]; else [width, latents], as SAELens stores it */
} personascope_sae_config;

/* Copies the weights: w_dec [latents, width], b_enc [latents], b_dec [width]. */
PERSONASCOPE_API personascope_status personascope_sae_create(const personascope_sae_config* config,
                                                             const float* w_enc, const float* w_dec,
                                                             const float* b_enc, const float* b_dec,
                                                             personascope_sae** sae);
/* Reads a folder in SAELens layout: cfg.json and sae_weights.safetensors (F32, F16, BF16 or F64). The error
 * names the file and the field or tensor. */
PERSONASCOPE_API personascope_status personascope_sae_load(const char* folder, personascope_sae** sae);
/* The same on a device: "cpu", "cuda", "cuda:N" or "auto", the first GPU or else the CPU. Codes and
 * reconstructions are computed there, the same bits; every call below takes arrays of the host as before. */
PERSONASCOPE_API personascope_status personascope_sae_load_on(const char* folder, const char* device,
                                                              personascope_sae** sae);
/* "cpu" or "cuda:N"; lives as long as the SAE. */
PERSONASCOPE_API const char* personascope_sae_device(const personascope_sae* sae);
/* NULL is allowed. */
PERSONASCOPE_API void personascope_sae_destroy(personascope_sae* sae);

/* Sizes; 0 of NULL. k is 0 where the number of codes varies (relu, jumprelu, gated). */
PERSONASCOPE_API uint64_t personascope_sae_latents(const personascope_sae* sae);
PERSONASCOPE_API uint64_t personascope_sae_width(const personascope_sae* sae);
PERSONASCOPE_API uint64_t personascope_sae_k(const personascope_sae* sae);

/* Codes of x [tokens, width], of an SAE whose k is not 0. Token t has counts[t] <= k pairs at indices[t * k],
 * values[t * k]: values > 0, falling, equal ones by lower latent; entries beyond the count are left alone.
 * indices and values hold tokens * k elements, counts holds tokens. */
PERSONASCOPE_API personascope_status personascope_sae_encode(const personascope_sae* sae, const float* x,
                                                             uint64_t tokens, uint32_t* indices,
                                                             float* values, uint32_t* counts);
/* out [tokens, width] = codes W_dec + b_dec, codes laid out as by encode. */
PERSONASCOPE_API personascope_status personascope_sae_decode(const personascope_sae* sae,
                                                             const uint32_t* indices, const float* values,
                                                             const uint32_t* counts, uint64_t tokens,
                                                             float* out);

/* Codes of a batch, of any SAE. Token t has the pairs offsets[t] to offsets[t + 1] - 1 of (indices, values):
 * values > 0, falling, equal ones by lower latent. The arrays live as long as the codes. */
typedef struct personascope_codes personascope_codes;

PERSONASCOPE_API personascope_status personascope_sae_encode_codes(const personascope_sae* sae,
                                                                   const float* x, uint64_t tokens,
                                                                   personascope_codes** codes);
PERSONASCOPE_API void personascope_codes_destroy(personascope_codes* codes);
PERSONASCOPE_API uint64_t personascope_codes_tokens(const personascope_codes* codes);
PERSONASCOPE_API const uint32_t* personascope_codes_offsets(const personascope_codes* codes);
PERSONASCOPE_API const uint32_t* personascope_codes_indices(const personascope_codes* codes);
PERSONASCOPE_API const float* personascope_codes_values(const personascope_codes* codes);
/* out [tokens, width]: as personascope_sae_decode, the input's normalisation undone. */
PERSONASCOPE_API personascope_status personascope_sae_decode_codes(const personascope_sae* sae,
                                                                   const personascope_codes* codes,
                                                                   float* out);

/* vector [width]: a copy of a row of W_dec. */
PERSONASCOPE_API personascope_status personascope_sae_decoder_vector(const personascope_sae* sae,
                                                                     uint64_t latent, float* vector);

/* ---- Autoencoders of every selection rule ------------------------------------------------------------ */

/* How a latent's pre-activation becomes a code; codes are always > 0. */
enum {
  PERSONASCOPE_TOPK = 0,      /* the k largest */
  PERSONASCOPE_THRESHOLD = 1, /* all above a threshold: relu, jumprelu, batchtopk at inference */
  PERSONASCOPE_GATED = 2,
  PERSONASCOPE_GROUPMAX = 3 /* the largest of each of k groups of neighbouring latents */
};
/* In which latents are screened; codes are the same bits with each. */
enum { PERSONASCOPE_AUTO = 0, PERSONASCOPE_FP32 = 1, PERSONASCOPE_BF16 = 2, PERSONASCOPE_INT8 = 3 };
/* Normalisation of inputs, undone after decoding. */
enum { PERSONASCOPE_NORM_NONE = 0, PERSONASCOPE_CONSTANT_NORM_RESCALE = 1, PERSONASCOPE_LAYER_NORM = 2 };

/* Set everything to 0 and struct_size to sizeof(personascope_sae_spec); fields may be added at the end.
 * Arrays are copied; NULL where a rule or an option does not need them. */
typedef struct personascope_sae_spec {
  uint64_t struct_size;
  uint64_t latents;
  uint64_t width;
  uint64_t out_width; /* of a transcoder's output; 0: width */
  uint64_t k;         /* topk, groupmax */
  int32_t rule;
  int32_t precision;
  int32_t input_norm;
  int32_t transcoder; /* not 0: normalisation is not undone after decoding */
  int32_t subtract_decoder_bias;
  int32_t scaled_codes; /* not 0: codes are multiplied by selection_scale, and divided before decoding */
  int32_t encoder_width_major;
  int32_t reserved;
  const float* w_enc;     /* [latents, width], or [width, latents] if encoder_width_major */
  const float* w_dec;     /* [latents, out_width] */
  const float* w_skip;    /* [out_width, width] or NULL */
  const float* b_enc;     /* [latents] */
  const float* b_dec;     /* [out_width] */
  const float* threshold; /* [latents]; threshold */
  const float* gate_bias; /* [latents] each; gated */
  const float* magnitude_scale;
  const float* magnitude_bias;
  const float* selection_scale; /* [latents] or NULL: latents are chosen by value times this */
  const float* input_mean;      /* [width], with input_scale, or NULL: inputs become (x - mean) / scale */
  const float* input_scale;
  const char* device; /* as of personascope_sae_load_on; NULL: "cpu". A GPU does not screen in fp32 */
} personascope_sae_spec;

PERSONASCOPE_API personascope_status personascope_sae_create_from_spec(const personascope_sae_spec* spec,
                                                                       personascope_sae** sae);

/* ---- Statistics per latent ------------------------------------------------------------------------- */

typedef struct personascope_stats personascope_stats;

/* per_group not 0: sums per group (prompt) are kept, so that differences have intervals. */
PERSONASCOPE_API personascope_status personascope_stats_create(uint64_t latents, int32_t per_group,
                                                               personascope_stats** stats);
PERSONASCOPE_API void personascope_stats_destroy(personascope_stats* stats);
/* Encodes x [tokens, width] and adds the codes. groups [tokens], or NULL without per_group. Where it fails,
 * part of the tokens may have been added. */
PERSONASCOPE_API personascope_status personascope_stats_add(personascope_stats* stats,
                                                            const personascope_sae* sae, const float* x,
                                                            uint64_t tokens, const uint32_t* groups);
/* Adds what `other` saw. */
PERSONASCOPE_API personascope_status personascope_stats_merge(personascope_stats* stats,
                                                              const personascope_stats* other);
/* Copies of the results; each array holds one value a latent and may be NULL. */
PERSONASCOPE_API personascope_status personascope_stats_read(const personascope_stats* stats, uint64_t* rows,
                                                             double* sum, double* sum_of_squares,
                                                             double* active_count, float* max);
/* Change of mean activation, after - before, with percentile-bootstrap intervals and Benjamini-Hochberg
 * q-values over groups (NaN without them). Arrays hold one value a latent and may be NULL; descending ranks
 * the latents by delta, equal ones by lower index. */
PERSONASCOPE_API personascope_status personascope_stats_diff(const personascope_stats* before,
                                                             const personascope_stats* after,
                                                             uint64_t resamples, double confidence,
                                                             uint64_t seed, double* delta,
                                                             double* effect_size, double* low, double* high,
                                                             double* q_value, uint32_t* descending);

/* ---- Devices --------------------------------------------------------------------------------------- */

/* GPUs that can be used. reason, unless NULL, gets what they are, or why there is none; it stays valid. */
PERSONASCOPE_API int personascope_cuda_devices(const char** reason);

/* A tensor of the host or of a GPU, row-major unless it came through DLPack or is a slice.
 *
 * Tensors of another program pass without a copy, here from PyTorch (C++, x a torch::Tensor of the GPU):
 *
 *   personascope_tensor *x, *indices;
 *   personascope_device_codes* codes;
 *   personascope_sae_load_on("sae", "cuda", &sae);
 *   personascope_tensor_from_dlpack(at::toDLPack(activations), &x);           // no copy
 *   personascope_sae_encode_tensor(sae, x, &codes);                           // codes stay on the GPU
 *   personascope_device_codes_tensors(codes, NULL, &indices, NULL);
 *   personascope_tensor_to_dlpack(indices, &managed);                         // at::fromDLPack(managed)
 *
 * examples/python/torch_tensors.py does it from Python. Memory of a GPU that is handed over must not be
 * written to while a call reads it: what other streams than CUDA's default one do to it later has to be
 * waited for by the program. */
typedef struct personascope_tensor personascope_tensor;
struct DLManagedTensor; /* DLPack 0.8 */

/* Not cleared. device: "cpu", "cuda", "cuda:N" or "auto"; dtype as safetensors spells it, e.g. "F32".
 * PERSONASCOPE_OUT_OF_MEMORY names the request and what is free; the process goes on. */
PERSONASCOPE_API personascope_status personascope_tensor_create(const char* device, const char* dtype,
                                                                const uint64_t* shape, int32_t dimensions,
                                                                personascope_tensor** tensor);
/* NULL is allowed. */
PERSONASCOPE_API void personascope_tensor_destroy(personascope_tensor* tensor);
/* Takes over what another program made, without a copy, after waiting for what was started on its GPU; where
 * it fails, the caller keeps it. */
PERSONASCOPE_API personascope_status personascope_tensor_from_dlpack(struct DLManagedTensor* managed,
                                                                     personascope_tensor** tensor);
/* The receiver calls the result's deleter; it keeps the memory alive beyond personascope_tensor_destroy(). */
PERSONASCOPE_API personascope_status personascope_tensor_to_dlpack(const personascope_tensor* tensor,
                                                                   struct DLManagedTensor** managed);
/* A view of the places begin to end - 1 of an axis, which keeps the memory. */
PERSONASCOPE_API personascope_status personascope_tensor_slice(const personascope_tensor* tensor,
                                                               int32_t axis, uint64_t begin, uint64_t end,
                                                               personascope_tensor** view);
/* All elements, between any two places; both of one dtype and size, without gaps or with rows of one width.
 */
PERSONASCOPE_API personascope_status personascope_tensor_copy(const personascope_tensor* from,
                                                              personascope_tensor* to);
/* Of element 0; memory of a GPU where the tensor lies there. */
PERSONASCOPE_API void* personascope_tensor_data(const personascope_tensor* tensor);
PERSONASCOPE_API uint64_t personascope_tensor_bytes(const personascope_tensor* tensor);

/* ---- Tensors in and out of an SAE ------------------------------------------------------------------- */

/* Codes that stay on the SAE's device. */
typedef struct personascope_device_codes personascope_device_codes;

/* Codes of x [..., width], of any SAE: F32 whose rows may be any step apart, or F16, BF16, F64, which the
 * host widens; of the host or of the SAE's device. */
PERSONASCOPE_API personascope_status personascope_sae_encode_tensor(const personascope_sae* sae,
                                                                    const personascope_tensor* x,
                                                                    personascope_device_codes** codes);
PERSONASCOPE_API void personascope_device_codes_destroy(personascope_device_codes* codes);
PERSONASCOPE_API uint64_t personascope_device_codes_tokens(const personascope_device_codes* codes);
PERSONASCOPE_API uint64_t personascope_device_codes_pairs(const personascope_device_codes* codes);
/* The codes where they lie, as personascope_codes has them: offsets U64 [tokens + 1], indices U32 and values
 * F32 [pairs]; each pointer may be NULL. The tensors keep the memory, and are not to be written to. */
PERSONASCOPE_API personascope_status personascope_device_codes_tensors(const personascope_device_codes* codes,
                                                                       personascope_tensor** offsets,
                                                                       personascope_tensor** indices,
                                                                       personascope_tensor** values);
PERSONASCOPE_API personascope_status
personascope_device_codes_download(const personascope_device_codes* codes, personascope_codes** host);
/* Writes reconstructions to out [..., out_width], F32, of the host or of the SAE's device. input: what was
 * encoded, for a transcoder with a skip connection, else NULL. */
PERSONASCOPE_API personascope_status personascope_sae_decode_tensor(const personascope_sae* sae,
                                                                    const personascope_device_codes* codes,
                                                                    const personascope_tensor* input,
                                                                    personascope_tensor* out);
/* As personascope_stats_add. */
PERSONASCOPE_API personascope_status personascope_stats_add_tensor(personascope_stats* stats,
                                                                   const personascope_sae* sae,
                                                                   const personascope_tensor* x,
                                                                   const uint32_t* groups);

/* Statistics that stay on a device, without groups: encoding adds to them there. Exact: read, they are the
 * bits of personascope_stats over the same tokens. May be used by any number of threads. */
typedef struct personascope_device_stats personascope_device_stats;

PERSONASCOPE_API personascope_status personascope_device_stats_create(const char* device, uint64_t latents,
                                                                      personascope_device_stats** stats);
PERSONASCOPE_API void personascope_device_stats_destroy(personascope_device_stats* stats);
/* Encodes x by an SAE of the same device and adds the codes; or adds codes at hand. */
PERSONASCOPE_API personascope_status personascope_device_stats_add(personascope_device_stats* stats,
                                                                   const personascope_sae* sae,
                                                                   const personascope_tensor* x);
PERSONASCOPE_API personascope_status
personascope_device_stats_add_codes(personascope_device_stats* stats, const personascope_device_codes* codes);
/* Adds what was seen to statistics made without per_group. */
PERSONASCOPE_API personascope_status personascope_device_stats_read(const personascope_device_stats* stats,
                                                                    personascope_stats* to);
/* [latents] each, as of personascope_stats_diff, computed where the statistics lie. */
PERSONASCOPE_API personascope_status personascope_device_stats_difference(
    const personascope_device_stats* before, const personascope_device_stats* after, double* delta,
    double* effect_size);

/* ---- Steering ---------------------------------------------------------------------------------------- */

/* With c = centre or 0 and a = (x - c) . v, all taken before the change:
 *   add      x += sum amount v                              any vectors
 *   ablate   x -= sum a v                                   orthonormal within 1e-3, as below
 *   clamp    x += sum (min(max(a, low), high) - a) v        low = high sets the coefficient
 *   project  x  = c + sum a v */
enum { PERSONASCOPE_ADD = 0, PERSONASCOPE_ABLATE = 1, PERSONASCOPE_CLAMP = 2, PERSONASCOPE_PROJECT = 3 };

/* Set everything to 0 and struct_size to sizeof(personascope_steering). Arrays of the host; NULL where an
 * operation or an option does not need them. */
typedef struct personascope_steering {
  uint64_t struct_size;
  int32_t operation;
  int32_t reserved;
  uint64_t width;
  uint64_t groups;      /* sets of vectors, of which each row has one; 0: 1 */
  uint64_t dimensions;  /* vectors a row, at most 64; 0: 1 */
  const float* vectors; /* [groups, dimensions, width] */
  const float* amounts; /* [groups, dimensions]; add */
  const float* low;     /* [groups, dimensions] each; clamp; infinite bounds are open ends */
  const float* high;
  const float* centre;   /* [width] or NULL */
  const uint8_t* mask;   /* [rows]: rows that change, not 0; NULL: all */
  const uint32_t* group; /* [rows], < groups; NULL: all 0 */
} personascope_steering;

/* Changes x [..., width] of F32 in place, where it lies; rows may be any step apart. */
PERSONASCOPE_API personascope_status personascope_steer(personascope_tensor* x,
                                                        const personascope_steering* steering);

#ifdef __cplusplus
}
#endif

#endif
