#include "model/flow_grammar_impl.h"

#include <string.h>

#define BIT(f) (1ull << (f))

const struct flow_top flow_top[16] = {
        {FLOW_ACK, FLOW_LEN_0},
        {FLOW_ACK, FLOW_LEN_LAST},
        {FLOW_ACK, FLOW_LEN_SAID},
        {FLOW_ACK | FLOW_PSH, FLOW_LEN_LAST},
        {FLOW_ACK | FLOW_PSH, FLOW_LEN_SAID},
        {FLOW_ACK | FLOW_FIN, FLOW_LEN_0},
        {FLOW_ACK | FLOW_PSH | FLOW_FIN, FLOW_LEN_SAID},
        {FLOW_RST, FLOW_LEN_0},
        {FLOW_RST | FLOW_ACK, FLOW_LEN_0},
        {FLOW_SYN | FLOW_ACK, FLOW_LEN_0},
        {FLOW_SYN, FLOW_LEN_0},
        {FLOW_ACK, FLOW_LEN_MAX},
        {FLOW_ACK | FLOW_PSH, FLOW_LEN_MAX},
        {FLOW_ACK | FLOW_FIN, FLOW_LEN_SAID},
        {0, FLOW_LEN_0},
        {0, FLOW_LEN_SAID},
};

void flow_run(unsigned r, unsigned *from, unsigned *n)
{
	/* From bytes 0, 1, 2 and 4 on: 12, 11, 10 and 8 lengths. */
	static const uint8_t begin[4] = {0, 1, 2, 4}, count[4] = {12, 11, 10, 8};
	*from = *n = 0;
	unsigned k = 0;
	if (r == 0)
		return;
	for (r--; k < 3 && r >= count[k]; k++)
		r -= count[k];
	*from = begin[k];
	*n = r + 1 <= count[k] ? r + 1 : count[k];
}

uint32_t flow_payload_kept(const struct nssm_codec_cfg *cfg, int kind, uint32_t len, uint32_t avail)
{
	uint32_t n = cfg->payload == NSSM_PAYLOAD_FULL                          ? UINT32_MAX
	             : cfg->payload == NSSM_PAYLOAD_PREFIX && kind == FLOW_UDP ? cfg->prefix
	                                                                        : 0;
	n = n < len ? n : len;
	return n < avail ? n : avail;
}

/* --- fields ---------------------------------------------------------------------------------------------------------- */

const struct gram_field gram_field[F_N_FIELDS] = {
        [F_GAP] = {OWN}, [F_GAPX] = {FIX, 1}, [F_FLOW] = {OWN}, [F_RANK] = {OWN}, [F_ETYPE] = {FIX, 2},
        [F_MACS] = {MAC}, [F_MACD] = {MAC}, [F_ARPOP] = {OWN}, [F_ARP16] = {FIX, 2}, [F_SRC] = {HOST}, [F_DST] = {HOST},
        [F_AMACS] = {MAC}, [F_AMACT] = {MAC}, [F_AMACD] = {MAC}, [F_PROTO] = {FIX, 1}, [F_SPORT] = {FIX, 2},
        [F_DPORT] = {OWN}, [F_TOP] = {OWN}, [F_UOP] = {OWN}, [F_EOP] = {OWN}, [F_OOP] = {OWN}, [F_FRAG] = {FIX, 2},
        [F_FLAGS] = {OWN}, [F_LEN] = {V}, [F_SEQ0] = {FIX, 4}, [F_ACK0] = {FIX, 4}, [F_SEQ16] = {FIX, 2},
        [F_ACK] = {OWN}, [F_WIN] = {OWN}, [F_TS] = {V}, [F_X] = {OWN}, [F_SEQ] = {OWN}, [F_TSE] = {OWN}, [F_IPID] = {OWN},
        [F_OPT] = {OWN}, [F_IPH] = {OWN}, [F_TTL] = {OWN}, [F_TOS] = {FIX, 1}, [F_LABEL] = {FIX, 3}, [F_IPOPT] = {UNITS},
        [F_CAP] = {OWN}, [F_TRL] = {V}, [F_TRC] = {OWN}, [F_WLEN] = {V}, [F_CLEN] = {V}, [F_PAV] = {V}, [F_LINK] = {OWN},
        [F_LMACS] = {MAC}, [F_LMACD] = {MAC}, [F_LVLAN] = {OWN}, [F_BAD] = {OWN}, [F_BIP] = {FIX, 2}, [F_BL4] = {FIX, 2},
        [F_BLEN] = {FIX, 2}, [F_BUDP] = {FIX, 2}, [F_BURG] = {FIX, 2}, [F_BRES] = {FIX, 1}, [F_LIT] = {LITS}, [F_PAY] = {FIX},
};

