/* safetensors: files made by hand, rounding against the compiler's own half type, round trips, hostile bytes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>

#include "base/philox.h"
#include "model/safetensors.h"
#include "tests/scratch.h"

#define SEED 20240611u

static struct nssm_err err;

/* A file in memory: a header of the given text (and length, where it lies) and data bytes. */
struct image {
	size_t len;
	uint8_t bytes[4096];
};

static struct image image_of(const char *header, const void *data, size_t n_data)
{
	struct image im = {0};
	uint64_t n = strlen(header);
	assert_true(8 + n + n_data <= sizeof im.bytes);
	memcpy(im.bytes, &n, 8);
	memcpy(im.bytes + 8, header, n);
	if (n_data > 0)
		memcpy(im.bytes + 8 + n, data, n_data);
	im.len = 8 + n + n_data;
	return im;
}

static uint32_t bits(float x)
{
	uint32_t u;
	memcpy(&u, &x, 4);
	return u;
}

static float from_bits(uint32_t u)
{
	float x;
	memcpy(&x, &u, 4);
	return x;
}

static void known_bytes(void **state)
{
	static const uint8_t data[] = {
	        0x00, 0x00, 0x80, 0x3f, 0x00, 0x00, 0x20, 0xc0, /* F32 1, -2.5 */
	        0x80, 0x3f, 0x49, 0x40,                         /* BF16 1, 3.140625 */
	        0x00, 0x3c, 0xff, 0x7b, 0x01, 0x00,             /* F16 1, 65504, 2^-24 */
	};
	struct image im = image_of("{\"__metadata__\":{\"format\":\"pt\"},"
	                           "\"c\":{\"dtype\":\"F16\",\"shape\":[3,1],\"data_offsets\":[12,18]},"
	                           "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
	                           "\"none\":{\"dtype\":\"F32\",\"shape\":[4,0],\"data_offsets\":[8,8]},"
	                           "\"b\":{\"dtype\":\"BF16\",\"shape\":[1,2],\"data_offsets\":[8,12]}}   ",
	        data, sizeof data);
	struct nssm_st_file *f;
	assert_int_equal(nssm_st_open_mem(&f, im.bytes, im.len, "mem", &err), 0);
	assert_int_equal(nssm_st_count(f), 4);
	static const char *const order[] = {"a", "none", "b", "c"};
	for (int i = 0; i < 4; i++)
		assert_string_equal(nssm_st_at(f, i)->name, order[i]);
	float x[3];
	const struct nssm_st_view *v = nssm_st_find(f, "a");
	assert_int_equal(v->dtype, NSSM_F32);
	assert_int_equal(v->n, 2);
	nssm_st_to_f32(x, v);
	assert_true(x[0] == 1.0f && x[1] == -2.5f);
	v = nssm_st_find(f, "b");
	assert_int_equal(v->dtype, NSSM_BF16);
	nssm_st_to_f32(x, v);
	assert_true(x[0] == 1.0f && x[1] == 3.140625f);
	v = nssm_st_find(f, "c");
	assert_int_equal(v->dtype, NSSM_F16);
	assert_int_equal(v->n_dims, 2);
	assert_int_equal(v->dim[0], 3);
	assert_int_equal(v->dim[1], 1);
	nssm_st_to_f32(x, v);
	assert_true(x[0] == 1.0f && x[1] == 65504.0f && x[2] == 0x1p-24f);
	assert_int_equal(nssm_st_find(f, "none")->n, 0);
	assert_null(nssm_st_find(f, "d"));
	assert_null(nssm_st_find(f, "__metadata__"));
	nssm_st_close(&f);
	assert_null(f);
	nssm_st_close(&f);
}

static void scalar_and_empty(void **state)
{
	struct nssm_st_file *f;
	float x = 7, y;
	struct image im = image_of("{\"s\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", &x, 4);
	assert_int_equal(nssm_st_open_mem(&f, im.bytes, im.len, "mem", &err), 0);
	assert_int_equal(nssm_st_at(f, 0)->n, 1);
	nssm_st_to_f32(&y, nssm_st_at(f, 0));
	assert_true(y == 7);
	nssm_st_close(&f);
	im = image_of("{}", NULL, 0);
	assert_int_equal(nssm_st_open_mem(&f, im.bytes, im.len, "mem", &err), 0);
	assert_int_equal(nssm_st_count(f), 0);
	assert_null(nssm_st_find(f, "s"));
	nssm_st_close(&f);
}

