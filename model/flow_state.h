/* flow_state — what encoder and decoder of codec `flow` both know of a session. The tokens are specified in codec_flow.h.
 * Both call the same functions in the same order with the same values; nothing here depends on what only one side knows (payload).
 * Memory : one block of fixed size; a session that begins touches only what the one before used.
 * Checked: tests/test_flow_codec.c                                                                                          */
#ifndef NSSM_FLOW_STATE_H
#define NSSM_FLOW_STATE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "model/codec.h"
#include "model/codec_flow.h"

#define FLOW_SEGS 64u

enum flow_kind { FLOW_TCP, FLOW_UDP, FLOW_ECHO, FLOW_N_KINDS, FLOW_ARP = FLOW_N_KINDS, FLOW_OTHER, FLOW_ETHER };

/* Up to four tags as they stand in the frame: TPID and TCI each. */
struct flow_vlan {
	uint8_t n;
	uint8_t tag[16];
};

struct flow_link {
	uint8_t smac, dmac; /* slots */
	struct flow_vlan vlan;
};

struct flow_host {
	uint8_t addr[16];
	uint8_t mac_src, mac_dst; /* slots: its frames come from, and go to */
	uint8_t ttl, tos;
	bool df;
	uint16_t ipid;
	uint8_t id_mode, period;
	uint16_t syn_win[2]; /* of its last SYN, SYN/ACK */
	uint8_t n_syn_opt[2], syn_opt[2][40];
	struct flow_vlan vlan;
	uint16_t chain; /* encoder: next in the bucket */
	bool has_ts;
	uint32_t tsval;
	uint64_t ts_ns;
};

/* What one end of a flow said last. */
struct flow_end {
	bool open, has_ack, has_ts, syn_ts, no_csum, df, sent;
	uint8_t plain; /* its last packet but SYN and RST: 0 none yet, 1 without timestamps, 2 with */
	uint8_t id_mode, ecr_mode, ttl, tos, period, n_prefix, n_sack;
	uint16_t win, ipid, echo_seq;
	uint32_t isn, nxt, ack, len_last, len_max, label, tsval, tsecr;
	uint64_t ts_ns, ref_ns; /* anchor: when ts_val was said, since when the clock has gone as foretold; for the clock's period */
	uint32_t ts_val, ref_val;
	uint32_t sack[8]; /* edges of its last SACK */
	uint32_t n_segs, n_acked; /* pushed so far; of these the peer has acknowledged */
	struct flow_link link;
	uint8_t prefix[NSSM_FLOW_RUN_MAX];
	struct {
		uint32_t begin, end, tsval;
	} seg[FLOW_SEGS];
};

struct flow {
	uint64_t key; /* 0: not to be found any more: it only waits in the list */
	uint16_t chain;
	uint8_t kind, ver, host[2]; /* of direction 0: source, destination */
	uint8_t addr[2][16];        /* of its own: a host may be forgotten */
	uint16_t port[2];
	bool closed; /* RST, or FIN from both */
	bool torn;   /* decoder: it is being ended */
	uint8_t fins;
	struct flow_end end[2];
};

/* Move-to-front lists of slots. */
struct flow_list {
	uint16_t n;
	uint16_t slot[NSSM_FLOW_TCP_MAX];
};

#define FLOW_SLOTS   (NSSM_FLOW_TCP_MAX + NSSM_FLOW_UDP_MAX + NSSM_FLOW_ECHO_MAX)
#define FLOW_BUCKETS 1024u
#define HOST_BUCKETS 256u

struct flow_state {
	const struct nssm_codec_cfg *cfg;
	uint64_t now_ns; /* sum of the gaps as spelled */
	uint32_t snap;   /* captured bytes of a longer frame; UINT32_MAX: all */
	struct flow_list order[FLOW_N_KINDS], hosts[2], macs, ports;
	uint16_t bucket[FLOW_BUCKETS];         /* of flows, slot + 1 */
	uint16_t host_bucket[2][HOST_BUCKETS]; /* encoder */
	uint16_t port_of[NSSM_FLOW_PORTS_MAX];
	uint32_t n_named[2][4], n_named_macs; /* pool: numbers given, by IP version and class */
	uint8_t mac[NSSM_FLOW_MACS_MAX][6];
	bool mac_pads[NSSM_FLOW_MACS_MAX];
	struct flow_host host[2][NSSM_FLOW_HOSTS_MAX];
	struct flow flow[FLOW_SLOTS];
};

