#include "replay/clone.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NET_ADDRS_MAX ((uint64_t)1 << 32)

/* "ADDR/LEN" or "ADDR". Returns the IP version, or 0. */
static int parse(uint8_t addr[16], unsigned *prefix, const char *text)
{
	char host[INET6_ADDRSTRLEN + 1];
	const char *slash = strchr(text, '/');
	size_t n = slash != NULL ? (size_t)(slash - text) : strlen(text);
	if (n >= sizeof host)
		return 0;
	memcpy(host, text, n);
	host[n] = '\0';
	memset(addr, 0, 16);
	int v = inet_pton(AF_INET, host, addr) == 1 ? 4 : inet_pton(AF_INET6, host, addr) == 1 ? 6 : 0;
	unsigned bits = v == 4 ? 32 : 128;
	*prefix = bits;
	if (v == 0 || slash == NULL)
		return v;
	size_t digits = strspn(slash + 1, "0123456789");
	if (digits < 1 || digits > 3 || slash[1 + digits] != '\0')
		return 0;
	*prefix = (unsigned)strtoul(slash + 1, NULL, 10);
	return *prefix <= bits ? v : 0;
}

/* Big-endian addition to the last 8 bytes, or to the 4 of IPv4; an address of a network never carries beyond them. */
static void add(uint8_t addr[16], int ip_version, uint64_t n)
{
	for (int i = ip_version == 4 ? 3 : 15; n != 0 && i >= (ip_version == 4 ? 0 : 8); i--) {
		n += addr[i];
		addr[i] = (uint8_t)n;
		n >>= 8;
	}
}

static bool host_bits(const uint8_t *addr, unsigned prefix, unsigned bits)
{
	for (unsigned i = prefix; i < bits; i++)
		if (addr[i / 8] & 0x80u >> i % 8)
			return true;
	return false;
}

static bool same_prefix(const uint8_t *a, const uint8_t *b, unsigned prefix)
{
	unsigned whole = prefix / 8, rest = prefix % 8;
	return memcmp(a, b, whole) == 0 &&
	       (rest == 0 || ((a[whole] ^ b[whole]) & (uint8_t)(0xff00u >> rest)) == 0);
}

/* None of its addresses may be one that no host has. */
static bool for_hosts(const uint8_t *addr, unsigned prefix, int v)
{
	static const struct {
		uint8_t addr[16];
		unsigned prefix;
		int v;
	} not [] = {
	        {{0}, 32, 4}, {{224}, 4, 4}, {{255, 255, 255, 255}, 32, 4}, {{0}, 128, 6}, {{0xff}, 8, 6}};
	for (size_t i = 0; i < sizeof not / sizeof not [0]; i++)
		if (not [i].v == v &&
		        same_prefix(addr, not [i].addr, prefix < not [i].prefix ? prefix : not [i].prefix))
			return false;
	return true;
}

int nssm_pool_add(struct nssm_pool *p, const char *text, struct nssm_err *err)
{
	uint8_t addr[16];
	unsigned prefix;
	int v = parse(addr, &prefix, text);
	if (v == 0)
		return nssm_err_set(
		        err, NSSM_EARG, "network \"%.60s\": neither an address nor ADDRESS/LENGTH", text);
	if (p->ip_version != 0 && p->ip_version != v)
		return nssm_err_set(err, NSSM_EARG, "network \"%.60s\": IPv%d among IPv%d networks", text, v,
		        p->ip_version);
	if (p->n_nets == NSSM_POOL_NETS_MAX)
		return nssm_err_set(err, NSSM_ERANGE,
		        "network \"%.60s\": one more than the %d that a pool takes", text,
		        NSSM_POOL_NETS_MAX);
	unsigned bits = v == 4 ? 32 : 128;
	if (host_bits(addr, prefix, bits))
		return nssm_err_set(err, NSSM_EARG,
		        "network \"%.60s\": the address has bits beyond the first %u", text, prefix);
	if (!for_hosts(addr, prefix, v))
		return nssm_err_set(err, NSSM_EARG,
		        "network \"%.60s\": holds addresses that are no host's (multicast, broadcast, "
		        "unspecified)",
		        text);
	uint64_t n = bits - prefix >= 32 ? NET_ADDRS_MAX : (uint64_t)1 << (bits - prefix);
	if (v == 4 && prefix < 31) {
		n -= 2;
		add(addr, v, 1);
	} else if (v == 6 && prefix < 127) {
		n -= bits - prefix <= 32;
		add(addr, v, 1);
	}
	struct nssm_pool one = {.ip_version = (uint8_t)v, .n_nets = 1, .n_addrs = n, .net[0] = {.n = n}};
	memcpy(one.net[0].base, addr, 16);
	if (nssm_pool_overlap(p, &one))
		return nssm_err_set(err, NSSM_EARG,
		        "network \"%.60s\": shares addresses with another one of the pool", text);
	memcpy(p->net[p->n_nets].base, addr, 16);
	p->net[p->n_nets].first = p->n_addrs;
	p->net[p->n_nets].n = n;
	p->n_nets++;
	p->n_addrs += n;
	p->ip_version = (uint8_t)v;
	return 0;
}

