#include "replay/addrset.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* state: FREE, BUSY while addr is being written, then the IP version. */
struct slot {
	_Atomic uint32_t state;
	uint8_t addr[16];
};
enum { FREE, BUSY };

struct nssm_addrset {
	struct slot *slots; /* open addressing, half full at most: a search ends */
	uint32_t mask, n_max;
	uint64_t hash_key;
	_Atomic uint32_t n, first[2]; /* slot + 1 of the first IPv4 and IPv6 address */
};

int nssm_addrset_open(struct nssm_addrset **sp, uint32_t n_max, struct nssm_err *err)
{
	*sp = NULL;
	if (n_max > NSSM_ADDRSET_MAX)
		return nssm_err_set(
		        err, NSSM_ERANGE, "a set of %u addresses: at most %u", n_max, NSSM_ADDRSET_MAX);
	struct nssm_addrset *s = calloc(1, sizeof *s);
	uint32_t n_slots = 512; /* also for what many threads may add beyond n_max */
	while (n_slots < 2 * n_max)
		n_slots *= 2;
	if (s != NULL)
		s->slots = calloc(n_slots, sizeof *s->slots);
	if (s == NULL || s->slots == NULL) {
		free(s);
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for a set of %u addresses", n_max);
	}
	s->mask = n_slots - 1;
	s->n_max = n_max;
	/* Without entropy the key is a constant: slower against a capture made to be slow, and nothing else. */
	if (getrandom(&s->hash_key, sizeof s->hash_key, GRND_NONBLOCK) != (ssize_t)sizeof s->hash_key)
		s->hash_key = 0x9e3779b97f4a7c15ull;
	*sp = s;
	return 0;
}

void nssm_addrset_close(struct nssm_addrset **s)
{
	if (*s == NULL)
		return;
	free((*s)->slots);
	free(*s);
	*s = NULL;
}

/* Keyed, so that no capture can be made whose addresses all fall into one place. */
static uint32_t home(const struct nssm_addrset *s, const uint8_t addr[16], int ip_version)
{
	uint64_t w[2];
	memcpy(w, addr, 16);
	uint64_t h = s->hash_key ^ (uint64_t)ip_version;
	for (int i = 0; i < 2; i++) {
		/* The mixing step of MurmurHash3's finaliser. */
		h = (h ^ w[i]) * 0xff51afd7ed558ccdull;
		h ^= h >> 33;
		h = (h + s->hash_key) * 0xc4ceb9fe1a85ec53ull;
		h ^= h >> 29;
	}
	return (uint32_t)(h >> 32) & s->mask;
}

/* The slot's state once nobody writes to it. */
static uint32_t settled(const struct slot *slot)
{
	uint32_t state;
	do
		state = atomic_load_explicit(&slot->state, memory_order_acquire);
	while (state == BUSY);
	return state;
}

static void fill(struct nssm_addrset *s, uint32_t i, const uint8_t addr[16], int ip_version)
{
	memcpy(s->slots[i].addr, addr, 16);
	atomic_fetch_add(&s->n, 1);
	atomic_store_explicit(&s->slots[i].state, (uint32_t)ip_version, memory_order_release);
	uint32_t none = 0;
	atomic_compare_exchange_strong(&s->first[ip_version == 6], &none, i + 1);
}

/* The slot that holds addr, or the free one where it would be: *state says which. */
static uint32_t find(
        const struct nssm_addrset *s, uint32_t *state, uint32_t i, const uint8_t addr[16], int ip_version)
{
	for (;; i = (i + 1) & s->mask) {
		*state = settled(&s->slots[i]);
		if (*state == FREE ||
		        (*state == (uint32_t)ip_version && memcmp(s->slots[i].addr, addr, 16) == 0))
			return i;
	}
}

bool nssm_addrset_has(const struct nssm_addrset *s, const uint8_t addr[16], int ip_version)
{
	uint32_t state;
	find(s, &state, home(s, addr, ip_version), addr, ip_version);
	return state != FREE;
}

bool nssm_addrset_add(struct nssm_addrset *s, const uint8_t addr[16], int ip_version)
{
	uint32_t state, i = home(s, addr, ip_version);
	for (;;) {
		i = find(s, &state, i, addr, ip_version);
		if (state != FREE)
			return true;
		if (atomic_load_explicit(&s->n, memory_order_relaxed) >= s->n_max)
			return false;
		if (atomic_compare_exchange_strong(&s->slots[i].state, &state, BUSY)) {
			fill(s, i, addr, ip_version);
			return true;
		}
		/* Another thread was first, perhaps with the same address: look again from here. */
	}
}

const uint8_t *nssm_addrset_first(const struct nssm_addrset *s, int ip_version)
{
	uint32_t first = atomic_load(&s->first[ip_version == 6]);
	return first != 0 ? s->slots[first - 1].addr : NULL;
}
