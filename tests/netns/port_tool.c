/* Plays two ports on two kernel interfaces through packet sockets: neigh.h and measure.h against a real router.
 *   port_tool IF0 IF1 COUNT PPS [signature] [oneway]
 * Port 0 plays 198.18.0.0/24 and 2001:db8:1::/64, port 1 198.19.0.0/24 and 2001:db8:2::/64; .2 and ::2 are their own addresses,
 * .1 and ::1 the gateways. Once the gateways are found it says so, sends COUNT datagrams of IPv4 and IPv6 both ways (oneway: from
 * port 0 only), and prints what came back as NAME=NUMBER. COUNT 0: answers until its input ends. */
#include <arpa/inet.h>
#include <inttypes.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../measure_frames.h"
#include "base/measure.h"
#include "replay/measure.h"
#include "replay/neigh.h"

#define SECOND_NS 1000000000ull
#define N_CLIENTS 200u
#define N_SERVERS 50u
#define N_PORTS   5u

struct port {
	int fd;
	uint8_t mac[6];
	struct nssm_pool pool[2];
	struct nssm_neigh *neigh;
};

static struct port ports[2];
static struct nssm_measure *measure;
static uint64_t n_refused; /* by the kernel, its queue being full */

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void open_socket(struct port *p, const char *name)
{
	struct ifreq ifr = {0};
	int on = 1, bytes = 32 << 20;
	p->fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(ETH_P_ALL));
	if (p->fd < 0 || strlen(name) >= sizeof ifr.ifr_name)
		die("packet socket");
	memcpy(ifr.ifr_name, name, strlen(name));
	if (ioctl(p->fd, SIOCGIFHWADDR, &ifr) != 0)
		die(name);
	memcpy(p->mac, ifr.ifr_hwaddr.sa_data, 6);
	struct sockaddr_ll at = {.sll_family = AF_PACKET,
	        .sll_protocol = htons(ETH_P_ALL),
	        .sll_ifindex = (int)if_nametoindex(name)};
	if (setsockopt(p->fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) != 0 ||
	        setsockopt(p->fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) != 0 ||
	        bind(p->fd, (struct sockaddr *)&at, sizeof at) != 0)
		die(name);
}

static void open_port(int i, const char *name)
{
	struct port *p = &ports[i];
	struct nssm_err err;
	open_socket(p, name);
	struct nssm_neigh_cfg cfg = {.pool = {&p->pool[0], &p->pool[1]},
	        .n_pools = 2,
	        .self4 = {198, (uint8_t)(18 + i), 0, 2},
	        .gateway4 = {198, (uint8_t)(18 + i), 0, 1},
	        .self6 = {0x20, 1, 0x0d, 0xb8, 0, (uint8_t)(1 + i), [15] = 2},
	        .gateway6 = {0x20, 1, 0x0d, 0xb8, 0, (uint8_t)(1 + i), [15] = 1}};
	memcpy(cfg.src_mac, p->mac, 6);
	if (nssm_pool_add(&p->pool[0], i == 0 ? "198.18.0.0/24" : "198.19.0.0/24", &err) != 0 ||
	        nssm_pool_add(&p->pool[1], i == 0 ? "2001:db8:1::/64" : "2001:db8:2::/64", &err) != 0 ||
	        nssm_neigh_open(&p->neigh, &cfg, &err) != 0) {
		fprintf(stderr, "port_tool: %s\n", err.msg);
		exit(1);
	}
}

static bool put_out(struct port *p, const uint8_t *frame, uint32_t len)
{
	return send(p->fd, frame, len, 0) == (ssize_t)len;
}

static void take_in(struct port *p, uint64_t now_ns)
{
	static uint8_t room[NSSM_BURST][2048];
	uint8_t out[NSSM_NEIGH_OUT_BYTES];
	uint32_t n, len[NSSM_BURST];
	do {
		const uint8_t *frame[NSSM_BURST];
		n = 0;
		for (int k = 0; k < NSSM_BURST; k++) {
			ssize_t got = recv(p->fd, room[n], sizeof room[n], 0);
			if (got < 0)
				break;
			bool mine;
			uint32_t answer =
			        nssm_neigh_frame(p->neigh, room[n], (uint32_t)got, now_ns, out, &mine);
			if (answer > 0 && !put_out(p, out, answer))
				n_refused++;
			if (mine)
				continue;
			frame[n] = room[n];
			len[n++] = (uint32_t)got;
		}
		nssm_measure_received_burst(measure, frame, len, n, now_ns);
	} while (n > 0);
	for (uint32_t k; (k = nssm_neigh_poll(p->neigh, now_ns, out)) > 0;)
		if (!put_out(p, out, k))
			n_refused++;
}

static void turn(void)
{
	uint64_t now = nssm_now_ns();
	for (int i = 0; i < 2; i++)
		take_in(&ports[i], now);
	nssm_measure_expire(measure, now);
	nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
}

