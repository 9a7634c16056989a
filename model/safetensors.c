#include "model/safetensors.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/file.h"
#include "model/jsonfile.h"

#define HEADER_MAX (100u * 1000 * 1000) /* the reference reader's bound */
#define MAX_DIMS   8
#define METADATA   "__metadata__"

_Static_assert(
        __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors are stored little-endian and copied as they are");

/* Offsets are kept for messages and for the order; they count from the end of the header. */
struct entry {
	struct nssm_st_view view;
	uint64_t begin, end;
};

struct nssm_st_file {
	struct nssm_map map; /* data NULL when the bytes are the caller's */
	const uint8_t *bytes;
	size_t len;
	json_t *header; /* owns the names */
	int n;
	struct entry *entry;                 /* by begin */
	const struct nssm_st_view **by_name; /* points into entry */
};

static const struct {
	const char *name, *stored;
	size_t size;
} dtypes[] = {
        [NSSM_F32] = {"fp32", "F32", 4},
        [NSSM_BF16] = {"bf16", "BF16", 2},
        [NSSM_F16] = {"fp16", "F16", 2},
};
#define N_DTYPES ((int)(sizeof dtypes / sizeof dtypes[0]))

const char *nssm_dtype_name(enum nssm_dtype t)
{
	return dtypes[t].name;
}

/* --- numbers --------------------------------------------------------------------------------- */

static uint32_t bits_of(float x)
{
	uint32_t u;
	memcpy(&u, &x, sizeof u);
	return u;
}

static float float_of(uint32_t u)
{
	float x;
	memcpy(&x, &u, sizeof x);
	return x;
}

static uint16_t bf16_of(float x)
{
	uint32_t u = bits_of(x);
	if ((u & 0x7fffffff) > 0x7f800000)
		return (uint16_t)(u >> 16 | 0x40); /* quiet: a payload in the low bits only would else become
		                                      infinity */
	return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static uint16_t f16_of(float x)
{
	uint32_t u = bits_of(x), a = u & 0x7fffffff;
	uint16_t sign = (uint16_t)(u >> 16 & 0x8000);
	if (a > 0x7f800000)
		return (uint16_t)(sign | 0x7e00 | (a >> 13 & 0x3ff));
	if (a >= 0x477ff000) /* 65520, half a step above the largest: the tie goes to even, which is infinity
	                      */
		return (uint16_t)(sign | 0x7c00);
	if (a < 0x38800000) /* below 2^-14: floats from 0.5 to 1 step by 2^-24 as denormals do, so the sum
	                       rounds right */
		return (uint16_t)(sign | (bits_of(float_of(a) + 0.5f) - bits_of(0.5f)));
	a += 0xfff + (a >> 13 & 1);
	return (uint16_t)(sign | (a - 0x38000000) >> 13);
}

static float f16_to(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = h >> 10 & 31, m = h & 0x3ff;
	if (e == 31)
		return float_of(sign | 0x7f800000 | m << 13);
	if (e == 0)
		return float_of(sign | bits_of((float)m * 0x1p-24f));
	return float_of(sign | (e + 112) << 23 | m << 13);
}

void nssm_st_to_f32(float *dst, const struct nssm_st_view *v)
{
	const uint8_t *p = v->data;
	if (v->n == 0)
		return;
	if (v->dtype == NSSM_F32) {
		memcpy(dst, p, v->n * sizeof *dst);
		return;
	}
	for (uint64_t i = 0; i < v->n; i++) {
		uint16_t h;
		memcpy(&h, p + 2 * i, sizeof h);
		dst[i] = v->dtype == NSSM_BF16 ? float_of((uint32_t)h << 16) : f16_to(h);
	}
}

/* --- reading --------------------------------------------------------------------------------- */

static int parse_dtype(
        struct nssm_st_view *v, const json_t *j, const char *where, const char *name, struct nssm_err *err)
{
	const char *s = json_string_value(j);
	if (s == NULL)
		return nssm_err_set(err, NSSM_EFORMAT,
		        "%s: tensor \"%s\": dtype: expected a string, found %s", where, name,
		        nssm_json_what(j));
	for (int i = 0; i < N_DTYPES; i++) {
		if (strcmp(s, dtypes[i].stored) == 0) {
			v->dtype = i;
			return 0;
		}
	}
	return nssm_err_set(err, NSSM_EUNSUP,
	        "%s: tensor \"%s\": dtype: expected F32, BF16 or F16, found \"%s\"", where, name,
	        nssm_quote(s).s);
}

static int parse_shape(
        struct nssm_st_view *v, const json_t *j, const char *where, const char *name, struct nssm_err *err)
{
	if (!json_is_array(j))
		return nssm_err_set(err, NSSM_EFORMAT,
		        "%s: tensor \"%s\": shape: expected an array, found %s", where, name,
		        nssm_json_what(j));
	if (json_array_size(j) > MAX_DIMS)
		return nssm_err_set(err, NSSM_EUNSUP,
		        "%s: tensor \"%s\": shape: expected at most %d sizes, found %zu", where, name,
		        MAX_DIMS, json_array_size(j));
	v->n_dims = (int)json_array_size(j);
	v->n = 1;
	for (int i = 0; i < v->n_dims; i++) {
		const json_t *d = json_array_get(j, (size_t)i);
		if (!json_is_integer(d) || json_integer_value(d) < 0)
			return nssm_err_set(err, NSSM_EFORMAT,
			        "%s: tensor \"%s\": shape[%d]: expected an integer from 0 on, found %s",
			        where, name, i, json_is_integer(d) ? "a negative one" : nssm_json_what(d));
		v->dim[i] = (uint64_t)json_integer_value(d);
		if (__builtin_mul_overflow(v->n, v->dim[i], &v->n))
			return nssm_err_set(err, NSSM_ERANGE,
			        "%s: tensor \"%s\": shape: more than 2^64 elements", where, name);
	}
	return 0;
}

static int parse_offsets(struct entry *e, const json_t *j, uint64_t buffer, const char *where,
        const char *name, struct nssm_err *err)
{
	const json_t *b = json_array_get(j, 0), *t = json_array_get(j, 1);
	if (json_array_size(j) != 2 || !json_is_integer(b) || !json_is_integer(t) ||
	        json_integer_value(b) < 0 || json_integer_value(t) < 0)
		return nssm_err_set(err, NSSM_EFORMAT,
		        "%s: tensor \"%s\": data_offsets: expected two integers from 0 on, found something "
		        "else (%s)",
		        where, name, nssm_json_what(j));
	e->begin = (uint64_t)json_integer_value(b);
	e->end = (uint64_t)json_integer_value(t);
	if (e->begin > e->end || e->end > buffer)
		return nssm_err_set(err, NSSM_EFORMAT,
		        "%s: tensor \"%s\": data_offsets: expected begin <= end <= %llu (bytes after the "
		        "header), found %llu, "
		        "%llu",
		        where, name, (unsigned long long)buffer, (unsigned long long)e->begin,
		        (unsigned long long)e->end);
	uint64_t bytes;
	if (__builtin_mul_overflow(e->view.n, dtypes[e->view.dtype].size, &bytes) ||
	        bytes != e->end - e->begin)
		return nssm_err_set(err, NSSM_EFORMAT,
		        "%s: tensor \"%s\": data_offsets: expected %llu elements of %zu bytes, found %llu "
		        "bytes at offset %llu",
		        where, name, (unsigned long long)e->view.n, dtypes[e->view.dtype].size,
		        (unsigned long long)(e->end - e->begin), (unsigned long long)e->begin);
	return 0;
}

static int parse_tensor(struct entry *e, const char *key, const json_t *j, const uint8_t *data,
        uint64_t buffer, const char *where, struct nssm_err *err)
{
	struct nssm_quoted q = nssm_quote(key);
	if (!json_is_object(j))
		return nssm_err_set(err, NSSM_EFORMAT, "%s: tensor \"%s\": expected an object, found %s",
		        where, q.s, nssm_json_what(j));
	e->view.name = key;
	int rc;
	if ((rc = parse_dtype(&e->view, json_object_get(j, "dtype"), where, q.s, err)) != 0 ||
	        (rc = parse_shape(&e->view, json_object_get(j, "shape"), where, q.s, err)) != 0 ||
	        (rc = parse_offsets(e, json_object_get(j, "data_offsets"), buffer, where, q.s, err)) != 0)
		return rc;
	e->view.data = data + e->begin;
	return 0;
}

static int check_metadata(const json_t *j, const char *where, struct nssm_err *err)
{
	if (!json_is_object(j))
		return nssm_err_set(err, NSSM_EFORMAT, "%s: " METADATA ": expected an object, found %s",
		        where, nssm_json_what(j));
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)j, key, value) if (!json_is_string(value)) return nssm_err_set(err,
	        NSSM_EFORMAT, "%s: " METADATA ".%s: expected a string, found %s", where, nssm_quote(key).s,
	        nssm_json_what(value));
	return 0;
}

