/* The masks of codec `flow`: which bytes the automaton takes next, and of these which `clean` allows. */
#include "model/flow_grammar_impl.h"

/* First byte of the largest number that SEQ may be off by in clean: below 2^17. */
#define FLOW_CLEAN_JUMP 241u

static void allow(uint64_t legal[4], unsigned from, unsigned to)
{
	for (unsigned w = from / 64; w <= to / 64; w++) {
		uint64_t m = ~0ull;
		if (w == from / 64)
			m <<= from % 64;
		if (w == to / 64)
			m &= ~0ull >> (63 - to % 64);
		legal[w] |= m;
	}
}

static void allow_ranks(uint64_t legal[4], unsigned from, unsigned n)
{
	if (n > 0)
		allow(legal, from, from + n - 1);
}

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

static void legal_flows(uint64_t legal[4], const struct flow_gram *g)
{
	const uint16_t *n = g->n_flows;
	allow_ranks(legal, 0, 2 * least(n[FLOW_TCP], NSSM_FLOW_TCP_NEAR));
	allow_ranks(legal, NSSM_FLOW_CODE_UDP, 2 * least(n[FLOW_UDP], NSSM_FLOW_UDP_NEAR));
	allow_ranks(legal, NSSM_FLOW_CODE_ECHO, 2u * n[FLOW_ECHO]);
	allow_ranks(legal, NSSM_FLOW_CODE_FAR, n[FLOW_TCP] > NSSM_FLOW_TCP_NEAR ? 2 : 0);
	allow_ranks(legal, NSSM_FLOW_CODE_FAR + 2, n[FLOW_UDP] > NSSM_FLOW_UDP_NEAR ? 2 : 0);
	allow(legal, NSSM_FLOW_CODE_NEW, NSSM_FLOW_CODE_ETHER);
}

/* In clean: flags that a TCP could send. SYN with neither FIN nor RST, FIN and PSH with ACK, none without any. */
static bool sane_flags(unsigned b)
{
	unsigned core = b & 0x17;
	return core == FLOW_SYN || core == (FLOW_SYN | FLOW_ACK) || core == FLOW_RST || core == (FLOW_RST | FLOW_ACK) ||
	       core == FLOW_ACK || core == (FLOW_ACK | FLOW_FIN);
}

static void allow_if(uint64_t legal[4], unsigned to, bool (*fn)(const struct flow_gram *, const struct nssm_codec_cfg *, unsigned),
        const struct flow_gram *g, const struct nssm_codec_cfg *cfg)
{
	for (unsigned b = 0; b <= to; b++)
		if (fn(g, cfg, b))
			legal[b / 64] |= 1ull << b % 64;
}

static bool flags_ok(const struct flow_gram *g, const struct nssm_codec_cfg *cfg, unsigned b)
{
	return sane_flags(b) && (b & 0x20) == 0; /* an urgent pointer is barred */
}

static bool top_ok(const struct flow_gram *g, const struct nssm_codec_cfg *cfg, unsigned b)
{
	return legal_top(cfg, b >> 4) && !(g->is_new && (b & 8) != 0);
}

static bool uop_ok(const struct flow_gram *g, const struct nssm_codec_cfg *cfg, unsigned b)
{
	return legal_uop(cfg, (uint8_t)b);
}

static bool x_ok(const struct flow_gram *g, const struct nssm_codec_cfg *cfg, unsigned b)
{
	return b != 0 && (b & ~(unsigned)legal_x(g)) == 0;
}

static bool clean_x_ok(const struct flow_gram *g, const struct nssm_codec_cfg *cfg, unsigned b)
{
	return x_ok(g, cfg, b) && (b & 128) == 0;
}

static bool even(const struct flow_gram *g, const struct nssm_codec_cfg *cfg, unsigned b)
{
	return b % 2 == 0;
}

static bool pad_ok(const struct flow_gram *g, const struct nssm_codec_cfg *cfg, unsigned b)
{
	return pad_bits(g, (uint8_t)b);
}

/* What a capture cut off is no defect of a header, and a model that was trained on such captures must be able to say so. */
static bool clean_cap_ok(const struct flow_gram *g, const struct nssm_codec_cfg *cfg, unsigned b)
{
	return pad_ok(g, cfg, b) && (b & (2 | 4)) == 0;
}

static bool eop_ok(const struct flow_gram *g, const struct nssm_codec_cfg *cfg, unsigned b)
{
	return cfg->payload != NSSM_PAYLOAD_FULL || (b & 2) != 0;
}

static bool arpop_ok(const struct flow_gram *g, const struct nssm_codec_cfg *cfg, unsigned b)
{
	return (b & 3) == 1 || (b & 3) == 2;
}

static bool iph_clean_ok(const struct flow_gram *g, const struct nssm_codec_cfg *cfg, unsigned b)
{
	return b != 0;
}

static void legal_mac_set(uint64_t legal[4], const struct flow_gram *g, const struct nssm_codec_cfg *cfg, bool clean)
{
	if (g->step == BYTES) {
		/* An address that is one station's, unless a frame that is not sent goes there. */
		if (clean && g->left == 6 && g->field != F_MACD)
			allow_if(legal, 255, even, g, cfg);
		else
			allow(legal, 0, 255);
		return;
	}
	allow_ranks(legal, 0, g->n_macs);
	if (cfg->identity == NSSM_IDENTITY_POOL && (!clean || g->field == F_MACD))
		allow(legal, 253, 253);
	if (g->step == HOST_MAC)
		allow(legal, 254, 254);
	allow(legal, 255, 255);
}

