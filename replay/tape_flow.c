#include "replay/tape_impl.h"

#include <assert.h>

#include "replay/clone.h"

enum { PROTO_TCP = 6, PROTO_UDP = 17 };
enum { SYN = 2, RST = 4, FIN = 1, ACK = 16 };
enum { SEEN_SYN = 1, SEEN_SYN_ACK = 2, SEEN_FIN = 4, SEEN_RST = 16 };
#define QUIC_PACKETS 8u /* of a flow that are looked at for an Initial */

const char *nssm_opaque_name(int opaque)
{
	static const char *const name[NSSM_OPAQUE_N] = {"none", "QUIC", "FTP", "SIP", "RTSP"};
	return opaque >= 0 && opaque < NSSM_OPAQUE_N ? name[opaque] : "unknown";
}

/* --- endpoints --- */

/* What the user says of an address's side holds, whoever began. */
static int told_role(const struct nssm_tape_builder *b, const uint8_t *addr, int ip_version, int role)
{
	int v = ip_version == 6;
	uint64_t number;
	if (role == NSSM_ROLE_FIXED)
		return role;
	if (b->client_nets != NULL && nssm_pool_number(&number, &b->client_nets[v], addr))
		return NSSM_ROLE_CLIENT;
	if (b->server_nets != NULL && nssm_pool_number(&number, &b->server_nets[v], addr))
		return NSSM_ROLE_SERVER;
	return role;
}

static struct nssm_endpoint *new_endpoint(
        struct nssm_tape_builder *b, struct nssm_tape *t, const uint8_t *addr, int ip_version, int role)
{
	struct nssm_endpoint *e = nssm_tape_meta(b, t, sizeof *e);
	bool v6 = ip_version == 6;
	role = told_role(b, addr, ip_version, role);
	memcpy(e->addr, addr, v6 ? 16 : 4);
	e->ip_version = (uint8_t)ip_version;
	e->role = (uint8_t)role;
	if (role == NSSM_ROLE_CLIENT)
		e->idx = t->n_clients[v6]++;
	else if (role == NSSM_ROLE_SERVER)
		e->idx = t->n_servers[v6]++;
	else
		e->idx = t->n_fixed++;
	t->n_endpoints++;
	*(t->endpoint_last != NULL ? &t->endpoint_last->next : &t->endpoints) = e;
	t->endpoint_last = e;
	return e;
}

struct nssm_endpoint *nssm_endpoint_named(
        struct nssm_tape_builder *b, struct nssm_tape *t, const uint8_t *addr, int ip_version, int role)
{
	if (nssm_addr_fixed(addr, ip_version))
		return NULL;
	struct nssm_row *r = nssm_table_endpoint(&b->table, t, addr, ip_version);
	if (r == NULL && b->table.left == 0)
		return NULL;
	struct nssm_endpoint *e = r != NULL ? r->obj : new_endpoint(b, t, addr, ip_version, role);
	if (r == NULL)
		nssm_table_add_endpoint(&b->table, t, e, true);
	return e->role == NSSM_ROLE_FIXED ? NULL : e;
}

/* An end of a new flow. One without ports says no more of an endpoint than ARP does, and neither does a ping (a DHCP server sends one
 * before it gives an address away: RFC 2131, section 2.2); they take those that there are as they are. One with ports makes a guess
 * good: what was said before stays with the endpoint that it made, since it may have been sent already. */
static struct nssm_endpoint *flow_end(struct nssm_tape_builder *b, struct nssm_tape *t,
        const struct nssm_layout *l, const uint8_t *addr, int role)
{
	int ip_version = l->h.ip_version;
	bool tells = l->has_ports && l->kind != NSSM_REC_ICMP;
	struct nssm_row *r = nssm_table_endpoint(&b->table, t, addr, ip_version);
	role = told_role(b, addr, ip_version, role);
	if (r == NULL) {
		struct nssm_endpoint *e = new_endpoint(b, t, addr, ip_version, role);
		nssm_table_add_endpoint(&b->table, t, e, !tells);
		return e;
	}
	struct nssm_endpoint *e = r->obj;
	if (!tells)
		return e;
	if (r->port != 0 && e->role != role)
		r->obj = e = new_endpoint(b, t, addr, ip_version, role);
	r->port = 0;
	return e;
}

/* --- flows --- */

