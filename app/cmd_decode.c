/* netssm decode: a corpus back to captures. */
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/cmd.h"
#include "app/decode_report.h"
#include "app/options.h"
#include "app/progress.h"
#include "base/file.h"
#include "replay/capture.h"
#include "replay/capture_format.h"

#define LABELS_HEAD "File,Label,Session,Packets\n"

static volatile sig_atomic_t interrupted;

struct job {
	const struct nssm_conf *conf;
	struct nssm_corpus *corpus;
	struct nssm_playback *play;
	struct nssm_capture_writer *w;
	struct nssm_capture_cfg format;
	struct nssm_progress bar;
	struct nssm_decode_result r;
	uint32_t *session; /* r.n_sessions of them */
	uint64_t n_tokens; /* of these sessions */
	uint64_t limit;
	bool comments;
	bool *seen; /* per session of the corpus: a packet of it was written */
};

static void on_signal(int sig)
{
	interrupted = sig;
}

/* --- which sessions ------------------------------------------------------------------------------------------- */

static int unknown_label(const struct job *j, const char *what, struct nssm_err *err)
{
	const struct nssm_vocab *v = nssm_corpus_vocab(j->corpus);
	char known[200] = "", key[NSSM_FLAG_BYTES];
	size_t used = 0;
	uint32_t i = 0;
	for (; i < v->n_labels && used + strlen(v->label[i].name) + 3 < sizeof known - 24; i++)
		used += (size_t)snprintf(
		        known + used, sizeof known - used, "%s%s", i > 0 ? ", " : "", v->label[i].name);
	if (i < v->n_labels)
		snprintf(known + used, sizeof known - used, " … (%" PRIu32 " in all)", v->n_labels);
	return nssm_err_set(err, NSSM_EARG, "%s: expected a label of %.100s (%s), found %.64s",
	        nssm_conf_said(key, j->conf, NSSM_K_DEC_LABEL), j->r.corpus, known, what);
}

/* wanted: [n_labels], set where a --label names it; all of them if none is given. */
static int choose_labels(const struct job *j, bool *wanted, struct nssm_err *err)
{
	const struct nssm_vocab *v = nssm_corpus_vocab(j->corpus);
	const char *const *item;
	size_t n = nssm_conf_list(j->conf, NSSM_K_DEC_LABEL, &item);
	memset(wanted, n == 0, v->n_labels);
	for (size_t i = 0; i < n; i++) {
		for (const char *s = item[i]; s != NULL;) {
			char name[NSSM_LABEL_BYTES];
			size_t len = strcspn(s, ",");
			snprintf(name, sizeof name, "%.*s", (int)(len < sizeof name ? len : sizeof name), s);
			int idx = nssm_vocab_find_label(v, name);
			if (idx < 0)
				return unknown_label(j, name, err);
			wanted[idx] = true;
			s = s[len] == ',' ? s + len + 1 : NULL;
		}
	}
	return 0;
}

static bool number(uint64_t *v, const char **s)
{
	const char *p = *s;
	for (*v = 0; *p >= '0' && *p <= '9'; p++)
		if ((*v = *v * 10 + (uint64_t)(*p - '0')) > UINT32_MAX)
			return false;
	bool any = p != *s;
	*s = p;
	return any;
}

/* wanted: [sessions of the corpus], set for each of "3,7-9". */
static int add_ranges(const struct job *j, bool *wanted, const char *text, struct nssm_err *err)
{
	uint32_t n = nssm_corpus_n_sessions(j->corpus);
	const char *s = text;
	char key[NSSM_FLAG_BYTES];
	nssm_conf_said(key, j->conf, NSSM_K_DEC_SESSION);
	do {
		uint64_t lo, hi;
		s += s != text; /* the comma */
		bool ok = number(&lo, &s);
		hi = lo;
		if (ok && *s == '-') {
			s++;
			ok = number(&hi, &s);
		}
		if (!ok || (*s != '\0' && *s != ',') || lo > hi)
			return nssm_err_set(err, NSSM_EARG,
			        "%s: expected numbers and ranges such as 3,7-9, found '%.64s'", key, text);
		if (hi >= n)
			return nssm_err_set(err, NSSM_ERANGE,
			        "%s: expected sessions from 0 to %" PRIu32 ", which %.100s holds, found %" PRIu64, key,
			        n - 1, j->r.corpus, hi);
		memset(wanted + lo, 1, (size_t)(hi - lo + 1));
	} while (*s == ',');
	return 0;
}

