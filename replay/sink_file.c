/* Capture files as sinks: pcap and pcapng. How a record looks and how it gets to the disk is capture_writer's. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "replay/capture.h"
#include "replay/capture_format.h"
#include "replay/sink_ops.h"

#define FLUSH_NS    1000000000u /* in place: how old what a kill would lose may be */
#define LABEL_BYTES 256u        /* of a label at most in a comment */

struct sink_file {
	struct nssm_sink s;
	struct nssm_capture_writer *w;
	uint64_t flushed_ns; /* of the last flush, on tick's clock */
	bool ticked;
};

static char *put_text(char *p, const char *text)
{
	size_t n = strlen(text);
	memcpy(p, text, n);
	return p + n;
}

static char *put_number(char *p, uint64_t v)
{
	char digits[20];
	size_t n = 0;
	do {
		digits[n++] = (char)('0' + v % 10);
		v /= 10;
	} while (v != 0);
	while (n > 0)
		*p++ = digits[--n];
	return p;
}

/* The first bytes of a name, not ending within a character of UTF-8. */
static size_t cut_label(const char *name)
{
	size_t n = strnlen(name, LABEL_BYTES + 1);
	if (n > LABEL_BYTES)
		for (n = LABEL_BYTES; n > 0 && ((uint8_t)name[n] & 0xc0) == 0x80; n--)
			;
	return n;
}

/* By hand: printf would cost more than the rest of the record. */
static uint32_t put_note(char *note, const struct nssm_sink_cfg *cfg, const struct nssm_tx *pkt)
{
	char *p = note;
	const char *name =
	        cfg->label != NULL && pkt->label_idx < cfg->n_labels ? cfg->label[pkt->label_idx] : NULL;
	if (name != NULL) {
		size_t n = cut_label(name);
		p = put_text(p, "label=");
		memcpy(p, name, n);
		p = put_text(p + n, " ");
	}
	p = put_number(put_text(p, "session="), pkt->session);
	p = put_number(put_text(p, " clone="), pkt->clone);
	p = put_text(p, pkt->dir == 0 ? " dir=client" : " dir=server");
	return (uint32_t)(p - note);
}

/* Of what was counted as sent, only what is in the file was. */
static int broken(struct sink_file *f, int rc)
{
	nssm_capture_kept(f->w, &f->s.stats.sent, &f->s.stats.bytes);
	return rc;
}

static int file_burst(struct nssm_sink *s, const struct nssm_tx *pkt, uint32_t n, struct nssm_err *err)
{
	struct sink_file *f = (struct sink_file *)s;
	char note[NSSM_PCAPNG_NOTE_MAX];
	_Static_assert(LABEL_BYTES + 128 <= NSSM_PCAPNG_NOTE_MAX, "words and numbers beside the label");
	for (uint32_t i = 0; i < n; i++) {
		const struct nssm_tx *p = &pkt[i];
		if (p->len > NSSM_CAPTURE_CAPLEN_MAX) {
			s->stats.dropped[NSSM_DROP_TOO_LONG]++;
			continue;
		}
		uint32_t n_note = s->cfg.comments ? put_note(note, &s->cfg, p) : 0;
		int rc = nssm_capture_write_note(f->w, p->time_ns, p->data, p->len, p->wirelen,
		        p->dir != 0 ? NSSM_DIR_INBOUND : NSSM_DIR_OUTBOUND, s->cfg.comments ? note : NULL, n_note, err);
		if (rc != 0)
			return broken(f, rc);
		s->stats.sent++;
		s->stats.bytes += p->wirelen;
		s->stats.cut += s->cfg.snaplen != 0 && p->len > s->cfg.snaplen;
	}
	return 0;
}

static int file_tick(struct nssm_sink *s, uint64_t now_ns, struct nssm_err *err)
{
	struct sink_file *f = (struct sink_file *)s;
	if (!s->cfg.in_place)
		return 0;
	if (f->ticked && now_ns - f->flushed_ns < FLUSH_NS)
		return 0;
	f->ticked = true;
	f->flushed_ns = now_ns;
	int rc = nssm_capture_flush(f->w, err);
	return rc != 0 ? broken(f, rc) : 0;
}

static int file_finish(struct nssm_sink *s, struct nssm_err *err)
{
	struct sink_file *f = (struct sink_file *)s;
	nssm_capture_set_dropped(f->w, s->stats.dropped[NSSM_DROP_TOO_LONG]);
	int rc = nssm_capture_flush(f->w, err);
	if (rc != 0)
		return broken(f, rc);
	rc = nssm_capture_commit(&f->w, err);
	if (rc != 0) /* not synced, not renamed, or removed: nothing can be promised */
		s->stats.sent = s->stats.bytes = 0;
	return rc;
}

static void file_close(struct nssm_sink *s)
{
	struct sink_file *f = (struct sink_file *)s;
	nssm_capture_abort(&f->w);
	free(f);
}

static const struct nssm_sink_ops file_ops = {
        .burst = file_burst,
        .tick = file_tick,
        .finish = file_finish,
        .close = file_close,
};

static int file_open(struct nssm_sink **s, const char *kind, const char *path,
        enum nssm_capture_format format, const struct nssm_sink_cfg *cfg, struct nssm_err *err)
{
	*s = NULL;
	struct sink_file *f = calloc(1, sizeof *f);
	if (f == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for a sink", path);
	f->s.ops = &file_ops;
	f->s.cfg = *cfg;
	nssm_sink_set_name(&f->s, kind, strcmp(path, "-") == 0 ? "stdout" : path);
	struct nssm_capture_cfg out = {.format = format, .snaplen = cfg->snaplen, .in_place = cfg->in_place};
	int rc = nssm_capture_create_as(&f->w, path, &out, err);
	if (rc != 0) {
		free(f);
		return rc;
	}
	*s = &f->s;
	return 0;
}

int nssm_sink_pcap(
        struct nssm_sink **s, const char *path, const struct nssm_sink_cfg *cfg, struct nssm_err *err)
{
	struct nssm_sink_cfg plain = *cfg;
	plain.comments = false;
	return file_open(s, "pcap", path, cfg->us ? NSSM_CAPTURE_PCAP_US : NSSM_CAPTURE_PCAP_NS, &plain, err);
}

int nssm_sink_pcapng(
        struct nssm_sink **s, const char *path, const struct nssm_sink_cfg *cfg, struct nssm_err *err)
{
	return file_open(s, "pcapng", path, NSSM_CAPTURE_PCAPNG, cfg, err);
}
