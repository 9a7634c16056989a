#include "app/play_text.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#define CPUS_MAX 1024

static int bad(struct nssm_err *err, const char *where, const char *expected, const char *text)
{
	char shown[80];
	size_t n = 0;
	/* A terminal obeys what it is shown. */
	for (; text[n] != '\0' && n + 1 < sizeof shown; n++)
		shown[n] = (unsigned char)text[n] < 0x20 || text[n] == 0x7f ? '?' : text[n];
	shown[n] = '\0';
	return nssm_err_set(err, NSSM_EARG, "%s: expected %s, found '%s'", where, expected, shown);
}

/* A number of digits alone, base 10, or 16 behind "0x" if hex is allowed; *end behind it. */
static bool number(uint64_t *v, const char *text, const char **end, uint64_t max, bool hex)
{
	const char *s = text;
	unsigned base = 10;
	if (hex && s[0] == '0' && (s[1] == 'x' || s[1] == 'X')) {
		base = 16;
		s += 2;
	}
	*v = 0;
	const char *first = s;
	for (;; s++) {
		unsigned d = *s >= '0' && *s <= '9'                 ? (unsigned)(*s - '0')
		             : base == 16 && *s >= 'a' && *s <= 'f' ? (unsigned)(*s - 'a' + 10)
		             : base == 16 && *s >= 'A' && *s <= 'F' ? (unsigned)(*s - 'A' + 10)
		                                                    : base;
		if (d >= base)
			break;
		*v = *v * base + d;
		if (*v > max)
			return false;
	}
	*end = s;
	return s != first;
}

static bool whole_number(uint64_t *v, const char *text, uint64_t max)
{
	const char *end;
	return number(v, text, &end, max, false) && *end == '\0';
}

/* --- MAC addresses -------------------------------------------------------------------------------------------- */

static int hex_digit(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
	                              : -1;
}

/* Returns what stands behind the address, NULL if there is none. */
static const char *scan_mac(uint8_t mac[6], const char *s)
{
	for (int i = 0; i < 6; i++) {
		int hi = hex_digit(s[0]), lo = hi < 0 ? -1 : hex_digit(s[1]);
		if (lo < 0 || (i < 5 && s[2] != ':'))
			return NULL;
		mac[i] = (uint8_t)(hi << 4 | lo);
		s += i < 5 ? 3 : 2;
	}
	return s;
}

int nssm_text_mac(uint8_t mac[6], const char *text, const char *where, struct nssm_err *err)
{
	const char *end = scan_mac(mac, text);
	return end != NULL && *end == '\0' ? 0 : bad(err, where, "a MAC address (02:00:00:00:00:01)", text);
}

int nssm_text_mac_pool(uint64_t *base, uint64_t *n, const char *text, const char *where, struct nssm_err *err)
{
	uint8_t mac[6];
	const char *end = scan_mac(mac, text);
	*n = 1;
	bool good = end != NULL &&
	            (*end == '\0' || (*end == '/' && whole_number(n, end + 1, 1u << 24) && *n > 0));
	if (!good)
		return bad(err, where, "a MAC address, or MAC/N with N from 1 to 16777216", text);
	*base = 0;
	for (int i = 0; i < 6; i++)
		*base = *base << 8 | mac[i];
	/* The lowest bit of the first octet says multicast; counting up must not reach the next first octet. */
	if ((mac[0] & 1) || *base == 0 || (*base + *n - 1) >> 40 != *base >> 40)
		return bad(err, where, "MAC addresses of single devices (02:00:00:00:00:01)", text);
	return 0;
}

/* --- ports, tags, CPUs ---------------------------------------------------------------------------------------- */

