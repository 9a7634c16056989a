/* port — live network ports through DPDK, seen without DPDK's headers: only files named *_dpdk.[ch] include rte_*.h.
 * DEV    : [0000:]01:00.0[,ARGUMENT...] (PCI; the driver's arguments) | af_packet:IFACE | af_xdp:IFACE | tap:NAME |
 *          memif:[role=client|server,][id=N,]socket=PATH|@ABSTRACT | null | ring (loopback) | a DPDK vdev as it is, named after
 *          its driver ("net_pcap0,tx_pcap=x.pcap").
 * Safety : a kernel interface that carries the default route (IPv4 or IPv6), or through which the login session came in
 *          (SSH_CONNECTION), is refused unless force: nssm_dev_guard. Callers ask it; open does not.
 * EAL    : started once a process, by the first nssm_eal_start: own file prefix (netssm-PID), no telemetry socket unless wanted,
 *          --no-huge -m MEM unless hugepages are free, --no-pci unless a PCI port is named, log level at warnings and to a buffer
 *          that errors quote; nothing reaches the terminal. EAL's main thread is the caller's; its CPU affinity is restored
 *          afterwards. Engines' threads register themselves (nssm_eal_thread). Vdevs are made by nssm_port_open.
 * Drivers: DPDK's, but for af_packet and af_xdp, whose sockets are our own (afp.h and xsk.h say why); net_af_packet0,iface=IFACE and
 *          net_af_xdp0,iface=IFACE are DPDK's.
 * Frames : as on the wire from the destination MAC on, without FCS, VLAN tags in place. Checksums are never left to the device;
 *          a received frame that its own kernel left to a device (this machine's, over a veth) has none yet.
 * Errors : at open: what DEV was, what DPDK said.
 * Checked: tests/test_dev.c, tests/test_port.c (null, ring, memif between two processes; af_packet, af_xdp, tap in a namespace) */
#ifndef NSSM_PORT_H
#define NSSM_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "replay/tx.h"

enum nssm_dev_kind { NSSM_DEV_PCI, NSSM_DEV_AF_PACKET, NSSM_DEV_AF_XDP, NSSM_DEV_TAP, NSSM_DEV_MEMIF, NSSM_DEV_NULL, NSSM_DEV_RING, NSSM_DEV_RAW };
struct nssm_dev {
	enum nssm_dev_kind kind;
	char iface[64];    /* kernel interface: AF_PACKET, AF_XDP; TAP: its name; else "" */
	char vdev[256];    /* as DPDK takes it: "net_tap0,iface=t0"; PCI: the address, whole; AF_PACKET, AF_XDP: as the user wrote it */
};
/* idx numbers the vdev. */
int nssm_dev_parse(struct nssm_dev *d, const char *text, int idx, struct nssm_err *err);
/* NSSM_EARG if the interface must not be used; what carries the default route or the login session, itself or through a bridge,
 * bond or VLAN above it. Interfaces are the dev's own, those a RAW vdev names, and those the kernel has on a PCI address.
 * procfs: "/proc" (sysfs is beside it, procfs/../sys). ssh_connection: getenv("SSH_CONNECTION"); NULL: that of the nearest process
 * above this one that has it (sudo takes it out of the environment). */
int nssm_dev_guard(const struct nssm_dev *d, const char *procfs, const char *ssh_connection, struct nssm_err *err);

struct nssm_eal_cfg {
	const struct nssm_dev *dev;
	int n_dev;
	uint32_t mem_mb;      /* 0: 256 */
	const char *extra;    /* further EAL arguments, separated by blanks; NULL */
	bool telemetry;       /* DPDK's socket in its runtime folder */
};
/* Running already: 0, and nothing happens. A second start after a stop or a failure is NSSM_EUNSUP: DPDK cannot. */
int nssm_eal_start(const struct nssm_eal_cfg *cfg, struct nssm_err *err);
/* Ports and frames are closed before. */
void nssm_eal_stop(void);
bool nssm_eal_running(void);
/* The calling thread becomes an lcore for DPDK's caches, until it ends. 0 or an error. */
int nssm_eal_thread(struct nssm_err *err);

