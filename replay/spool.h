/* spool — tokens of many open sessions, in memory up to a budget, beyond it in an unlinked temporary file.
 * Memory : the budget, a row a session, an extent for each time it was spilled; what one call adds comes on top.
 * Checked: tests/test_spool.c */
#ifndef NSSM_SPOOL_H
#define NSSM_SPOOL_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct nssm_spool;

/* path: the temporary file is made in its folder, when it is first needed. */
int nssm_spool_open(struct nssm_spool **s, const char *path, size_t budget_bytes, struct nssm_err *err);
void nssm_spool_close(struct nssm_spool **s);
/* Sessions are numbered from 0 without gaps; a new number is one more than the last. */
int nssm_spool_add(
        struct nssm_spool *s, uint32_t session, const uint16_t *tokens, size_t n, struct nssm_err *err);
/* Gives a session's tokens in order, in pieces, and frees them. */
int nssm_spool_drain(struct nssm_spool *s, uint32_t session,
        int (*take)(void *ctx, const uint16_t *tokens, size_t n, struct nssm_err *err), void *ctx,
        struct nssm_err *err);
uint64_t nssm_spool_spilled(const struct nssm_spool *s); /* bytes written to the file so far */

#endif
