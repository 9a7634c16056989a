/* bench_rows — the results of `netssm bench decode|train|prefill|prepare`: a table as they come, or JSON at the end. */
#ifndef NSSM_BENCH_ROWS_H
#define NSSM_BENCH_ROWS_H

#include <stdbool.h>

#include <jansson.h>

#define NSSM_BENCH_RUNS 5

struct nssm_bench_row {
	const char *op;      /* "decode", "train", "prefill", "prepare" */
	const char *level, *weights; /* NULL: none, as for prepare */
	const char *codec;   /* NULL: none */
	int lanes, threads;
	double tokens[NSSM_BENCH_RUNS]; /* tokens a second of each run */
	/* Of the model's: what one token takes, and the seconds that it takes at least (bench_model.h). */
	double flops, bytes, roof_s;
	/* Of prepare: a token. */
	double packets, capture_bytes;
};

struct nssm_bench_rows {
	bool json;
	json_t *rows;        /* with json */
	const char *shown;   /* op of the table that is being printed */
};

void nssm_bench_rows_begin(struct nssm_bench_rows *rows, bool json);
void nssm_bench_row(struct nssm_bench_rows *rows, struct nssm_bench_row *row);
/* peaks: new reference, or NULL. Prints the JSON. */
void nssm_bench_rows_end(struct nssm_bench_rows *rows, json_t *peaks);

#endif
