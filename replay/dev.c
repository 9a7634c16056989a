#include "replay/port.h"

#include <ctype.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* sun_path of a unix socket, with its end. */
#define SOCKET_MAX 108

#define FORMS                                                                                                \
	"a PCI address (0000:01:00.0), af_packet:IFACE, af_xdp:IFACE, tap:NAME, "                            \
	"memif:[role=client|server,][id=N,]socket=PATH, null, ring, or a DPDK vdev (net_pcap0,tx_pcap=FILE)"

/* What linux/net/core/dev.c:dev_valid_name takes, less what would end an argument of DPDK's. */
static bool is_iface(const char *s)
{
	size_t n = strlen(s);
	if (n == 0 || n >= IFNAMSIZ || strcmp(s, ".") == 0 || strcmp(s, "..") == 0)
		return false;
	for (; *s != '\0'; s++)
		if (!isgraph((unsigned char)*s) || strchr("/:,[]\"'", *s) != NULL)
			return false;
	return true;
}

static int parse_iface(struct nssm_dev *d, const char *text, const char *iface, struct nssm_err *err)
{
	if (!is_iface(iface))
		return nssm_err_set(err, NSSM_EARG,
		        "port \"%.100s\": \"%.50s\" is no interface name (1 to 15 characters, none of / : , "
		        "[ ])",
		        text, iface);
	snprintf(d->iface, sizeof d->iface, "%s", iface);
	return 0;
}

/* n hexadecimal digits; *v is what they say. */
static bool hex(unsigned *v, const char *s, int n)
{
	*v = 0;
	for (int i = 0; i < n; i++) {
		if (!isxdigit((unsigned char)s[i]))
			return false;
		unsigned c = (unsigned)tolower((unsigned char)s[i]);
		*v = *v * 16 + (c <= '9' ? c - '0' : c - 'a' + 10);
	}
	return true;
}

/* [domain:]bus:device.function[,arguments of the driver] */
static bool parse_pci(struct nssm_dev *d, const char *text)
{
	unsigned domain = 0, bus, device, function;
	size_t n = strcspn(text, ",");
	const char *args = text + n;
	if (n == 12) {
		if (!hex(&domain, text, 4) || text[4] != ':')
			return false;
		text += 5;
	} else if (n != 7)
		return false;
	if (!hex(&bus, text, 2) || text[2] != ':' || !hex(&device, text + 3, 2) || text[5] != '.' ||
	        !hex(&function, text + 6, 1) || device > 31 || function > 7)
		return false;
	snprintf(d->vdev, sizeof d->vdev, "%04x:%02x:%02x.%x%s", domain, bus, device, function, args);
	return true;
}

static int parse_memif_socket(
        char out[SOCKET_MAX + 32], const char *text, const char *path, struct nssm_err *err)
{
	bool abstract = path[0] == '@';
	if (abstract)
		path++;
	if (path[0] == '\0' || strlen(path) >= SOCKET_MAX - 1)
		return nssm_err_set(err, NSSM_EARG,
		        "port \"%.200s\": socket is a path, or @ and a name, of 1 to %d characters", text,
		        SOCKET_MAX - 2);
	/* DPDK's own default is the abstract name space. */
	snprintf(out, SOCKET_MAX + 32, "socket=%s,socket-abstract=%s", path, abstract ? "yes" : "no");
	return 0;
}

static int parse_memif(struct nssm_dev *d, const char *text, const char *args, int idx, struct nssm_err *err)
{
	char copy[256], sock[SOCKET_MAX + 32] = "";
	const char *role = "client"; /* DPDK's default too */
	unsigned long id = 0;
	if (strlen(args) >= sizeof copy)
		return nssm_err_set(err, NSSM_EARG, "port \"%.100s…\" is too long", text);
	snprintf(copy, sizeof copy, "%s", args);
	char *save = NULL;
	for (char *a = strtok_r(copy, ",", &save); a != NULL; a = strtok_r(NULL, ",", &save)) {
		int rc = 0;
		char *end = NULL;
		if (strcmp(a, "role=client") == 0)
			role = "client";
		else if (strcmp(a, "role=server") == 0)
			role = "server";
		else if (strncmp(a, "id=", 3) == 0) {
			id = isdigit((unsigned char)a[3]) ? strtoul(a + 3, &end, 10) : 0;
			if (end == NULL || *end != '\0' || id > UINT32_MAX)
				rc = nssm_err_set(err, NSSM_EARG,
				        "port \"%.200s\": id is a number from 0 to 4294967295, not \"%.50s\"",
				        text, a + 3);
		} else if (strncmp(a, "socket=", 7) == 0)
			rc = parse_memif_socket(sock, text, a + 7, err);
		else
			rc = nssm_err_set(err, NSSM_EARG,
			        "port \"%.200s\": \"%.100s\" is none of role=client, role=server, id=N, "
			        "socket=PATH",
			        text, a);
		if (rc != 0)
			return rc;
	}
	if (sock[0] == '\0')
		return nssm_err_set(err, NSSM_EARG, "port \"%.200s\": socket=PATH is missing", text);
	snprintf(d->vdev, sizeof d->vdev, "net_memif%d,role=%s,id=%lu,%s", idx, role, id, sock);
	return 0;
}

