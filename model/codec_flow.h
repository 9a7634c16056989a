/* codec_flow — the `flow` codec: the specification of its tokens, version 2.
 *
 * Idea   : encoder and decoder keep the same state of the session (hosts, flows, what each end of a flow said last), so a packet is
 *          spelled as what that state does not foretell. Header compression does this (RFC 1144, RFC 5795).
 * Session: <|label|> [conditions] packet… <|endoftext|>
 *          Conditions: none, or NSSM_N_CONDITIONS bytes in the order of conditions.h (the codec's configuration says which).
 * Packet : <|pkt|> then bytes. Each byte says which fields follow it; nothing is spelled that has only one legal value. A packet is
 *          over with its last byte: what follows is <|pkt|> or <|endoftext|>.
 *
 * Fields, in the order in which they stand; a field stands only where an earlier one calls for it:
 *   GAP    inter-arrival step (iat.h). 255 is followed by GAPX e: the gap is the step's times 2^(e/8).
 *   FLOW   0–111 known TCP flow, 2·rank + direction; 112–191 UDP, likewise; 192–207 ICMP echo, likewise.
 *          208/209 TCP flow of a rank from 56 on, direction 0/1: RANK, a byte; 210/211 UDP flow of a rank from 40 on: RANK.
 *          212/213 new TCP flow over IPv4/IPv6; 214/215 UDP; 216/217 echo: SRC DST, then SPORT DPORT (echo: SPORT is the identifier).
 *          218 ARP: ARPOP SRC DST. 219/220 other IPv4/IPv6: SRC DST PROTO. 221 Ethernet: MACS MACD ETYPE.
 *          Rank: position in a list of the flows of that kind, the one used last in front. Direction 0 is that of the flow's first
 *          packet. A new flow goes to the front; where the list is full the last one is forgotten. A known flow's addresses and
 *          ports used anew (TCP: a SYN with another initial number) make a new flow, and the old one is forgotten.
 *   SRC DST a host: its rank among the session's hosts of that IP version (front: used last by such a field), or 255 for a new one:
 *          its address (identity keep: 4 or 16 bytes; pool: CLASS, and the address only for class 2), then its MAC.
 *   MAC…   MACS MACD, and the MAC of a new host: a rank among the session's MACs; 253 a new group address (6 bytes); 254 the one
 *          that a multicast or broadcast address implies; 255 a new one (keep: 6 bytes; pool: none).
 *   SPORT  2 bytes. DPORT: 64 and more: a port of the table in flow_ports.c; else rank among the session's
 *          other destination ports, or 255 and 2 bytes.
 *   TOP    TCP: 16·kind; +8 ACK, +4 WIN, +2 TS, +1 X follow. Kind: flags and length, which is 0, the last one of this direction that was
 *          not 0 (=), the greatest (^) or said by LEN (L): 0 ACK 0, 1 ACK =, 2 ACK L, 3 PSH ACK =, 4 PSH ACK L, 5 FIN ACK 0, 6 FIN PSH ACK
 *          L, 7 RST 0, 8 RST ACK 0, 9 SYN ACK 0, 10 SYN 0, 11 ACK ^, 12 PSH ACK ^, 13 FIN ACK L, 14 FLAGS 0, 15 FLAGS L. With payload
 *          full only 0 and L. A SYN of kind 9 (pool) or 10 from an end that sent something has its first number again.
 *   UOP    UDP: m + 6·r. m: length explicit, the last, the greatest of this direction, times 2 (payload full: explicit); +1: X
 *          follows. r: which bytes of the payload prefix are those of the reference: 0 none; 1–12 the first r; 13–23 r − 12 from byte 1
 *          on; 24–33 r − 23 from byte 2 on; 34–41 r − 33 from byte 4 on. Reference: the last packet's prefix in this direction, else
 *          the other's, else zeros.
 *   EOP    echo: +1 X, +2 LEN, +4 SEQ16 follow; else the length is the last one, the sequence number the next (direction 0) or that
 *          of the request (direction 1).
 *   ARPOP  bits 0–1: operation 1, 2 (0, 3: ARP16 follows); 4: target MAC explicit, else zeros in a request and the target's in a
 *          reply; 8: Ethernet destination explicit, else broadcast for a request and the target's for a reply; 16: sender's MAC
 *          explicit; 32: X follows.
 *   OOP    other IP, Ethernet: +1 X follows; +2 FRAG (2 bytes: IPv4 flags and offset).
 *   FLAGS  TCP flags (kinds 14 and 15).
 *   LEN    bytes of payload on the wire.
 *   SEQ0 ACK0 4 bytes each, keep only. SEQ0: in a new flow's first packet and in each SYN/ACK of kind 9. ACK0: in a new flow's first
 *          packet unless its kind is SYN. In pool they are drawn by the decoder.
 *   ACK    0: this direction's last number again; k in 1–100: k of the peer's segments more; 253: V beyond what stands without
 *          ACK: all that the peer sent (0 where the flags have no ACK); 254: V below it.
 *   WIN    b < 200: so much more or less than without WIN, −100 to 100 without 0; 200–254: 256·(b−200) + 1 byte; 255: 2 bytes.
 *          Without: the last one of this direction, or of the host's last SYN (SYN/ACK; none yet: 64240 and
 *          65160, IPv6 64800 and 64704).
 *   TS     ZZ: timestamp value beyond what the elapsed time foretells since this direction's last one, or its host's (none yet: the
 *          value itself; pool: the first of a direction has none, it is drawn).
 *   X      +1 SEQ (UDP: the "no checksum" of this direction toggles), +2 TSE, +4 IPID, +8 OPT, +16 IPH, +32 CAP, +64 LINK, +128 BAD.
 *   SEQ    0: one before the next (keep-alive); k in 1–64: begin of the k-th last segment; 102: V ahead of the next; 103: V behind.
 *   TSE    which timestamp is echoed, from now on in this direction: 0 the peer's latest, 1 the last echoed again, 2 and 3 that of the
 *          first and the last segment that this packet acknowledges and none before did; 4: ZZ, the peer's latest minus the echoed.
 *   IPID   0, 1, 2: from now on this direction counts by itself, with its host, or stands still (and does so now); b in 3–62: b − 1
 *          ahead of where it stood; 63: 2 bytes; 64–255: 256·(b−64) + 1 byte. IPv4 only.
 *   OPT    TCP options: number of a layout (below), then the values of its options in their order: MSS 2 bytes, window
 *          scale 1, SACK edges: left as begin, right as end of the peer's k-th last segment, 0 its last number, 65–72 an
 *          edge of this direction's last SACK, or 255 and ZZ: beyond the edge before it, the first beyond the acknowledgement. 255: u,
 *          then 4·u bytes, as they are. Without OPT: a SYN's are its host's last SYN's (SYN/ACK's; none yet: those of layout 9 with MSS
 *          1460, IPv6 1440, scale 7); RST: none; others: NOP NOP TS if both
 *          SYNs had TS (or the last packet of this direction did), else none.
 *   IPH    +1 TTL, +2 TOS, +4 DF toggles, +8 flow label (3 bytes), +16 IPv4 options or IPv6 extension headers: u, the
 *          first header's number (IPv4: 0), 4·u bytes.
 *   CAP    +1: short frames of this source MAC are padded to 60 bytes, or no longer; +2 trailer: V, then u and u captured bytes of it;
 *          +4 WLEN V: length on the wire; +8 CLEN V: captured bytes and 1, from now on (all: 0); +16 V: captured bytes of payload prefix.
 *   LINK   +1 MACS, +2 MACD, +4 VLAN: number of tags, then (0: 8100, 1: 88a8, 2: 9100) and 2 bytes each; from now on.
 *   BAD    +1 IP checksum (2 bytes), +2 transport checksum (2), +4 it is the pseudo header's sum (left to the NIC), +8 it is 0,
 *          +16 IP length field (2), +32 UDP length field (2), +64 urgent pointer (2), +128 reserved bits (1: TCP's low nibble, IPv4's 0x80).
 *   LIT    other IP, Ethernet: V, then V bytes as they are: what stands behind the IP or Ethernet header.
 *   PAY    payload bytes that the codec was told to keep, but for those of UOP's run.
 * Layouts: flow_layout in flow_build.c, from 0 on: N no-op, E end, M MSS, W window scale, P SACK permitted, T timestamps, 1–4 SACK with so
 *          many blocks. They are part of the version.
 * Numbers: V: b < 192: b; 192–239: 192 + 256·(b−192) + 1 byte; 240–253: 12480 + 65536·(b−240) + 2 bytes; 254: 4 bytes.
 *          ZZ: V of 2·n for n >= 0, −2·n − 1 for n < 0. Bytes are big-endian.
 *
 * State  : what is foretold: flow_state.h; by which rule it moves on: flow_state.c, flow_update. It is bounded (NSSM_FLOW_*_MAX).
 * Time   : the state's clock adds up the steps' geometric means; TS is foretold from it. A stamp before its predecessor's is gap 0.
 * Lossless: the encoder builds the packet again from what it spells; where a header byte would differ it spells the packet as
 *          Ethernet (221), as captured; so also where a group's MAC is the source, which no other kind can have. So every capture can
 *          be encoded, and decodes to the same headers, lengths and order. Payload that is not kept, and trailers beyond 64 bytes (payload
 *          full: 255), are zeros (or what the decoder is told to fill in).
 * Pool   : addresses, MACs, initial sequence numbers and timestamps are not spelled: hosts and MACs are numbered by first appearance
 *          and get addresses from the decoder. What may hold an address elsewhere is blanked: literal bytes, trailers, IP options, of TCP's
 *          ADD_ADDR and those that are not known, a solicited node's last three bytes.
 * Masks  : `full` allows what the encoder can spell; `clean` bars what only defects need: ACK from 101 on, SEQ 102 and 103 by 143552 or
 *          more (nearer ones are holes that loss left, and what fills them), OPT 255, SACK edges 255, IPH 16, CAP 2 and 4, GAPX above 64
 *          (a day), BAD, ARP16, group MACs but as MACD. What it allows decodes to well-formed headers and right checksums, but for
 *          FLOW 219–221, which the decoder marks as escaped.
 *
 * Contexts: flow_context.h numbers what this grammar says of the token that comes (its field, the phase of the connection): a model may be
 *          given that number beside each token. The numbers are part of the version.
 *
 * Example: (keep, no payload) SYN of 10.0.0.1:40000 to 10.0.0.2:80, SYN/ACK 200 µs later, ACK 100 µs later, as Linux sends them.
 *   <|pkt|> 00                        GAP: none, it is the first
 *           d4                        FLOW: a new one, TCP over IPv4
 *           ff 0a000001 ff 020000000001   SRC: a new host, its address; its MAC: a new one
 *           ff 0a000002 ff 020000000002   DST
 *           9c40 50                   SPORT 40000; DPORT: the table's 16th, 80
 *           a3                        TOP: 16·10 (SYN) + 2 (TS) + 1 (X); window and options are what a host's first SYN is foretold
 *           11223344 c710             SEQ0; TS: 192 + 256·7 + 16 = 2·1000
 *           04 5c46                   X: IPID; 256·28 + 70 = 7238
 *   <|pkt|> 58 01                     GAP: 200 µs; FLOW: TCP, rank 0, direction 1
 *           97                        TOP: 16·9 (SYN/ACK) + 4 (WIN) + 2 (TS) + 1 (X)
 *           99aabbcc ff7210 e650      SEQ0; WIN 29200; TS: 192 + 256·38 + 80 = 2·5000
 *           0c 02 09 05b4 09          X: IPID + OPT; IPID: stands still, at 0; OPT: MSS, SACK permitted, timestamps, no-op, scale;
 *                                     MSS 1460; scale 9
 *   <|pkt|> 50 00                     GAP: 100 µs; FLOW: TCP, rank 0, direction 0
 *           04 c9f6                   TOP: 0 (ACK) + 4 (WIN); WIN 256·1 + 246 = 502. All else is foretold, NOP NOP TS with both clocks too
 *          Checked byte for byte in tests/test_flow_codec.c, entry "worked_example".                                        */