int nssm_text_port_range(
        uint16_t *lo, uint16_t *hi, const char *text, const char *where, struct nssm_err *err)
{
	uint64_t a = 0, b = 0;
	const char *end;
	bool good = number(&a, text, &end, UINT16_MAX, false);
	b = a;
	if (good && *end == '-')
		good = number(&b, end + 1, &end, UINT16_MAX, false);
	if (!good || *end != '\0' || a == 0 || b < a)
		return bad(err, where, "ports LO-HI within 1-65535", text);
	*lo = (uint16_t)a;
	*hi = (uint16_t)b;
	return 0;
}

/* [TPID:]VID[/PCP]; a TPID of 0 is one that was not said. */
static const char *scan_tag(struct nssm_vlan_tag *tag, const char *s)
{
	uint64_t tpid = 0, vid, pcp = 0;
	const char *end;
	if (!number(&vid, s, &end, UINT16_MAX, true))
		return NULL;
	if (*end == ':') {
		tpid = vid;
		/* Below that it would be a length (IEEE 802.3). */
		if (tpid < 0x600 || !number(&vid, end + 1, &end, UINT16_MAX, false))
			return NULL;
	}
	if (*end == '/' && !number(&pcp, end + 1, &end, 7, false))
		return NULL;
	if (vid > 4094) /* 4095 is reserved (IEEE 802.1Q, table 9-2) */
		return NULL;
	*tag = (struct nssm_vlan_tag){.tpid = (uint16_t)tpid, .tci = (uint16_t)(pcp << 13 | vid)};
	return end;
}

int nssm_text_vlan(struct nssm_vlan_tag tag[NSSM_VLAN_TAGS_MAX], uint32_t *n_tags, const char *const *item,
        size_t n, const char *where, struct nssm_err *err)
{
	*n_tags = 0;
	for (size_t i = 0; i < n; i++) {
		const char *s = item[i];
		for (bool more = true; more; s++) {
			struct nssm_vlan_tag t;
			s = scan_tag(&t, s);
			if (s == NULL || (*s != '\0' && *s != ','))
				return bad(err, where,
				        "[TPID:]VID[/PCP] with VID 0-4094 and PCP 0-7 (0x88a8:200,100)",
				        item[i]);
			if (*n_tags == NSSM_VLAN_TAGS_MAX)
				return bad(err, where, "at most two tags, the outer one first", item[i]);
			tag[(*n_tags)++] = t;
			more = *s == ',';
		}
	}
	for (uint32_t i = 0; i < *n_tags; i++)
		if (tag[i].tpid == 0)
			tag[i].tpid = i + 1 < *n_tags ? 0x88a8 : 0x8100;
	return 0;
}

int nssm_text_cpus(uint32_t *n, const char *text, const char *where, struct nssm_err *err)
{
	static const char expected[] = "CPU numbers below 1024, each once (3 or 2,4-6)";
	uint8_t seen[CPUS_MAX] = {0};
	const char *s = text;
	*n = 0;
	for (bool more = true; more; s++) {
		uint64_t a, b;
		if (!number(&a, s, &s, CPUS_MAX - 1, false))
			return bad(err, where, expected, text);
		b = a;
		if (*s == '-' && !number(&b, s + 1, &s, CPUS_MAX - 1, false))
			return bad(err, where, expected, text);
		if (b < a || (*s != '\0' && *s != ','))
			return bad(err, where, expected, text);
		for (; a <= b; a++, (*n)++) {
			if (seen[a])
				return bad(err, where, expected, text);
			seen[a] = 1;
		}
		more = *s == ',';
	}
	return 0;
}

/* --- times and sizes ------------------------------------------------------------------------------------------ */

