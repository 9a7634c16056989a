#include "replay/capture.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "replay/capture_format.h"

struct nssm_capture_writer {
	struct nssm_outfile *of;
	struct nssm_capture_cfg cfg;
	bool in_place;
	uint64_t n_packets, wire_bytes, n_dropped;
	uint64_t kept_packets, kept_bytes,
	        kept_end; /* as of the last flush, which ended the file at kept_end */
	uint64_t first_ns, last_ns;
	int code; /* first error */
	struct nssm_err first;
	char name[256];
};

static int fail(struct nssm_capture_writer *w, struct nssm_err *err)
{
	w->code = w->first.code;
	if (err != NULL)
		*err = w->first;
	return w->code;
}

/* What cannot be renamed over: stdout, a pipe, a device. A folder is for outfile to refuse. */
static bool only_in_place(const char *path)
{
	struct stat st;
	return strcmp(path, "-") == 0 ||
	       (stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode));
}

static int put_head(struct nssm_capture_writer *w)
{
	uint8_t *p = nssm_outfile_room(w->of, NSSM_PCAPNG_HEAD_MAX, &w->first);
	if (p == NULL)
		return w->first.code;
	size_t n = NSSM_PCAP_HEAD_BYTES;
	if (w->cfg.format == NSSM_CAPTURE_PCAPNG)
		n = nssm_pcapng_head(p, w->cfg.snaplen);
	else
		nssm_pcap_head(p, w->cfg.format == NSSM_CAPTURE_PCAP_NS, w->cfg.snaplen);
	nssm_outfile_take(w->of, n);
	/* Growing in place it is a capture from the start. */
	return w->cfg.in_place ? nssm_outfile_flush(w->of, &w->first) : 0;
}