static int choose(struct job *j, struct nssm_err *err)
{
	uint32_t n = nssm_corpus_n_sessions(j->corpus), n_labels = nssm_corpus_vocab(j->corpus)->n_labels;
	const char *const *item;
	size_t n_items = nssm_conf_list(j->conf, NSSM_K_DEC_SESSION, &item);
	uint64_t most = (uint64_t)nssm_conf_int(j->conf, NSSM_K_DEC_SESSIONS);
	bool *wanted = calloc((size_t)n + 1, 1), *label = calloc((size_t)n_labels + 1, 1);
	j->session = calloc((size_t)n + 1, sizeof *j->session);
	j->seen = calloc((size_t)n + 1, 1);
	j->r.label = calloc((size_t)n_labels + 1, sizeof *j->r.label);
	int rc = 0;
	if (wanted == NULL || label == NULL || j->session == NULL || j->seen == NULL || j->r.label == NULL)
		rc = nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for %" PRIu32 " sessions", j->r.corpus, n);
	else if (n == 0)
		rc = nssm_err_set(err, NSSM_EARG, "%s: holds no session", j->r.corpus);
	else
		rc = choose_labels(j, label, err);
	for (size_t i = 0; rc == 0 && i < n_items; i++)
		rc = add_ranges(j, wanted, item[i], err);
	for (uint32_t i = 0; rc == 0 && i < n && (most == 0 || j->r.n_sessions < most); i++) {
		const struct nssm_session_info *s = nssm_corpus_session(j->corpus, i);
		if ((n_items > 0 && !wanted[i]) || !label[s->label_idx])
			continue;
		j->session[j->r.n_sessions++] = i;
		j->n_tokens += s->n_tokens;
	}
	if (rc == 0 && j->r.n_sessions == 0)
		rc = nssm_err_set(err, NSSM_EARG, "%s: no session is what --label and --session ask for", j->r.corpus);
	free(wanted);
	free(label);
	return rc;
}

/* --- packets -------------------------------------------------------------------------------------------------- */

/* "label=web session=3 token=118 known=54 repaired=udp_length,ip_checksum" */
static uint32_t put_note(char note[NSSM_PCAPNG_NOTE_MAX], const struct job *j, const struct nssm_playback_packet *pkt)
{
	const struct nssm_frame *f = &pkt->frame;
	int n = snprintf(note, NSSM_PCAPNG_NOTE_MAX, "label=%s session=%" PRIu32 " token=%" PRIu64 " known=%" PRIu32,
	        nssm_corpus_vocab(j->corpus)->label[pkt->label_idx].name, pkt->session, f->at_token, f->n_known);
	const char *sep = " repaired=";
	for (int b = 0; b < NSSM_REPAIR_N_BITS; b++) {
		if (f->repaired >> b & 1) {
			n += snprintf(note + n, NSSM_PCAPNG_NOTE_MAX - (size_t)n, "%s%s", sep, nssm_pkt_repair_name(b));
			sep = ",";
		}
	}
	return (uint32_t)n;
}

static int write_packet(struct job *j, const struct nssm_playback_packet *pkt, struct nssm_err *err)
{
	const struct nssm_frame *f = &pkt->frame;
	bool is_ng = j->format.format == NSSM_CAPTURE_PCAPNG;
	if (!is_ng && pkt->time_ns / 1000000000 > NSSM_PCAP_SECONDS_MAX) {
		j->r.n_too_late++;
		return 0;
	}
	char note[NSSM_PCAPNG_NOTE_MAX];
	bool noted = is_ng && j->comments;
	uint32_t n_note = noted ? put_note(note, j, pkt) : 0;
	uint32_t caplen = f->caplen < NSSM_CAPTURE_CAPLEN_MAX ? f->caplen : NSSM_CAPTURE_CAPLEN_MAX;
	int rc = nssm_capture_write_note(j->w, pkt->time_ns, f->data, caplen, f->len, NSSM_DIR_UNKNOWN,
	        noted ? note : NULL, n_note, err);
	if (rc != 0)
		return rc;
	struct nssm_decode_label *l = &j->r.label[pkt->label_idx];
	l->n_packets++;
	l->wire_bytes += f->len;
	l->captured_bytes += caplen < j->format.snaplen || j->format.snaplen == 0 ? caplen : j->format.snaplen;
	if (!j->seen[pkt->session]) {
		j->seen[pkt->session] = true;
		l->n_sessions++;
	}
	j->r.n_packets++;
	return 0;
}

