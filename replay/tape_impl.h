/* tape_impl — what tape*.c and clone*.c share. Not for others. */
#ifndef NSSM_TAPE_IMPL_H
#define NSSM_TAPE_IMPL_H

#include <string.h>

#include "replay/tape.h"

/* --- chunks ------------------------------------------------------------------------------------------------------------
 * A chunk holds records from its front; the tape's first one, and further ones made for it, hold flows and endpoints from their
 * end backwards. A record that is stored in no more than NSSM_WHOLE_BYTES lies in one chunk. A longer one may fill its chunk and
 * goes on at the front of the next in the list.                                                                            */
struct nssm_chunk {
	struct nssm_chunk *next;      /* of records */
	struct nssm_chunk *next_meta; /* of flows and endpoints */
	uint32_t used;                /* records lie below */
	uint32_t limit;               /* a record that goes on in the next chunk ends here in this one */
	uint32_t meta;                /* flows and endpoints lie from here on */
	bool is_meta;                 /* in the list of those, which trim leaves alone */
};

#define NSSM_CHUNK_HEAD  64u
#define NSSM_CHUNK_END   (NSSM_CHUNK_BYTES - 64u) /* clone.c copies in whole vectors and may read so far behind a record */
#define NSSM_WHOLE_BYTES 4096u
#define NSSM_REC_ALIGN   64u

static inline struct nssm_chunk *nssm_chunk_of(const void *p)
{
	return (struct nssm_chunk *)((uintptr_t)p & ~(uintptr_t)(NSSM_CHUNK_BYTES - 1));
}

/* --- patches -----------------------------------------------------------------------------------------------------------
 * What is rewritten in a record beyond the addresses of its IP header and the numbers of a whole TCP or UDP header.        */
enum nssm_patch_what {
	NSSM_PATCH_ADDR,   /* n = 4 or 16 bytes: the address of endpoint ref */
	NSSM_PATCH_MAC,    /* the MAC of endpoint ref; at 1: unless there is a next hop */
	NSSM_PATCH_PORT,   /* the port of end `at` of flow ref */
	NSSM_PATCH_IP_ID,  /* IPv4 identification as sent by endpoint ref */
	NSSM_PATCH_SEQ,    /* a sequence number of end `at` of flow ref */
	NSSM_PATCH_TS,     /* a timestamp of end `at` of flow ref */
	NSSM_PATCH_ECHO,   /* the identifier of the echo flow ref */
	NSSM_PATCH_DNS,    /* the DNS id of flow ref */
	NSSM_PATCH_RANDOM, /* n bytes of the TLS random of end at >> 8 of flow ref, from its byte at & 255 on */
	NSSM_PATCH_SID,    /* n bytes of a TLS session id, from byte `at` on */
	NSSM_PATCH_CSUM,   /* a checksum over what was changed under `sum`; at 1: UDP's. Its own change counts under NSSM_SUM_L4 */
};
/* Which checksums cover the bytes. */
#define NSSM_SUM_L4       1u /* the packet's own */
#define NSSM_SUM_INNER_L4 2u /* of the packet that an ICMP error quotes */
#define NSSM_SUM_INNER_IP 4u

struct nssm_patch {
	uint16_t off;  /* from the frame's first byte as captured */
	uint8_t what;
	uint8_t sum;
	uint16_t n, at;
	const void *ref;
};
struct nssm_patches {
	uint32_t n;
	uint32_t pad;
	struct nssm_patch patch[];
};
#define NSSM_PATCHES_MAX 32u

static inline const struct nssm_patches *nssm_rec_patches(const struct nssm_rec *rec)
{
	return (rec->flags & NSSM_REC_PLAIN) != 0 ? NULL : rec->patches;
}

/* --- the layout of a frame, before anything is known of its tape (tape_parse.c) --- */
struct nssm_layout {
	struct nssm_hdrs h;
	uint8_t kind;      /* enum nssm_rec_kind */
	uint8_t flags;
	bool cut;          /* TCP or UDP without a whole or believable header */
	bool has_ports;    /* port[] are those in the header, or an echo's identifier */
	bool first_frag, later_frag;
	uint8_t tcp_flags; /* 0 unless the header is whole */
	uint8_t icmp_type, icmp_code;
	uint8_t n_sack;
	uint8_t addr_len;  /* 4, 16; 0: not IP */
	uint16_t port[2];  /* source, destination */
	uint16_t l4_off, ts_off, sack_off, csum_off;
	uint32_t end;      /* of the IP packet or of what was captured, whichever is first */
	uint32_t frag_id;
	const uint8_t *addr[2]; /* into the frame */
	uint8_t init;      /* which of source (0) and destination (1) opens the flow, were this its first packet */
	bool serves;       /* ICMP that servers and routers send unasked or in answer: errors, advertisements */
};
void nssm_layout_parse(struct nssm_layout *l, const uint8_t *frame, uint32_t len);
/* The same for the IP packet that an ICMP error quotes at frame[at..end); false: none. Only kinds TCP, UDP, ICMP (echo) and IP;
 * csum_off only where the quote reaches so far. */
