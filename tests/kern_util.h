/* kern_util — buffers with guard zones and comparisons for the checks of kernels/.
 * Every buffer comes from one list; bufs_done() looks at the floats around each (a kernel that writes outside
 * its output changes them) and frees them all. Buffers start 4 bytes past a cache line unless aligned ones
 * are asked for: only S and scratch are promised to be aligned. */
#ifndef NSSM_TESTS_KERN_UTIL_H
#define NSSM_TESTS_KERN_UTIL_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/philox.h"
#include "kernels/kernels.h"

#define SEED        20260117
#define GUARD       48 /* floats on each side; 192 bytes, so that alignment stays */
#define GUARD_VALUE 12345.678f
#define MAX_BUFS    256

struct buf {
	float *base, *data;
	size_t n;
};

static struct buf bufs[MAX_BUFS];
static int n_bufs;
static struct nssm_rng rng;
static char what[256]; /* the case that is running, for messages */

static inline float *buf_new(size_t n, bool aligned)
{
	assert_true(n_bufs < MAX_BUFS);
	size_t bytes = ((n + 2 * GUARD + 1) * sizeof(float) + 63) / 64 * 64;
	struct buf *b = &bufs[n_bufs++];
	b->base = aligned_alloc(64, bytes);
	assert_non_null(b->base);
	b->data = b->base + GUARD + (aligned ? 0 : 1);
	b->n = n;
	for (size_t i = 0; i < bytes / sizeof(float); i++)
		b->base[i] = GUARD_VALUE;
	return b->data;
}

static inline float *rnd(size_t n, double lo, double hi)
{
	float *p = buf_new(n, false);
	for (size_t i = 0; i < n; i++)
		p[i] = (float)(lo + (hi - lo) * nssm_rng_unit(&rng));
	return p;
}

static inline float *rnd_aligned(size_t n, double lo, double hi)
{
	float *p = buf_new(n, true);
	for (size_t i = 0; i < n; i++)
		p[i] = (float)(lo + (hi - lo) * nssm_rng_unit(&rng));
	return p;
}

/* Scratch holds NaN, so that a kernel which reads what it did not write is found. */
static inline float *scratch_of(size_t n)
{
	float *p = buf_new(n, true);
	for (size_t i = 0; i < n; i++)
		p[i] = NAN;
	return p;
}

static inline float *copy_of(const float *src)
{
	for (int i = 0; i < n_bufs; i++)
		if (bufs[i].data == src) {
			float *p = buf_new(bufs[i].n, ((uintptr_t)src & 63) == 0);
			memcpy(p, src, bufs[i].n * sizeof *p);
			return p;
		}
	fail_msg("copy_of: not a buffer");
	return NULL;
}

static inline float *abs_of(const float *src)
{
	float *p = copy_of(src);
	for (int i = 0; i < n_bufs; i++)
		if (bufs[i].data == p)
			for (size_t k = 0; k < bufs[i].n; k++)
				p[k] = fabsf(p[k]);
	return p;
}

static inline size_t size_of(const float *p)
{
	for (int i = 0; i < n_bufs; i++)
		if (bufs[i].data == p)
			return bufs[i].n;
	fail_msg("size_of: not a buffer");
	return 0;
}

static inline void bufs_done(void)
{
	for (int i = 0; i < n_bufs; i++) {
		struct buf *b = &bufs[i];
		for (float *p = b->base; p < b->data; p++)
			if (!(*p == GUARD_VALUE))
				fail_msg("%s: written before buffer %d (%zu floats)", what, i, b->n);
		for (int k = 0; k < GUARD; k++)
			if (!(b->data[b->n + (size_t)k] == GUARD_VALUE))
				fail_msg("%s: written behind buffer %d (%zu floats), %d floats", what, i,
				        b->n, k);
		free(b->base);
	}
	n_bufs = 0;
}

/* got and ref are whole buffers, gaps between rows included (there both must hold what they held before).
 * mag: per element the sum of magnitudes that the error may be measured by; NULL: |ref| and a 1/1000 of the
 * buffer's largest. */
static inline void expect_close(
        const char *name, const float *got, const float *ref, const float *mag, double tol)
{
	size_t n = size_of(ref);
	double top = 0;
	for (size_t i = 0; i < n; i++)
		if (fabs((double)ref[i]) > top && isfinite(ref[i]))
			top = fabs((double)ref[i]);
	assert_int_equal(n, size_of(got));
	for (size_t i = 0; i < n; i++) {
		double scale = mag ? fabs((double)mag[i]) : fabs((double)ref[i]) + 1e-3 * top;
		double err = fabs((double)got[i] - ref[i]);
		if (got[i] == ref[i]) /* infinities too */
			continue;
		if (!(err <= tol * scale + 1e-37))
			fail_msg("%s: %s[%zu]: expected %.9g, found %.9g, error %.3g over %.3g", what, name,
			        i, (double)ref[i], (double)got[i], err, tol * scale);
	}
}

static inline void expect_same_bits(const char *name, const float *got, const float *ref, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (memcmp(&got[i], &ref[i], sizeof *got) != 0)
			fail_msg("%s: %s[%zu]: expected the bits of %.9g, found %.9g", what, name, i,
			        (double)ref[i], (double)got[i]);
}

#endif