static void rule_ports(struct nssm_flow *f, bool has_ports)
{
	const uint8_t *role = f->end_role;
	f->port_rule[0] = f->port_rule[1] = NSSM_PORT_KEPT;
	if (!has_ports)
		return;
	if (role[0] == NSSM_ROLE_CLIENT) {
		f->port_rule[0] = NSSM_PORT_CLIENT;
		if (role[1] == NSSM_ROLE_CLIENT)
			f->port_rule[1] = NSSM_PORT_IN_RANGE;
	} else if (role[1] == NSSM_ROLE_CLIENT) {
		f->port_rule[1] = NSSM_PORT_CLIENT;
	} else if (role[0] == NSSM_ROLE_SERVER) {
		f->port_rule[0] = NSSM_PORT_SERVER;
	}
}

static uint8_t opaque_by_port(uint8_t proto, const uint16_t port[2])
{
	for (int i = 0; i < 2; i++) {
		if (proto == PROTO_TCP && port[i] == 21)
			return NSSM_OPAQUE_FTP;
		if ((proto == PROTO_TCP || proto == PROTO_UDP) && port[i] == 5060)
			return NSSM_OPAQUE_SIP;
		if (proto == PROTO_TCP && (port[i] == 554 || port[i] == 8554))
			return NSSM_OPAQUE_RTSP;
	}
	return NSSM_OPAQUE_NONE;
}

static struct nssm_flow *new_flow(struct nssm_tape_builder *b, struct nssm_tape *t,
        const struct nssm_layout *l, struct nssm_endpoint *const end[2], int init)
{
	struct nssm_flow *f = nssm_tape_meta(b, t, sizeof *f);
	f->proto = l->h.proto;
	f->ip_version = l->h.ip_version;
	f->idx = t->n_flows++;
	f->icmp_type = l->icmp_type;
	f->icmp_code = l->icmp_code;
	for (int i = 0; i < 2; i++) {
		f->end[i] = end[i];
		f->port[i] = l->port[i ^ init];
		f->end_role[i] = end[i]->role;
		f->end_idx[i] = end[i]->idx;
	}
	rule_ports(f, l->has_ports);
	f->opaque = opaque_by_port(f->proto, f->port);
	for (int i = 0; i < 2; i++)
		if (f->port_rule[i] != NSSM_PORT_KEPT)
			f->socket[i] = nssm_table_socket(&b->table, t, end[i], f->proto, f->port[i]);
	*(t->flow_last != NULL ? &t->flow_last->next : &t->flows) = f;
	t->flow_last = f;
	return f;
}