static void legal_host_set(uint64_t legal[4], const struct flow_gram *g, const struct nssm_codec_cfg *cfg, bool clean)
{
	if (g->step == FIRST) {
		allow_ranks(legal, 0, g->n_hosts[g->ver6]);
		allow(legal, 255, 255);
	} else if (g->step == CLASS) {
		allow(legal, 0, 3);
	} else if (g->step == ADDRESS) {
		allow(legal, 0, 255);
	} else {
		legal_mac_set(legal, g, cfg, clean);
	}
}

static void legal_number(uint64_t legal[4], const struct flow_gram *g, const struct nssm_codec_cfg *cfg)
{
	bool first = g->step == NUMBER || (g->step == FIRST && gram_field[g->field].type != OWN);
	allow(legal, 0, first ? most_of_number(g, cfg) : 255);
}

static void legal_opt(uint64_t legal[4], const struct flow_gram *g, const struct nssm_codec_cfg *cfg, bool clean)
{
	if (g->step == FIRST)
		allow(legal, 0, FLOW_N_LAYOUTS - 1);
	else if (g->step == UNITS_SAID)
		allow(legal, 1, 10);
	else if (g->step == EDGES)
		allow(legal, 0, FLOW_EDGE_LAST + 7);
	else if (in_number(g))
		legal_number(legal, g, cfg);
	else
		allow(legal, 0, 255);
	if (!clean && (g->step == FIRST || g->step == EDGES))
		allow(legal, 255, 255);
}

/* ACK and SEQ. What was lost before it came to the capture leaves a hole in the numbers, and fills one when it comes again: no defect,
 * and without it a model of such captures could not say what it learned of loss. Holes that no window allows are none. */
static void legal_jump(uint64_t legal[4], const struct flow_gram *g, const struct nssm_codec_cfg *cfg, bool clean)
{
	bool seq = g->field == F_SEQ;
	if (g->step != FIRST) {
		if (clean && g->step == NUMBER)
			allow(legal, 0, FLOW_CLEAN_JUMP);
		else
			legal_number(legal, g, cfg);
		return;
	}
	allow(legal, 0, seq ? FLOW_SEGS : 100);
	if (seq)
		allow(legal, 102, 103);
	else if (!clean)
		allow(legal, 253, 254);
}

static void legal_own(uint64_t legal[4], const struct flow_gram *g, const struct nssm_codec_cfg *cfg, bool clean)
{
	switch (g->field) {
	case F_FLOW:
		legal_flows(legal, g);
		break;
	case F_RANK:
		allow_ranks(legal, 0,
		        g->n_flows[g->kind] - (g->kind == FLOW_TCP ? NSSM_FLOW_TCP_NEAR : NSSM_FLOW_UDP_NEAR));
		break;
	case F_ARPOP:
		if (clean)
			allow_if(legal, 63, arpop_ok, g, cfg);
		else
			allow(legal, 0, 63);
		break;
	case F_DPORT:
		if (g->step == FIRST) {
			allow_ranks(legal, 0, g->n_ports);
			allow_ranks(legal, FLOW_SERVICE, FLOW_N_SERVICES);
			allow(legal, 255, 255);
		} else {
			allow(legal, 0, 255);
		}
		break;
	case F_TOP:
		allow_if(legal, 255, top_ok, g, cfg);
		break;
	case F_UOP:
		allow_if(legal, 255, uop_ok, g, cfg);
		break;
	case F_EOP:
		allow_if(legal, 7, eop_ok, g, cfg);
		break;
	case F_OOP:
		allow(legal, 0, g->kind == FLOW_ETHER ? 1 : 3);
		break;
	case F_FLAGS:
		if (clean)
			allow_if(legal, 255, flags_ok, g, cfg);
		else
			allow(legal, 0, 255);
		break;
	case F_ACK:
	case F_SEQ:
		legal_jump(legal, g, cfg, clean);
		break;
	case F_TSE:
		if (g->step != FIRST)
			legal_number(legal, g, cfg);
		else
			allow(legal, 0, 4);
		break;
	case F_X:
		allow_if(legal, 255, clean ? clean_x_ok : x_ok, g, cfg);
		break;
	case F_OPT:
		legal_opt(legal, g, cfg, clean);
		break;
	case F_IPH:
		if (clean)
			allow_if(legal, 15, iph_clean_ok, g, cfg);
		else
			allow(legal, 1, 31);
		break;
	case F_TTL:
		allow(legal, clean ? 1 : 0, 255);
		break;
	case F_CAP:
		allow_if(legal, 31, clean ? clean_cap_ok : pad_ok, g, cfg);
		break;
	case F_LINK:
		allow(legal, 1, 7);
		break;
	case F_LVLAN:
		if (g->step == FIRST)
			allow(legal, 0, 4);
		else
			allow(legal, 0, g->left % 3 == 0 ? 2 : 255);
		break;
	case F_BAD:
		allow(legal, 1, 255);
		break;
	default:
		allow(legal, 0, 255);
	}
}

void flow_gram_legal(uint64_t legal[4], const struct flow_gram *g, const struct nssm_codec_cfg *cfg, bool clean)
{
	legal[0] = legal[1] = legal[2] = legal[3] = 0;
	switch (gram_field[g->field].type) {
	case FIX:
		/* A model that spells a gap of more than a day has lost its way, and the run would wait for it. */
		allow(legal, 0, clean && g->field == F_GAPX ? 64 : 255);
		break;
	case V:
	case LITS:
		if (g->step == BYTES)
			allow(legal, 0, 255);
		else
			legal_number(legal, g, cfg);
		break;
	case UNITS:
		allow(legal, g->step == FIRST ? 1 : 0, 255);
		break;
	case MAC:
		legal_mac_set(legal, g, cfg, clean);
		break;
	case HOST:
		legal_host_set(legal, g, cfg, clean);
		break;
	default:
		legal_own(legal, g, cfg, clean);
	}
}
