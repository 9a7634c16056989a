/* What a port's name means, which interfaces are refused, and a NIC's clock beside ours. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "replay/port.h"
#include "replay/portclock.h"

/* --- names --- */

static void test_parse(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		enum nssm_dev_kind kind;
		const char *iface, *vdev;
	} good[] = {
	        {"0000:01:00.0", NSSM_DEV_PCI, "", "0000:01:00.0"},
	        {"01:00.0", NSSM_DEV_PCI, "", "0000:01:00.0"},
	        {"01:00.0,tx_pp=500,a=b", NSSM_DEV_PCI, "", "0000:01:00.0,tx_pp=500,a=b"},
	        {"AbCd:Ef:1f.7", NSSM_DEV_PCI, "", "abcd:ef:1f.7"},
	        {"af_packet:eth1", NSSM_DEV_AF_PACKET, "eth1", "af_packet:eth1"},
	        {"af_packet:wlx00-1122@3", NSSM_DEV_AF_PACKET, "wlx00-1122@3", "af_packet:wlx00-1122@3"},
	        {"af_xdp:eth1.100", NSSM_DEV_AF_XDP, "eth1.100", "af_xdp:eth1.100"},
	        {"tap:t0", NSSM_DEV_TAP, "t0", "net_tap3,iface=t0"},
	        {"null", NSSM_DEV_NULL, "", "net_null3,no-rx=1"},
	        {"ring", NSSM_DEV_RING, "", "net_ring3"},
	        {"memif:socket=/run/a.sock", NSSM_DEV_MEMIF, "",
	                "net_memif3,role=client,id=0,socket=/run/a.sock,socket-abstract=no"},
	        {"memif:role=server,id=4294967295,socket=@a", NSSM_DEV_MEMIF, "",
	                "net_memif3,role=server,id=4294967295,socket=a,socket-abstract=yes"},
	        {"memif:socket=a,role=server,role=client", NSSM_DEV_MEMIF, "",
	                "net_memif3,role=client,id=0,socket=a,socket-abstract=no"},
	        {"net_pcap0,tx_pcap=x.pcap", NSSM_DEV_RAW, "", "net_pcap0,tx_pcap=x.pcap"},
	        {"net_virtio_user7", NSSM_DEV_RAW, "", "net_virtio_user7"},
	};
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		struct nssm_dev d;
		struct nssm_err err = {0};
		if (nssm_dev_parse(&d, good[i].text, 3, &err) != 0)
			fail_msg("%s: %s", good[i].text, err.msg);
		assert_int_equal(d.kind, good[i].kind);
		assert_string_equal(d.iface, good[i].iface);
		assert_string_equal(d.vdev, good[i].vdev);
	}
}

static void test_parse_refuses(void **state)
{
	(void)state;
	static char path[200],
	        path107[] = "memif:socket=/tttttttttttttttttttttttttttttttttttttttttttttttttttttttt"
	                    "tttttttttttttttttttttttttttttttttttttttttttttttttttt";
	memset(path, 'p', sizeof path - 1);
	memcpy(path, "af_packet:", 10);
	/* text, and what the message must hold */
	static const char *const bad[][2] = {
	        {"", "none of: a PCI address"},
	        {"eth99", "af_packet:IFACE"},
	        {"lo", "say af_packet:lo"},
	        {"0000:01:20.0", "none of"},
	        {"0000:01:00.8", "none of"},
	        {"000:01:00.0", "none of"},
	        {"0000-01:00.0", "none of"},
	        {"0000:01:00.0 ", "none of"},
	        {"0g:00.0", "none of"},
	        {"af_packet", "none of"},
	        {"af_packet:", "no interface name"},
	        {"af_packet:a/b", "no interface name"},
	        {"af_packet:eth 1", "no interface name"},
	        {"af_packet:eth1,qpairs=2", "no interface name"},
	        {"af_packet:abcdefghijklmnop", "no interface name"},
	        {"af_xdp:..", "no interface name"},
	        {"af_xdp:[1]", "no interface name"},
	        {"tap:", "no interface name"},
	        {"null0", "none of"},
	        {"rings", "none of"},
	        {"memif:", "socket=PATH is missing"},
	        {"memif:role=client", "socket=PATH is missing"},
	        {"memif:role=master,socket=a", "role=master"},
	        {"memif:id=-1,socket=a", "id is a number"},
	        {"memif:id=4294967296,socket=a", "id is a number"},
	        {"memif:id=1x,socket=a", "id is a number"},
	        {"memif:id=,socket=a", "id is a number"},
	        {"memif:socket=", "socket is a path"},
	        {"memif:socket=@", "socket is a path"},
	        {path107, "1 to 106"},
	        {path, "longer than"},
	        {"net_", "none of"},
	        {"net_pcap0 ,a=b", "none of"},
	        {"crypto_null0", "none of"},
	        {"af_packet:e\x1b[1m", "cannot be printed"},
	};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct nssm_dev d = {.kind = 77};
		struct nssm_err err = {0};
		int rc = nssm_dev_parse(&d, bad[i][0], 0, &err);
		if (rc != NSSM_EARG || strstr(err.msg, bad[i][1]) == NULL)
			fail_msg("\"%s\": %d, %s", bad[i][0], rc, err.msg);
		assert_int_equal(d.kind, 77);
	}
}

