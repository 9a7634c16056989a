/* port — live network ports through DPDK, seen without DPDK's headers. Only port_dpdk.c and eal_dpdk.c include rte_*.h.
 * DEV    : 0000:01:00.0 (PCI) | af_packet:IFACE | af_xdp:IFACE | tap:NAME | memif:[role=client,][id=N,]socket=PATH | null | ring |
 *          any other string that DPDK takes as a vdev ("net_pcap0,tx_pcap=x.pcap").
 * Safety : an af_packet or af_xdp interface that carries the default route (IPv4 or IPv6), or the address through which the
 *          session came in (SSH_CONNECTION), is refused unless force.
 * EAL    : started once, by the first nssm_eal_start: own file prefix (netssm-PID), no telemetry socket unless root or
 *          XDG_RUNTIME_DIR is there, --no-huge -m MEM unless hugepages are free, --no-pci unless a PCI port is named, log level
 *          at warnings and to a buffer that errors quote. EAL's main thread is the caller's; CPU affinity of the caller is
 *          restored afterwards. Engines' threads register themselves (nssm_eal_thread).
 * Errors : at open: what DEV was, what DPDK said.
 * Checked: tests/test_port.c (null, ring, memif between two processes), tests/netns (af_packet, af_xdp)                     */
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
	char iface[64];    /* kernel interface: AF_PACKET, AF_XDP; TAP: its name */
	char vdev[256];    /* as EAL takes it: "net_af_packet0,iface=eth1,..."; PCI: the address */
};
/* idx numbers the vdev. */
int nssm_dev_parse(struct nssm_dev *d, const char *text, int idx, struct nssm_err *err);
/* NSSM_EARG if the interface must not be used; what carries the default route or the login session. procfs: "/proc". */
int nssm_dev_guard(const struct nssm_dev *d, const char *procfs, const char *ssh_connection, struct nssm_err *err);

struct nssm_eal_cfg {
	const struct nssm_dev *dev;
	int n_dev;
	uint32_t mem_mb;      /* without hugepages; 0: 256 */
	const char *extra;    /* further EAL arguments, separated by blanks; NULL */
	bool telemetry;
};
int nssm_eal_start(const struct nssm_eal_cfg *cfg, struct nssm_err *err);
void nssm_eal_stop(void);
bool nssm_eal_running(void);
/* The calling thread becomes an lcore for DPDK's caches. 0 or an error. */
int nssm_eal_thread(struct nssm_err *err);

/* Frames in DPDK's memory. One pool an engine. Two sizes: up to 2048 bytes, and up to frame_max. */
struct nssm_frames;
int nssm_frames_open(struct nssm_frames **f, uint32_t n, uint32_t frame_max, struct nssm_err *err);
void nssm_frames_close(struct nssm_frames **f);
/* n frames for up to len[i] bytes each: handles in m, where to write in data. False: none taken, the pool is empty. */
bool nssm_frames_get(struct nssm_frames *f, void **m, uint8_t **data, const uint32_t *len, uint32_t n);
void nssm_frames_put(struct nssm_frames *f, void **m, uint32_t n);
void nssm_frame_set_len(void *m, uint32_t len);

struct nssm_port_cfg {
	uint32_t n_queues;    /* one a engine, transmit and receive; fewer if the device has fewer (then an error says so) */
	uint32_t mtu;         /* 0: the device's */
	bool promiscuous;     /* needed to see what comes back to addresses that are not the device's own */
	bool timestamps;      /* send on time stamps if the device can */
};
struct nssm_port_info {
	char name[64];
	uint8_t mac[6];
	uint32_t mtu;          /* longest IP packet */
	uint64_t line_bps;     /* 0: unknown */
	bool up;
	bool send_on_time;
	uint32_t n_queues;
};
struct nssm_port;
int nssm_port_open(struct nssm_port **p, const struct nssm_dev *d, const struct nssm_port_cfg *cfg, struct nssm_err *err);
void nssm_port_close(struct nssm_port **p);
const struct nssm_port_info *nssm_port_info(const struct nssm_port *p);
/* Asks the device for its link; cheap enough for 10 times a second. A link that has gone stays so until it is seen up again. */
bool nssm_port_link(struct nssm_port *p);
/* Returns how many of m were taken (they are then the device's); the rest stay the caller's. Never blocks for longer than 10 ms,
 * whatever the driver does (af_packet's send can: it is bounded by SO_SNDTIMEO or guarded). */
uint32_t nssm_port_tx(struct nssm_port *p, uint32_t queue, void **m, uint32_t n);
/* With info.send_on_time: when m is to leave, in the port's clock. */
void nssm_frame_set_time(void *m, uint64_t due_ns);
/* Received frames; each is given back with nssm_frames_put of any pool (f may be NULL there). */
uint32_t nssm_port_rx(struct nssm_port *p, uint32_t queue, void **m, const uint8_t **data, uint32_t *len, uint32_t n);
/* The device's own counters, for what the driver lost after taking it. */
struct nssm_port_errors { uint64_t tx_errors, rx_missed, rx_errors; };
void nssm_port_errors(struct nssm_port_errors *e, struct nssm_port *p);

#endif
