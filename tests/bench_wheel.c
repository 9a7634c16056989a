/* How long the wheel takes: ns for a peek, a pop and adding the same cursor again, at several numbers of cursors and several
 * spreads of their gaps.
 *   build/tests/bench_wheel [MOVES]
 * Gaps are exponential with mean n/rate, so that all cursors together come due at that rate. Nothing else touches memory: a
 * caller with a state of its own for each cursor has to prefetch it (nssm_wheel_ahead). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/measure.h"
#include "base/philox.h"
#include "replay/hist.h"
#include "replay/wheel.h"

#define GAPS (1u << 12)
#define RUNS 5
#define SPAN 64 /* moves that are timed together for the percentile */

/* CPU time of this thread: what others make it wait is not the wheel's. */
static uint64_t cpu_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* rate: moves a second of virtual time; 0: everything is due at 0. */
static double run(uint32_t n, double rate, uint64_t moves, double *open_s, double *slow_us)
{
	static uint64_t gap[GAPS];
	struct nssm_rng rng;
	nssm_rng_init(&rng, 1, n, 77);
	for (uint32_t i = 0; i < GAPS; i++)
		gap[i] = rate > 0 ? (uint64_t)(-log(nssm_rng_unit(&rng)) * n / rate * 1e9) : 0;

	struct nssm_wheel *w;
	struct nssm_err err;
	double t0 = nssm_now_s(), ns[RUNS];
	if (nssm_wheel_open(&w, n, &err) != 0) {
		fprintf(stderr, "%s\n", err.msg);
		exit(1);
	}
	*open_s = nssm_now_s() - t0;
	for (uint32_t i = 0; i < n; i++)
		nssm_wheel_add(w, i, gap[i % GAPS] + (rate > 0 ? i % 1000 : 0), i);

	uint32_t id;
	uint64_t due, sum = 0, k = 0;
	static struct nssm_hist span;
	nssm_hist_clear(&span);
	for (int r = -1; r < RUNS; r++) { /* the first one warms up */
		uint64_t begin = cpu_ns(), last = nssm_now_ns();
		for (uint64_t i = 0; i < moves; i++, k++) {
			if (!nssm_wheel_peek(w, &id, &due))
				abort();
			nssm_wheel_pop(w);
			sum += id;
			nssm_wheel_add(w, id, due + gap[(k * 7919 + id) % GAPS], rate > 0 ? id : k + n);
			if (k % SPAN == 0) {
				uint64_t now = nssm_now_ns();
				nssm_hist_add(&span, now - last);
				last = now;
			}
		}
		if (r >= 0)
			ns[r] = (double)(cpu_ns() - begin) / (double)moves;
	}
	*slow_us = (double)nssm_hist_quantile(&span, 0.999) / 1e3;
	nssm_wheel_close(&w);
	if (sum == 0)
		printf("no cursor moved\n");
	return nssm_median(ns, RUNS);
}

int main(int argc, char **argv)
{
	static const uint32_t n[] = {1000, 100000, 1000000};
	static const double rate[] = {15e6, 5e6, 1e5, 0};
	uint64_t moves = argc > 1 ? strtoull(argv[1], NULL, 10) : 4000000;
	printf("%9s %12s %12s %12s %18s\n", "cursors", "due/s", "ns a move", "open ms", "us/64 at 99.9%");
	for (size_t r = 0; r < sizeof rate / sizeof *rate; r++)
		for (size_t i = 0; i < sizeof n / sizeof *n; i++) {
			double open_s, slow_us, ns = run(n[i], rate[r], moves, &open_s, &slow_us);
			printf("%9u %12.0f %12.1f %12.1f %18.1f\n", n[i], rate[r], ns, open_s * 1e3, slow_us);
		}
	return 0;
}