static uint32_t payload_bytes(const struct flow_gram *g, const struct nssm_codec_cfg *cfg)
{
	uint32_t n = flow_payload_kept(cfg, g->kind, g->len, g->avail), from, run;
	flow_run(g->run, &from, &run);
	uint32_t to = from + run < n ? from + run : n;
	return n - (to > from ? to - from : 0);
}

static enum flow_gram_event next_field(struct flow_gram *g, const struct nssm_codec_cfg *cfg)
{
	g->step = FIRST;
	while (g->todo != 0) {
		g->field = (uint8_t)__builtin_ctzll(g->todo);
		g->todo &= g->todo - 1;
		g->left = g->field == F_PAY ? payload_bytes(g, cfg) : gram_field[g->field].n;
		if (g->field != F_PAY || g->left > 0)
			return FLOW_GRAM_MORE;
	}
	g->field = F_N_FIELDS;
	memcpy(g->n_flows_whole, g->n_flows, sizeof g->n_flows);
	memcpy(g->n_hosts_whole, g->n_hosts, sizeof g->n_hosts);
	g->n_macs_whole = g->n_macs;
	g->n_ports_whole = g->n_ports;
	return FLOW_GRAM_WHOLE;
}

static void add(struct flow_gram *g, unsigned field, bool wanted)
{
	if (wanted)
		g->todo |= BIT(field);
}

void flow_gram_begin(struct flow_gram *g)
{
	*g = (struct flow_gram){.field = F_N_FIELDS};
}

void flow_gram_packet(struct flow_gram *g)
{
	g->todo = BIT(F_FLOW);
	memcpy(g->n_flows, g->n_flows_whole, sizeof g->n_flows);
	memcpy(g->n_hosts, g->n_hosts_whole, sizeof g->n_hosts);
	g->n_macs = g->n_macs_whole;
	g->n_ports = g->n_ports_whole;
	g->field = F_GAP;
	g->step = FIRST;
	g->len = 0;
	g->avail = UINT32_MAX;
	g->run = g->is_new = 0;
}

/* --- numbers ---------------------------------------------------------------------------------------------------------- */

/* FLOW_GRAM_WHOLE: g->value is the number. */
static enum flow_gram_event number(struct flow_gram *g, uint8_t b)
{
	if (g->step == FIRST || g->step == NUMBER) {
		g->step = NUMBER_TAIL;
		if (b < 192) {
			g->value = b;
			return FLOW_GRAM_WHOLE;
		}
		g->value = b < 240 ? b - 192u : b < 254 ? b - 240u : 0;
		g->left = b < 240 ? 1 : b < 254 ? 2 : 4;
		g->base = b; /* which base is added in the end */
		return b == 255 ? FLOW_GRAM_ILLEGAL : FLOW_GRAM_MORE;
	}
	g->value = g->value << 8 | b;
	if (--g->left > 0)
		return FLOW_GRAM_MORE;
	g->value += g->base < 240 ? 192 : g->base < 254 ? 12480 : 0;
	return FLOW_GRAM_WHOLE;
}

/* --- fields of their own ------------------------------------------------------------------------------------------------ */

static void op_fields(struct flow_gram *g, const struct nssm_codec_cfg *cfg)
{
	static const uint8_t op[] = {[FLOW_TCP] = F_TOP, [FLOW_UDP] = F_UOP, [FLOW_ECHO] = F_EOP, [FLOW_ARP] = F_ARPOP,
	        [FLOW_OTHER] = F_OOP, [FLOW_ETHER] = F_OOP};
	(void)cfg;
	add(g, op[g->kind], true);
}

