/* alloc_count — for tests: how often memory was asked for, by any thread. Link with wrap_alloc. */
#ifndef NSSM_TESTS_ALLOC_COUNT_H
#define NSSM_TESTS_ALLOC_COUNT_H

#include <stdatomic.h>
#include <stddef.h>

static atomic_ulong n_allocs;
void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t k);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t a, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t k);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_aligned_alloc(size_t a, size_t n);

void *__wrap_malloc(size_t n)
{
	atomic_fetch_add(&n_allocs, 1);
	return __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t k)
{
	atomic_fetch_add(&n_allocs, 1);
	return __real_calloc(n, k);
}

void *__wrap_realloc(void *p, size_t n)
{
	atomic_fetch_add(&n_allocs, 1);
	return __real_realloc(p, n);
}

void *__wrap_aligned_alloc(size_t a, size_t n)
{
	atomic_fetch_add(&n_allocs, 1);
	return __real_aligned_alloc(a, n);
}

#endif