/* "net_pcap0,...": a driver's name and a number. DPDK finds the driver by the name's beginning. */
static bool is_vdev(const char *text)
{
	if (strncmp(text, "net_", 4) != 0 && strncmp(text, "eth_", 4) != 0)
		return false;
	size_t n = strcspn(text, ",");
	for (size_t i = 4; i < n; i++)
		if (!isalnum((unsigned char)text[i]) && text[i] != '_')
			return false;
	return n > 5;
}

static int parse_other(struct nssm_dev *d, const char *text, struct nssm_err *err)
{
	if (parse_pci(d, text)) {
		d->kind = NSSM_DEV_PCI;
		return 0;
	}
	if (is_vdev(text)) {
		d->kind = NSSM_DEV_RAW;
		snprintf(d->vdev, sizeof d->vdev, "%s", text);
		return 0;
	}
	if (is_iface(text) && if_nametoindex(text) != 0)
		return nssm_err_set(err, NSSM_EARG,
		        "port \"%s\" is a kernel interface: say af_packet:%s or af_xdp:%s", text, text, text);
	return nssm_err_set(err, NSSM_EARG, "port \"%.100s\" is none of: %s", text, FORMS);
}

int nssm_dev_parse(struct nssm_dev *dev, const char *text, int idx, struct nssm_err *err)
{
	struct nssm_dev d = {0};
	int rc = 0;
	if (strlen(text) >= sizeof d.vdev - 64)
		return nssm_err_set(err, NSSM_EARG, "port \"%.100s…\": longer than %zu characters", text,
		        sizeof d.vdev - 65);
	for (const char *s = text; *s != '\0'; s++)
		if (!isprint((unsigned char)*s))
			return nssm_err_set(err, NSSM_EARG,
			        "port: a character that cannot be printed (0x%02x)", (unsigned char)*s);
	if (strncmp(text, "af_packet:", 10) == 0) {
		d.kind = NSSM_DEV_AF_PACKET;
		rc = parse_iface(&d, text, text + 10, err);
		snprintf(d.vdev, sizeof d.vdev, "%s", text);
	} else if (strncmp(text, "af_xdp:", 7) == 0) {
		d.kind = NSSM_DEV_AF_XDP;
		rc = parse_iface(&d, text, text + 7, err);
		snprintf(d.vdev, sizeof d.vdev, "%s", text);
	} else if (strncmp(text, "tap:", 4) == 0) {
		d.kind = NSSM_DEV_TAP;
		rc = parse_iface(&d, text, text + 4, err);
		snprintf(d.vdev, sizeof d.vdev, "net_tap%d,iface=%s", idx, d.iface);
	} else if (strncmp(text, "memif:", 6) == 0) {
		d.kind = NSSM_DEV_MEMIF;
		rc = parse_memif(&d, text, text + 6, idx, err);
	} else if (strcmp(text, "null") == 0) {
		d.kind = NSSM_DEV_NULL;
		/* Else it receives without end. */
		snprintf(d.vdev, sizeof d.vdev, "net_null%d,no-rx=1", idx);
	} else if (strcmp(text, "ring") == 0) {
		d.kind = NSSM_DEV_RING;
		snprintf(d.vdev, sizeof d.vdev, "net_ring%d", idx);
	} else
		rc = parse_other(&d, text, err);
	if (rc == 0)
		*dev = d;
	return rc;
}
