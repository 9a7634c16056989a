/* session — cuts a capture into sessions: which packet belongs to which.
 * One splitter a capture, packets in capture order; the same packets give the same sessions, so a second reading of the
 * file may take one session at a time.
 *
 * file     : all packets are session 0, finished at the end.
 * gap=TIME : a packet that comes more than TIME after the packet before it (of any protocol) starts the next session; all
 *            before are then finished. A packet stamped before its predecessor starts none (n_time_back).
 * client   : all flows of one client address are one session, numbered by first appearance, finished at the end. The
 *            client of a TCP/UDP flow is
 *              1. who sent a SYN without ACK, or was sent a SYN with ACK (also on a known flow: a port used again);
 *              2. else, at a flow's first packet: the end without a server's port, if the other end has one (below 1024,
 *                 but for DHCP's clients, or in session.c's table);
 *              3. else who sent the flow's first packet.
 *            Other IP packets (ICMP, later fragments, unreadable transport headers) go to the session of their source,
 *            else of their destination, if that is a client already, else to none (n_unassigned). What is not IP belongs
 *            to no session (n_not_ip).
 * Memory   : bounded. flows_max flows are known; beyond, the one unseen for longest is forgotten (n_evicted), and should it
 *            go on, its client is decided anew by 2 and 3. clients_max clients are known; packets of further ones belong to
 *            no session (n_over). At the defaults 64 B a flow and 32 to 64 B a client: 4 MiB and 16 MiB at most; tables
 *            grow as needed.
 * Checked  : tests/test_session.c                                                                                     */
#ifndef NSSM_SESSION_H
#define NSSM_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "model/packet.h"

enum nssm_split_kind { NSSM_SPLIT_FILE, NSSM_SPLIT_CLIENT, NSSM_SPLIT_GAP };

#define NSSM_SPLIT_FLOWS_MAX   65536
#define NSSM_SPLIT_CLIENTS_MAX 262144

struct nssm_split_cfg {
	enum nssm_split_kind kind;
	uint64_t gap_ns;                 /* GAP: > 0 */
	uint32_t flows_max, clients_max; /* CLIENT: >= 1 */
};

/* "file", "client" or "gap=TIME": a decimal number with ns, us, ms, s (or nothing), m or min, h, d; 1 ns to 3650 days. */
int nssm_split_parse(struct nssm_split_cfg *cfg, const char *text, struct nssm_err *err);

struct nssm_split_counts {
	uint64_t n_packets;
	uint64_t n_time_back;  /* gap */
	uint64_t n_not_ip;     /* client, as all below */
	uint64_t n_unassigned; /* IP, but neither TCP nor UDP nor of a client's address */
	uint64_t n_over;       /* beyond clients_max */
	uint64_t n_flows;      /* flows begun, forgotten and found again included */
	uint64_t n_evicted;
};

struct nssm_splitter;
int nssm_splitter_open(struct nssm_splitter **s, const struct nssm_split_cfg *cfg, struct nssm_err *err);
void nssm_splitter_close(struct nssm_splitter **s);
/* 1: the packet belongs to *session; 0: to none, counted; < 0: no memory. */
int nssm_splitter_packet(struct nssm_splitter *s, const struct nssm_pkt *pkt, uint32_t *session, struct nssm_err *err);
/* The capture is over: all sessions are finished. */
void nssm_splitter_end(struct nssm_splitter *s);
uint32_t nssm_splitter_n_sessions(const struct nssm_splitter *s); /* begun */
uint32_t nssm_splitter_n_done(const struct nssm_splitter *s);     /* those with smaller numbers get no more packets */
const struct nssm_split_counts *nssm_splitter_counts(const struct nssm_splitter *s);

/* Rule 2's: whether servers listen on that port. */
bool nssm_split_server_port(uint16_t port);

#endif
