#include "model/flow_context.h"

#include <string.h>

#include "model/flow_grammar_impl.h"

/* --- phases ---------------------------------------------------------------------------------------------------------- */

void flow_memory_begin(struct flow_memory *m)
{
	*m = (struct flow_memory){.kind = FLOW_ETHER + 1};
}

static void to_front(struct flow_memory *m, unsigned rank)
{
	uint8_t phase = FLOW_PH_UNKNOWN;
	unsigned behind = rank;
	if (rank < m->n) {
		phase = m->phase[rank];
	} else {
		m->n += m->n < FLOW_CTX_FLOWS;
		behind = m->n - 1u;
	}
	memmove(m->phase + 1, m->phase, behind);
	m->phase[0] = phase;
}

/* What a phase is after a packet of direction dir with these flags. */
static uint8_t moved(uint8_t phase, unsigned flags, bool data, unsigned dir)
{
	bool established = phase >= FLOW_PH_OPEN && phase < FLOW_PH_FIN0;
	if ((flags & FLOW_RST) != 0)
		return FLOW_PH_RST;
	if ((flags & FLOW_SYN) != 0)
		return (flags & FLOW_ACK) != 0 ? FLOW_PH_SYNACK : FLOW_PH_SYN;
	if ((flags & FLOW_FIN) != 0)
		return phase == (dir ? FLOW_PH_FIN0 : FLOW_PH_FIN1) || phase == FLOW_PH_FINS || phase == FLOW_PH_CLOSED ? FLOW_PH_FINS : FLOW_PH_FIN0 + dir;
	if (phase >= FLOW_PH_FIN0 && phase <= FLOW_PH_CLOSED)
		return phase == FLOW_PH_FINS && !data ? FLOW_PH_CLOSED : phase;
	unsigned said = established ? phase - FLOW_PH_OPEN : 0;
	said &= 1u << dir; /* the other direction's data are answered */
	return (uint8_t)(FLOW_PH_OPEN + (said | (unsigned)data << dir));
}

static void flow_code(struct flow_memory *m, uint8_t b)
{
	if (b < NSSM_FLOW_CODE_FAR) {
		m->kind = b < NSSM_FLOW_CODE_UDP ? FLOW_TCP : b < NSSM_FLOW_CODE_ECHO ? FLOW_UDP : FLOW_ECHO;
		m->dir = b & 1;
		if (m->kind == FLOW_TCP)
			to_front(m, b / 2);
	} else if (b < NSSM_FLOW_CODE_NEW) {
		m->kind = b < NSSM_FLOW_CODE_FAR + 2 ? FLOW_TCP : FLOW_UDP;
		m->dir = b & 1;
		if (m->kind == FLOW_TCP)
			to_front(m, FLOW_CTX_FLOWS); /* RANK follows: one of those that are not known of */
	} else if (b < NSSM_FLOW_CODE_ARP) {
		m->kind = (uint8_t)((b - NSSM_FLOW_CODE_NEW) / 2);
		m->dir = 0;
		if (m->kind == FLOW_TCP) {
			to_front(m, FLOW_CTX_FLOWS);
			m->phase[0] = FLOW_PH_NEW;
		}
	} else {
		m->kind = b == NSSM_FLOW_CODE_ARP ? FLOW_ARP : b < NSSM_FLOW_CODE_ETHER ? FLOW_OTHER : FLOW_ETHER;
	}
}

void flow_memory_byte(struct flow_memory *m, const struct flow_gram *g, uint8_t b)
{
	if (g->field == F_FLOW) {
		flow_code(m, b);
	} else if (g->field == F_TOP) {
		unsigned kind = b >> 4;
		m->top = (uint8_t)kind;
		if (kind < FLOW_TOP_FLAGS)
			m->phase[0] = moved(m->phase[0], flow_top[kind].flags, flow_top[kind].len != FLOW_LEN_0, m->dir);
	} else if (g->field == F_FLAGS) {
		m->phase[0] = moved(m->phase[0], b, m->top > FLOW_TOP_FLAGS, m->dir);
	}
}

/* --- numbers --------------------------------------------------------------------------------------------------------- */

#define N_LAST   (1 + 2 * FLOW_N_PHASES + 2 + 4) /* what the packet before was */
#define N_NUMBER 5  /* a number's first byte; its others by how many are left */
#define N_MAC    7
#define N_HOST   (4 + 16 + N_MAC)
#define N_LIT    (N_NUMBER + 24)
#define N_OWN    16
#define N_PAY    24
#define N_KINDS  (FLOW_ETHER + 1)