/* One packet in absolute values: what its tokens say with the state's help. */
struct flow_pkt {
	uint8_t kind, ver, dir, step, gapx;
	bool is_new;
	struct flow *flow;
	const uint8_t *addr[2]; /* source, destination; 4 or 16 bytes */
	uint16_t port[2];       /* source, destination; echo: identifier, sequence number */
	uint8_t eth[12];        /* destination, source */
	struct flow_vlan vlan;
	uint16_t ethertype;
	uint8_t proto, ttl, tos, flags, res;
	bool df;
	uint16_t frag, ipid, win, urg;
	uint32_t label, seq, ack;
	uint32_t n_ipopt, n_opt, n_lit;
	const uint8_t *ipopt, *opt, *lit; /* IPv6: ipopt[0] is the first extension header's number */
	uint16_t ip_csum, l4_csum, ip_len, udp_len;
	uint8_t l4_mode; /* enum flow_csum */
	bool ip_csum_bad, ip_len_bad, udp_len_bad;
	uint32_t len;              /* payload bytes on the wire, or behind a literal's Ethernet or IP header */
	uint32_t wirelen, caplen;
	uint32_t n_prefix;         /* payload bytes spelled */
	const uint8_t *prefix;
	uint32_t n_trailer;        /* captured bytes behind the IP packet that are not zero padding */
	const uint8_t *trailer;
	/* ARP */
	uint16_t arp_op;
	uint8_t arp_mac[2][6]; /* sender's, target's */
};
enum flow_csum { FLOW_CSUM_RIGHT, FLOW_CSUM_ZERO, FLOW_CSUM_PARTIAL, FLOW_CSUM_LITERAL };

void flow_state_begin(struct flow_state *s, const struct nssm_codec_cfg *cfg);
/* A packet begins. */
void flow_clock(struct flow_state *s, unsigned step, unsigned gapx);
enum flow_class { FLOW_CLASS_LOCAL, FLOW_CLASS_GLOBAL, FLOW_CLASS_LITERAL, FLOW_CLASS_LINK };
/* Local: private (RFC 1918, 4193, 6598); link: link-local; literal: multicast, broadcast, unspecified, loopback: nobody's own. */
enum flow_class flow_addr_class(int ver, const uint8_t *addr);
void flow_gap_code(uint64_t gap_ns, uint8_t *step, uint8_t *gapx);
/* The step's geometric mean, times 2^(gapx/8). */
uint64_t flow_gap_mean(unsigned step, unsigned gapx);

/* --- lists --- */

static inline void flow_front(struct flow_list *l, unsigned rank)
{
	uint16_t slot = l->slot[rank];
	memmove(l->slot + 1, l->slot, rank * sizeof *l->slot);
	l->slot[0] = slot;
}

static inline unsigned flow_rank(const struct flow_list *l, unsigned slot)
{
	unsigned r = 0;
	while (l->slot[r] != slot)
		r++;
	return r;
}

/* TCP flags */
#define FLOW_FIN 0x01u
#define FLOW_SYN 0x02u
#define FLOW_RST 0x04u
#define FLOW_PSH 0x08u
#define FLOW_ACK 0x10u

/* --- hosts, MACs, ports --- */

/* A slot for a new one, in front; who was used longest ago makes room. Flows of a host that went are not found any more. */
unsigned flow_new_host(struct flow_state *s, int ver, const uint8_t *addr);
unsigned flow_new_mac(struct flow_state *s, const uint8_t mac[6]);
void flow_new_port(struct flow_state *s, uint16_t port);
/* DPORT's bytes from FLOW_SERVICE on: ports of a fixed table (flow_ports.c). -1: it is not among them. */
#define FLOW_SERVICE    NSSM_FLOW_PORTS_MAX
#define FLOW_N_SERVICES 186
extern const uint16_t flow_service[FLOW_N_SERVICES];
int flow_service_of(uint16_t port);
_Static_assert(FLOW_SERVICE + FLOW_N_SERVICES <= 255, "255 is a new one");
/* The MAC that a group or broadcast address implies; for others one of the decoder's making. */
void flow_implied_mac(uint8_t mac[6], int ver, const uint8_t *addr);
/* The host's slot, or -1. */
int flow_find_host(const struct flow_state *s, int ver, const uint8_t *addr);

/* --- flows --- */

uint64_t flow_key(int kind, int ver, unsigned src, uint16_t sport, unsigned dst, uint16_t dport);
struct flow *flow_find(struct flow_state *s, uint64_t key);
/* In front of its kind's list; the last one there makes room. A flow of these ends that was known is not found any more. */
struct flow *flow_open(struct flow_state *s, int kind, int ver, unsigned src, uint16_t sport, unsigned dst, uint16_t dport);

