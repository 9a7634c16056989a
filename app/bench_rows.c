#include "app/bench_rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/progress.h"
#include "base/measure.h"

static double load_average(void)
{
	double l[1];
	return getloadavg(l, 1) == 1 ? l[0] : -1;
}

void nssm_bench_rows_begin(struct nssm_bench_rows *rows, bool json)
{
	*rows = (struct nssm_bench_rows){.json = json, .rows = json ? json_array() : NULL};
}

static json_t *row_json(const struct nssm_bench_row *r, double median)
{
	json_t *j = json_pack("{ss si sf sf sf si sf}", "op", r->op, "threads", r->threads, "tokens_per_s", median, "min", r->tokens[0],
	        "max", r->tokens[NSSM_BENCH_RUNS - 1], "runs", NSSM_BENCH_RUNS, "load_average", load_average());
	if (r->codec != NULL) {
		json_object_set_new(j, "codec", json_string(r->codec));
		json_object_set_new(j, "packets_per_s", json_real(median * r->packets));
		json_object_set_new(j, "bytes_per_s", json_real(median * r->capture_bytes));
		return j;
	}
	json_object_set_new(j, "level", json_string(r->level));
	json_object_set_new(j, "weights", json_string(r->weights));
	json_object_set_new(j, "lanes", json_integer(r->lanes));
	json_object_set_new(j, "flops_per_s", json_real(median * r->flops));
	json_object_set_new(j, "bytes_per_s", json_real(median * r->bytes));
	json_object_set_new(j, "share_of_peak", json_real(median * r->roof_s));
	return j;
}

static void head(const struct nssm_bench_row *r)
{
	if (r->codec != NULL)
		printf("%-8s %-6s %10s %8s   %-17s %6s\n", "op", "codec", "packets/s", "MB/s", "(slowest..fastest)", "load");
	else
		printf("%-8s %-10s %-5s %6s %4s %9s %8s %8s %6s   %-17s %6s\n", "op", "level", "wts", "lanes", "thr", "tokens/s", "GF/s",
		        "GB/s", "share", "(slowest..fastest)", "load");
}

void nssm_bench_row(struct nssm_bench_rows *rows, struct nssm_bench_row *r)
{
	double median = nssm_median(r->tokens, NSSM_BENCH_RUNS), by = r->codec != NULL ? r->packets : 1;
	char mid[16], lo[16], hi[16], range[40];
	if (rows->json) {
		json_array_append_new(rows->rows, row_json(r, median));
		return;
	}
	if (rows->shown == NULL || strcmp(rows->shown, r->op) != 0)
		head(r);
	rows->shown = r->op;
	nssm_human(mid, median * by);
	snprintf(range, sizeof range, "(%s..%s)", nssm_human(lo, r->tokens[0] * by), nssm_human(hi, r->tokens[NSSM_BENCH_RUNS - 1] * by));
	if (r->codec != NULL)
		printf("%-8s %-6s %10s %8.1f   %-17s %6.2f\n", r->op, r->codec, mid, median * r->capture_bytes / 1e6, range, load_average());
	else
		printf("%-8s %-10s %-5s %6d %4d %9s %8.1f %8.1f %4.0f %%   %-17s %6.2f\n", r->op, r->level, r->weights, r->lanes, r->threads,
		        mid, median * r->flops / 1e9, median * r->bytes / 1e9, 100 * median * r->roof_s, range, load_average());
	fflush(stdout);
}

void nssm_bench_rows_end(struct nssm_bench_rows *rows, json_t *peaks)
{
	if (rows->json) {
		json_t *all = json_object();
		json_object_set_new(all, "runs", json_integer(NSSM_BENCH_RUNS));
		if (peaks != NULL)
			json_object_set(all, "peaks", peaks);
		json_object_set(all, "rows", rows->rows);
		json_dumpf(all, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
		putchar('\n');
		json_decref(all);
	}
	json_decref(peaks);
	json_decref(rows->rows);
}
