/* tape — a session's packets laid out for playing: where each packet's headers are, which flow it belongs to, who the session's
 * endpoints are. Built one packet at a time, from a capture or a model; played while it grows, or kept and played again under
 * other addresses (clone.h).
 * Layout : records and flows lie in chunks of an arena and never move. A record is a struct nssm_rec, the frame's first
 *          min(stored, NSSM_REC_HEAD) bytes right behind it, and more if they fit into the chunk; what does not fit follows in
 *          further chunks (nssm_rec_copy puts it together). Trailing zero bytes are not stored.
 * Flows  : TCP, UDP and other IP by addresses and ports (ICMP echo: the identifier for both ports; other protocols: ports 0).
 *          The initiator is who sent a SYN without ACK or was sent a SYN with ACK; else the end without a server's port
 *          if the other has one; else who sent the first packet (the same rule as session.h's). A SYN without ACK on a TCP flow
 *          that has seen FIN from both sides or RST, or that was there before the capture, begins a new flow with the same ends
 *          and sockets, unless its sequence number is that of the flow's own: one that was refused and is tried again. Fragments
 *          after the first belong to the flow of the first (by addresses, protocol and IP ID) if it is known, else to one with
 *          ports 0.
 * Roles  : an endpoint is a client if it initiated the first TCP or UDP flow that it took part in, else a server,
 *          unless client_nets or server_nets name it or the other end of that flow (which gets the other role); multicast,
 *          broadcast, unspecified and loopback addresses are FIXED and are never rewritten. ARP, Neighbor Discovery, ICMP errors,
 *          pings and flows without ports that come before make a guess (who asks is a client, who answers, advertises or reports an
 *          error a server; of two hosts in ARP, that of the first or last address is the router). Should it prove wrong, the
 *          address gets a second endpoint, and what was said before stays with the first.
 * Sockets: an endpoint's (protocol, port) pairs that clones may change are numbered from 0 by first appearance: nssm_flow.socket.
 * Opaque : what a clone cannot rewrite coherently is marked on the flow: QUIC Initials (addresses are authenticated with the
 *          connection ID), FTP, SIP, RTSP control connections (addresses and ports inside).
 * Lookup : flows and endpoints of open tapes are found through one hash table of the builder, of fixed size; when it is full,
 *          new flows of open tapes are counted (n_untracked) and their packets play without being rewritten.
 * Checked: tests/test_tape.c, tests/fuzz/fuzz_tape.c                                                                         */
#ifndef NSSM_TAPE_H
#define NSSM_TAPE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "model/packet.h"
#include "replay/arena.h"

#define NSSM_REC_HEAD 512u

enum nssm_role { NSSM_ROLE_CLIENT, NSSM_ROLE_SERVER, NSSM_ROLE_FIXED };

struct nssm_pool;

struct nssm_endpoint {
	struct nssm_endpoint *next; /* in order of first appearance */
	uint8_t addr[16];           /* IPv4: the first 4 bytes, the rest 0 */
	uint8_t mac[6];             /* source MAC of its first packet; zeros: sent none */
	uint8_t ip_version;
	uint8_t role;               /* enum nssm_role */
	uint32_t idx;               /* among the tape's endpoints of this role and IP version, from 0 */
	uint32_t n_sockets;         /* so far */
};

enum nssm_opaque { NSSM_OPAQUE_NONE, NSSM_OPAQUE_QUIC, NSSM_OPAQUE_FTP, NSSM_OPAQUE_SIP, NSSM_OPAQUE_RTSP, NSSM_OPAQUE_N };
const char *nssm_opaque_name(int opaque);

