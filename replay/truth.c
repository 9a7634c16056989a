#include "replay/truth.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/sha1.h"

/* A row without its label: an ID, 2 addresses, 3 small numbers, 6 of 20 digits, 4 times of 21, commas; rounded up. */
#define ROW_BYTES 512u
#define LABEL_MAX 4096u

static const char HEAD[] = "community_id,proto,src_ip,src_port,dst_ip,dst_port,label,session,clone,first_due,"
                           "last_due,first_sent,"
                           "last_sent,packets_fwd,packets_rev,bytes_fwd,bytes_rev,dropped,state\n";

enum { ICMP = 1, TCP = 6, UDP = 17, ICMPV6 = 58, SCTP = 132 };

struct cell {
	const char *text; /* as it stands in the file, quoted where need be */
	uint32_t len;
};

struct nssm_truth {
	struct nssm_outfile *of; /* NULL once finished */
	uint64_t n_rows;
	uint32_t n_labels;
	size_t row_max;
	struct cell *label;
	char *cells;
};

/* --- Community ID --- */

/* The type that answers this one, or -1: then the message is one-way and its code stands for the other port. From Zeek, which
 * the specification refers to (pycommunityid's icmp.py and icmp6.py). */
static int counter_type(uint8_t proto, unsigned type)
{
	static const uint8_t v4[][2] = {{0, 8}, {9, 10}, {13, 14}, {15, 16}, {17, 18}};
	static const uint8_t v6[][2] = {
	        {128, 129}, {130, 131}, {133, 134}, {135, 136}, {139, 140}, {144, 145}};
	const uint8_t(*pair)[2] = proto == ICMP ? v4 : v6;
	size_t n = proto == ICMP ? sizeof v4 / sizeof v4[0] : sizeof v6 / sizeof v6[0];
	for (size_t i = 0; i < n; i++) {
		if (type == pair[i][0])
			return pair[i][1];
		if (type == pair[i][1])
			return pair[i][0];
	}
	return -1;
}

static void base64(char *out, const uint8_t in[NSSM_SHA1_BYTES])
{
	static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	static_assert(NSSM_SHA1_BYTES % 3 == 2, "the last group has two bytes");
	const uint8_t *p = in;
	for (int i = 0; i < NSSM_SHA1_BYTES / 3; i++, p += 3) {
		uint32_t v = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
		*out++ = digit[v >> 18];
		*out++ = digit[v >> 12 & 63];
		*out++ = digit[v >> 6 & 63];
		*out++ = digit[v & 63];
	}
	uint32_t v = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8;
	*out++ = digit[v >> 18];
	*out++ = digit[v >> 12 & 63];
	*out++ = digit[v >> 6 & 63];
	*out++ = '=';
	*out = '\0';
}

void nssm_community_id(char out[NSSM_COMMUNITY_ID_BYTES], const struct nssm_tuple *t)
{
	uint32_t port[2] = {t->port[0], t->port[1]};
	bool one_way = false;
	bool ports = t->proto == TCP || t->proto == UDP || t->proto == SCTP;
	if (t->proto == ICMP || t->proto == ICMPV6) {
		int counter = counter_type(t->proto, t->port[0]);
		ports = true;
		one_way = counter < 0;
		if (!one_way)
			port[1] = (uint32_t)counter;
	}
	size_t addr_len = t->ip_version == 4 ? 4 : 16;
	int order = memcmp(t->addr[0], t->addr[1], addr_len);
	int first = !one_way && (order > 0 || (order == 0 && ports && port[0] > port[1]));
	/* Seed, smaller end, larger end, protocol, padding, ports. */
	uint8_t in[2 + 16 + 16 + 2 + 4] = {0};
	size_t n = 2;
	for (int i = 0; i < 2; i++, n += addr_len)
		memcpy(in + n, t->addr[first ^ i], addr_len);
	in[n] = t->proto;
	n += 2;
	for (int i = 0; i < 2 && ports; i++, n += 2) {
		in[n] = (uint8_t)(port[first ^ i] >> 8);
		in[n + 1] = (uint8_t)port[first ^ i];
	}
	uint8_t digest[NSSM_SHA1_BYTES];
	nssm_sha1(digest, in, n);
	out[0] = '1';
	out[1] = ':';
	base64(out + 2, digest);
}

/* --- a row's text --- */

static char *put_u64(char *p, uint64_t v)
{
	char digits[20];
	int n = 0;
	do
		digits[n++] = (char)('0' + v % 10);
	while ((v /= 10) != 0);
	while (n > 0)
		*p++ = digits[--n];
	return p;
}

static char *put_time(char *p, uint64_t ns)
{
	p = put_u64(p, ns / 1000000000u);
	uint32_t rest = (uint32_t)(ns % 1000000000u);
	*p = '.';
	for (int i = 9; i > 0; i--, rest /= 10)
		p[i] = (char)('0' + rest % 10);
	return p + 10;
}

static char *put_addr(char *p, const uint8_t *addr, uint8_t ip_version)
{
	if (ip_version == 4) {
		for (int i = 0; i < 4; i++) {
			p = put_u64(p, addr[i]);
			*p++ = '.';
		}
		return p - 1;
	}
	(void)inet_ntop(AF_INET6, addr, p, INET6_ADDRSTRLEN);
	return p + strlen(p);
}