/* The writer's file, byte for byte. */
static void written_bytes(void **state)
{
	const float x[] = {1, -2, 0.5f};
	struct nssm_st_out out[] = {{"w", 2, {1, 3}, x}, {"a", 1, {2}, x}};
	const char *path = scratch("w.safetensors");
	assert_int_equal(nssm_st_write(path, out, 2, NSSM_BF16, NULL, &err), 0);
	const char *header = "{\"w\":{\"dtype\":\"BF16\",\"shape\":[1,3],\"data_offsets\":[0,6]},"
	                     "\"a\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[6,10]}}";
	static const uint8_t data[] = {0x80, 0x3f, 0x00, 0xc0, 0x00, 0x3f, 0x80, 0x3f, 0x00, 0xc0};
	size_t n, n_header = strlen(header), padded = (n_header + 7) & ~(size_t)7;
	char *file = scratch_read(path, &n);
	uint64_t len;
	memcpy(&len, file, 8);
	assert_int_equal(len, padded);
	assert_int_equal(n, 8 + padded + sizeof data);
	assert_memory_equal(file + 8, header, n_header);
	for (size_t i = n_header; i < padded; i++)
		assert_int_equal(file[8 + i], ' ');
	assert_memory_equal(file + 8 + padded, data, sizeof data);
	free(file);
}

/* One tensor through a file of the given dtype. */
static void through_file(float *dst, const float *src, uint64_t n, int dtype)
{
	struct nssm_st_out out = {"t", 1, {n}, src};
	const char *path = scratch("t.safetensors");
	static const char *const meta[] = {"format", "pt", "k", "v", NULL};
	assert_int_equal(nssm_st_write(path, &out, 1, dtype, meta, &err), 0);
	struct nssm_st_file *f;
	assert_int_equal(nssm_st_open(&f, path, &err), 0);
	assert_int_equal(nssm_st_at(f, 0)->dtype, dtype);
	assert_int_equal(nssm_st_at(f, 0)->n, n);
	nssm_st_to_f32(dst, nssm_st_find(f, "t"));
	nssm_st_close(&f);
}

/* All values of a 16-bit type survive: to fp32 by the reader, back by the writer. NaNs stay NaNs. */
static void every_half(int dtype, const char *stored)
{
	uint16_t *h = malloc(65536 * 2 + 256);
	float *x = malloc(65536 * 4), *y = malloc(65536 * 4);
	char *file = malloc(8 + 256 + 65536 * 2);
	for (unsigned i = 0; i < 65536; i++)
		h[i] = (uint16_t)i;
	int n = sprintf(
	        file + 8, "{\"t\":{\"dtype\":\"%s\",\"shape\":[65536],\"data_offsets\":[0,131072]}}", stored);
	uint64_t n64 = (uint64_t)n;
	memcpy(file, &n64, 8);
	memcpy(file + 8 + n, h, 131072);
	struct nssm_st_file *f;
	assert_int_equal(nssm_st_open_mem(&f, file, 8 + (size_t)n + 131072, "mem", &err), 0);
	nssm_st_to_f32(x, nssm_st_at(f, 0));
	nssm_st_close(&f);
	through_file(y, x, 65536, dtype);
	unsigned mant = dtype == NSSM_BF16 ? 0x7f : 0x3ff;
	for (unsigned i = 0; i < 65536; i++) {
		bool nan = (i & 0x7fff & ~mant) == (0x7fff & ~mant) && (i & mant) != 0;
		assert_int_equal(isnan(x[i]) != 0, nan);
		assert_int_equal(isnan(y[i]) != 0, nan);
		assert_true(nan || bits(x[i]) == bits(y[i]));
		assert_int_equal(signbit(x[i]) != 0, i >> 15);
		assert_int_equal(signbit(y[i]) != 0, i >> 15);
	}
	free(h);
	free(x);
	free(y);
	free(file);
}

static void every_half_value(void **state)
{
	every_half(NSSM_BF16, "BF16");
	every_half(NSSM_F16, "F16");
}

static void fp32_bits(void **state)
{
	const float x[] = {0, -0.0f, from_bits(1), from_bits(0x807fffff), INFINITY, -INFINITY,
	        from_bits(0x7f800001), from_bits(0xffc12345), 0x1.fffffep127f};
	float y[sizeof x / sizeof x[0]];
	through_file(y, x, sizeof x / sizeof x[0], NSSM_F32);
	assert_memory_equal(x, y, sizeof x);
}