/* --- the guard, on a made-up /proc and /sys --- */

#define ROUTE_HEAD "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
/* 10.1.0.0/16 on eth1, 192.0.2.0/24 on eth2, 192.0.2.128/25 on eth3, default on eth0; a default that is down, one that rejects. */
static const char ROUTES[] = ROUTE_HEAD "eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
                                        "eth7\t00000000\t0100000A\t0002\t0\t0\t0\t00000000\t0\t0\t0\n"
                                        "eth8\t00000000\t0100000A\t0201\t0\t0\t0\t00000000\t0\t0\t0\n"
                                        "vpn0\t00000080\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0\n"
                                        "eth1\t0000010A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
                                        "eth2\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
                                        "eth3\t800200C0\t00000000\t0001\t0\t0\t0\t80FFFFFF\t0\t0\t0\n"
                                        "\nnonsense\n";
static const char ROUTES6[] = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
                              "fe800000000000000000000000000001 "
                              "00000400 00000001 00000000 00000003     eth4\n"
                              "00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
                              "00000000000000000000000000000000 "
                              "ffffffff 00000001 00000000 00200200       lo\n"
                              "20010db8000100000000000000000000 30 00000000000000000000000000000000 00 "
                              "00000000000000000000000000000000 "
                              "00000100 00000001 00000000 00000001     eth5\n"
                              "20000000000000000000000000000000 03 00000000000000000000000000000000 00 "
                              "00000000000000000000000000000000 "
                              "00000100 00000001 00000000 00000001     eth6\n"
                              "zz\n";

struct fixture {
	char dir[64], proc[96];
};

static void put(const struct fixture *f, const char *name, const char *text, size_t n)
{
	char path[512];
	snprintf(path, sizeof path, "%s/%s", f->dir, name);
	for (char *p = path + strlen(f->dir) + 1; (p = strchr(p, '/')) != NULL; p++) {
		*p = '\0';
		mkdir(path, 0700);
		*p = '/';
	}
	FILE *o = fopen(path, "w");
	assert_non_null(o);
	assert_int_equal(fwrite(text, 1, n, o), n);
	assert_int_equal(fclose(o), 0);
}

#define PUT(f, name, text) put(f, name, text, strlen(text))

static int set_up(void **state)
{
	static struct fixture f;
	snprintf(f.dir, sizeof f.dir, "/tmp/test_dev.XXXXXX");
	assert_non_null(mkdtemp(f.dir));
	snprintf(f.proc, sizeof f.proc, "%s/proc", f.dir);
	PUT(&f, "proc/net/route", ROUTES);
	PUT(&f, "proc/net/ipv6_route", ROUTES6);
	*state = &f;
	return 0;
}

static int tear_down(void **state)
{
	const struct fixture *f = *state;
	char cmd[128];
	snprintf(cmd, sizeof cmd, "rm -r '%s'", f->dir);
	return system(cmd);
}