/* An empty tensor comes before the one that starts where it does. */
static int by_begin(const void *pa, const void *pb)
{
	const struct entry *a = pa, *b = pb;
	if (a->begin != b->begin)
		return a->begin < b->begin ? -1 : 1;
	return (a->end > b->end) - (a->end < b->end);
}

static int by_name(const void *pa, const void *pb)
{
	const struct nssm_st_view *const *a = pa, *const *b = pb;
	return strcmp((*a)->name, (*b)->name);
}

/* Every byte after the header belongs to one tensor. */
static int check_layout(
        const struct nssm_st_file *f, uint64_t buffer, const char *where, struct nssm_err *err)
{
	uint64_t at = 0;
	for (int i = 0; i < f->n; i++) {
		const struct entry *e = &f->entry[i];
		if (e->begin != at)
			return nssm_err_set(err, NSSM_EFORMAT,
			        "%s: tensor \"%s\": expected its bytes at offset %llu, found %llu (%s)",
			        where, nssm_quote(e->view.name).s, (unsigned long long)at,
			        (unsigned long long)e->begin, e->begin < at ? "overlap" : "gap");
		at = e->end;
	}
	if (at != buffer)
		return nssm_err_set(err, NSSM_EFORMAT,
		        "%s: expected tensors to fill the %llu bytes after the header, found them to end at "
		        "%llu",
		        where, (unsigned long long)buffer, (unsigned long long)at);
	return 0;
}