/* Known answers at ties, edges and NaNs. */
static void rounding(void **state)
{
	static const struct {
		uint32_t in, bf16, f16; /* fp32 bits of the input and of the results */
	} t[] = {
	        {0x3f808000, 0x3f800000, 0x3f808000}, /* 1 + 2^-8: a tie for bf16, to even (down) */
	        {0x3f818000, 0x3f820000, 0x3f818000}, /* 1 + 3*2^-8: a tie, to even (up) */
	        {0x3f808001, 0x3f810000, 0x3f808000}, /* just above the tie */
	        {0x3f801000, 0x3f800000, 0x3f800000}, /* 1 + 2^-11: a tie for fp16, down */
	        {0x3f803000, 0x3f800000, 0x3f804000}, /* 1 + 3*2^-11: a tie for fp16, up */
	        {0x7f7fffff, 0x7f800000, 0x7f800000}, /* the largest fp32 rounds to infinity */
	        {0xff7f7fff, 0xff7f0000, 0xff800000},
	        {0x477fefff, 0x47800000, 0x477fe000}, /* 65519.996: largest fp16 */
	        {0x477ff000, 0x47800000, 0x7f800000}, /* 65520: the tie to infinity */
	        {0x33000000, 0x33000000, 0x00000000}, /* 2^-25: half the smallest fp16, to even (0) */
	        {0x33000001, 0x33000000, 0x33800000}, /* just above it: 2^-24 */
	        {0xb3c00000, 0xb3c00000, 0xb4000000}, /* -1.5*2^-24: a tie between denormals, to even */
	        {0x387fffff, 0x38800000, 0x38800000}, /* just below 2^-14: denormal rounds up to normal */
	        {0x00000001, 0x00000000, 0x00000000}, /* fp32 denormals */
	        {0x00018000, 0x00020000, 0x00000000}, /* a bf16 tie among denormals */
	        {0x80008001, 0x80010000, 0x80000000},
	        {0x7f800000, 0x7f800000, 0x7f800000},
	};
	enum { N = sizeof t / sizeof t[0] };
	float x[N], y[N];
	for (int i = 0; i < N; i++)
		x[i] = from_bits(t[i].in);
	through_file(y, x, N, NSSM_BF16);
	for (int i = 0; i < N; i++)
		assert_int_equal(bits(y[i]), t[i].bf16);
	through_file(y, x, N, NSSM_F16);
	for (int i = 0; i < N; i++)
		assert_int_equal(bits(y[i]), t[i].f16);
	/* The payload in the low bits only: cut off, it would be infinity. */
	const uint32_t nans[] = {0x7f800001, 0xff800001, 0x7f801fff, 0x7fffffff, 0xffffffff, 0x7fa00000};
	for (int i = 0; i < 6; i++)
		x[i] = from_bits(nans[i]);
	for (int dtype = NSSM_BF16; dtype <= NSSM_F16; dtype++) {
		through_file(y, x, 6, dtype);
		for (int i = 0; i < 6; i++) {
			assert_true(isnan(y[i]));
			assert_int_equal(signbit(y[i]) != 0, nans[i] >> 31);
		}
	}
}

#ifdef __FLT16_MANT_DIG__
/* Against the compiler's own conversion, over all exponents; more values than the writer converts at once. */
static void rounding_like_compiler(void **state)
{
	enum { N = 300000 };
	float *x = malloc(N * sizeof *x), *y = malloc(N * sizeof *y);
	struct nssm_rng rng;
	nssm_rng_init(&rng, SEED, 0, 0);
	for (int i = 0; i < N; i++) {
		uint32_t u = nssm_rng_u32(&rng);
		if (i % 2) /* where fp16 has values, with few low bits so that ties come up */
			u = (u & 0x8fffe000) + 0x30000000 + (nssm_rng_below(&rng, 5) << 11);
		x[i] = from_bits(u);
	}
	through_file(y, x, N, NSSM_F16);
	for (int i = 0; i < N; i++) {
		__extension__ float want = (float)(_Float16)x[i];
		assert_true(isnan(want) ? isnan(y[i]) : bits(want) == bits(y[i]));
	}
	free(x);
	free(y);
}
#endif

