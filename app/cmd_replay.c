/* netssm replay: which captures; the rest is play's. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "app/cmd.h"
#include "app/json_text.h"
#include "app/play.h"
#include "app/play_options.h"
#include "app/play_text.h"
#include "replay/needs.h"

#define DEFAULT_MTU 1500

struct run {
	const struct nssm_conf *conf;
	const char **path;
	char name[128];
	struct nssm_reader_cfg reader;
	struct nssm_play play;
};

/* Those without a flag first. */
static int choose_captures(struct run *r, const char *const *pos, int n_pos, struct nssm_err *err)
{
	const char *const *item;
	size_t n = nssm_conf_list(r->conf, NSSM_K_REPLAY_PCAP, &item), all = n + (size_t)n_pos, n_stdin = 0;
	if (all == 0)
		return nssm_err_set(err, NSSM_EARG, "replay: no capture: give one or more files");
	r->path = calloc(all, sizeof *r->path);
	if (r->path == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "replay: no memory for the names of %zu captures", all);
	for (size_t i = 0; i < all; i++) {
		r->path[i] = i < (size_t)n_pos ? pos[i] : item[i - (size_t)n_pos];
		n_stdin += strcmp(r->path[i], "-") == 0;
	}
	if (n_stdin > 1)
		return nssm_err_set(err, NSSM_EARG, "replay: stdin (-) can be read once only");
	r->reader.path = r->path;
	r->reader.n_paths = (uint32_t)all;
	const char *slash = strrchr(r->path[0], '/'),
	           *base = slash != NULL && slash[1] != '\0' ? slash + 1 : r->path[0];
	int n_shown = snprintf(r->name, sizeof r->name, "%.90s", base);
	if (all > 1)
		snprintf(r->name + n_shown, sizeof r->name - (size_t)n_shown, " and %zu more", all - 1);
	return 0;
}

static int reader_options(struct run *r, struct nssm_err *err)
{
	const struct nssm_conf *c = r->conf;
	struct nssm_reader_cfg *k = &r->reader;
	char key[NSSM_FLAG_BYTES];
	k->merge = nssm_conf_bool(c, NSSM_K_MERGE);
	k->filter = nssm_conf_str(c, NSSM_K_FILTER);
	k->pad = nssm_conf_bool(c, NSSM_K_PAD);
	k->n_shards = nssm_play_is_live(&r->play.cfg) ? r->play.cfg.n_engines : 0;
	k->strict_order = nssm_conf_bool(c, NSSM_K_STRICT_ORDER);
	k->keep_going = nssm_conf_bool(c, NSSM_K_KEEP_GOING);
	k->label = nssm_conf_str(c, NSSM_K_REPLAY_LABEL);
	k->labels_csv = nssm_conf_str(c, NSSM_K_REPLAY_LABELS);
	const char *mtu = nssm_conf_str(c, NSSM_K_MTU);
	uint32_t port_mtu = r->play.cfg.live.port_mtu;
	k->mtu = port_mtu != 0 ? port_mtu : DEFAULT_MTU;
	int rc = mtu != NULL
	                 ? nssm_text_mtu(&k->mtu_mode, &k->mtu, mtu, nssm_conf_said(key, c, NSSM_K_MTU), err)
	                 : 0;
	struct nssm_err why = {0};
	if (rc == 0 && nssm_split_parse(&k->split, nssm_conf_str(c, NSSM_K_REPLAY_SPLIT), &why) != 0)
		rc = nssm_err_set(err, why.code, "%s", why.msg);
	return rc;
}

/* Of what is not a file a second reading would take the first one's bytes away. */
static bool all_files(const struct nssm_reader_cfg *k)
{
	struct stat st;
	for (uint32_t i = 0; i < k->n_paths; i++)
		if (strcmp(k->path[i], "-") == 0 || (stat(k->path[i], &st) == 0 && !S_ISREG(st.st_mode)))
			return false;
	return true;
}

