/* rows — what each flow of a play came to while it plays, for the truth file. Rows of 64 bytes in segments of 1, 2, 4 … 256 from
 * chunks of an arena; segments go back to free lists, nothing to the arena before close.
 * Checked: tests/test_engine.c (through truth), tests/test_rows.c                                                           */
#ifndef NSSM_ROWS_H
#define NSSM_ROWS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "replay/arena.h"

struct nssm_flow_row {
	uint64_t first_due_ns, last_due_ns, first_sent_ns, last_sent_ns; /* sent: UINT64_MAX before the first */
	uint32_t packets[2], dropped, due; /* due: sent + dropped */
	uint64_t bytes[2];
};

struct nssm_rows;
/* bytes, lazy: as arena.h's. */
int nssm_rows_open(struct nssm_rows **r, size_t bytes, bool lazy, struct nssm_err *err);
void nssm_rows_close(struct nssm_rows **r);

struct nssm_row_seg; /* a play's list of segments; NULL: none */
/* Row of flow idx, made if need be (zeroed); NULL: no room is left. */
struct nssm_flow_row *nssm_rows_get(struct nssm_rows *r, struct nssm_row_seg **list, uint32_t idx);
void nssm_rows_put(struct nssm_rows *r, struct nssm_row_seg **list);

#endif