/* How many numbers a field has. */
static unsigned size_of(unsigned field)
{
	switch (field) {
	case F_GAP:
	case F_FLOW:
		return N_LAST;
	case F_TOP:
		return 2 * FLOW_N_PHASES;
	case F_X:
		return N_KINDS;
	case F_SPORT:
		return 2 * FLOW_N_KINDS;
	case F_UOP:
		return 4;
	case F_LEN:
		return N_KINDS * N_NUMBER;
	case F_PAY:
		return N_PAY;
	default:
		break;
	}
	switch (gram_field[field].type) {
	case FIX:
		return gram_field[field].n;
	case V:
		return N_NUMBER;
	case LITS:
		return N_LIT;
	case UNITS:
		return N_OWN;
	case MAC:
		return N_MAC;
	case HOST:
		return N_HOST;
	default:
		return N_OWN;
	}
}

/* Numbers: 0; the conditions; between packets; then the fields'. */
#define BETWEEN (1 + NSSM_N_CONDITIONS)
#define FIELDS  (BETWEEN + N_LAST)

static uint16_t field_base[F_N_FIELDS + 1];

__attribute__((constructor)) static void lay_out(void)
{
	field_base[0] = FIELDS;
	for (unsigned f = 0; f < F_N_FIELDS; f++)
		field_base[f + 1] = (uint16_t)(field_base[f] + size_of(f));
}

unsigned flow_n_contexts(void)
{
	return field_base[F_N_FIELDS];
}

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

static unsigned last(const struct flow_memory *m)
{
	switch (m->kind) {
	case FLOW_TCP:
		return 1 + 2u * m->phase[0] + m->dir;
	case FLOW_UDP:
		return 1 + 2 * FLOW_N_PHASES + m->dir;
	case FLOW_ECHO:
	case FLOW_ARP:
	case FLOW_OTHER:
	case FLOW_ETHER:
		return 1 + 2 * FLOW_N_PHASES + 2 + m->kind - FLOW_ECHO;
	default:
		return 0;
	}
}

static unsigned in_a_number(const struct flow_gram *g)
{
	return g->step == NUMBER_TAIL ? least(g->left, N_NUMBER - 1) : 0;
}

static unsigned in_mac(const struct flow_gram *g)
{
	return g->step == BYTES ? g->left : 0;
}

static unsigned in_host(const struct flow_gram *g)
{
	switch (g->step) {
	case FIRST:
		return g->ver6;
	case CLASS:
		return 2u + g->ver6;
	case ADDRESS:
		return 4 + least(g->left - 1, 15);
	default:
		return 20 + in_mac(g);
	}
}

/* Position in the payload of the byte that comes. */
static unsigned in_payload(const struct flow_gram *g, const struct nssm_codec_cfg *cfg)
{
	unsigned from, run, all = flow_payload_kept(cfg, g->kind, g->len, g->avail);
	flow_run(g->run, &from, &run);
	unsigned to = least(from + run, all), skipped = to > from ? to - from : 0, at = all - skipped - g->left;
	return least(at < from ? at : at + skipped, N_PAY - 1);
}

/* Within a field that has its own way. */
static unsigned in_own(const struct flow_gram *g)
{
	switch (g->step) {
	case FIRST:
		return 0;
	case BYTES:
		return 1 + least(g->left, 5);
	case EDGES:
		return 7 + (g->sacks & 1u);
	case UNITS_SAID:
		return 9;
	default:
		return 10 + in_a_number(g);
	}
}

static unsigned in_field(const struct flow_memory *m, const struct flow_gram *g, const struct nssm_codec_cfg *cfg)
{
	switch (g->field) {
	case F_GAP:
	case F_FLOW:
		return last(m);
	case F_TOP:
		return 2u * m->phase[0] + m->dir;
	case F_X:
		return g->kind;
	case F_SPORT:
		return 2u * g->kind + (g->left & 1);
	case F_UOP:
		return 2u * g->is_new + m->dir;
	case F_LEN:
		return g->kind * N_NUMBER + in_a_number(g);
	case F_PAY:
		return in_payload(g, cfg);
	default:
		break;
	}
	switch (gram_field[g->field].type) {
	case FIX:
		return gram_field[g->field].n - g->left;
	case V:
		return in_a_number(g);
	case LITS:
		return g->step == BYTES ? N_NUMBER + least(g->value - g->left, N_LIT - N_NUMBER - 1) : in_a_number(g);
	case UNITS:
		return g->step == FIRST ? 0 : 1 + least(g->left, N_OWN - 2);
	case MAC:
		return in_mac(g);
	case HOST:
		return in_host(g);
	default:
		return in_own(g);
	}
}

unsigned flow_context(const struct flow_memory *m, const struct flow_gram *g, const struct nssm_codec_cfg *cfg)
{
	if (!g->begun)
		return 0;
	if (g->conditions > 0)
		return 1 + cfg->conditions - g->conditions;
	if (flow_gram_between(g))
		return BETWEEN + last(m);
	return field_base[g->field] + in_field(m, g, cfg);
}