/* --start original: the time of the first packet that is taken, found by reading up to it. Before 2106, because of pcap. */
static int own_start(struct run *r, struct nssm_err *err)
{
	struct nssm_reader *reader = NULL;
	struct nssm_read_pkt p;
	uint64_t *ns = &r->play.cfg.epoch_ns;
	char key[NSSM_FLAG_BYTES];
	if (!nssm_play_starts_original(r->conf) || nssm_play_is_live(&r->play.cfg))
		return 0;
	nssm_conf_said(key, r->conf, NSSM_K_START_TIME);
	if (!all_files(&r->reader))
		return nssm_err_set(err, NSSM_EARG,
		        "%s: original needs captures that are files; of a pipe the first packet would be "
		        "lost",
		        key);
	int rc = nssm_reader_open(&reader, &r->reader, err);
	if (rc == 0)
		rc = nssm_reader_next(reader, &p, err);
	if (rc == 1)
		*ns = nssm_reader_first_ns(reader);
	if (rc == 1 && *ns / 1000000000 > UINT32_MAX)
		rc = nssm_err_set(err, NSSM_EARG, "%s: the first packet of %.200s is stamped later than 2106",
		        key, r->name);
	nssm_reader_close(&reader);
	return rc < 0 ? rc : 0;
}

/* Room for the addresses of a play. What streams through once is not read beforehand: then a few plays at a time share the pools, and
 * each may be large. */
static int size_plays(struct run *r, struct nssm_err *err)
{
	struct nssm_pipeline_cfg *p = &r->play.cfg;
	struct nssm_clone_cfg *k = &p->clone;
	struct nssm_needs n = {.endpoints = 64, .sockets = 1024, .servers = 256};
	bool asked = k->endpoints_max > 0 && k->sockets_max > 0 && k->servers_max > 0;
	int rc = 0;
	if (k->rewrite && !asked && p->mode != NSSM_PLAY_ONCE && all_files(&r->reader))
		rc = nssm_needs_count(&n, &r->reader, p->client_nets, p->server_nets, p->arena_bytes, err);
	/* More sockets than ports have to fold, however it is cut. */
	uint32_t ports = (uint32_t)k->port_hi - k->port_lo + 1;
	n.sockets = n.sockets < ports ? n.sockets : ports;
	k->endpoints_max = k->endpoints_max > 0 ? k->endpoints_max : n.endpoints;
	k->sockets_max = k->sockets_max > 0 ? k->sockets_max : n.sockets;
	k->servers_max = k->servers_max > 0 ? k->servers_max : n.servers;
	return rc;
}

/* What a manifest says of the captures: names and sizes; their bytes are not read again for a hash. */
static json_t *captures_json(const struct nssm_reader_cfg *k)
{
	json_t *list = json_array();
	for (uint32_t i = 0; i < k->n_paths; i++) {
		struct stat st;
		json_t *size = stat(k->path[i], &st) == 0 && S_ISREG(st.st_mode)
		                       ? nssm_json_count((uint64_t)st.st_size)
		                       : json_null();
		json_array_append_new(
		        list, json_pack("{so so}", "path", nssm_json_text(k->path[i]), "bytes", size));
	}
	return json_pack("{ss so}", "kind", "captures", "files", list);
}

static int replay(struct run *r, const char *const *pos, int n_pos, struct nssm_err *err)
{
	const struct nssm_conf *c = r->conf;
	struct nssm_pipeline_cfg *p = &r->play.cfg;
	int rc;
	if ((rc = choose_captures(r, pos, n_pos, err)) ||
	        (rc = nssm_play_init(&r->play, c, &nssm_cmd_replay, false, err)) ||
	        (rc = reader_options(r, err)) || (rc = own_start(r, err)) || (rc = size_plays(r, err)))
		return rc;
	p->reader = &r->reader;
	p->source_name = r->name;
	p->seed = (uint64_t)nssm_conf_int(c, NSSM_K_REPLAY_SEED);
	p->n_loops = (uint64_t)nssm_conf_int(c, NSSM_K_LOOP);
	p->loop_gap_ns = nssm_conf_is_set(c, NSSM_K_LOOP_GAP)
	                         ? (int64_t)nssm_play_ns(nssm_conf_float(c, NSSM_K_LOOP_GAP))
	                         : -1;
	p->preload = nssm_conf_bool(c, NSSM_K_PRELOAD);
	p->fix_checksums = nssm_conf_bool(c, NSSM_K_FIX_CHECKSUMS);
	r->play.source = captures_json(&r->reader);
	return nssm_play_run(&r->play, err);
}

