#include "replay/port.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* linux/route.h and linux/ipv6_route.h */
#define FLAG_UP     0x0001u
#define FLAG_REJECT 0x0200u

/* A default route is often written as two halves (VPNs), or for IPv6 as 2000::/3. */
#define DEFAULT_BITS4 1
#define DEFAULT_BITS6 3

#define UPPER_DEPTH 4

/* Where the login session comes from. */
struct login {
	char text[256]; /* as SSH_CONNECTION has it */
	int family;     /* AF_INET, AF_INET6; 0: none */
	uint8_t client[16], server[16];
	char scope[IFNAMSIZ]; /* of a link-local address */
};

struct guard {
	const char *procfs;
	const struct nssm_dev *dev;
	struct login login;
};

/* One row of a routing table. */
struct row {
	uint8_t dst[16];
	int bits;
	unsigned flags;
	char iface[IFNAMSIZ + 1];
};

/* --- addresses --- */

static bool parse_addr(int *family, uint8_t out[16], char scope[IFNAMSIZ], const char *text)
{
	char copy[INET6_ADDRSTRLEN + IFNAMSIZ + 1];
	if (strlen(text) >= sizeof copy)
		return false;
	snprintf(copy, sizeof copy, "%s", text);
	char *percent = strchr(copy, '%');
	if (percent != NULL) {
		*percent++ = '\0';
		snprintf(scope, IFNAMSIZ, "%.*s", IFNAMSIZ - 1, percent);
	}
	memset(out, 0, 16);
	if (inet_pton(AF_INET, copy, out) == 1) {
		*family = AF_INET;
		return true;
	}
	if (inet_pton(AF_INET6, copy, out) != 1)
		return false;
	struct in6_addr a;
	memcpy(&a, out, 16);
	*family = AF_INET6;
	if (IN6_IS_ADDR_V4MAPPED(&a)) {
		*family = AF_INET;
		memmove(out, out + 12, 4);
		memset(out + 4, 0, 12);
	}
	return true;
}

/* "client port server port" */
static void parse_login(struct login *l, const char *text)
{
	char client[80], server[80];
	int other = 0;
	memset(l, 0, sizeof *l);
	snprintf(l->text, sizeof l->text, "%s", text);
	if (sscanf(text, "%79s %*s %79s", client, server) != 2)
		return;
	if (!parse_addr(&l->family, l->client, l->scope, client) ||
	        !parse_addr(&other, l->server, l->scope, server) || other != l->family)
		l->family = 0;
}

static bool same_bits(const uint8_t *a, const uint8_t *b, int bits)
{
	int whole = bits / 8, rest = bits % 8;
	if (memcmp(a, b, (size_t)whole) != 0)
		return false;
	return rest == 0 || (a[whole] ^ b[whole]) >> (8 - rest) == 0;
}

/* --- the login session of a process above --- */

/* Text of a small file of procfs; '\0' at its end. The length, 0 if there is none. */
static size_t slurp(char *buf, size_t cap, const char *path)
{
	FILE *f = fopen(path, "r");
	if (f == NULL)
		return 0;
	size_t n = fread(buf, 1, cap - 1, f);
	fclose(f);
	buf[n] = '\0';
	return n;
}

static long parent_of(const char *procfs, const char *pid)
{
	char path[512], buf[1024];
	snprintf(path, sizeof path, "%.400s/%s/stat", procfs, pid);
	if (slurp(buf, sizeof buf, path) == 0)
		return 0;
	/* The name, in brackets, may hold anything. */
	const char *p = strrchr(buf, ')');
	long ppid = 0;
	return p != NULL && sscanf(p + 1, " %*c %ld", &ppid) == 1 ? ppid : 0;
}

static bool login_above(struct login *l, const char *procfs)
{
	static const char KEY[] = "SSH_CONNECTION=";
	static const size_t CAP = 256 << 10;
	char pid[24] = "self", path[512];
	char *env = malloc(CAP);
	bool found = false;
	for (int depth = 0; env != NULL && !found && depth < 32; depth++) {
		snprintf(path, sizeof path, "%.400s/%s/environ", procfs, pid);
		size_t n = slurp(env, CAP, path);
		for (size_t i = 0; i < n && !found; i += strlen(env + i) + 1) {
			found = strncmp(env + i, KEY, sizeof KEY - 1) == 0;
			if (found)
				parse_login(l, env + i + sizeof KEY - 1);
		}
		long up = parent_of(procfs, pid);
		if (up <= 1)
			break;
		snprintf(pid, sizeof pid, "%ld", up);
	}
	free(env);
	return found;
}