static void show(struct job *j)
{
	const struct nssm_playback_sums *s = nssm_playback_sums(j->play);
	char a[16], b[16];
	if (nssm_progress_due(&j->bar, false))
		nssm_progress_line(&j->bar, (double)s->n_tokens / (double)(j->n_tokens > 0 ? j->n_tokens : 1),
		        "%s packets  %s tokens", nssm_human(a, (double)j->r.n_packets),
		        nssm_human(b, (double)s->n_tokens));
}

/* Until the sessions that were begun are over, the limit is reached or a signal came. */
static int write_packets(struct job *j, struct nssm_err *err)
{
	struct nssm_playback_packet pkt;
	int rc;
	while (!interrupted && (j->limit == 0 || j->r.n_packets < j->limit)) {
		if ((rc = nssm_playback_next(j->play, &pkt, err)) <= 0)
			return rc;
		if ((rc = write_packet(j, &pkt, err)) != 0)
			return rc;
		if (j->r.n_packets % 256 == 0)
			show(j);
	}
	return 0;
}

/* --- outputs -------------------------------------------------------------------------------------------------- */

static int to_file(struct job *j, struct nssm_err *err)
{
	int rc = nssm_capture_create_as(&j->w, j->r.out, &j->format, err);
	if (rc == 0)
		rc = nssm_playback_begin(j->play, j->session, j->r.n_sessions, err);
	if (rc == 0)
		rc = write_packets(j, err);
	return rc != 0 ? rc : nssm_capture_commit(&j->w, err);
}

/* One session into a capture of its own; a signal leaves none of it. */
static int to_own_file(struct job *j, uint32_t session, struct nssm_outfile *labels, struct nssm_err *err)
{
	uint32_t label_idx = nssm_corpus_session(j->corpus, session)->label_idx;
	const char *label = nssm_corpus_vocab(j->corpus)->label[label_idx].name;
	struct nssm_decode_label *l = &j->r.label[label_idx], before = *l;
	uint64_t n_before = j->r.n_packets;
	char name[NSSM_LABEL_BYTES + 32], path[PATH_MAX], row[2 * NSSM_LABEL_BYTES + 96];
	snprintf(name, sizeof name, "%s-%06" PRIu32 ".pcap", label, session);
	if ((size_t)snprintf(path, sizeof path, "%s/%s", j->r.out, name) >= sizeof path)
		return nssm_err_set(err, NSSM_EARG, "%.200s…/%s: path too long", j->r.out, name);
	int rc = nssm_capture_create_as(&j->w, path, &j->format, err);
	if (rc == 0)
		rc = nssm_playback_begin(j->play, &session, 1, err);
	if (rc == 0)
		rc = write_packets(j, err);
	if (rc == 0 && !interrupted && (rc = nssm_capture_commit(&j->w, err)) == 0) {
		int n = snprintf(row, sizeof row, "%s,%s,%" PRIu32 ",%" PRIu64 "\n", name, label, session,
		        j->r.n_packets - n_before);
		return nssm_outfile_write(labels, row, (size_t)n, err);
	}
	nssm_capture_abort(&j->w);
	*l = before;
	j->r.n_packets = n_before;
	return rc;
}

/* labels.csv names the captures that are whole, whatever ended the run. */
static int to_folder(struct job *j, struct nssm_err *err)
{
	char path[PATH_MAX];
	bool made;
	struct nssm_outfile *labels;
	int rc = nssm_dir_make(j->r.out, &made, err);
	if (rc != 0)
		return rc;
	rc = (size_t)snprintf(path, sizeof path, "%s/labels.csv", j->r.out) >= sizeof path
	             ? nssm_err_set(err, NSSM_EARG, "%.200s…: path too long", j->r.out)
	             : nssm_outfile_open(&labels, path, err);
	if (rc == 0) {
		uint32_t i = 0;
		rc = nssm_outfile_write(labels, LABELS_HEAD, sizeof LABELS_HEAD - 1, err);
		for (; rc == 0 && i < j->r.n_sessions && !interrupted && (j->limit == 0 || j->r.n_packets < j->limit); i++)
			rc = to_own_file(j, j->session[i], labels, err);
		struct nssm_err late;
		int end = nssm_outfile_tell(labels) > sizeof LABELS_HEAD - 1 ? nssm_outfile_commit(&labels, &late) : 0;
		nssm_outfile_abort(&labels);
		if (rc == 0 && end != 0)
			rc = nssm_err_set(err, end, "%s", late.msg);
	}
	if (made)
		(void)rmdir(j->r.out); /* unless there is something in it */
	return rc;
}