static void check(const struct fixture *f, const char *dev, const char *ssh, const char *expected)
{
	struct nssm_dev d;
	struct nssm_err err = {0};
	assert_int_equal(nssm_dev_parse(&d, dev, 0, &err), 0);
	int rc = nssm_dev_guard(&d, f->proc, ssh, &err);
	if (expected == NULL ? rc != 0 : rc != NSSM_EARG || strstr(err.msg, expected) == NULL)
		fail_msg("%s, %s: %d, \"%s\"", dev, ssh, rc, err.msg);
}

static void test_default_route(void **state)
{
	const struct fixture *f = *state;
	check(f, "af_packet:eth0", "", "eth0 carries this machine's default IPv4 route; --force");
	check(f, "af_xdp:eth0", "", "default IPv4");
	check(f, "tap:eth0", "", "default IPv4");
	check(f, "net_af_packet0,iface=eth0", "", "default IPv4");
	check(f, "net_pcap3,rx_pcap=a,tx_iface=eth4", "", "default IPv6");
	check(f, "net_tap0,iface=t0,remote=eth0", "", "default IPv4");
	check(f, "af_packet:vpn0", "", "default IPv4");
	check(f, "af_packet:eth4", "", "default IPv6");
	check(f, "af_packet:eth6", "", "default IPv6");
	static const char *const fine[] = {"af_packet:eth1", "af_packet:eth2", "af_packet:eth5",
	        "af_packet:eth7", "af_packet:eth8", "af_packet:lo", "af_packet:eth", "af_packet:eth00",
	        "null", "ring", "memif:socket=eth0", "net_pcap0,tx_pcap=eth0", "0000:01:00.0"};
	for (size_t i = 0; i < sizeof fine / sizeof fine[0]; i++)
		check(f, fine[i], "", NULL);
}

static void test_login(void **state)
{
	const struct fixture *f = *state;
	/* The longest route to the client counts. */
	check(f, "af_packet:eth1", "10.1.2.3 4000 10.1.0.1 22",
	        "login session (10.1.2.3 4000 10.1.0.1 22) came in through eth1");
	check(f, "af_packet:eth2", "10.1.2.3 4000 10.1.0.1 22", NULL);
	check(f, "af_packet:eth2", "192.0.2.5 4000 192.0.2.1 22", "came in through eth2");
	check(f, "af_packet:eth3", "192.0.2.5 4000 192.0.2.1 22", NULL);
	check(f, "af_packet:eth2", "192.0.2.200 4000 192.0.2.1 22", NULL);
	check(f, "af_packet:eth3", "192.0.2.200 4000 192.0.2.1 22", "came in through eth3");
	check(f, "af_packet:eth3", "::ffff:192.0.2.200 4000 ::ffff:192.0.2.1 22", "came in through eth3");
	check(f, "af_packet:eth5", "2001:db8:1::9 4000 2001:db8:1::1 22", "came in through eth5");
	check(f, "af_packet:eth1", "2001:db8:1::9 4000 2001:db8:1::1 22", NULL);
	check(f, "af_packet:eth1", "fe80::9%eth1 4000 fe80::1%eth1 22", "came in through eth1");
	check(f, "af_packet:lo", "198.51.100.1 4000 127.0.0.1 22", "came in through lo");
	/* What says nothing forbids nothing. */
	static const char *const odd[] = {"", "x", "10.1.2.3", "10.1.2.3 4000", "10.1.2 4000 10.1.0.1 22",
	        "a b c d", "10.1.2.3 4000 ::1 22", "%eth1 1 %eth1 2"};
	for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++)
		check(f, "af_packet:eth1", odd[i], NULL);
}

static void test_login_of_a_parent(void **state)
{
	const struct fixture *f = *state;
	static const char ENV[] = "PATH=/bin\0SSH_CONNECTION=10.1.2.3 4000 10.1.0.1 22\0HOME=/";
	check(f, "af_packet:eth1", NULL, NULL);
	PUT(f, "proc/self/stat", "77 (net) ssm (x) S 66 77 77 0");
	PUT(f, "proc/self/environ", "");
	PUT(f, "proc/66/stat", "66 (sudo) S 55 66 66 0");
	put(f, "proc/55/environ", ENV, sizeof ENV);
	check(f, "af_packet:eth1", NULL, "came in through eth1");
	check(f, "af_packet:eth1", "", NULL);
}

