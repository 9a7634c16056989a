/* netssm nprint: captures to the table of header bits that nPrint's users read. */
#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "app/cmd.h"
#include "app/eval/nprint.h"
#include "app/progress.h"
#include "base/file.h"
#include "replay/capture.h"

#define ROW_MAX (INET6_ADDRSTRLEN + 3 * NSSM_NPRINT_BITS + 2)

struct job {
	struct nssm_outfile *out;
	struct nssm_progress bar;
	uint64_t n_rows, n_not_ip, n_other, limit;
};

static int write_head(struct job *j, struct nssm_err *err)
{
	char name[48];
	int rc = nssm_outfile_write(j->out, "src_ip", 6, err);
	for (int f = 0; f < nssm_nprint_n_fields && rc == 0; f++)
		for (int b = 0; b < nssm_nprint_field[f].n_bits && rc == 0; b++) {
			int n = snprintf(name, sizeof name, ",%s_%d", nssm_nprint_field[f].name, b);
			rc = nssm_outfile_write(j->out, name, (size_t)n, err);
		}
	return rc != 0 ? rc : nssm_outfile_write(j->out, "\n", 1, err);
}

static int write_row(struct job *j, const struct nssm_nprint *np, enum nssm_nprint_header ip, struct nssm_err *err)
{
	char *at = (char *)nssm_outfile_room(j->out, ROW_MAX, err), *p = at;
	if (p == NULL)
		return err->code;
	bool v4 = ip == NSSM_NPRINT_IPV4;
	if (inet_ntop(v4 ? AF_INET : AF_INET6, np->byte + nssm_nprint_at[ip] + (v4 ? 12 : 8), p, INET6_ADDRSTRLEN) == NULL)
		*p = '\0';
	p += strlen(p);
	for (int h = 0; h < NSSM_NPRINT_N_HEADERS; h++)
		for (int i = nssm_nprint_at[h]; i < nssm_nprint_at[h + 1]; i++)
			for (int b = 7; b >= 0; b--) {
				bool here = i - nssm_nprint_at[h] < np->n[h];
				*p++ = ',';
				if (!here)
					*p++ = '-';
				*p++ = (char)('0' + (here ? np->byte[i] >> b & 1 : 1));
			}
	*p++ = '\n';
	nssm_outfile_take(j->out, (size_t)(p - at));
	j->n_rows++;
	return 0;
}

/* As nprint: what is neither TCP nor UDP nor ICMP over IP has no row. */
static int take(struct job *j, const struct nssm_pkt *pkt, struct nssm_err *err)
{
	struct nssm_hdrs h;
	struct nssm_nprint np;
	int parsed = nssm_pkt_parse(&h, pkt->data, pkt->caplen);
	enum nssm_nprint_header ip = nssm_nprint(&np, &h, parsed, pkt->data, pkt->caplen);
	if (ip == NSSM_NPRINT_N_HEADERS) {
		j->n_not_ip++;
		return 0;
	}
	if (h.proto != 1 && h.proto != 6 && h.proto != 17) {
		j->n_other++;
		return 0;
	}
	return write_row(j, &np, ip, err);
}

static int one_capture(struct job *j, const char *path, struct nssm_err *err)
{
	struct nssm_capture *c;
	struct nssm_pkt pkt;
	char a[16];
	int rc = nssm_capture_open(&c, path, err);
	if (rc != 0)
		return rc;
	while ((j->limit == 0 || j->n_rows < j->limit) && (rc = nssm_capture_next(c, &pkt, err)) > 0) {
		if ((rc = take(j, &pkt, err)) < 0)
			break;
		if (nssm_progress_due(&j->bar, false))
			nssm_progress_line(&j->bar, -1, "%s packets  %s", nssm_human(a, (double)j->n_rows), path);
	}
	nssm_capture_close(&c);
	return rc < 0 ? rc : 0;
}

/* A capture that is named by mistake is not written over. */
static int check_out(const char *out, const char *const *pos, int n_pos, struct nssm_err *err)
{
	struct stat o, c;
	if (stat(out, &o) != 0)
		return 0;
	for (int i = 0; i < n_pos; i++)
		if (stat(pos[i], &c) == 0 && c.st_dev == o.st_dev && c.st_ino == o.st_ino)
			return nssm_err_set(err, NSSM_EARG, "--out: expected another file than the captures, found %.300s", pos[i]);
	return 0;
}

static int run(struct nssm_conf *conf, const char *const *pos, int n_pos, struct nssm_err *err)
{
	const char *out = nssm_conf_str(conf, NSSM_K_NPRINT_OUT);
	if (n_pos == 0)
		return nssm_err_set(err, NSSM_EARG, "nprint: name at least one capture");
	if (out == NULL)
		return nssm_err_set(err, NSSM_EARG, "--out: where to? a CSV to write; - is stdout");
	struct job j = {.limit = (uint64_t)nssm_conf_int(conf, NSSM_K_NPRINT_LIMIT)};
	int rc = check_out(out, pos, n_pos, err);
	if (rc == 0)
		rc = strcmp(out, "-") == 0 ? nssm_outfile_open_in_place(&j.out, out, err) : nssm_outfile_open(&j.out, out, err);
	if (rc != 0)
		return rc;
	nssm_progress_init(&j.bar, nssm_conf_str(conf, NSSM_K_PROGRESS));
	rc = write_head(&j, err);
	for (int i = 0; i < n_pos && rc == 0; i++)
		rc = one_capture(&j, pos[i], err);
	nssm_progress_end(&j.bar);
	if (rc == 0)
		rc = nssm_outfile_commit(&j.out, err);
	else
		nssm_outfile_abort(&j.out);
	if (rc == 0)
		fprintf(stderr, "wrote %" PRIu64 " packets of %d bits; left out: %" PRIu64 " not IP, %" PRIu64 " neither TCP, UDP nor ICMP\n",
		        j.n_rows, NSSM_NPRINT_BITS, j.n_not_ip, j.n_other);
	return rc;
}

const struct nssm_cmd nssm_cmd_nprint = {
        .name = "nprint",
        .usage = "nprint CAPTURE... --out FILE",
        .summary = "write the header bits of captures as nPrint's CSV",
        .details = "One row a packet, in the order of the captures: src_ip, then the bits of IPv4\n"
                   "(480), IPv6 (320), TCP (480), UDP (64) and ICMP (64) with nPrint's column names;\n"
                   "-1 where the packet has no such bit. It is what nprint -4 -6 -t -u -i -F -1\n"
                   "writes, but headers behind VLAN tags and IPv6 extension headers are found, and\n"
                   "what the capture cut off is -1. Packets that are neither TCP nor UDP nor ICMP\n"
                   "have no row and are counted.\n"
                   "\n"
                   "  netssm nprint web.pcap dns.pcap.gz --out bits.csv\n",
        .bit = NSSM_CMD_NPRINT,
        .max_pos = INT32_MAX,
        .run = run,
};