static enum flow_gram_event flow_byte(struct flow_gram *g, const struct nssm_codec_cfg *cfg, uint8_t b)
{
	static const uint8_t first[3] = {0, NSSM_FLOW_CODE_UDP, NSSM_FLOW_CODE_ECHO};
	if (b < NSSM_FLOW_CODE_FAR) {
		g->kind = b < NSSM_FLOW_CODE_UDP ? FLOW_TCP : b < NSSM_FLOW_CODE_ECHO ? FLOW_UDP : FLOW_ECHO;
		if ((b - first[g->kind]) / 2 >= g->n_flows[g->kind])
			return FLOW_GRAM_ILLEGAL;
	} else if (b < NSSM_FLOW_CODE_NEW) {
		g->kind = b < NSSM_FLOW_CODE_FAR + 2 ? FLOW_TCP : FLOW_UDP;
		if (g->n_flows[g->kind] <= (g->kind == FLOW_TCP ? NSSM_FLOW_TCP_NEAR : NSSM_FLOW_UDP_NEAR))
			return FLOW_GRAM_ILLEGAL;
		add(g, F_RANK, true);
	} else if (b < NSSM_FLOW_CODE_ARP) {
		static const uint16_t most[3] = {NSSM_FLOW_TCP_MAX, NSSM_FLOW_UDP_MAX, NSSM_FLOW_ECHO_MAX};
		g->kind = (uint8_t)((b - NSSM_FLOW_CODE_NEW) / 2);
		g->ver6 = (b - NSSM_FLOW_CODE_NEW) & 1;
		g->is_new = 1;
		g->n_flows[g->kind] += g->n_flows[g->kind] < most[g->kind];
		g->todo |= BIT(F_SRC) | BIT(F_DST) | BIT(F_SPORT);
		add(g, F_DPORT, g->kind != FLOW_ECHO);
	} else if (b == NSSM_FLOW_CODE_ARP) {
		g->kind = FLOW_ARP;
		g->ver6 = 0;
		g->todo |= BIT(F_SRC) | BIT(F_DST);
	} else if (b < NSSM_FLOW_CODE_ETHER) {
		g->kind = FLOW_OTHER;
		g->ver6 = b == NSSM_FLOW_CODE_OTHER + 1;
		g->todo |= BIT(F_SRC) | BIT(F_DST) | BIT(F_PROTO) | BIT(F_LEN) | BIT(F_LIT);
	} else if (b == NSSM_FLOW_CODE_ETHER) {
		g->kind = FLOW_ETHER;
		g->todo |= BIT(F_MACS) | BIT(F_MACD) | BIT(F_ETYPE) | BIT(F_LEN) | BIT(F_LIT);
	} else {
		return FLOW_GRAM_ILLEGAL;
	}
	op_fields(g, cfg);
	return next_field(g, cfg);
}

static enum flow_gram_event top_byte(struct flow_gram *g, const struct nssm_codec_cfg *cfg, uint8_t b)
{
	unsigned kind = b >> 4;
	bool keep = cfg->identity == NSSM_IDENTITY_KEEP;
	if (!legal_top(cfg, kind) || (g->is_new && (b & 8) != 0))
		return FLOW_GRAM_ILLEGAL;
	add(g, F_FLAGS, kind >= FLOW_TOP_FLAGS);
	add(g, F_LEN, flow_top[kind].len == FLOW_LEN_SAID);
	add(g, F_SEQ0, keep && (g->is_new || kind == FLOW_TOP_SYNACK));
	add(g, F_ACK0, keep && g->is_new && kind != FLOW_TOP_SYN);
	add(g, F_ACK, (b & 8) != 0);
	add(g, F_WIN, (b & 4) != 0);
	add(g, F_TS, (b & 2) != 0);
	add(g, F_X, (b & 1) != 0);
	add(g, F_PAY, cfg->payload == NSSM_PAYLOAD_FULL);
	return next_field(g, cfg);
}

static enum flow_gram_event uop_byte(struct flow_gram *g, const struct nssm_codec_cfg *cfg, uint8_t b)
{
	if (!legal_uop(cfg, b))
		return FLOW_GRAM_ILLEGAL;
	g->run = b / 6;
	add(g, F_LEN, b % 6 < 2);
	/* A length that is not said is no shorter than the prefix. */
	if (b % 6 >= 2)
		g->len = UINT32_MAX;
	add(g, F_X, b & 1);
	add(g, F_PAY, cfg->payload != NSSM_PAYLOAD_NONE);
	return next_field(g, cfg);
}