static void send_one(uint64_t i, bool oneway)
{
	int from = !oneway && i % 4 >= 2 ? 1 : 0, ip = i % 2 == 0 ? 4 : 6;
	uint32_t flow = (uint32_t)(i / 4 % (N_CLIENTS * N_PORTS));
	uint8_t client = (uint8_t)(10 + flow % N_CLIENTS), server = (uint8_t)(10 + flow % N_SERVERS);
	uint16_t port = (uint16_t)(20000 + flow / N_CLIENTS);
	struct spec s = {.ip = ip,
	        .proto = UDP,
	        .n_payload = 30 + (uint32_t)(i % 1000),
	        .fill = (uint8_t)(i / 8),
	        .id = (uint16_t)i,
	        .src = from == 0 ? client : server,
	        .dst = from == 0 ? server : client,
	        .sport = from == 0 ? port : 443,
	        .dport = from == 0 ? 443 : port};
	struct frame f = make(&s);
	uint8_t *l3 = f.data + f.l3;
	for (int end = 0; end < 2; end++) {
		uint8_t net = (uint8_t)(from ^ end);
		if (ip == 4)
			memcpy(l3 + 12 + 4 * end, (uint8_t[]){198, (uint8_t)(18 + net)}, 2),
			        l3[14 + 4 * end] = 0;
		else
			memcpy(l3 + 8 + 16 * end, (uint8_t[]){0x20, 1, 0x0d, 0xb8, 0, (uint8_t)(1 + net)}, 6);
	}
	sum_frame(&f, false);
	memcpy(f.data + 6, ports[from].mac, 6);
	if (!nssm_neigh_gateway(ports[from].neigh, ip, f.data))
		exit(1);
	nssm_measure_sent(measure, f.data, f.len, f.len - f.l4 - 8, (uint32_t)from, nssm_now_ns());
	if (!put_out(&ports[from], f.data, f.len)) {
		nssm_measure_unsent(measure, f.data, f.len);
		n_refused++;
	}
}

static bool resolve(void)
{
	uint64_t until = nssm_now_ns() + 10 * SECOND_NS;
	while (!nssm_neigh_resolved(ports[0].neigh) || !nssm_neigh_resolved(ports[1].neigh)) {
		if (nssm_now_ns() > until)
			return false;
		turn();
	}
	printf("resolved\n");
	fflush(stdout);
	return true;
}

static void report(void)
{
	const struct nssm_measure_counters *c = nssm_measure_all(measure);
	const struct nssm_measure_extra *x = nssm_measure_extra(measure);
	printf("sent=%" PRIu64 " marked=%" PRIu64 " matched=%" PRIu64 " lost=%" PRIu64 " duplicate=%" PRIu64
	       " reordered=%" PRIu64 " unmatched=%" PRIu64 " overflow=%" PRIu64 " refused=%" PRIu64
	       " max_us=%" PRIu64 "\n",
	        x->remembered, x->marked, c->matched, c->lost, c->duplicate, c->reordered, c->unmatched,
	        x->overflow, n_refused, c->latency.max_ns / 1000);
	for (int i = 0; i < 2; i++) {
		const struct nssm_neigh_stats *s = nssm_neigh_stats(ports[i].neigh);
		printf("port%d arp_replies=%" PRIu64 " nd_replies=%" PRIu64 " echo_replies=%" PRIu64
		       " asked=%" PRIu64 " malformed=%" PRIu64 "\n",
		        i, s->arp_replies, s->nd_replies, s->echo_replies, s->asked, s->malformed);
	}
}

int main(int argc, char **argv)
{
	if (argc < 5) {
		fprintf(stderr, "usage: port_tool IF0 IF1 COUNT PPS [signature] [oneway]\n");
		return 2;
	}
	uint64_t count = strtoull(argv[3], NULL, 10), pps = strtoull(argv[4], NULL, 10);
	bool signature = false, oneway = false;
	for (int i = 5; i < argc; i++) {
		signature |= strcmp(argv[i], "signature") == 0;
		oneway |= strcmp(argv[i], "oneway") == 0;
	}
	struct nssm_err err;
	if (nssm_measure_open(
	            &measure, &(struct nssm_measure_cfg){.n_labels = 2, .signature = signature}, &err) != 0) {
		fprintf(stderr, "port_tool: %s\n", err.msg);
		return 1;
	}
	for (int i = 0; i < 2; i++)
		open_port(i, argv[1 + i]);
	if (!resolve()) {
		fprintf(stderr, "port_tool: a gateway does not answer\n");
		return 1;
	}
	struct pollfd in = {.fd = 0, .events = POLLIN};
	while (count == 0 && poll(&in, 1, 0) == 0)
		turn();
	uint64_t start = nssm_now_ns(), i = 0;
	while (i < count) {
		for (uint64_t now = nssm_now_ns(), k = 0;
		        i < count && k < 64 && (now - start) * pps / SECOND_NS >= i; i++, k++)
			send_one(i, oneway);
		turn();
	}
	for (uint64_t until = nssm_now_ns() + SECOND_NS;
	        nssm_measure_waiting(measure) > 0 && nssm_now_ns() < until;)
		turn();
	nssm_measure_expire(measure, UINT64_MAX);
	report();
	nssm_measure_close(&measure);
	for (int k = 0; k < 2; k++) {
		nssm_neigh_close(&ports[k].neigh);
		close(ports[k].fd);
	}
	return 0;
}
