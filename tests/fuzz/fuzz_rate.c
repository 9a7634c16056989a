/* Any text as a rate: refused with a message, or printed so that it reads the same again; and a schedule that is driven with it by the
 * bytes behind its line never goes back, whatever else is asked of it. */
#include <stdlib.h>
#include <string.h>

#include "replay/schedule.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int ok)
{
	if (!ok)
		abort();
}

static int parse(struct nssm_rate *r, const uint8_t **data, size_t *size)
{
	char text[80], print[32];
	size_t n = 0;
	struct nssm_err err = {0};
	for (; *size > 0 && n + 1 < sizeof text && **data != '\n'; (*data)++, (*size)--)
		text[n++] = (char)**data;
	text[n] = '\0';
	if (*size > 0) {
		(*data)++;
		(*size)--;
	}
	int rc = nssm_rate_parse(r, text, "--rate", &err);
	if (rc != 0) {
		require(rc == err.code && strncmp(err.msg, "--rate \"", 8) == 0);
		return rc;
	}
	struct nssm_rate again;
	require(r->num > 0 && r->den > 0);
	require(nssm_rate_parse(&again, nssm_rate_print(print, r), "--rate", &err) == 0);
	require(again.kind == r->kind && again.num == r->num && again.den == r->den);
	return 0;
}

/* A number of any size from the input: a byte of bits, and as many bytes as they take. */
static uint64_t number(const uint8_t **data, size_t *size)
{
	uint64_t v = 0;
	if (*size < 2)
		return *size = 0;
	for (unsigned left = **data % 9; *size > 1 && left > 0; left--) {
		(*data)++;
		(*size)--;
		v = v << 8 | **data;
	}
	(*data)++;
	(*size)--;
	return v;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct nssm_rate r, next;
	struct nssm_err err = {0};
	if (parse(&r, &data, &size) != 0)
		return 0;
	struct nssm_sched s = {.line_bps = number(&data, &size), .max_pps = number(&data, &size),
		.max_bps = number(&data, &size), .ramp_ns = number(&data, &size)};
	if (nssm_sched_init(&s, &r, &err) != 0) {
		require(err.code < 0 && err.msg[0] != '\0');
		return 0;
	}
	for (uint64_t last = 0, stream = 0; size > 0;) {
		uint8_t op = *data++;
		size--;
		if (op % 8 == 0)
			nssm_sched_shift(&s, number(&data, &size));
		else if (op % 8 == 1 && parse(&next, &data, &size) == 0)
			(void)nssm_sched_change(&s, &next, number(&data, &size), stream, &err);
		else {
			stream = op % 8 == 2 ? number(&data, &size) : stream + number(&data, &size) % 1000000;
			uint64_t look = nssm_sched_peek(&s, stream), due = nssm_sched_next(&s, stream, (uint32_t)number(&data, &size));
			require(look == due && due >= last && due <= NSSM_SCHED_END_NS);
			last = due;
			(void)nssm_sched_stream_at(&s, due);
		}
	}
	return 0;
}