int nssm_text_time(uint64_t *ns, const char *text, const char *where, struct nssm_err *err)
{
	static const char expected[] = "seconds since 1970 or YYYY-MM-DDTHH:MM:SSZ, before 2106";
	struct tm tm = {0}, back;
	const char *end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);
	uint64_t s, frac = 0;
	if (end != NULL) {
		struct tm given = tm;
		time_t t = timegm(&tm);
		/* A 31 February is what it is not after the conversion. */
		if (*end != '\0' || t < 0 || gmtime_r(&t, &back) == NULL || back.tm_mday != given.tm_mday)
			return bad(err, where, expected, text);
		s = (uint64_t)t;
	} else {
		if (!number(&s, text, &end, UINT32_MAX, false))
			return bad(err, where, expected, text);
		if (*end == '.')
			for (uint64_t unit = 100000000; *++end >= '0' && *end <= '9'; unit /= 10)
				frac += unit * (uint64_t)(*end - '0');
		if (*end != '\0')
			return bad(err, where, expected, text);
	}
	if (s > UINT32_MAX)
		return bad(err, where, expected, text);
	*ns = s * 1000000000u + frac;
	return 0;
}

int nssm_text_mtu(
        enum nssm_mtu_mode *mode, uint32_t *bytes, const char *text, const char *where, struct nssm_err *err)
{
	uint64_t v;
	const char *word = text, *end;
	*mode = NSSM_MTU_TRUNCATE;
	if (number(&v, text, &end, 262144, false)) {
		/* The least that IPv4 lets a link have (RFC 791, section 3.2). */
		if (v < 68 || (*end != '\0' && *end != ','))
			return bad(err, where, "68..262144 bytes, and truncate or drop (1400,drop)", text);
		*bytes = (uint32_t)v;
		if (*end == '\0')
			return 0;
		word = end + 1;
	}
	if (strcmp(word, "drop") == 0)
		*mode = NSSM_MTU_DROP;
	else if (strcmp(word, "truncate") != 0)
		return bad(err, where, "truncate, drop, or 68..262144 bytes with either (1400,drop)", text);
	return 0;
}

/* --- what belongs to a port ----------------------------------------------------------------------------------- */

/* "0:" or "1:" in front; returns what stands behind it, NULL if there is none. */
static const char *scan_port(int *port, const char *text)
{
	if ((text[0] != '0' && text[0] != '1') || text[1] != ':')
		return NULL;
	*port = text[0] - '0';
	return text + 2;
}

int nssm_text_port_mac(int *port, uint8_t mac[6], const char *text, const char *where, struct nssm_err *err)
{
	*port = -1;
	const char *behind = scan_port(port, text), *end = scan_mac(mac, behind != NULL ? behind : text);
	if (end == NULL || *end != '\0')
		return bad(err, where, "MAC or PORT:MAC, PORT being 0 or 1 (1:02:00:00:00:00:01)", text);
	return 0;
}

static bool scan_addr(uint8_t addr[16], int *ip_version, const char *text)
{
	memset(addr, 0, 16);
	*ip_version = inet_pton(AF_INET, text, addr) == 1 ? 4 : inet_pton(AF_INET6, text, addr) == 1 ? 6 : 0;
	return *ip_version != 0;
}

int nssm_text_port_addr(int *port, uint8_t addr[16], int *ip_version, const char *text, const char *where,
        struct nssm_err *err)
{
	static const char expected[] =
	        "ADDR or PORT:ADDR, PORT being 0 or 1 (10.0.0.1, 0:10.0.0.1, 1:[2001:db8::1])";
	char inner[INET6_ADDRSTRLEN];
	*port = -1;
	const char *behind = scan_port(port, text);
	size_t n = behind != NULL ? strlen(behind) : 0;
	if (behind != NULL && behind[0] == '[') {
		if (behind[n - 1] != ']' || n - 2 >= sizeof inner)
			return bad(err, where, expected, text);
		memcpy(inner, behind + 1, n - 2);
		inner[n - 2] = '\0';
		return scan_addr(addr, ip_version, inner) && *ip_version == 6
		               ? 0
		               : bad(err, where, expected, text);
	}
	bool good = scan_addr(addr, ip_version, behind != NULL ? behind : text);
	/* 1:2001:db8::1 is an address of its own. */
	return good && (behind == NULL || *ip_version == 4) ? 0 : bad(err, where, expected, text);
}