/* A subnet's broadcast address shows only by the MAC it is sent to. */
static bool is_broadcast(const struct nssm_layout *l, const uint8_t *frame)
{
	static const uint8_t all[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	return l->addr_len == 4 && l->addr[1][3] == 255 && memcmp(frame, all, 6) == 0;
}

/* By who began, or opposite the other end if the user names that one. */
static int role_of_end(const struct nssm_tape_builder *b, const struct nssm_layout *l, int i)
{
	int told = told_role(b, l->addr[!i ^ l->init], l->h.ip_version, -1);
	bool opens = (i == 0) != l->serves,
	     client = told == NSSM_ROLE_SERVER || (told != NSSM_ROLE_CLIENT && opens);
	return client ? NSSM_ROLE_CLIENT : NSSM_ROLE_SERVER;
}

static struct nssm_flow *begin_flow(
        struct nssm_tape_builder *b, struct nssm_tape *t, const struct nssm_layout *l, const uint8_t *frame)
{
	uint32_t need = 1;
	for (int i = 0; i < 2; i++)
		need += nssm_table_endpoint(&b->table, t, l->addr[i], l->h.ip_version) == NULL;
	if (b->table.left < need)
		return NULL;
	struct nssm_endpoint *end[2];
	for (int i = 0; i < 2; i++) {
		int from = i ^ l->init, role = role_of_end(b, l, i);
		if (nssm_addr_fixed(l->addr[from], l->h.ip_version) || (from == 1 && is_broadcast(l, frame)))
			role = NSSM_ROLE_FIXED;
		end[i] = flow_end(b, t, l, l->addr[from], role);
	}
	struct nssm_flow *f = new_flow(b, t, l, end, l->init);
	nssm_table_add_flow(&b->table, t, f);
	return f;
}

/* --- fragments --- */

static bool same_datagram(const struct nssm_flow *f, int dir, const struct nssm_layout *l)
{
	return f->proto == l->h.proto && f->ip_version == l->h.ip_version &&
	       memcmp(f->end[dir]->addr, l->addr[0], l->addr_len) == 0 &&
	       memcmp(f->end[!dir]->addr, l->addr[1], l->addr_len) == 0;
}

static struct nssm_flow *fragment_flow(const struct nssm_tape *t, int *dir, const struct nssm_layout *l)
{
	const struct nssm_fragments *fr = t->fragments;
	for (uint32_t i = 0; fr != NULL && i < NSSM_FRAGMENTS; i++) {
		if (fr->of[i].flow != NULL && fr->of[i].id == l->frag_id &&
		        same_datagram(fr->of[i].flow, fr->of[i].dir, l)) {
			*dir = fr->of[i].dir;
			return fr->of[i].flow;
		}
	}
	return NULL;
}

static void remember_fragment(struct nssm_tape_builder *b, struct nssm_tape *t, struct nssm_flow *f, int dir,
        const struct nssm_layout *l)
{
	if (t->fragments == NULL)
		t->fragments = nssm_tape_meta(b, t, sizeof *t->fragments);
	struct nssm_fragments *fr = t->fragments;
	uint32_t i = 0;
	while (i < NSSM_FRAGMENTS && !(fr->of[i].flow != NULL && fr->of[i].id == l->frag_id &&
	                                     same_datagram(fr->of[i].flow, fr->of[i].dir, l)))
		i++;
	if (i == NSSM_FRAGMENTS)
		i = fr->next++ % NSSM_FRAGMENTS;
	fr->of[i].flow = f;
	fr->of[i].dir = (uint8_t)dir;
	fr->of[i].id = l->frag_id;
}

/* --- a packet --- */

static void see_tcp(struct nssm_flow *f, int dir, uint8_t flags)
{
	if (flags & SYN)
		f->tcp_seen |= flags & ACK ? SEEN_SYN_ACK : SEEN_SYN;
	if (flags & FIN)
		f->tcp_seen |= (uint8_t)(SEEN_FIN << dir);
	if (flags & RST)
		f->tcp_seen |= SEEN_RST;
}

/* RFC 9000, section 17.2 and RFC 9369, section 3.2: long header, fixed bit, an Initial of the version. */
static bool is_quic_initial(const uint8_t *p, uint32_t n)
{
	if (n < 7 || (p[0] & 0xc0) != 0xc0)
		return false;
	uint32_t version = nssm_get32(p + 1), type = p[0] >> 4 & 3;
	bool draft = version >> 8 == 0xff0000;
	return version == 1 || draft   ? type == 0
	       : version == 0x6b3343cf ? type == 1
	                               : version >> 24 == 'Q' && version >> 16 == 0x5130;
}

/* Whether a SYN begins another. */
static bool is_over(const struct nssm_flow *f)
{
	bool begun_before = f->tcp_seen == 0; /* the capture */
	return begun_before || (f->tcp_seen & SEEN_RST) != 0 || (f->tcp_seen & 3 * SEEN_FIN) == 3 * SEEN_FIN;
}

struct nssm_flow *nssm_flow_of(struct nssm_tape_builder *b, struct nssm_tape *t, int *dir,
        const struct nssm_layout *l, const uint8_t *frame)
{
	struct nssm_flow *f = l->later_frag ? fragment_flow(t, dir, l) : NULL;
	if (f != NULL)
		return f;
	struct nssm_row *r = nssm_table_flow(&b->table, t, dir, l);
	if (r == NULL) {
		f = begin_flow(b, t, l, frame);
		if (f == NULL)
			return NULL;
		*dir = l->init;
	} else {
		f = r->obj;
	}
	bool opens = (l->tcp_flags & (SYN | ACK)) == SYN;
	uint32_t seq = opens ? nssm_get32(frame + l->l4_off + 4) : 0;
	bool again = *dir == 0 && (f->tcp_seen & SEEN_SYN) != 0 && seq == f->isn;
	if (r != NULL && opens && is_over(f) && !again) {
		struct nssm_endpoint *end[2] = {f->end[*dir], f->end[!*dir]};
		r->obj = f = new_flow(b, t, l, end, 0);
		*dir = 0;
	}
	see_tcp(f, *dir, l->tcp_flags);
	if (opens && *dir == 0)
		f->isn = seq;
	if (l->first_frag)
		remember_fragment(b, t, f, *dir, l);
	if (l->kind == NSSM_REC_UDP && f->opaque == NSSM_OPAQUE_NONE &&
	        f->n_packets[0] + f->n_packets[1] < QUIC_PACKETS && l->end > l->h.payload_off &&
	        is_quic_initial(frame + l->h.payload_off, l->end - l->h.payload_off))
		f->opaque = NSSM_OPAQUE_QUIC;
	return f;
}
