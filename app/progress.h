/* progress — one line that is redrawn in a terminal, or plain lines now and then elsewhere (stderr). */
#ifndef NSSM_PROGRESS_H
#define NSSM_PROGRESS_H

#include <stdbool.h>
#include <stdio.h>

enum nssm_progress_mode { NSSM_PROGRESS_NONE, NSSM_PROGRESS_PLAIN, NSSM_PROGRESS_LIVE };

struct nssm_progress {
	FILE *out;
	enum nssm_progress_mode mode;
	double min_gap_s;   /* least time between two drawings: live 0.1, plain 10 */
	double start_s, last_s;
	int drawn;          /* columns of the line on the screen */
};

/* mode: "auto", "none", "plain" or "live" (run.progress). auto: live if out is a terminal that can move its cursor. */
enum nssm_progress_mode nssm_progress_mode(const char *mode, FILE *out);
void nssm_progress_init(struct nssm_progress *p, const char *mode);
double nssm_progress_elapsed(const struct nssm_progress *p);
/* True if a drawing is due (or force); then call nssm_progress_line. */
bool nssm_progress_due(struct nssm_progress *p, bool force);
/* Draws: [=====>    ] 42 %  text…  ETA 1:23. done in [0,1]; negative: unknown, no bar. Cut to the terminal's width. */
void nssm_progress_line(struct nssm_progress *p, double done, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Ends the live line so that other output may follow. */
void nssm_progress_end(struct nssm_progress *p);
/* 1234567 → "1.23 M"; for tokens, packets, bytes. Returns buf. */
char *nssm_human(char buf[16], double v);
/* Seconds → "1:02:03" or "2:03". Returns buf. */
char *nssm_hms(char buf[16], double s);

#endif