/* --- routing tables --- */

static bool row4(struct row *r, const char *line)
{
	unsigned dst, mask;
	/* Words as they lie in memory, that is in network order, printed as this machine's integers. */
	if (sscanf(line, "%16s %8x %*x %x %*d %*d %*d %8x", r->iface, &dst, &r->flags, &mask) != 4)
		return false;
	memset(r->dst, 0, sizeof r->dst);
	memcpy(r->dst, &dst, 4);
	r->bits = __builtin_popcount(mask);
	return true;
}

static bool row6(struct row *r, const char *line)
{
	char dst[33];
	unsigned bits;
	if (sscanf(line, "%32s %2x %*s %*x %*s %*x %*x %*x %x %16s", dst, &bits, &r->flags, r->iface) != 4 ||
	        strlen(dst) != 32 || bits > 128)
		return false;
	for (int i = 0; i < 16; i++) {
		unsigned b;
		if (sscanf(dst + 2 * i, "%2x", &b) != 1)
			return false;
		r->dst[i] = (uint8_t)b;
	}
	r->bits = (int)bits;
	return true;
}

struct verdict {
	bool any, is_default, to_client;
};

/* What of family's main routing table goes through iface. Of the routes to the client the longest count. */
static bool read_routes(struct verdict *v, const struct guard *g, int family, const char *iface)
{
	char path[512], line[512];
	const struct login *l = &g->login;
	int best = -1;
	*v = (struct verdict){0};
	snprintf(path, sizeof path, "%.400s/net/%s", g->procfs, family == AF_INET ? "route" : "ipv6_route");
	FILE *f = fopen(path, "r");
	if (f == NULL)
		return false;
	while (fgets(line, sizeof line, f) != NULL) {
		struct row r;
		if (!(family == AF_INET ? row4(&r, line) : row6(&r, line)))
			continue;
		if ((r.flags & FLAG_UP) == 0 || (r.flags & FLAG_REJECT) != 0)
			continue;
		bool here = strcmp(r.iface, iface) == 0;
		if (here && r.bits <= (family == AF_INET ? DEFAULT_BITS4 : DEFAULT_BITS6))
			v->is_default = true;
		if (l->family != family || !same_bits(r.dst, l->client, r.bits) || r.bits < best)
			continue;
		v->to_client = r.bits == best ? v->to_client || here : here;
		best = r.bits;
	}
	bool ok = !ferror(f);
	fclose(f);
	v->any = true;
	return ok;
}

/* Whether iface holds the address that the login session came to. */
static bool holds_server(const struct login *l, const char *iface)
{
	struct ifaddrs *all = NULL;
	bool found = false;
	if (l->family == 0 || getifaddrs(&all) != 0)
		return false;
	for (const struct ifaddrs *a = all; a != NULL && !found; a = a->ifa_next) {
		/* Labels of further addresses: "eth0:1". */
		size_t n = strcspn(a->ifa_name, ":");
		if (a->ifa_addr == NULL || a->ifa_addr->sa_family != l->family || strlen(iface) != n ||
		        strncmp(a->ifa_name, iface, n) != 0)
			continue;
		if (l->family == AF_INET)
			found = memcmp(&((const struct sockaddr_in *)(const void *)a->ifa_addr)->sin_addr,
			                l->server, 4) == 0;
		else
			found = memcmp(&((const struct sockaddr_in6 *)(const void *)a->ifa_addr)->sin6_addr,
			                l->server, 16) == 0;
	}
	freeifaddrs(all);
	return found;
}

/* --- the interfaces of a port --- */