bool nssm_layout_quoted(struct nssm_layout *l, const uint8_t *frame, uint32_t at, uint32_t end);
/* Multicast, broadcast, unspecified, loopback. */
bool nssm_addr_fixed(const uint8_t *addr, int ip_version);

/* --- the table of open tapes (tape_table.c) --- */
enum nssm_row_kind { NSSM_ROW_ENDPOINT, NSSM_ROW_FLOW, NSSM_ROW_SOCKET };
struct nssm_row {
	uint32_t chain, of_tape; /* next row of the bucket, of the tape; from 1 */
	uint32_t bucket;
	uint8_t kind;
	uint8_t proto;           /* socket */
	uint16_t port;           /* socket; endpoint: 1 if no flow of its own has been seen */
	const void *owner;       /* the tape; socket: the endpoint */
	void *obj;               /* endpoint or flow; socket: its number */
};
struct nssm_table {
	struct nssm_row *row;    /* row[0] is none */
	uint32_t *bucket;
	uint32_t n_rows, n_buckets;
	uint32_t free, fresh;    /* rows given back; rows from here on were never used */
	uint32_t left;           /* flows and endpoints that there is still room for */
	uint64_t key;
};
int nssm_table_open(struct nssm_table *h, uint32_t flows_max, struct nssm_err *err);
void nssm_table_close(struct nssm_table *h);
struct nssm_row *nssm_table_endpoint(struct nssm_table *h, const struct nssm_tape *t, const uint8_t *addr, int ip_version);
/* By the addresses and ports of a packet; *dir: which end sent it. */
struct nssm_row *nssm_table_flow(struct nssm_table *h, const struct nssm_tape *t, int *dir, const struct nssm_layout *l);
/* There is room: left > 0. */
void nssm_table_add_endpoint(struct nssm_table *h, struct nssm_tape *t, struct nssm_endpoint *e, bool guessed);
void nssm_table_add_flow(struct nssm_table *h, struct nssm_tape *t, struct nssm_flow *f);
/* The number of (proto, port) among e's, a new one if need be. */
uint32_t nssm_table_socket(struct nssm_table *h, struct nssm_tape *t, struct nssm_endpoint *e, uint8_t proto, uint16_t port);
void nssm_table_drop(struct nssm_table *h, struct nssm_tape *t);

/* --- the builder (tape.c) --- */
struct nssm_tape_builder {
	struct nssm_arena *arena;
	struct nssm_table table;
	struct nssm_tape *tapes, **free_tape;
	uint32_t tapes_max, n_free, n_touched; /* tapes[n_touched..] were never given out: their memory was not looked at yet */
	const struct nssm_pool *client_nets, *server_nets;
	struct nssm_chunk *spare; /* chunks taken for the append that is under way */
};

/* Fragmented datagrams whose first fragment was seen; the oldest makes room. */
#define NSSM_FRAGMENTS 16u
struct nssm_fragments {
	uint32_t next;
	struct {
		struct nssm_flow *flow; /* NULL: empty */
		uint32_t id;
		uint8_t dir;
	} of[NSSM_FRAGMENTS];
};

/* What one append may need of flows, endpoints and fragments at most: a flow, its ends, and those quoted in an ICMP error or named
 * in ARP or ND. */
#define NSSM_META_BYTES (sizeof(struct nssm_flow) + 8 * 64u + sizeof(struct nssm_fragments) + 4 * 64u)
/* Zeroed; the room was made sure of. */
void *nssm_tape_meta(struct nssm_tape_builder *b, struct nssm_tape *t, size_t bytes);

/* --- who is who (tape_flow.c) --- */
/* The packet's flow, found or begun; NULL: the table is full. */
struct nssm_flow *nssm_flow_of(struct nssm_tape_builder *b, struct nssm_tape *t, int *dir, const struct nssm_layout *l,
	const uint8_t *frame);
/* An endpoint that a packet names elsewhere than in its IP header; role is a guess for one that is new. NULL: FIXED, or no room. */
struct nssm_endpoint *nssm_endpoint_named(struct nssm_tape_builder *b, struct nssm_tape *t, const uint8_t *addr, int ip_version,
	int role);

/* --- what else is rewritten (tape_patch.c) --- */
/* Whether a packet may need patches. flow may be NULL: not known yet. */
bool nssm_patch_wanted(const struct nssm_layout *l, const struct nssm_flow *flow, int dir, const uint8_t *frame);
/* Into p [NSSM_PATCHES_MAX]; returns how many. rec's dir, app, app_off are set. */
uint32_t nssm_patch_make(struct nssm_patch *p, struct nssm_rec *rec, struct nssm_tape_builder *b, struct nssm_tape *t,
	const struct nssm_layout *l, const uint8_t *frame);

/* --- bytes --- */
static inline uint32_t nssm_get16(const uint8_t *p)
{
	return (uint32_t)p[0] << 8 | p[1];
}
static inline uint32_t nssm_get32(const uint8_t *p)
{
	return nssm_get16(p) << 16 | nssm_get16(p + 2);
}

#endif