/* Frames in DPDK's memory. One pool an engine. Two sizes: up to 2048 bytes (n of them), and up to frame_max (some). */
#define NSSM_FRAME_SMALL 2048
struct nssm_frames;
int nssm_frames_open(struct nssm_frames **f, uint32_t n, uint32_t frame_max, struct nssm_err *err);
/* n more of the small size, once, by any thread while another takes frames: a pool's start takes 10 µs a frame without huge pages. */
int nssm_frames_more(struct nssm_frames *f, uint32_t n, struct nssm_err *err);
/* After the ports that were handed frames of it: a device gives them back when it is closed. Memory of which a frame is still out
 * stays until DPDK stops. */
void nssm_frames_close(struct nssm_frames **f);
/* n frames for up to len[i] <= frame_max bytes each: handles in m, where to write in data; their length is len[i] unless
 * nssm_frame_set_len changes it. False: none taken, the pool is empty. n <= NSSM_BURST. */
bool nssm_frames_get(struct nssm_frames *f, void **m, uint8_t **data, const uint32_t *len, uint32_t n);
void nssm_frames_put(struct nssm_frames *f, void **m, uint32_t n);
void nssm_frame_set_len(void *m, uint32_t len);

struct nssm_port_cfg {
	uint32_t n_queues;    /* one a engine, transmit and receive; an error says if the device has fewer */
	uint32_t mtu;         /* 0: the device's. A kernel interface keeps its own: asking for more is an error */
	bool promiscuous;     /* needed to see what comes back to addresses that are not the device's own */
	bool timestamps;      /* send on time stamps if the device can (mlx5: with tx_pp=500 among its arguments) */
};
struct nssm_port_info {
	char name[64];         /* for people: "af_packet:eth1" */
	uint8_t mac[6];
	uint32_t mtu;          /* longest IP packet; VLAN tags come on top */
	uint64_t line_bps;     /* 0: unknown. Only real links count: veth, tap, null, memif have none, whatever they say */
	bool up;               /* at open; a NIC's link may need seconds. Later: nssm_port_link */
	bool send_on_time;
	bool rx_merged;        /* the kernel may hand received packets over merged (GRO, LRO): ethtool -K IFACE gro off lro off */
	uint32_t n_queues;
};
struct nssm_port;
int nssm_port_open(struct nssm_port **p, const struct nssm_dev *d, const struct nssm_port_cfg *cfg, struct nssm_err *err);
void nssm_port_close(struct nssm_port **p);
const struct nssm_port_info *nssm_port_info(const struct nssm_port *p);
/* Asks the device for its link; cheap enough for 10 times a second, and somebody (one thread) has to: a port whose link is down
 * takes nothing until this has seen it up again. An interface that was deleted stays down, also if one of its name is made anew. */
bool nssm_port_link(struct nssm_port *p);
/* Returns how many of m were taken (they are then the device's); the rest stay the caller's. Never blocks for longer than 10 ms,
 * whatever the driver does. 0 at once while the link is down. A frame that no device could send (longer than the MTU and two VLAN
 * tags allow) is taken and counted in tx_errors. At most NSSM_BURST at a time. One thread a queue. */
uint32_t nssm_port_tx(struct nssm_port *p, uint32_t queue, void **m, uint32_t n);
/* Of the frames that the last nssm_port_tx of this queue took: bit i is set if frame i was not sent (they are the tx_errors). */
uint32_t nssm_port_refused(const struct nssm_port *p, uint32_t queue);
/* With info.send_on_time: m leaves when nssm_now_ns() is due_ns. The mapping to the port's clock is renewed by nssm_port_link. */
void nssm_frame_set_time(const struct nssm_port *p, void *m, uint64_t due_ns);
/* Received frames; each is given back with nssm_frames_put of any pool (f may be NULL there). Never blocks. One thread a queue. */
uint32_t nssm_port_rx(struct nssm_port *p, uint32_t queue, void **m, const uint8_t **data, uint32_t *len, uint32_t n);
/* What the device lost after taking it, and what it could not receive. A vdev's own transmit errors are left out: most count what
 * they did not take. */
struct nssm_port_errors { uint64_t tx_errors, rx_missed, rx_errors; };
void nssm_port_errors(struct nssm_port_errors *e, struct nssm_port *p);

#endif
