/* scratch — a folder of a test's own, and files in it. For tests that are one executable with one folder. */
#ifndef NSSM_TESTS_SCRATCH_H
#define NSSM_TESTS_SCRATCH_H

#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char scratch_dir[PATH_MAX / 2];

static inline int scratch_open(void **state)
{
	const char *base = getenv("TMPDIR");
	snprintf(scratch_dir, sizeof scratch_dir, "%s/netssm-test-XXXXXX", base != NULL ? base : "/tmp");
	return mkdtemp(scratch_dir) != NULL ? 0 : -1;
}

static inline int scratch_unlink(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static inline int scratch_close(void **state)
{
	return nftw(scratch_dir, scratch_unlink, 8, FTW_DEPTH | FTW_PHYS);
}

/* A path below the folder; good until the eighth call from now. */
static inline const char *scratch(const char *name)
{
	static char out[8][PATH_MAX];
	static unsigned turn;
	char *s = out[turn++ % 8];
	snprintf(s, PATH_MAX, "%s/%s", scratch_dir, name);
	return s;
}

static inline void scratch_write(const char *path, const void *data, size_t n)
{
	FILE *f = fopen(path, "wb");
	if (f == NULL || fwrite(data, 1, n, f) != n || fclose(f) != 0)
		abort();
}

/* The whole file, malloced, with a NUL behind it; NULL if it is not there. */
static inline char *scratch_read(const char *path, size_t *n)
{
	*n = 0;
	FILE *f = fopen(path, "rb");
	if (f == NULL)
		return NULL;
	fseek(f, 0, SEEK_END);
	*n = (size_t)ftell(f);
	rewind(f);
	char *data = malloc(*n + 1);
	if (data == NULL || fread(data, 1, *n, f) != *n)
		abort();
	data[*n] = '\0';
	fclose(f);
	return data;
}

#endif