static void hash(void **state)
{
	const float x[] = {1, 2, 3, 4, 5};
	struct nssm_st_out out = {"t", 1, {5}, x};
	const char *path = scratch("h.safetensors");
	assert_int_equal(nssm_st_write(path, &out, 1, NSSM_BF16, NULL, &err), 0);
	size_t n;
	char *file = scratch_read(path, &n);
	assert_true(n % 8 != 0);
	struct nssm_st_file *f;
	assert_int_equal(nssm_st_open(&f, path, &err), 0);
	uint64_t h = nssm_st_hash(f), again = nssm_st_hash(f);
	nssm_st_close(&f);
	assert_true(h == again && h != 0);
	/* A changed bit anywhere in the data, the unaligned tail too. */
	for (size_t bit = (n - 10) * 8; bit < n * 8; bit++) {
		file[bit / 8] ^= (char)(1 << bit % 8);
		assert_int_equal(nssm_st_open_mem(&f, file, n, "mem", &err), 0);
		assert_true(nssm_st_hash(f) != h);
		nssm_st_close(&f);
		file[bit / 8] ^= (char)(1 << bit % 8);
	}
	free(file);
	/* Computed from the header's formula by a program of its own (Python). */
	struct image im = image_of("{}", NULL, 0);
	assert_int_equal(nssm_st_open_mem(&f, im.bytes, im.len, "mem", &err), 0);
	assert_true(nssm_st_hash(f) == UINT64_C(0xe39e891707d2aa61));
	nssm_st_close(&f);
}

/* --- hostile --------------------------------------------------------------------------------- */

static void refused(const struct image *im, int code, const char *names)
{
	struct nssm_st_file *f;
	/* A block of exactly this size, so that a sanitizer sees a read behind it. */
	uint8_t *copy = malloc(im->len ? im->len : 1);
	memcpy(copy, im->bytes, im->len);
	err.msg[0] = '\0';
	int rc = nssm_st_open_mem(&f, copy, im->len, "some/path", &err);
	if (rc != code || strstr(err.msg, names) == NULL || strstr(err.msg, "some/path") == NULL)
		fail_msg("expected %d and \"%s\", found %d: %s", code, names, rc, err.msg);
	assert_null(f);
	free(copy);
}

