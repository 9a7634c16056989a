/* live_view — a run while it goes: lines that are redrawn in place in a terminal, or one plain line now and then elsewhere.
 * Live   : as many lines as there are rows, the most important ones; each as wide as the terminal allows, never wrapped: what does
 *          not fit is left out whole. Readable in 80x24. "now" is the last second.
 * Plain  : [0:12] 100 kpps  412 Mbps  sent 1.20 M  dropped 0  late p99 3.10 µs …  with rates since the line before.
 * The cursor is never hidden: it stands below the lines, and whatever ends the program leaves the terminal as it was.
 * Checked: tests/test_live_view.c                                                                                           */
#ifndef NSSM_LIVE_VIEW_H
#define NSSM_LIVE_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "replay/stats.h"

struct nssm_view;
/* out: borrowed until close. mode: "auto", "none", "plain" or "live". title: "netssm replay". False: out of memory. */
bool nssm_view_open(struct nssm_view **v, FILE *out, const char *mode, const char *title);
/* Whether a drawing is due: live 4 times a second, plain every 10 s (the first after 10 s), none never. */
bool nssm_view_due(const struct nssm_view *v);
/* Draws, due or not (but for none). */
void nssm_view_draw(struct nssm_view *v, const struct nssm_stats *now);
/* What was drawn stays. Takes NULL. */
void nssm_view_close(struct nssm_view **v);

/* What draw draws: the lines, each ended by a newline. before: what was window_s ago; NULL: averages stand for now. Returns the
 * number of lines, at most rows - 1 and at least 1, each at most cols - 1 wide. cap: 64 KiB is always enough. */
#define NSSM_VIEW_BYTES 65536
int nssm_view_render(char *out, size_t cap, const char *title, const struct nssm_stats *now, const struct nssm_stats *before,
	double window_s, int cols, int rows);
/* The plain line, without newline. */
void nssm_view_plain(char *out, size_t cap, const struct nssm_stats *now, const struct nssm_stats *before, double window_s);

#endif
