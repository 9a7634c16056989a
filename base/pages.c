#include "base/pages.h"

#include <string.h>
#include <sys/mman.h>

void *nssm_pages_open(size_t *bytes)
{
	const size_t huge = (size_t)2 << 20;
	if (*bytes >= huge)
		*bytes = (*bytes + huge - 1) / huge * huge + huge;
	char *p = mmap(NULL, *bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	/* Only advice: without it the pages are small. */
	(void)madvise(p, *bytes, MADV_HUGEPAGE);
	memset(p, 0, *bytes);
	return p;
}

void nssm_pages_close(void *p, size_t bytes)
{
	if (p != NULL)
		munmap(p, bytes);
}