struct nssm_flow {
	struct nssm_flow *next;      /* in order of first appearance */
	struct nssm_endpoint *end[2]; /* [0] the initiator */
	uint16_t port[2];            /* of end[0] and end[1]; host order */
	uint8_t proto, ip_version;
	uint8_t opaque;              /* enum nssm_opaque */
	uint8_t tcp_seen;            /* bits: 1 SYN, 2 SYN+ACK, 4 and 8 FIN from end[0], end[1], 16 RST */
	uint32_t idx;                /* in the tape, from 0 */
	uint32_t socket[2];          /* number of port[i] among end[i]'s sockets */
	/* for clone.c, which is spared the endpoints' cache lines */
	uint32_t end_idx[2];         /* end[i]->idx */
	uint8_t end_role[2];         /* end[i]->role */
	uint8_t port_rule[2];        /* enum nssm_port_rule */
	uint8_t icmp_type, icmp_code; /* of its first packet */
	uint8_t pad[6];
	/* here ends the first cache line */
	uint32_t n_packets[2];       /* sent by end[0], end[1] */
	uint64_t n_bytes[2];         /* wire lengths */
	uint64_t first_ns, last_ns;  /* stream time since the tape's start */
	/* the builder's: where in end[i]'s stream the random of its latest TLS hello lies */
	uint32_t hello_seq[2];
	uint8_t hello_random[2];     /* its bytes that are rewritten: 32, 24 before a downgrade sentinel, 0 */
	uint8_t hello_sid[2];        /* bytes of the session id; 255: not seen yet */
	bool hello[2];
	uint32_t isn;                /* of end[0]'s latest SYN */
};

/* How a clone treats the port of a flow's end (clone.h, Unique). */
enum nssm_port_rule {
	NSSM_PORT_KEPT,
	NSSM_PORT_CLIENT,   /* into the block of the client's slot */
	NSSM_PORT_IN_RANGE, /* the same if it lies in the range of client ports, else kept */
	NSSM_PORT_SERVER,   /* a server that opens a flow to no client: into a block by the server's own number */
};

/* How a packet's headers are laid out, so that rewriting need not parse. 64 bytes. */
struct nssm_rec {
	uint64_t t_ns;         /* stream time since the tape's start; never decreases */
	struct nssm_flow *flow; /* NULL: not IP (ARP too), or untracked */
	uint32_t len;          /* bytes of the frame that there are (stored, then zeros) */
	uint32_t stored;
	uint32_t wirelen;
	uint8_t kind;          /* enum nssm_rec_kind */
	uint8_t flags;         /* NSSM_REC_* bits below */
	uint8_t dir;           /* 0: sent by flow->end[0]; ARP: 1 from a server; else 0 */
	uint8_t n_vlan;
	uint16_t l3_off, l4_off, payload_off; /* 0 where there is none; payload_off only for whole TCP and UDP headers */
	uint16_t ts_off;       /* TCP timestamps option's TSval; 0: none */
	uint16_t sack_off;     /* first SACK edge; 0: none */
	uint8_t n_sack;        /* blocks */
	uint8_t app;           /* enum nssm_rec_app: what of the payload is rewritten */
	uint16_t app_off;
	uint16_t csum_off;     /* checksum of TCP, UDP, ICMP; 0: none there */
	struct nssm_rec *next; /* NULL: none yet */
	union {
		const struct nssm_patches *patches; /* what else is rewritten (tape_impl.h); NULL: nothing */
		struct {
			/* NSSM_REC_PLAIN: complements of the checksums and of what they cover and a clone replaces, added up
			 * (RFC 1624): of the IPv4 header's addresses and identification; of addresses and ports. */
			uint16_t base_ip, base_l4;
		} plain;
	};
};
_Static_assert(sizeof(struct nssm_rec) == 64, "a record's head is one cache line");

#define NSSM_REC_PORTS  1u  /* l4_off points to source and destination port */
#define NSSM_REC_PSEUDO 2u  /* the checksum at csum_off covers the addresses */
#define NSSM_REC_ROUTED 4u  /* not the destination, though: it is a hop of a routing header */
#define NSSM_REC_OPENS  8u  /* the first packet of its flow */
#define NSSM_REC_PLAIN  16u /* TCP or UDP from a host to a host or a group, the whole header in what nssm_rec_head has, options in
			       step with 16-bit words, nothing that is rarer: a route, patches, UDP without a checksum */
#define NSSM_REC_IP6    32u
#define NSSM_REC_ACK    64u /* TCP with the flag */

