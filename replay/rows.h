/* rows — what each flow of a play came to while it plays, for the truth file. Rows of 64 bytes in leaves of 1, 2, 4 … 128; the rows of
 * a play with more flows than that hang on nodes of 256 children, so that a row is found in at most five steps whatever the number
 * of flows. Leaves and nodes are cut from chunks of an arena; they go back to free lists, nothing to the arena before close.
 * Checked: tests/test_engine.c and tests/clones.py (through truth)                                                          */
#ifndef NSSM_ROWS_H
#define NSSM_ROWS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "replay/arena.h"

struct nssm_flow_row {
	uint64_t first_due_ns, last_due_ns, first_sent_ns, last_sent_ns; /* sent: of packets[] > 0 only */
	uint32_t packets[2], dropped, due; /* due: sent + dropped */
	uint64_t bytes[2];
};

struct nssm_rows;
/* arena: what rows are cut from; without a spill folder. */
int nssm_rows_open(struct nssm_rows **r, const struct nssm_arena_cfg *arena, struct nssm_err *err);
void nssm_rows_close(struct nssm_rows **r);
/* nssm_arena_touch of its arena. */
bool nssm_rows_touch(const struct nssm_rows *r, size_t *at);

struct nssm_row_seg; /* a play's rows; NULL: none */
/* Row of flow idx, made if need be (zeroed); NULL: no room is left. Valid until the next call for the same play. */
struct nssm_flow_row *nssm_rows_get(struct nssm_rows *r, struct nssm_row_seg **root, uint32_t idx);
/* NULL: was never made. */
const struct nssm_flow_row *nssm_rows_find(const struct nssm_row_seg *root, uint32_t idx);
/* All rows of a play are given back; *root becomes NULL. */
void nssm_rows_put(struct nssm_rows *r, struct nssm_row_seg **root);

#endif