static enum flow_gram_event x_byte(struct flow_gram *g, const struct nssm_codec_cfg *cfg, uint8_t b)
{
	static const uint8_t field[8] = {F_SEQ, F_TSE, F_IPID, F_OPT, F_IPH, F_CAP, F_LINK, F_BAD};
	if (b == 0 || (b & ~legal_x(g)) != 0)
		return FLOW_GRAM_ILLEGAL;
	for (int i = 0; i < 8; i++)
		add(g, field[i], (b >> i & 1) && !(i == 0 && g->kind == FLOW_UDP));
	return next_field(g, cfg);
}

static enum flow_gram_event opt_byte(struct flow_gram *g, const struct nssm_codec_cfg *cfg, uint8_t b)
{
	switch (g->step) {
	case FIRST: {
		unsigned n_edges = 0;
		if (b == 255) {
			g->step = UNITS_SAID;
			return FLOW_GRAM_MORE;
		}
		if (b >= FLOW_N_LAYOUTS)
			return FLOW_GRAM_ILLEGAL;
		g->left = flow_layout_values(b, &n_edges);
		g->sacks = (uint8_t)n_edges;
		break;
	}
	case UNITS_SAID:
		if (b < 1 || b > 10)
			return FLOW_GRAM_ILLEGAL;
		g->left = 4u * b;
		g->sacks = 0;
		break;
	case EDGES:
		g->sacks--;
		if (b >= FLOW_EDGE_LAST + 8 && b != 255)
			return FLOW_GRAM_ILLEGAL;
		if (b == 255) {
			g->step = NUMBER;
			return FLOW_GRAM_MORE;
		}
		break;
	case NUMBER:
	case NUMBER_TAIL: {
		enum flow_gram_event ev = number(g, b);
		if (ev != FLOW_GRAM_WHOLE)
			return ev;
		g->left = 0;
		break;
	}
	default:
		g->left--;
	}
	g->step = g->left > 0 ? BYTES : EDGES;
	return g->left > 0 || g->sacks > 0 ? FLOW_GRAM_MORE : next_field(g, cfg);
}