enum nssm_rec_kind { NSSM_REC_OTHER, NSSM_REC_ARP, NSSM_REC_IP, NSSM_REC_TCP, NSSM_REC_UDP, NSSM_REC_ICMP, NSSM_REC_FRAGMENT };
enum nssm_rec_app { NSSM_APP_NONE, NSSM_APP_DNS, NSSM_APP_TLS_CLIENT_HELLO, NSSM_APP_TLS_SERVER_HELLO };

struct nssm_tape {
	uint64_t session;      /* index */
	uint32_t label_idx;
	uint64_t start_ns;     /* stream time of the session's start */
	bool finished;         /* no more packets come */
	uint32_t n_endpoints, n_flows;
	uint32_t n_clients[2], n_servers[2]; /* endpoints by role for IPv4, IPv6 */
	uint32_t n_fixed;
	uint32_t max_sockets;  /* of one endpoint whose ports are numbered: a client, or a server that opens flows to servers */
	uint64_t n_packets, n_bytes;
	uint64_t n_untracked;
	uint64_t duration_ns;  /* t_ns of the last packet */
	struct nssm_endpoint *endpoints;
	struct nssm_flow *flows;
	/* the engine's: plays that read it now, or will; it stays when there are none; its packets go with their sending; it will not be
	 * played again */
	uint32_t n_playing;
	bool stays, streams, leaves;
	/* the builder's own from here on */
	struct nssm_rec *first, *last;
	struct nssm_endpoint *endpoint_last;
	struct nssm_flow *flow_last;
	struct nssm_chunk *recs, *rec_now, *metas; /* records from, to; flows and endpoints */
	struct nssm_fragments *fragments;
	uint32_t rows;
	bool begun;
};

/* One builder an engine; makes tapes from its arena. */
struct nssm_tape_builder;
struct nssm_tape_cfg {
	uint32_t tapes_max;    /* tapes there may be at a time */
	uint32_t flows_max;    /* flows and endpoints of open tapes in the lookup table */
	const struct nssm_pool *client_nets, *server_nets; /* [2] (IPv4, IPv6), borrowed until close; NULL: none. Addresses in them have
	                          that role whoever began */
};
int nssm_tape_builder_open(struct nssm_tape_builder **b, struct nssm_arena *arena, const struct nssm_tape_cfg *cfg, struct nssm_err *err);
void nssm_tape_builder_close(struct nssm_tape_builder **b); /* and all its tapes */
/* NULL: tapes_max are there. */
struct nssm_tape *nssm_tape_begin(struct nssm_tape_builder *b, uint64_t session, uint32_t label_idx, uint64_t start_ns);
/* 1: appended. 0: the arena is full; nothing changed, try again later. < 0: error (spill). t_ns below the last record's is
 * raised to it (the caller counts time going backwards). len <= 262144. frame[len..] up to wirelen was not captured. */
int nssm_tape_append(struct nssm_tape_builder *b, struct nssm_tape *t, uint64_t t_ns, const uint8_t *frame, uint32_t len,
	uint32_t wirelen, struct nssm_err *err);
void nssm_tape_finish(struct nssm_tape_builder *b, struct nssm_tape *t);
/* Gives back chunks that hold only records before rec (NULL: all records); flows and endpoints stay. For tapes that are played
 * once. */
void nssm_tape_trim(struct nssm_tape_builder *b, struct nssm_tape *t, const struct nssm_rec *rec);
void nssm_tape_free(struct nssm_tape_builder *b, struct nssm_tape **t);

/* The record after rec, or NULL: none yet (t->finished says whether one may come). A NULL may become a record later: ask again
 * with the same rec. */
static inline const struct nssm_rec *nssm_rec_next(const struct nssm_rec *rec)
{
	return rec->next;
}
static inline const uint8_t *nssm_rec_head(const struct nssm_rec *rec)
{
	return (const uint8_t *)(rec + 1); /* min(stored, NSSM_REC_HEAD) bytes at least */
}
/* The frame, rec->len bytes, into dst. */
void nssm_rec_copy(uint8_t *dst, const struct nssm_rec *rec);

#endif