static void test_above_and_below(void **state)
{
	const struct fixture *f = *state;
	PUT(f, "sys/class/net/eth9/upper_bond0/x", "");
	PUT(f, "sys/class/net/bond0/upper_eth0/x", "");
	/* A loop would be a kernel's mistake; it must end nevertheless. */
	PUT(f, "sys/class/net/a/upper_b/x", "");
	PUT(f, "sys/class/net/b/upper_a/x", "");
	check(f, "af_packet:eth9", "", "eth9 carries this machine's default IPv4 route (through eth0)");
	check(f, "af_packet:a", "", NULL);
	PUT(f, "sys/bus/pci/devices/0000:01:00.0/net/eth0/x", "");
	PUT(f, "sys/bus/pci/devices/0000:02:00.0/net/eth1/x", "");
	check(f, "01:00.0", "", "eth0 carries");
	check(f, "01:00.0,tx_pp=500", "", "eth0 carries");
	check(f, "02:00.0", "", NULL);
}

static void test_no_tables(void **state)
{
	(void)state;
	struct nssm_dev d;
	struct nssm_err err = {0};
	assert_int_equal(nssm_dev_parse(&d, "af_packet:eth1", 0, &err), 0);
	assert_int_equal(nssm_dev_guard(&d, "/nonexistent", "", &err), NSSM_EIO);
	assert_non_null(strstr(err.msg, "/nonexistent/net/route"));
}

/* --- the clock --- */

static void test_clock(void **state)
{
	(void)state;
	static const double RATES[] = {0.078125, 1, 1.0000123, 3.3};
	for (size_t i = 0; i < sizeof RATES / sizeof RATES[0]; i++) {
		struct nssm_portclock c;
		const uint64_t ns0 = 1234567890123456, ticks0 = 1ull << 60;
		nssm_portclock_init(&c);
		assert_false(nssm_portclock_sample(&c, ns0, ticks0));
		assert_false(nssm_portclock_sample(&c, ns0 + PORTCLOCK_MIN_NS - 1, ticks0 + 1000000));
		/* A day of ten samples a second. */
		for (uint64_t s = 1; s < 864000; s++) {
			uint64_t ns = s * 100000000;
			assert_true(nssm_portclock_sample(
			        &c, ns0 + ns, ticks0 + (uint64_t)((double)ns * RATES[i])));
			if (s % 1000 != 1)
				continue;
			for (int64_t off = -200000000; off <= 200000000; off += 50000000) {
				int64_t due = (int64_t)ns + off;
				uint64_t ticks = nssm_portclock_ticks(&c, ns0 + (uint64_t)due);
				double d = (double)(int64_t)(ticks - ticks0) - (double)due * RATES[i];
				/* A tick of rounding in each sample, and at first 100 ms to foresee 200 from. */
				assert_true(d <= 4 && d >= -4);
			}
		}
	}
}

static void test_clock_goes_back(void **state)
{
	(void)state;
	struct nssm_portclock c;
	nssm_portclock_init(&c);
	assert_false(nssm_portclock_sample(&c, 1000, 5000));
	assert_true(nssm_portclock_sample(&c, 1000000000, 1000005000));
	assert_true(nssm_portclock_sample(
	        &c, 2000000000, 100)); /* reset; the old mapping stands until a new one is there */
	assert_true(nssm_portclock_sample(&c, 3000000000, 2000000100));
	assert_int_equal(nssm_portclock_ticks(&c, 3500000000), 3000000100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_parse),
	        cmocka_unit_test(test_parse_refuses),
	        cmocka_unit_test_setup_teardown(test_default_route, set_up, tear_down),
	        cmocka_unit_test_setup_teardown(test_login, set_up, tear_down),
	        cmocka_unit_test_setup_teardown(test_login_of_a_parent, set_up, tear_down),
	        cmocka_unit_test_setup_teardown(test_above_and_below, set_up, tear_down),
	        cmocka_unit_test(test_no_tables),
	        cmocka_unit_test(test_clock),
	        cmocka_unit_test(test_clock_goes_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