static int run(struct nssm_conf *conf, const char *const *pos, int n_pos, struct nssm_err *err)
{
	struct run r = {.conf = conf};
	int rc = replay(&r, pos, n_pos, err);
	nssm_play_free(&r.play);
	free(r.path);
	return rc;
}

const struct nssm_cmd nssm_cmd_replay = {
        .name = "replay",
        .usage = "replay FILE… (--port DEV | --pcap-out FILE | …)",
        .summary = "send captures again, as they were or as many new sessions",
        .details = "Packets go out with the captures' own gaps, or at --rate; several captures one\n"
                   "after the other, or with --merge side by side by their time stamps. --clones,\n"
                   "--flows-per-second and --concurrency play each session many times, each time as\n"
                   "a new one with addresses, ports and numbers of its own. Files are written as\n"
                   "fast as it goes, with the times that the wire would have seen.\n"
                   "\n"
                   "  netssm replay office.pcap --port af_packet:eth1 --rate 2x\n"
                   "  netssm replay office.pcap --port 0000:01:00.0 --port 0000:01:00.1 \\\n"
                   "    --rate 10Gbps --loop 0 --duration 1h --measure\n"
                   "  netssm replay samples/web-*.pcap.gz --clones 50 --pcap-out many.pcap \\\n"
                   "    --truth flows.csv\n"
                   "\n"
                   "With two ports what clients send leaves by the first and what servers send by\n"
                   "the second, so that a router, firewall or NAT can stand between them (see\n"
                   "--gateway); all out of one port is what an IDS needs. A port that carries the\n"
                   "default route or this login session is refused unless --force.\n"
                   "\n"
                   "Clones do not react: what ends connections itself (a proxy, SYN cookies, a\n"
                   "firewall with its own sequence numbers) breaks them. QUIC Initials and\n"
                   "addresses inside FTP, SIP and RTSP stay as they are, and are counted.\n"
                   "\n"
                   "For those who know tcpreplay:\n"
                   "    --intf1 eth1 (-i)         --port af_packet:eth1, faster: af_xdp:eth1\n"
                   "    --intf2 eth2 (-I), -c     --port a second time; no tcpprep cache is needed:\n"
                   "                              sides follow who began the flow, or --client-nets\n"
                   "    --dualfile (-2)           --merge; sides as above\n"
                   "    --multiplier 2.5 (-x)     --rate 2.5x\n"
                   "    --pps 100000 (-p)         --rate 100kpps\n"
                   "    --mbps 1200 (-M)          --rate 1.2Gbps\n"
                   "    --topspeed (-t)           --rate top\n"
                   "    --loop 10 (-l), 0         the same; --loop-gap for --loopdelay-ms\n"
                   "    --limit 1000 (-L)         the same; --duration too\n"
                   "    --preload-pcap (-K)       --preload\n"
                   "    --mtu 1400 --mtu-trunc    --mtu 1400,truncate, or --mtu 1400,drop\n"
                   "    --unique-ip               --clones N in place of --loop N\n"
                   "    --stats 1                 --progress plain, --metrics, --stats-json\n"
                   "    tcprewrite --fixcsum      --fix-checksums\n"
                   "    tcprewrite -e             --clients, --servers, --client-mac, --server-mac\n"
                   "    tcprewrite --enet-vlan=…  --vlan 100, --strip-vlan\n"
                   "    tcprewrite --fixlen=pad   --pad\n"
                   "\n"
                   "^C sends what is due and ends, a second one ends at once, a third ends the\n"
                   "process; the exit status is 130 then.\n",
        .bit = NSSM_CMD_REPLAY,
        .max_pos = INT32_MAX,
        .run = run,
};