static void crafted(void **state)
{
	static const struct {
		size_t n_data;
		int code;
		const char *names, *header;
	} t[] = {
#define T(dtype, shape, offsets) "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"
	        {8, NSSM_EFORMAT, "overlap",
	                "{\"a\":" T("F32", "[2]", "[0,8]") ",\"b\":" T("F32", "[1]", "[4,8]") "}"},
	        {8, NSSM_EFORMAT, "overlap",
	                "{\"a\":" T("F32", "[2]", "[0,8]") ",\"b\":" T("F32", "[2]", "[0,8]") "}"},
	        {12, NSSM_EFORMAT, "gap",
	                "{\"a\":" T("F32", "[1]", "[0,4]") ",\"b\":" T("F32", "[1]", "[8,12]") "}"},
	        {8, NSSM_EFORMAT, "gap", "{\"a\":" T("F32", "[1]", "[4,8]") "}"},
	        {8, NSSM_EFORMAT, "end at 4", "{\"a\":" T("F32", "[1]", "[0,4]") "}"},
	        {4, NSSM_EFORMAT, "end at 0", "{}"},
	        {8, NSSM_EFORMAT, "\"y\"",
	                "{\"a\":" T("F32", "[2]", "[0,8]") ",\"z\":" T("F32", "[0]", "[8,8]") ",\"y\":" T(
	                        "F32", "[0]", "[4,4]") "}"},
	        {4, NSSM_EFORMAT, "found 0, 8", "{\"a\":" T("F32", "[2]", "[0,8]") "}"},
	        {8, NSSM_EFORMAT, "found 8, 0", "{\"a\":" T("F32", "[2]", "[8,0]") "}"},
	        {8, NSSM_EFORMAT, "2 elements of 4", "{\"a\":" T("F32", "[2]", "[0,4]") "}"},
	        {8, NSSM_EFORMAT, "2 elements of 2", "{\"a\":" T("BF16", "[2]", "[0,8]") "}"},
	        {0, NSSM_ERANGE, "2^64", "{\"a\":" T("F32", "[4294967296,4294967296]", "[0,0]") "}"},
	        {0, NSSM_EFORMAT, "4611686018427387904 elements",
	                "{\"a\":" T("F32", "[4611686018427387904]", "[0,0]") "}"},
	        {0, NSSM_EFORMAT, "integer", "{\"a\":" T("F32", "[9223372036854775808]", "[0,0]") "}"},
	        {0, NSSM_ERANGE, "2^64", "{\"a\":" T("F16", "[9223372036854775807,3]", "[0,0]") "}"},
	        {8, NSSM_EFORMAT, "negative", "{\"a\":" T("F32", "[-2]", "[0,8]") "}"},
	        {8, NSSM_EFORMAT, "data_offsets", "{\"a\":" T("F32", "[2]", "[-8,0]") "}"},
	        {8, NSSM_EFORMAT, "data_offsets", "{\"a\":" T("F32", "[2]", "[0]") "}"},
	        {8, NSSM_EFORMAT, "data_offsets", "{\"a\":" T("F32", "[2]", "[0,8,8]") "}"},
	        {8, NSSM_EFORMAT, "data_offsets", "{\"a\":" T("F32", "[2]", "null") "}"},
	        {8, NSSM_EFORMAT, "data_offsets", "{\"a\":" T("F32", "[2]", "[0,8.0]") "}"},
	        {8, NSSM_EFORMAT, "shape", "{\"a\":" T("F32", "2", "[0,8]") "}"},
	        {8, NSSM_EFORMAT, "shape[0]", "{\"a\":" T("F32", "[\"2\"]", "[0,8]") "}"},
	        {8, NSSM_EUNSUP, "at most 8", "{\"a\":" T("F32", "[1,1,1,1,1,1,1,1,2]", "[0,8]") "}"},
	        {8, NSSM_EUNSUP, "\"F64\"", "{\"a\":" T("F64", "[1]", "[0,8]") "}"},
	        {8, NSSM_EUNSUP, "\"f32\"", "{\"a\":" T("f32", "[2]", "[0,8]") "}"},
	        {8, NSSM_EFORMAT, "dtype", "{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}"},
	        {8, NSSM_EFORMAT, "shape", "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}"},
	        {8, NSSM_EFORMAT, "data_offsets", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}"},
	        {8, NSSM_EFORMAT, "\"a\"", "{\"a\":[]}"},
	        {8, NSSM_EFORMAT, "duplicate",
	                "{\"a\":" T("F32", "[1]", "[0,4]") ",\"a\":" T("F32", "[1]", "[4,8]") "}"},
	        {8, NSSM_EFORMAT, "duplicate", "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F16\"}}"},
	        {0, NSSM_EFORMAT, "__metadata__", "{\"__metadata__\":[]}"},
	        {0, NSSM_EFORMAT, "__metadata__.k", "{\"__metadata__\":{\"k\":1}}"},
	        {0, NSSM_EFORMAT, "JSON object", "[1]"},
	        {0, NSSM_EFORMAT, "JSON object", " {}"},
	        {0, NSSM_EFORMAT, "JSON object", ""},
	        {0, NSSM_EFORMAT, "offset", "{} {}"},
	        {0, NSSM_EFORMAT, "offset", "{\"a\xff\":1}"},
#undef T
	};
	uint8_t data[16] = {0};
	for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
		struct image im = image_of(t[i].header, data, t[i].n_data);
		refused(&im, t[i].code, t[i].names);
	}
	struct image im = image_of("{}", NULL, 0);
	static const uint64_t lengths[] = {
	        3, 1000, 100000001, UINT64_C(1) << 60, UINT64_MAX, UINT64_MAX - 7, 0};
	for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
		memcpy(im.bytes, &lengths[i], 8);
		refused(&im, NSSM_EFORMAT, lengths[i] ? "header length at offset 0" : "JSON object");
	}
	for (im.len = 0; im.len < 8; im.len++)
		refused(&im, NSSM_EFORMAT, "8-byte header length");
	struct nssm_st_file *f;
	assert_int_equal(nssm_st_open(&f, scratch("nowhere"), &err), NSSM_EIO);
	assert_null(f);
	scratch_write(scratch("empty"), "", 0);
	assert_int_equal(nssm_st_open(&f, scratch("empty"), &err), NSSM_EFORMAT);
	assert_int_equal(nssm_st_open(&f, scratch_dir, &err), NSSM_EIO);
}

