/* pages — memory for tables that are used at random: whole pages, of 2 MB where there are enough bytes for one and the kernel has them. */
#ifndef NSSM_BASE_PAGES_H
#define NSSM_BASE_PAGES_H

#include <stddef.h>

/* Zeroed and touched, so that no later use pays for a page. *bytes grows to what is mapped; NULL: no memory. */
void *nssm_pages_open(size_t *bytes);
/* NULL: nothing. */
void nssm_pages_close(void *p, size_t bytes);

#endif