int nssm_capture_create_as(struct nssm_capture_writer **wp, const char *path,
        const struct nssm_capture_cfg *cfg, struct nssm_err *err)
{
	*wp = NULL;
	struct nssm_capture_writer *w = calloc(1, sizeof *w);
	if (w == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for a capture writer", path);
	size_t n = strlen(path);
	snprintf(w->name, sizeof w->name, "%s%s", n < 200 ? "" : "…",
	        strcmp(path, "-") == 0 ? "stdout" : path + (n < 200 ? 0 : n - 199));
	w->cfg = *cfg;
	if (cfg->snaplen == 0 || cfg->snaplen > NSSM_CAPTURE_CAPLEN_MAX)
		w->cfg.snaplen = NSSM_CAPTURE_CAPLEN_MAX;
	w->in_place = cfg->in_place || only_in_place(path);
	int rc = w->in_place ? nssm_outfile_open_in_place(&w->of, path, err)
	                     : nssm_outfile_open(&w->of, path, err);
	if (rc == 0 && put_head(w) != 0)
		rc = fail(w, err);
	if (rc != 0) {
		nssm_capture_abort(&w);
		return rc;
	}
	*wp = w;
	return 0;
}

int nssm_capture_create(
        struct nssm_capture_writer **wp, const char *path, bool ns, uint32_t snaplen, struct nssm_err *err)
{
	struct nssm_capture_cfg cfg = {
	        .format = ns ? NSSM_CAPTURE_PCAP_NS : NSSM_CAPTURE_PCAP_US, .snaplen = snaplen};
	return nssm_capture_create_as(wp, path, &cfg, err);
}

static int refuse(struct nssm_capture_writer *w, uint64_t ts_ns, uint32_t len, struct nssm_err *err)
{
	nssm_err_set(&w->first, NSSM_ERANGE,
	        "%s: packet %llu: %u bytes at second %llu; a pcap takes up to %u bytes and second %u",
	        w->name, (unsigned long long)w->n_packets + 1, len, (unsigned long long)(ts_ns / 1000000000),
	        NSSM_CAPTURE_CAPLEN_MAX, NSSM_PCAP_SECONDS_MAX);
	/* What came before stays in a file that grows in place. */
	struct nssm_err ignored;
	if (w->in_place)
		(void)nssm_capture_flush(w, &ignored);
	return fail(w, err);
}

int nssm_capture_write_note(struct nssm_capture_writer *w, uint64_t ts_ns, const void *frame, uint32_t len,
        uint32_t wirelen, enum nssm_capture_dir dir, const char *note, uint32_t n_note, struct nssm_err *err)
{
	assert(wirelen >= len && (note == NULL || w->cfg.format == NSSM_CAPTURE_PCAPNG));
	if (w->code != 0)
		return fail(w, err);
	if (len > NSSM_CAPTURE_CAPLEN_MAX)
		return refuse(w, ts_ns, len, err);
	uint32_t kept = len < w->cfg.snaplen ? len : w->cfg.snaplen;
	uint8_t *p = nssm_outfile_room(w->of, kept + NSSM_PCAPNG_PACKET_OVER, &w->first);
	if (p == NULL)
		return fail(w, err);
	uint64_t end = nssm_outfile_kept(w->of);
	if (end != w->kept_end) {
		w->kept_end = end;
		w->kept_packets = w->n_packets;
		w->kept_bytes = w->wire_bytes;
	}
	size_t n = NSSM_PCAP_RECORD_BYTES + kept;
	if (w->cfg.format == NSSM_CAPTURE_PCAPNG) {
		n = nssm_pcapng_packet(p, ts_ns, frame, kept, wirelen, dir, note, n_note);
	} else {
		if (!nssm_pcap_record(p, w->cfg.format == NSSM_CAPTURE_PCAP_NS, ts_ns, kept, wirelen))
			return refuse(w, ts_ns, len, err);
		memcpy(p + NSSM_PCAP_RECORD_BYTES, frame, kept);
	}
	nssm_outfile_take(w->of, n);
	if (w->n_packets++ == 0 || ts_ns < w->first_ns)
		w->first_ns = ts_ns;
	if (ts_ns > w->last_ns)
		w->last_ns = ts_ns;
	w->wire_bytes += wirelen;
	return 0;
}

int nssm_capture_write(struct nssm_capture_writer *w, uint64_t ts_ns, const void *frame, uint32_t len,
        uint32_t wirelen, struct nssm_err *err)
{
	return nssm_capture_write_note(w, ts_ns, frame, len, wirelen, NSSM_DIR_UNKNOWN, NULL, 0, err);
}

int nssm_capture_flush(struct nssm_capture_writer *w, struct nssm_err *err)
{
	if (w->code != 0)
		return fail(w, err);
	if (nssm_outfile_flush(w->of, &w->first) != 0)
		return fail(w, err);
	w->kept_end = nssm_outfile_kept(w->of);
	w->kept_packets = w->n_packets;
	w->kept_bytes = w->wire_bytes;
	return 0;
}

void nssm_capture_kept(const struct nssm_capture_writer *w, uint64_t *n_packets, uint64_t *wire_bytes)
{
	*n_packets = w->in_place ? w->kept_packets : 0;
	*wire_bytes = w->in_place ? w->kept_bytes : 0;
}

void nssm_capture_set_dropped(struct nssm_capture_writer *w, uint64_t n_dropped)
{
	w->n_dropped = n_dropped;
}

int nssm_capture_commit(struct nssm_capture_writer **wp, struct nssm_err *err)
{
	struct nssm_capture_writer *w = *wp;
	if (w->code == 0 && w->cfg.format == NSSM_CAPTURE_PCAPNG) {
		uint8_t *p = nssm_outfile_room(w->of, NSSM_PCAPNG_END_MAX, &w->first);
		if (p == NULL)
			fail(w, NULL);
		else
			nssm_outfile_take(w->of, nssm_pcapng_end(p, w->first_ns, w->last_ns,
			                                 w->n_packets + w->n_dropped, w->n_dropped));
	}
	int rc = w->code != 0 ? fail(w, err) : nssm_outfile_commit(&w->of, err);
	nssm_capture_abort(wp);
	return rc;
}

void nssm_capture_abort(struct nssm_capture_writer **wp)
{
	if (*wp == NULL)
		return;
	nssm_outfile_abort(&(*wp)->of);
	free(*wp);
	*wp = NULL;
}