/* --- the command ---------------------------------------------------------------------------------------------- */

/* Where frames wait: beside the output, for which there must be room anyway. */
static const char *spill_dir(const struct job *j, char buf[PATH_MAX])
{
	const char *dir = nssm_conf_str(j->conf, NSSM_K_SPILL_DIR), *tmp = getenv("TMPDIR");
	struct stat st;
	if (dir != NULL)
		return dir;
	if (strcmp(j->r.out, "-") == 0 || strlen(j->r.out) >= PATH_MAX || (stat(j->r.out, &st) == 0 && !S_ISREG(st.st_mode)))
		return tmp != NULL ? tmp : "/tmp";
	strcpy(buf, j->r.out);
	char *slash = strrchr(buf, '/');
	if (slash == NULL)
		return ".";
	slash[slash == buf] = '\0';
	return buf;
}

static int outputs(struct job *j, struct nssm_err *err)
{
	static const enum nssm_key_id id[] = {NSSM_K_PCAP_OUT, NSSM_K_PCAPNG_OUT, NSSM_K_OUT_DIR};
	enum nssm_key_id which = NSSM_K_PCAP_OUT;
	int n = 0;
	for (int i = 0; i < 3; i++) {
		const char *out = nssm_conf_str(j->conf, id[i]);
		if (out != NULL) {
			j->r.out = out;
			which = id[i];
			n++;
		}
	}
	if (n != 1)
		return nssm_err_set(err, NSSM_EARG,
		        "decode: give one of --pcap-out FILE, --pcapng-out FILE and --out-dir DIR, found %s",
		        n == 0 ? "none" : "more than one");
	bool to_stdout = strcmp(j->r.out, "-") == 0;
	if (to_stdout && which != NSSM_K_PCAP_OUT)
		return nssm_err_set(err, NSSM_EARG, "decode: expected a path, found '-'; stdout is for --pcap-out");
	if (to_stdout && nssm_conf_bool(j->conf, NSSM_K_DEC_JSON))
		return nssm_err_set(err, NSSM_EARG, "decode: --pcap-out - and --json both go to stdout");
	j->comments = nssm_conf_bool(j->conf, NSSM_K_DEC_COMMENTS);
	if (j->comments && which != NSSM_K_PCAPNG_OUT)
		return nssm_err_set(err, NSSM_EARG, "--comments: needs --pcapng-out; pcap has no comments");
	j->r.out_is_folder = which == NSSM_K_OUT_DIR;
	j->format.snaplen = (uint32_t)nssm_conf_int(j->conf, NSSM_K_SNAPLEN);
	j->format.format = which == NSSM_K_PCAPNG_OUT                     ? NSSM_CAPTURE_PCAPNG
	                   : nssm_conf_bool(j->conf, NSSM_K_PCAP_US) ? NSSM_CAPTURE_PCAP_US
	                                                              : NSSM_CAPTURE_PCAP_NS;
	struct stat in, out;
	if (stat(j->r.corpus, &in) == 0 && stat(j->r.out, &out) == 0 && in.st_dev == out.st_dev &&
	        in.st_ino == out.st_ino)
		return nssm_err_set(err, NSSM_EARG, "%s: is the corpus itself; the capture would replace it", j->r.out);
	return 0;
}