static int parse(struct nssm_st_file *f, const char *where, struct nssm_err *err)
{
	uint64_t n_header;
	if (f->len < sizeof n_header)
		return nssm_err_set(err, NSSM_EFORMAT,
		        "%s: expected an 8-byte header length, found a file of %zu bytes", where, f->len);
	memcpy(&n_header, f->bytes, sizeof n_header);
	uint64_t rest = f->len - sizeof n_header;
	if (n_header > HEADER_MAX || n_header > rest)
		return nssm_err_set(err, NSSM_EFORMAT,
		        "%s: header length at offset 0: expected at most %llu, found %llu", where,
		        (unsigned long long)(rest < HEADER_MAX ? rest : HEADER_MAX),
		        (unsigned long long)n_header);
	const char *text = (const char *)f->bytes + sizeof n_header;
	if (n_header < 2 || text[0] != '{')
		return nssm_err_set(
		        err, NSSM_EFORMAT, "%s: header at offset 8: expected a JSON object", where);
	json_error_t je;
	f->header = json_loadb(text, n_header, JSON_REJECT_DUPLICATES, &je);
	if (f->header == NULL)
		return nssm_err_set(err, NSSM_EFORMAT, "%s: header at offset %lld: %s", where,
		        8 + (long long)je.position, nssm_quote(je.text).s);
	size_t n_max = json_object_size(f->header);
	f->entry = calloc(n_max + 1, sizeof *f->entry);
	f->by_name = calloc(n_max + 1, sizeof *f->by_name);
	if (f->entry == NULL || f->by_name == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for %zu tensors", where, n_max);
	const uint8_t *data = f->bytes + sizeof n_header + n_header;
	const char *key;
	json_t *j;
	json_object_foreach(f->header, key, j)
	{
		bool meta = strcmp(key, METADATA) == 0;
		int rc = meta ? check_metadata(j, where, err)
		              : parse_tensor(&f->entry[f->n], key, j, data, rest - n_header, where, err);
		if (rc != 0)
			return rc;
		f->n += !meta;
	}
	qsort(f->entry, (size_t)f->n, sizeof *f->entry, by_begin);
	for (int i = 0; i < f->n; i++)
		f->by_name[i] = &f->entry[i].view;
	qsort(f->by_name, (size_t)f->n, sizeof *f->by_name, by_name);
	return check_layout(f, rest - n_header, where, err);
}

static int open_bytes(struct nssm_st_file **fp, struct nssm_map map, const void *bytes, size_t len,
        const char *where, struct nssm_err *err)
{
	*fp = NULL;
	struct nssm_st_file *f = calloc(1, sizeof *f);
	if (f == NULL) {
		nssm_map_close(&map);
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory", where);
	}
	f->map = map;
	f->bytes = bytes;
	f->len = len;
	int rc = parse(f, where, err);
	if (rc != 0)
		nssm_st_close(&f);
	*fp = f;
	return rc;
}

int nssm_st_open(struct nssm_st_file **f, const char *path, struct nssm_err *err)
{
	struct nssm_map map;
	*f = NULL;
	int rc = nssm_map_open(&map, path, err);
	return rc != 0 ? rc : open_bytes(f, map, map.data, map.len, path, err);
}

int nssm_st_open_mem(
        struct nssm_st_file **f, const void *data, size_t len, const char *where, struct nssm_err *err)
{
	return open_bytes(f, (struct nssm_map){0}, data, len, where, err);
}

void nssm_st_close(struct nssm_st_file **fp)
{
	struct nssm_st_file *f = *fp;
	if (f == NULL)
		return;
	json_decref(f->header);
	free(f->entry);
	free(f->by_name);
	nssm_map_close(&f->map);
	free(f);
	*fp = NULL;
}

int nssm_st_count(const struct nssm_st_file *f)
{
	return f->n;
}

const struct nssm_st_view *nssm_st_at(const struct nssm_st_file *f, int idx)
{
	return &f->entry[idx].view;
}

const struct nssm_st_view *nssm_st_find(const struct nssm_st_file *f, const char *name)
{
	const struct nssm_st_view key = {.name = name}, *pkey = &key;
	if (f->n == 0)
		return NULL;
	const struct nssm_st_view **hit =
	        bsearch(&pkey, f->by_name, (size_t)f->n, sizeof *f->by_name, by_name);
	return hit != NULL ? *hit : NULL;
}

static uint64_t mix(uint64_t z)
{
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

uint64_t nssm_st_hash(const struct nssm_st_file *f)
{
	uint64_t h = 0, w;
	size_t i = 0;
	for (; f->len - i >= sizeof w; i += sizeof w) {
		memcpy(&w, f->bytes + i, sizeof w);
		h = mix(h ^ w);
	}
	if (i < f->len) {
		w = 0;
		memcpy(&w, f->bytes + i, f->len - i);
		h = mix(h ^ w);
	}
	return mix(h ^ f->len);
}

/* --- writing --------------------------------------------------------------------------------- */

/* Adds one tensor to the header; *at moves on by its bytes. */
static int describe(json_t *header, const struct nssm_st_out *t, int dtype, uint64_t *at, const char *path,
        struct nssm_err *err)
{
	uint64_t n = dtypes[dtype].size, begin = *at;
	json_t *shape = json_array();
	bool fits = t->n_dims >= 0 && t->n_dims <= MAX_DIMS;
	for (int i = 0; fits && i < t->n_dims; i++)
		fits = !__builtin_mul_overflow(n, t->dim[i], &n) &&
		       json_array_append_new(shape, json_integer((json_int_t)t->dim[i])) == 0;
	if (!fits || __builtin_add_overflow(begin, n, at) || *at > INT64_MAX) {
		json_decref(shape);
		return nssm_err_set(
		        err, NSSM_ERANGE, "%s: tensor \"%s\" is too large to write", path, t->name);
	}
	if (strcmp(t->name, METADATA) == 0 || json_object_get(header, t->name) != NULL) {
		json_decref(shape);
		return nssm_err_set(err, NSSM_EARG, "%s: two tensors named \"%s\"", path, t->name);
	}
	json_t *j = json_pack("{s:s,s:o,s:[I,I]}", "dtype", dtypes[dtype].stored, "shape", shape,
	        "data_offsets", (json_int_t)begin, (json_int_t)*at);
	if (json_object_set_new(header, t->name, j) != 0)
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for the header", path);
	return 0;
}

/* The header's text, padded so that the data start 8-byte aligned; *n gets its length. NULL: err is set. */
static char *make_header(size_t *n, const struct nssm_st_out *t, int n_tensors, int dtype,
        const char *const *metadata, const char *path, struct nssm_err *err)
{
	json_t *header = json_object(), *meta = metadata != NULL ? json_object() : NULL;
	int rc = 0;
	for (const char *const *m = metadata; rc == 0 && m != NULL && m[0] != NULL; m += 2)
		rc = json_object_set_new(meta, m[0], json_string(m[1]));
	if (rc == 0 && meta != NULL)
		rc = json_object_set(header, METADATA, meta);
	json_decref(meta);
	if (rc != 0)
		nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for the header", path);
	uint64_t at = 0;
	for (int i = 0; rc == 0 && i < n_tensors; i++)
		rc = describe(header, &t[i], dtype, &at, path, err);
	char *text = rc == 0 ? json_dumps(header, JSON_COMPACT) : NULL;
	json_decref(header);
	if (text == NULL) {
		if (rc == 0)
			nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for the header", path);
		return NULL;
	}
	size_t len = strlen(text), padded = (len + 7) / 8 * 8;
	char *out = realloc(text, padded + 1);
	if (out == NULL) {
		free(text);
		nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for the header", path);
		return NULL;
	}
	memset(out + len, ' ', padded - len);
	*n = padded;
	return out;
}

/* Write errors stick to the file and come out at commit. */
static void write_data(struct nssm_outfile *of, const struct nssm_st_out *t, int dtype)
{
	uint64_t n = 1;
	for (int i = 0; i < t->n_dims; i++)
		n *= t->dim[i];
	if (dtype == NSSM_F32) {
		if (n > 0)
			(void)nssm_outfile_write(of, t->data, n * sizeof *t->data, NULL);
		return;
	}
	uint16_t chunk[8192];
	const uint64_t n_chunk = sizeof chunk / sizeof chunk[0];
	for (uint64_t i = 0; i < n; i += n_chunk) {
		uint64_t k = n - i < n_chunk ? n - i : n_chunk;
		for (uint64_t c = 0; c < k; c++)
			chunk[c] = dtype == NSSM_BF16 ? bf16_of(t->data[i + c]) : f16_of(t->data[i + c]);
		if (nssm_outfile_write(of, chunk, k * sizeof chunk[0], NULL) != 0)
			return;
	}
}

int nssm_st_write(const char *path, const struct nssm_st_out *t, int n, int dtype,
        const char *const *metadata, struct nssm_err *err)
{
	/* The caller's err may be NULL, the code must come back all the same. */
	struct nssm_err e = {0};
	size_t n_header;
	char *header = make_header(&n_header, t, n, dtype, metadata, path, &e);
	if (header == NULL) {
		if (err != NULL)
			*err = e;
		return e.code;
	}
	struct nssm_outfile *of;
	int rc = nssm_outfile_open(&of, path, err);
	if (rc == 0) {
		uint64_t len = n_header;
		(void)nssm_outfile_write(of, &len, sizeof len, NULL);
		(void)nssm_outfile_write(of, header, n_header, NULL);
		for (int i = 0; i < n; i++)
			write_data(of, &t[i], dtype);
		rc = nssm_outfile_commit(&of, err);
	}
	free(header);
	return rc;
}