/* via: the same, or what lies above it. */
static int check_iface(const struct guard *g, const char *iface, const char *via, struct nssm_err *err)
{
	struct verdict v4, v6;
	char above[IFNAMSIZ + 16] = "";
	if (!read_routes(&v4, g, AF_INET, via))
		return nssm_err_set(err, NSSM_EIO,
		        "port %s: whether %s carries the default route is unknown, %.200s/net/route cannot "
		        "be read: %s; --force uses it nevertheless",
		        g->dev->vdev, iface, g->procfs, strerror(errno));
	/* No such table: a kernel without IPv6. */
	read_routes(&v6, g, AF_INET6, via);
	if (strcmp(iface, via) != 0)
		snprintf(above, sizeof above, " (through %s)", via);
	if (v4.is_default || v6.is_default)
		return nssm_err_set(err, NSSM_EARG,
		        "port %s: %s carries this machine's default %s route%s; --force uses it nevertheless",
		        g->dev->vdev, iface, v4.is_default ? "IPv4" : "IPv6", above);
	if (v4.to_client || v6.to_client || holds_server(&g->login, via) ||
	        (g->login.family != 0 && strcmp(g->login.scope, via) == 0))
		return nssm_err_set(err, NSSM_EARG,
		        "port %s: the login session (%.100s) came in through %s%s; --force uses it "
		        "nevertheless",
		        g->dev->vdev, g->login.text, iface, above);
	return 0;
}

/* Bridges, bonds, VLANs and the like that stand on an interface are links upper_NAME in its folder of sysfs. */
static int check_uppers(
        const struct guard *g, const char *iface, const char *via, int depth, struct nssm_err *err)
{
	char path[600];
	int rc = check_iface(g, iface, via, err);
	if (rc != 0 || depth == UPPER_DEPTH)
		return rc;
	snprintf(path, sizeof path, "%.400s/../sys/class/net/%s", g->procfs, via);
	DIR *dir = opendir(path);
	if (dir == NULL)
		return 0;
	const struct dirent *e;
	while (rc == 0 && (e = readdir(dir)) != NULL)
		if (strncmp(e->d_name, "upper_", 6) == 0 && strlen(e->d_name + 6) < IFNAMSIZ)
			rc = check_uppers(g, iface, e->d_name + 6, depth + 1, err);
	closedir(dir);
	return rc;
}

/* The kernel keeps an interface on a NIC whose driver shares it with DPDK (mlx5). */
static int check_pci(const struct guard *g, struct nssm_err *err)
{
	char path[600];
	int rc = 0;
	const char *addr = g->dev->vdev;
	snprintf(path, sizeof path, "%.400s/../sys/bus/pci/devices/%.*s/net", g->procfs,
	        (int)strcspn(addr, ","), addr);
	DIR *dir = opendir(path);
	if (dir == NULL)
		return 0;
	const struct dirent *e;
	while (rc == 0 && (e = readdir(dir)) != NULL)
		if (e->d_name[0] != '.' && strlen(e->d_name) < IFNAMSIZ)
			rc = check_uppers(g, e->d_name, e->d_name, 0, err);
	closedir(dir);
	return rc;
}

/* The arguments by which DPDK's vdevs take kernel interfaces: af_packet, af_xdp, ipvlan; pcap; tap and failsafe. */
static int check_raw(const struct guard *g, struct nssm_err *err)
{
	static const char *const KEYS[] = {"iface", "rx_iface", "tx_iface", "rx_iface_in", "remote"};
	char copy[sizeof g->dev->vdev], *save = NULL;
	int rc = 0;
	snprintf(copy, sizeof copy, "%s", g->dev->vdev);
	for (char *a = strtok_r(copy, ",", &save); rc == 0 && a != NULL; a = strtok_r(NULL, ",", &save)) {
		char *value = strchr(a, '=');
		if (value == NULL)
			continue;
		*value++ = '\0';
		for (size_t i = 0; rc == 0 && i < sizeof KEYS / sizeof KEYS[0]; i++)
			if (strcmp(a, KEYS[i]) == 0 && strlen(value) < IFNAMSIZ)
				rc = check_uppers(g, value, value, 0, err);
	}
	return rc;
}

int nssm_dev_guard(
        const struct nssm_dev *d, const char *procfs, const char *ssh_connection, struct nssm_err *err)
{
	struct guard g = {.procfs = procfs, .dev = d};
	if (ssh_connection != NULL)
		parse_login(&g.login, ssh_connection);
	else if (!login_above(&g.login, procfs))
		g.login.family = 0;
	switch (d->kind) {
	case NSSM_DEV_AF_PACKET:
	case NSSM_DEV_AF_XDP:
	case NSSM_DEV_TAP: /* one that is there already */
		return check_uppers(&g, d->iface, d->iface, 0, err);
	case NSSM_DEV_PCI:
		return check_pci(&g, err);
	case NSSM_DEV_RAW:
		return check_raw(&g, err);
	case NSSM_DEV_MEMIF:
	case NSSM_DEV_NULL:
	case NSSM_DEV_RING:
		break;
	}
	return 0;
}