static int decode(struct job *j, struct nssm_err *err)
{
	char buf[PATH_MAX];
	int rc = outputs(j, err);
	if (rc == 0)
		rc = nssm_corpus_open(&j->corpus, j->r.corpus, false, err);
	if (rc == 0)
		rc = choose(j, err);
	if (rc != 0)
		return rc;
	j->limit = (uint64_t)nssm_conf_int(j->conf, NSSM_K_DEC_LIMIT);
	struct nssm_playback_cfg cfg = {.seed = (uint64_t)nssm_conf_int(j->conf, NSSM_K_DEC_SEED),
	        .has_gap = nssm_conf_is_set(j->conf, NSSM_K_DEC_GAP),
	        .spill_dir = spill_dir(j, buf)};
	if (cfg.has_gap)
		cfg.gap_ns = (uint64_t)llround(nssm_conf_float(j->conf, NSSM_K_DEC_GAP) * 1e9);
	j->r.fixed_gap = cfg.has_gap;
	rc = nssm_opt_fill(&cfg.fill, j->conf, NSSM_K_DEC_PAYLOAD, nssm_corpus_codec(j->corpus), nssm_corpus_secure(j->corpus), j->r.corpus, err);
	if (rc == 0)
		rc = nssm_playback_open(&j->play, j->corpus, &cfg, err);
	if (rc != 0)
		return rc;
	/* The second signal ends the program at once. */
	struct sigaction act = {.sa_handler = on_signal, .sa_flags = SA_RESTART | (int)SA_RESETHAND};
	sigaction(SIGINT, &act, NULL);
	sigaction(SIGTERM, &act, NULL);
	nssm_progress_init(&j->bar, nssm_conf_str(j->conf, NSSM_K_PROGRESS));
	rc = j->r.out_is_folder ? to_folder(j, err) : to_file(j, err);
	j->r.seconds = nssm_progress_elapsed(&j->bar);
	nssm_progress_end(&j->bar);
	if (rc != 0)
		return rc;
	j->r.limited = j->limit > 0 && j->r.n_packets == j->limit;
	j->r.stopped = interrupted != 0;
	j->r.sums = nssm_playback_sums(j->play);
	if (nssm_conf_bool(j->conf, NSSM_K_DEC_JSON))
		rc = nssm_decode_report_json(&j->r, j->corpus, err);
	else
		nssm_decode_report_text(strcmp(j->r.out, "-") == 0 ? stderr : stdout, &j->r, j->corpus);
	if (rc == 0 && interrupted)
		rc = nssm_err_set(err, NSSM_EINTR, "decode: stopped by a signal; what %s holds is whole", j->r.out);
	return rc;
}

static int run(struct nssm_conf *conf, const char *const *pos, int n_pos, struct nssm_err *err)
{
	if (n_pos != 1)
		return nssm_err_set(err, NSSM_EARG, "decode: name one corpus (*.nssm)");
	struct job j = {.conf = conf, .r.corpus = pos[0]};
	int rc = decode(&j, err);
	nssm_capture_abort(&j.w);
	nssm_playback_close(&j.play);
	nssm_corpus_close(&j.corpus);
	free(j.session);
	free(j.seen);
	free(j.r.label);
	return rc;
}

const struct nssm_cmd nssm_cmd_decode = {
        .name = "decode",
        .usage = "decode CORPUS (--pcap-out FILE | --out-dir DIR | …)",
        .summary = "write the sessions of a corpus back as captures",
        .details = "What a model sees of the captures, for people to look at: the headers that the\n"
                   "tokens say, lengths on the wire, captured lengths, the codec's times. Each\n"
                   "session starts when it did. Payload that no token says is filled (--payload).\n"
                   "\n"
                   "Codec raw has neither times nor captured lengths: gaps are drawn from the\n"
                   "label's inter-arrival times (or --gap), frames are as long as their IP headers\n"
                   "say.\n"
                   "Codec flow has both; its times are right to a step of 9 %.\n"
                   "\n"
                   "One file holds all sessions, merged by time. --out-dir writes one capture a\n"
                   "session, LABEL-NNNNNN.pcap, and a labels.csv that `netssm prepare` reads.\n"
                   "What is no packet is counted by reason, with the first place where it stands:\n"
                   "sessions are counted from 0, a session's tokens from 1 (the label).\n"
                   "\n"
                   "^C ends with files that can be read; the exit status is 130 then.\n"
                   "\n"
                   "  netssm decode train.nssm --label web --session 0-9 --pcap-out web.pcap\n"
                   "  netssm decode train.nssm --pcapng-out all.pcapng --comments\n",
        .bit = NSSM_CMD_DECODE,
        .max_pos = 1,
        .run = run,
};