/* Encoder: the flow of the packet if it is known and goes on, else NULL; sets p->dir. */
struct flow *flow_of(struct flow_state *s, struct flow_pkt *p);

/* --- what is foretold --- */

uint32_t flow_next_seq(const struct flow *f, int dir);
uint32_t flow_next_ack(const struct flow *f, int dir, uint8_t flags);
uint32_t flow_next_ts(const struct flow_state *s, const struct flow *f, int dir);
/* The timestamp that is echoed with this acknowledgement, by TSE's mode 0–3. */
uint32_t flow_next_ecr(const struct flow *f, int dir, uint32_t ack, unsigned mode);
uint16_t flow_next_ipid(const struct flow_state *s, const struct flow *f, int dir, int mode);
/* Options of a packet without OPT: their layout's number, 255: those of the host's last SYN. */
unsigned flow_next_layout(const struct flow *f, int dir, uint8_t flags);

/* Echo: length and sequence number. */
uint32_t flow_next_echo_len(const struct flow *f, int dir);
uint16_t flow_next_echo_seq(const struct flow *f, int dir);

/* SACK's edge of a code below 255. */
uint32_t flow_edge(const struct flow *f, int dir, unsigned code, bool end);
/* Begin and end of the k-th last segment (k >= 1) of an end; the oldest that is known where there are fewer, nxt where there is none. */
uint32_t flow_seg_begin(const struct flow_end *e, unsigned k);
uint32_t flow_seg_end(const struct flow_end *e, unsigned k);
/* The acknowledgement of k segments more than the last one of this direction. */
uint32_t flow_ack_of(const struct flow *f, int dir, unsigned k);

#define FLOW_EDGE_LAST (FLOW_SEGS + 1) /* codes of the last SACK's edges: from here, 8 */
/* After IPID 0, 1, 2. */
void flow_said_id_mode(struct flow_state *s, const struct flow_pkt *p, unsigned mode);
/* After LINK (its bits): hosts' frames come from there, and go there, from now on. The flow's end has the link already. */
void flow_said_link(struct flow_state *s, const struct flow_pkt *p, unsigned bits);
void flow_said_host_link(struct flow_host *src, struct flow_host *dst, const struct flow_link *l, unsigned bits);
/* What is known after the packet. */
void flow_update(struct flow_state *s, const struct flow_pkt *p);

/* Length of the option at opt, of which `left` bytes are there; 0: the list ends here, or goes on in no way that there is. */
static inline uint32_t flow_option(const uint8_t *opt, uint32_t left)
{
	if (left == 0 || opt[0] == 0)
		return 0;
	uint32_t len = opt[0] == 1 ? 1 : left > 1 ? opt[1] : 0;
	return len > left || (len < 2 && opt[0] != 1) ? 0 : len;
}

/* The timestamps option of a list that is well-formed as far as it, or NULL. */
const uint8_t *flow_find_ts(const uint8_t *opt, uint32_t n);

/* --- layouts of TCP options --- */

/* N no-op, E end, M MSS, W window scale, P SACK permitted, T timestamps, 1–4 SACK with so many blocks. */
#define FLOW_N_LAYOUTS 32u
extern const char *const flow_layout[FLOW_N_LAYOUTS];
/* Number of the layout that these options have, or 255. */
unsigned flow_layout_of(const uint8_t *opt, uint32_t n);
/* Bytes of values, but for timestamps and SACK, that a layout's options have; its SACK edges. */
unsigned flow_layout_values(unsigned layout, unsigned *n_edges);

/* --- building --- */

#define FLOW_IPOPT_MAX 1025u /* IPv6 extension headers and the first one's number */
#define FLOW_HDR_MAX   (14 + 16 + 40 + FLOW_IPOPT_MAX + 60 + NSSM_FLOW_LIT_MAX)
struct flow_built {
	uint32_t l3, l4;     /* offsets; 0: there is none */
	uint32_t hdr;        /* bytes written: headers, or with a literal all that is known */
	uint32_t payload;    /* where the payload begins (literals: what LEN counts) */
	uint32_t end;        /* payload + len */
	uint32_t csum;       /* offset of the transport checksum; 0: none */
};
/* Headers and literal bytes as p says, with the IP checksum; a transport checksum that is right or partial is left 0: it takes the
 * payload. out: FLOW_HDR_MAX bytes, literals longer than NSSM_FLOW_LIT_MAX more. */
void flow_build(uint8_t *out, const struct flow_pkt *p, struct flow_built *b);

#endif