#ifndef NSSM_CODEC_FLOW_H
#define NSSM_CODEC_FLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "model/packet.h"

#define NSSM_FLOW_VERSION    2
#define NSSM_FLOW_TCP_MAX    312 /* flows that are known at a time: 56 direct ranks and a byte's */
#define NSSM_FLOW_UDP_MAX    296
#define NSSM_FLOW_ECHO_MAX   8
#define NSSM_FLOW_HOSTS_MAX  250 /* of an IP version */
#define NSSM_FLOW_MACS_MAX   250
#define NSSM_FLOW_PORTS_MAX  64
#define NSSM_FLOW_RUN_MAX    12  /* payload bytes that UOP's run looks at */
#define NSSM_FLOW_LIT_MAX    512
#define NSSM_FLOW_TRAILER_MAX 255 /* captured bytes of a trailer that are kept; unless all payload is, 64 */
#define NSSM_FLOW_TCP_NEAR   56  /* ranks that FLOW says by itself */
#define NSSM_FLOW_UDP_NEAR   40
/* FLOW's bytes: where each kind begins. */
#define NSSM_FLOW_CODE_UDP   112
#define NSSM_FLOW_CODE_ECHO  192
#define NSSM_FLOW_CODE_FAR   208
#define NSSM_FLOW_CODE_NEW   212
#define NSSM_FLOW_CODE_ARP   218
#define NSSM_FLOW_CODE_OTHER 219
#define NSSM_FLOW_CODE_ETHER 221

#endif