/* Opens a copy of exactly n bytes and reads all that it holds. Returns the code. */
static int read_all(const char *bytes, size_t n)
{
	char *copy = malloc(n ? n : 1);
	memcpy(copy, bytes, n);
	struct nssm_st_file *f;
	int rc = nssm_st_open_mem(&f, copy, n, "mem", &err);
	for (int i = 0; rc == 0 && i < nssm_st_count(f); i++) {
		const struct nssm_st_view *v = nssm_st_at(f, i);
		assert_ptr_equal(nssm_st_find(f, v->name), v);
		assert_true(v->n <= n);
		float *x = malloc(v->n * 4 + 1);
		nssm_st_to_f32(x, v);
		free(x);
	}
	nssm_st_close(&f);
	free(copy);
	return rc;
}

static void truncations_and_flips(void **state)
{
	const float x[] = {1, 2, 3, 4, 5, 6};
	struct nssm_st_out out[] = {{"one.weight", 2, {2, 3}, x}, {"two", 1, {5}, x}, {"three", 0, {0}, x}};
	static const char *const meta[] = {"format", "pt", NULL};
	const char *path = scratch("whole.safetensors");
	assert_int_equal(nssm_st_write(path, out, 3, NSSM_F16, meta, &err), 0);
	size_t n;
	char *file = scratch_read(path, &n);
	assert_int_equal(read_all(file, n), 0);
	for (size_t k = 0; k < n; k++)
		assert_true(read_all(file, k) != 0);
	uint64_t n_header;
	memcpy(&n_header, file, 8);
	struct nssm_rng rng;
	nssm_rng_init(&rng, SEED, 1, 0);
	char *hurt = malloc(n);
	for (int i = 0; i < 20000; i++) {
		memcpy(hurt, file, n);
		for (uint32_t k = 1 + nssm_rng_below(&rng, 4); k > 0; k--) {
			uint32_t bit = nssm_rng_below(&rng, (uint32_t)(8 + n_header) * 8);
			hurt[bit / 8] ^= (char)(1 << bit % 8);
		}
		(void)read_all(hurt, n);
	}
	/* One bit of the length: never the same file any more. */
	for (int bit = 0; bit < 64; bit++) {
		memcpy(hurt, file, n);
		hurt[bit / 8] ^= (char)(1 << bit % 8);
		assert_true(read_all(hurt, n) != 0);
	}
	free(hurt);
	free(file);
}

static void write_refused(void **state)
{
	const float x[] = {1, 2};
	const char *path = scratch("no.safetensors");
	struct nssm_st_out twice[] = {{"a", 1, {1}, x}, {"a", 1, {1}, x}};
	assert_int_equal(nssm_st_write(path, twice, 2, NSSM_F32, NULL, NULL), NSSM_EARG);
	struct nssm_st_out huge = {"a", 2, {UINT64_C(1) << 32, UINT64_C(1) << 32}, x};
	assert_int_equal(nssm_st_write(path, &huge, 1, NSSM_F32, NULL, &err), NSSM_ERANGE);
	struct nssm_st_out half = {"a", 1, {UINT64_C(1) << 61}, x};
	assert_int_equal(nssm_st_write(path, &half, 1, NSSM_F32, NULL, &err), NSSM_ERANGE);
	struct nssm_st_out meta = {"__metadata__", 1, {1}, x};
	assert_int_equal(nssm_st_write(path, &meta, 1, NSSM_F32, NULL, &err), NSSM_EARG);
	struct nssm_st_out ok = {"a", 1, {2}, x};
	assert_int_equal(nssm_st_write(scratch("nowhere/x"), &ok, 1, NSSM_F32, NULL, &err), NSSM_EIO);
	assert_int_equal(access(path, F_OK), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(known_bytes),
	        cmocka_unit_test(scalar_and_empty),
	        cmocka_unit_test(written_bytes),
	        cmocka_unit_test(every_half_value),
	        cmocka_unit_test(fp32_bits),
	        cmocka_unit_test(rounding),
#ifdef __FLT16_MANT_DIG__
	        cmocka_unit_test(rounding_like_compiler),
#endif
	        cmocka_unit_test(hash),
	        cmocka_unit_test(crafted),
	        cmocka_unit_test(truncations_and_flips),
	        cmocka_unit_test(write_refused),
	};
	return cmocka_run_group_tests(tests, scratch_open, scratch_close);
}