bool nssm_pool_remove(struct nssm_pool *p, const uint8_t *addr)
{
	uint64_t number;
	if (!nssm_pool_number(&number, p, addr))
		return false;
	uint32_t i = 0;
	while (number - p->net[i].first >= p->net[i].n)
		i++;
	uint64_t before = number - p->net[i].first, behind = p->net[i].n - before - 1;
	bool split = before > 0 && behind > 0;
	if (split && p->n_nets == NSSM_POOL_NETS_MAX)
		return false;
	if (split) {
		memmove(&p->net[i + 1], &p->net[i], (p->n_nets - i) * sizeof p->net[0]);
		p->net[i++].n = before;
		p->n_nets++;
	}
	if (behind > 0) {
		add(p->net[i].base, p->ip_version, before + 1);
		p->net[i].n = behind;
	} else if (before > 0) {
		p->net[i].n = before;
	} else {
		p->n_nets--;
		memmove(&p->net[i], &p->net[i + 1], (p->n_nets - i) * sizeof p->net[0]);
	}
	p->n_addrs = 0;
	for (i = 0; i < p->n_nets; i++) {
		p->net[i].first = p->n_addrs;
		p->n_addrs += p->net[i].n;
	}
	return true;
}

void nssm_pool_addr(uint8_t addr[16], const struct nssm_pool *p, uint64_t number)
{
	assert(number < p->n_addrs);
	uint32_t i = 0;
	while (number - p->net[i].first >= p->net[i].n)
		i++;
	memcpy(addr, p->net[i].base, 16);
	add(addr, p->ip_version, number - p->net[i].first);
}

/* Whether a >= b; *d: a - b, saturated. As long as b's network has it, the difference lies in the last 8 bytes. */
static bool behind(uint64_t *d, const uint8_t a[16], const uint8_t b[16], int ip_version)
{
	unsigned lo = ip_version == 4 ? 0 : 8, hi = ip_version == 4 ? 4 : 16;
	if (memcmp(a, b, lo) != 0 || memcmp(a + lo, b + lo, hi - lo) < 0)
		return false;
	uint64_t x = 0, y = 0;
	for (unsigned i = lo; i < hi; i++) {
		x = x << 8 | a[i];
		y = y << 8 | b[i];
	}
	*d = x - y;
	return true;
}

bool nssm_pool_number(uint64_t *number, const struct nssm_pool *p, const uint8_t *addr)
{
	for (uint32_t i = 0; i < p->n_nets; i++) {
		uint64_t d;
		if (behind(&d, addr, p->net[i].base, p->ip_version) && d < p->net[i].n) {
			*number = p->net[i].first + d;
			return true;
		}
	}
	return false;
}

bool nssm_pool_overlap(const struct nssm_pool *a, const struct nssm_pool *b)
{
	if (a->ip_version != b->ip_version)
		return false;
	/* Of two ranges that meet, one begins in the other. */
	uint64_t d;
	for (uint32_t i = 0; i < a->n_nets; i++)
		if (nssm_pool_number(&d, b, a->net[i].base))
			return true;
	for (uint32_t i = 0; i < b->n_nets; i++)
		if (nssm_pool_number(&d, a, b->net[i].base))
			return true;
	return false;
}