static char *put_ends(char *p, const struct nssm_tuple *t)
{
	nssm_community_id(p, t);
	p += strlen(p);
	*p++ = ',';
	p = put_u64(p, t->proto);
	for (int i = 0; i < 2; i++) {
		*p++ = ',';
		p = put_addr(p, t->addr[i], t->ip_version);
		*p++ = ',';
		p = put_u64(p, t->port[i]);
	}
	return p;
}

static char *put_row(char *p, const struct nssm_truth *t, const struct nssm_truth_row *row)
{
	p = put_ends(p, &row->tuple);
	*p++ = ',';
	if (row->label_idx < t->n_labels) {
		const struct cell *c = &t->label[row->label_idx];
		memcpy(p, c->text, c->len);
		p += c->len;
	}
	*p++ = ',';
	p = put_u64(p, row->session);
	*p++ = ',';
	p = put_u64(p, row->clone);
	*p++ = ',';
	p = put_time(p, row->first_due_ns);
	*p++ = ',';
	p = put_time(p, row->last_due_ns);
	bool sent = row->packets[0] != 0 || row->packets[1] != 0;
	*p++ = ',';
	if (sent)
		p = put_time(p, row->first_sent_ns);
	*p++ = ',';
	if (sent)
		p = put_time(p, row->last_sent_ns);
	uint64_t count[5] = {row->packets[0], row->packets[1], row->bytes[0], row->bytes[1], row->dropped};
	for (int i = 0; i < 5; i++) {
		*p++ = ',';
		p = put_u64(p, count[i]);
	}
	const char *state = row->complete ? ",complete\n" : ",cut\n";
	size_t n = strlen(state);
	memcpy(p, state, n);
	return p + n;
}

/* --- the file --- */

int nssm_truth_flush(struct nssm_truth *t, struct nssm_err *err)
{
	return nssm_outfile_flush(t->of, err);
}

int nssm_truth_row(struct nssm_truth *t, const struct nssm_truth_row *row, struct nssm_err *err)
{
	char *p = (char *)nssm_outfile_room(t->of, t->row_max, err);
	if (p == NULL)
		return nssm_outfile_flush(t->of, err); /* the error that stays */
	nssm_outfile_take(t->of, (size_t)(put_row(p, t, row) - p));
	t->n_rows++;
	return 0;
}

uint64_t nssm_truth_rows(const struct nssm_truth *t)
{
	return t->n_rows;
}

/* Quoted as RFC 4180 has it, where it must be; dst NULL: only the length. */
static size_t put_cell(char *dst, const char *s)
{
	bool quote = s[strcspn(s, ",\"\r\n")] != '\0';
	size_t n = 0;
	for (const char *c = quote ? "\"" : ""; *c != '\0'; c++, n++)
		if (dst != NULL)
			dst[n] = *c;
	for (; *s != '\0'; s++)
		for (int twice = *s == '"' ? 2 : 1; twice > 0; twice--, n++)
			if (dst != NULL)
				dst[n] = *s;
	if (quote && dst != NULL)
		dst[n] = '"';
	return n + quote;
}

static int make_cells(struct nssm_truth *t, const char *path, const char *const *label, uint32_t n_labels,
        struct nssm_err *err)
{
	size_t total = 0, longest = 0;
	for (uint32_t i = 0; i < n_labels; i++) {
		if (strlen(label[i]) > LABEL_MAX)
			return nssm_err_set(
			        err, NSSM_ERANGE, "%s: label %u has more than %u bytes", path, i, LABEL_MAX);
		size_t n = put_cell(NULL, label[i]);
		total += n;
		longest = n > longest ? n : longest;
	}
	t->row_max = ROW_BYTES + longest;
	t->cells = malloc(total + 1);
	t->label = malloc((n_labels + 1) * sizeof *t->label);
	if (t->cells == NULL || t->label == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for %u labels", path, n_labels);
	char *p = t->cells;
	for (uint32_t i = 0; i < n_labels; i++) {
		size_t n = put_cell(p, label[i]);
		t->label[i] = (struct cell){.text = p, .len = (uint32_t)n};
		p += n;
	}
	t->n_labels = n_labels;
	return 0;
}

int nssm_truth_open(struct nssm_truth **tp, const char *path, const char *const *label, uint32_t n_labels,
        bool in_place, struct nssm_err *err)
{
	*tp = NULL;
	struct nssm_truth *t = calloc(1, sizeof *t);
	if (t == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory", path);
	int rc = make_cells(t, path, label, n_labels, err);
	if (rc == 0)
		rc = in_place ? nssm_outfile_open_in_place(&t->of, path, err)
		              : nssm_outfile_open(&t->of, path, err);
	if (rc == 0)
		rc = nssm_outfile_write(t->of, HEAD, sizeof HEAD - 1, err);
	if (rc == 0 && in_place) /* a file that a kill leaves has its columns' names */
		rc = nssm_outfile_flush(t->of, err);
	if (rc != 0)
		nssm_truth_close(&t);
	*tp = t;
	return rc;
}

int nssm_truth_finish(struct nssm_truth *t, struct nssm_err *err)
{
	return nssm_outfile_commit(&t->of, err);
}

void nssm_truth_close(struct nssm_truth **tp)
{
	struct nssm_truth *t = *tp;
	if (t == NULL)
		return;
	nssm_outfile_abort(&t->of);
	free(t->label);
	free(t->cells);
	free(t);
	*tp = NULL;
}