static enum flow_gram_event own_byte(struct flow_gram *g, const struct nssm_codec_cfg *cfg, uint8_t b)
{
	switch (g->field) {
	case F_GAP:
		add(g, F_GAPX, b == 255);
		return next_field(g, cfg);
	case F_FLOW:
		return flow_byte(g, cfg, b);
	case F_RANK:
		if (b >= g->n_flows[g->kind] - (g->kind == FLOW_TCP ? NSSM_FLOW_TCP_NEAR : NSSM_FLOW_UDP_NEAR))
			return FLOW_GRAM_ILLEGAL;
		return next_field(g, cfg);
	case F_ARPOP:
		if (b >= 64)
			return FLOW_GRAM_ILLEGAL;
		add(g, F_ARP16, (b & 3) == 0 || (b & 3) == 3);
		add(g, F_AMACT, (b & 4) != 0);
		add(g, F_AMACD, (b & 8) != 0);
		add(g, F_AMACS, (b & 16) != 0);
		add(g, F_X, (b & 32) != 0);
		return next_field(g, cfg);
	case F_DPORT:
		if (g->step == FIRST && b == 255) {
			g->n_ports += g->n_ports < NSSM_FLOW_PORTS_MAX;
			g->step = BYTES;
			g->left = 2;
			return FLOW_GRAM_MORE;
		}
		if (g->step == FIRST)
			return b < g->n_ports || (b >= FLOW_SERVICE && b < FLOW_SERVICE + FLOW_N_SERVICES) ? next_field(g, cfg) : FLOW_GRAM_ILLEGAL;
		return --g->left > 0 ? FLOW_GRAM_MORE : next_field(g, cfg);
	case F_TOP:
		return top_byte(g, cfg, b);
	case F_UOP:
		return uop_byte(g, cfg, b);
	case F_EOP:
		if (b >= 8 || (cfg->payload == NSSM_PAYLOAD_FULL && (b & 2) == 0))
			return FLOW_GRAM_ILLEGAL;
		add(g, F_X, b & 1);
		add(g, F_LEN, (b & 2) != 0);
		add(g, F_SEQ16, (b & 4) != 0);
		add(g, F_PAY, cfg->payload == NSSM_PAYLOAD_FULL);
		return next_field(g, cfg);
	case F_OOP:
		if (b >= 4 || (g->kind == FLOW_ETHER && (b & 2) != 0))
			return FLOW_GRAM_ILLEGAL;
		add(g, F_X, b & 1);
		add(g, F_FRAG, (b & 2) != 0);
		return next_field(g, cfg);
	case F_FLAGS:
		return next_field(g, cfg);
	case F_ACK:
		if (in_number(g)) {
			enum flow_gram_event ev = number(g, b);
			return ev == FLOW_GRAM_WHOLE ? next_field(g, cfg) : ev;
		}
		g->step = NUMBER;
		return b <= 100 ? next_field(g, cfg) : b == 253 || b == 254 ? FLOW_GRAM_MORE : FLOW_GRAM_ILLEGAL;
	case F_SEQ:
		if (in_number(g)) {
			enum flow_gram_event ev = number(g, b);
			return ev == FLOW_GRAM_WHOLE ? next_field(g, cfg) : ev;
		}
		g->step = NUMBER;
		return b <= FLOW_SEGS ? next_field(g, cfg) : b == 102 || b == 103 ? FLOW_GRAM_MORE : FLOW_GRAM_ILLEGAL;
	case F_WIN:
		if (g->step == FIRST && b >= 200) {
			g->step = BYTES;
			g->left = b == 255 ? 2 : 1;
			return FLOW_GRAM_MORE;
		}
		return g->step == BYTES && --g->left > 0 ? FLOW_GRAM_MORE : next_field(g, cfg);
	case F_TSE:
		if (in_number(g)) {
			enum flow_gram_event ev = number(g, b);
			return ev == FLOW_GRAM_WHOLE ? next_field(g, cfg) : ev;
		}
		g->step = NUMBER;
		return b < 4 ? next_field(g, cfg) : b == 4 ? FLOW_GRAM_MORE : FLOW_GRAM_ILLEGAL;
	case F_X:
		return x_byte(g, cfg, b);
	case F_IPID:
		if (g->step == FIRST && b >= 63) {
			g->step = BYTES;
			g->left = b == 63 ? 2 : 1;
			return FLOW_GRAM_MORE;
		}
		return g->step == BYTES && --g->left > 0 ? FLOW_GRAM_MORE : next_field(g, cfg);
	case F_OPT:
		return opt_byte(g, cfg, b);
	case F_IPH:
		if (b == 0 || b >= 32)
			return FLOW_GRAM_ILLEGAL;
		add(g, F_TTL, b & 1);
		add(g, F_TOS, (b & 2) != 0);
		add(g, F_LABEL, (b & 8) != 0);
		add(g, F_IPOPT, (b & 16) != 0);
		return next_field(g, cfg);
	case F_TTL:
		return next_field(g, cfg);
	case F_CAP:
		if (!pad_bits(g, b))
			return FLOW_GRAM_ILLEGAL;
		g->todo |= (b & 2) != 0 ? BIT(F_TRL) | BIT(F_TRC) : 0;
		add(g, F_WLEN, (b & 4) != 0);
		add(g, F_CLEN, (b & 8) != 0);
		add(g, F_PAV, (b & 16) != 0);
		return next_field(g, cfg);
	case F_TRC:
		if (g->step == FIRST) {
			g->step = BYTES;
			g->left = b + 1u;
		}
		return --g->left > 0 ? FLOW_GRAM_MORE : next_field(g, cfg);
	case F_LINK:
		if (b == 0 || b >= 8)
			return FLOW_GRAM_ILLEGAL;
		add(g, F_LMACS, b & 1);
		add(g, F_LMACD, (b & 2) != 0);
		add(g, F_LVLAN, (b & 4) != 0);
		return next_field(g, cfg);
	case F_LVLAN:
		if (g->step == FIRST) {
			if (b > 4)
				return FLOW_GRAM_ILLEGAL;
			g->step = BYTES;
			g->left = 3u * b + 1;
		} else if (g->left % 3 == 0 && b > 2) {
			return FLOW_GRAM_ILLEGAL;
		}
		return --g->left > 0 ? FLOW_GRAM_MORE : next_field(g, cfg);
	default: /* F_BAD */
		if (b == 0)
			return FLOW_GRAM_ILLEGAL;
		add(g, F_BIP, b & 1);
		add(g, F_BL4, (b & 2) != 0);
		add(g, F_BLEN, (b & 16) != 0);
		add(g, F_BUDP, (b & 32) != 0);
		add(g, F_BURG, (b & 64) != 0);
		add(g, F_BRES, (b & 128) != 0);
		return next_field(g, cfg);
	}
}

