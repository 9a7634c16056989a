#include "replay/netif.h"

#include <errno.h>
#include <linux/ethtool.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static bool ethtool(int fd, const char *name, void *cmd)
{
	struct ifreq r = {.ifr_data = cmd};
	snprintf(r.ifr_name, sizeof r.ifr_name, "%s", name);
	return ioctl(fd, SIOCETHTOOL, &r) == 0;
}

/* ETHTOOL_GLINKSETTINGS is asked twice: first for the number of words of its link mode masks, which the kernel gives negated. */
static uint64_t line_bps(int fd, const char *name)
{
	uint32_t words[sizeof(struct ethtool_link_settings) / 4 + 3 * 127];
	struct ethtool_link_settings *l = (struct ethtool_link_settings *)words;
	char path[64];
	snprintf(path, sizeof path, "/sys/class/net/%s/device", name);
	if (access(path, F_OK) != 0)
		return 0;
	memset(words, 0, sizeof words);
	l->cmd = ETHTOOL_GLINKSETTINGS;
	if (!ethtool(fd, name, l) || l->link_mode_masks_nwords >= 0)
		return 0;
	int8_t n = (int8_t)-l->link_mode_masks_nwords;
	memset(words, 0, sizeof words);
	l->cmd = ETHTOOL_GLINKSETTINGS;
	l->link_mode_masks_nwords = n;
	if (!ethtool(fd, name, l) || l->speed == (uint32_t)SPEED_UNKNOWN)
		return 0;
	return (uint64_t)l->speed * 1000000;
}

static uint32_t channels(int fd, const char *name)
{
	struct ethtool_channels c = {.cmd = ETHTOOL_GCHANNELS};
	if (!ethtool(fd, name, &c))
		return 1;
	uint32_t n = c.combined_count != 0     ? c.combined_count
	             : c.rx_count < c.tx_count ? c.rx_count
	                                       : c.tx_count;
	return n > 0 ? n : 1;
}

static bool merges(int fd, const char *name)
{
	struct ethtool_value gro = {.cmd = ETHTOOL_GGRO}, flags = {.cmd = ETHTOOL_GFLAGS};
	return (ethtool(fd, name, &gro) && gro.data != 0) ||
	       (ethtool(fd, name, &flags) && (flags.data & ETH_FLAG_LRO) != 0);
}

int nssm_netif_query(struct nssm_netif *out, const char *name, struct nssm_err *err)
{
	struct nssm_netif i = {0};
	struct ifreq r;
	int rc = 0, fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return nssm_err_set(err, NSSM_EIO, "interface %s: socket: %s", name, strerror(errno));
	memset(&r, 0, sizeof r);
	snprintf(r.ifr_name, sizeof r.ifr_name, "%s", name);
	snprintf(i.name, sizeof i.name, "%s", name);
	if (ioctl(fd, SIOCGIFINDEX, &r) != 0)
		goto fail;
	i.index = r.ifr_ifindex;
	if (ioctl(fd, SIOCGIFMTU, &r) != 0)
		goto fail;
	i.mtu = r.ifr_mtu > 0 ? (uint32_t)r.ifr_mtu : 0;
	if (ioctl(fd, SIOCGIFHWADDR, &r) != 0)
		goto fail;
	memcpy(i.mac, r.ifr_hwaddr.sa_data, 6);
	/* Loopback frames have an Ethernet header too. */
	if (r.ifr_hwaddr.sa_family != ARPHRD_ETHER && r.ifr_hwaddr.sa_family != ARPHRD_LOOPBACK) {
		rc = nssm_err_set(err, NSSM_EUNSUP,
		        "interface %s: its frames are no Ethernet frames (ARPHRD type %d)", name,
		        r.ifr_hwaddr.sa_family);
		goto done;
	}
	i.line_bps = line_bps(fd, name);
	i.n_queues = channels(fd, name);
	i.merges = merges(fd, name);
	*out = i;
	goto done;
fail:
	rc = nssm_err_set(err, NSSM_EIO, "interface %s: %s", name,
	        errno == ENODEV ? "there is none of this name (ip link shows them)" : strerror(errno));
done:
	close(fd);
	return rc;
}

bool nssm_netif_up(int fd, int index)
{
	struct ifreq r = {.ifr_ifindex = index};
	if (ioctl(fd, SIOCGIFNAME, &r) != 0 || ioctl(fd, SIOCGIFFLAGS, &r) != 0)
		return false;
	return (r.ifr_flags & (IFF_UP | IFF_RUNNING)) == (IFF_UP | IFF_RUNNING);
}

int nssm_netif_promiscuous(int index)
{
	const struct packet_mreq all = {.mr_ifindex = index, .mr_type = PACKET_MR_PROMISC};
	/* Protocol 0 receives nothing. */
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof all) == 0)
		return fd;
	int e = errno;
	close(fd);
	errno = e;
	return -1;
}