/* --- MACs and hosts ----------------------------------------------------------------------------------------------------- */

static bool new_mac(struct flow_gram *g, const struct nssm_codec_cfg *cfg, uint8_t b)
{
	g->n_macs += g->n_macs < NSSM_FLOW_MACS_MAX;
	return b == 253 || cfg->identity == NSSM_IDENTITY_KEEP;
}

static bool legal_mac(const struct flow_gram *g, const struct nssm_codec_cfg *cfg, uint8_t b)
{
	bool host = g->step == HOST_MAC;
	return b < g->n_macs || (b == 253 && cfg->identity == NSSM_IDENTITY_POOL) || (b == 254 && host) || b == 255;
}

static enum flow_gram_event mac_byte(struct flow_gram *g, const struct nssm_codec_cfg *cfg, uint8_t b)
{
	if (g->step == BYTES)
		return --g->left > 0 ? FLOW_GRAM_MORE : next_field(g, cfg);
	if (!legal_mac(g, cfg, b))
		return FLOW_GRAM_ILLEGAL;
	/* What 254 implies has a slot, too. */
	if (b >= 253 && new_mac(g, cfg, b) && b != 254) {
		g->step = BYTES;
		g->left = 6;
		return FLOW_GRAM_MORE;
	}
	return next_field(g, cfg);
}

static enum flow_gram_event host_byte(struct flow_gram *g, const struct nssm_codec_cfg *cfg, uint8_t b)
{
	bool keep = cfg->identity == NSSM_IDENTITY_KEEP;
	switch (g->step) {
	case FIRST:
		if (b != 255)
			return b < g->n_hosts[g->ver6] ? next_field(g, cfg) : FLOW_GRAM_ILLEGAL;
		g->n_hosts[g->ver6] += g->n_hosts[g->ver6] < NSSM_FLOW_HOSTS_MAX;
		g->step = keep ? ADDRESS : CLASS;
		g->left = g->ver6 ? 16 : 4;
		return FLOW_GRAM_MORE;
	case CLASS:
		if (b > 3)
			return FLOW_GRAM_ILLEGAL;
		g->step = b == 2 ? ADDRESS : HOST_MAC;
		return FLOW_GRAM_MORE;
	case ADDRESS:
		if (--g->left == 0)
			g->step = HOST_MAC;
		return FLOW_GRAM_MORE;
	default:
		return mac_byte(g, cfg, b);
	}
}

enum flow_gram_event flow_gram_byte(struct flow_gram *g, const struct nssm_codec_cfg *cfg, uint8_t b)
{
	enum flow_gram_event ev;
	switch (gram_field[g->field].type) {
	case FIX:
		return --g->left > 0 ? FLOW_GRAM_MORE : next_field(g, cfg);
	case V:
		if (g->step == FIRST && b > most_of_number(g, cfg))
			return FLOW_GRAM_ILLEGAL;
		ev = number(g, b);
		if (ev != FLOW_GRAM_WHOLE)
			return ev;
		if (g->field == F_LEN)
			g->len = g->value;
		else if (g->field == F_PAV)
			g->avail = g->value;
		return next_field(g, cfg);
	case LITS:
		if (g->step != BYTES) {
			if (g->step == FIRST && b > most_of_number(g, cfg))
				return FLOW_GRAM_ILLEGAL;
			ev = number(g, b);
			if (ev != FLOW_GRAM_WHOLE)
				return ev;
			g->step = BYTES;
			g->left = g->value + 1;
		}
		return --g->left > 0 ? FLOW_GRAM_MORE : next_field(g, cfg);
	case UNITS:
		if (g->step == FIRST) {
			if (b == 0)
				return FLOW_GRAM_ILLEGAL;
			g->step = BYTES;
			g->left = 2 + 4u * b;
		}
		return --g->left > 0 ? FLOW_GRAM_MORE : next_field(g, cfg);
	case MAC:
		return mac_byte(g, cfg, b);
	case HOST:
		return host_byte(g, cfg, b);
	default:
		return own_byte(g, cfg, b);
	}
}
