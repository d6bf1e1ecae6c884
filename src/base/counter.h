/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything that is dropped, refused or repaired is counted here under a name of its own. SIGUSR1
 * prints all counters, the exit line names those that are not zero.
 */
#pragma once

#include <stdint.h>

/* X(enumerator, name, what it counts) */
#define COUNTERS(X)                                                                           \
	X(FRAMES_IN, "frames_in", "frames read from the link")                                \
	X(FRAMES_OUT, "frames_out", "frames written to the link")                             \
	X(FRAMES_OUT_DROPPED, "frames_out_dropped", "frames that the link did not take")      \
	X(DROP_TRUNCATED, "drop_truncated", "frames shorter than their headers say")          \
	X(DROP_OVERSIZED, "drop_oversized", "frames longer than an IP packet can be")         \
	X(DROP_ETHERTYPE, "drop_ethertype", "frames neither ARP, IPv4 nor IPv6")              \
	X(DROP_HEADER, "drop_header", "headers whose fields contradict each other")           \
	X(DROP_CHECKSUM, "drop_checksum", "wrong checksums of IPv4, TCP, UDP or ICMP")        \
	X(DROP_GSO, "drop_gso", "frames to be cut in a way that was not offered")             \
	X(DROP_FRAGMENT, "drop_fragment", "fragments that can belong to no datagram")         \
	X(DROP_PROTOCOL, "drop_protocol", "packets of IP protocols that are not carried")     \
	X(DROP_TTL, "drop_ttl", "packets whose time to live ends at the gateway")             \
	X(DROP_IPV6_DISABLED, "drop_ipv6_disabled", "IPv6 frames while IPv6 is off")          \
	X(DROP_DHCP, "drop_dhcp", "DHCP requests for which no lease is left")                 \
	X(URGENT_CLEARED, "urgent_cleared", "TCP segments whose urgent data was ordinary")    \
	X(REASS_GUARDED, "reass_guarded", "TCP segments cut or checked for libslirp's sake")  \
	X(POLICY_REFUSED, "policy_refused", "packets to addresses that are never dialled")    \
	X(ICMP_LIMITED, "icmp_limited", "ICMP errors not sent because of the rate limit")     \
	X(ICMP_DROPPED, "icmp_dropped", "ICMP messages to nobody, or without room for them")  \
	X(ICMP_EVICTED, "icmp_evicted", "echo conversations that gave way to newer ones")     \
	X(ICMP_FORBIDDEN, "icmp_forbidden", "echo requests that ping_group_range forbids")    \
	X(NEIGHBORS_ASKED, "neighbors_asked", "ARP requests, neighbour solicitations sent")   \
	X(TCP_OPENED, "tcp_opened", "TCP connections of the container that were dialled")     \
	X(TCP_ARRIVED, "tcp_arrived", "clients of published ports for whom TCP was dialled")  \
	X(TCP_REFUSED, "tcp_refused", "TCP connections refused for want of room")             \
	X(TCP_HALF_OPEN, "tcp_half_open", "SYNs passed over: too many dials are under way")   \
	X(TCP_STRAY, "tcp_stray", "TCP segments of no connection, answered with a reset")     \
	X(TCP_UNACCEPTABLE, "tcp_unacceptable", "TCP segments outside the window or state")   \
	X(TCP_RETRANSMITS, "tcp_retransmits", "TCP segments sent again to the container")     \
	X(TCP_BIG, "tcp_big", "TCP frames of more than 64 KiB sent to the container")         \
	X(TCP_BIG_LOST, "tcp_big_lost", "TCP connections in which such frames vanished")      \
	X(TCP_PROBES, "tcp_probes", "TCP probes of a closed window or a silent peer")         \
	X(TCP_GIVEN_UP, "tcp_given_up", "TCP connections ended since nobody answered")        \
	X(TCP_IMPOSSIBLE, "tcp_impossible", "events that the TCP machine has no answer to")   \
	X(TCP_MEMORY_SHORT, "tcp_memory_short",                                               \
		"TCP segments left unacknowledged for want of memory")                        \
	X(UDP_MAPPED, "udp_mapped", "UDP ports of the container that were given a socket")    \
	X(UDP_EVICTED, "udp_evicted", "silent UDP mappings that gave way to new ones")        \
	X(UDP_REFUSED, "udp_refused", "UDP datagrams lost for want of a socket")              \
	X(UDP_SEND_FULL, "udp_send_full", "UDP datagrams for which the socket had no room")   \
	X(UDP_NOT_SENT, "udp_not_sent", "UDP datagrams that the host's kernel refused")       \
	X(UDP_STRANGERS, "udp_strangers", "UDP datagrams of peers that may not be heard")     \
	X(DNS_QUERIES, "dns_queries", "queries to the DNS address")                           \
	X(DNS_ANSWERS, "dns_answers", "answers of nameservers passed on")                     \
	X(DNS_FAILED_OVER, "dns_failed_over", "queries sent to yet another nameserver")       \
	X(DNS_REFUSED, "dns_refused", "queries refused by all nameservers, or sent to none")  \
	X(DNS_UNANSWERED, "dns_unanswered", "queries that no nameserver has answered")        \
	X(DNS_EVICTED, "dns_evicted", "queries given up since there were too many")           \
	X(DNS_DROPPED, "dns_dropped", "what was sent to the DNS address and is no query")     \
	X(DNS_STRANGERS, "dns_strangers", "datagrams of nameservers that answer no query")    \
	X(WATCH_REPAIRED, "watch_repaired", "epoll entries that had to be made anew")         \
	X(FORWARD_REFUSED, "forward_refused",                                                 \
		"clients of published ports refused for want of descriptors")                 \
	X(SPLICE_OPENED, "splice_opened", "clients of published ports that were spliced")     \
	X(SPLICE_REFUSED, "splice_refused", "clients reset since the container refused")      \
	X(SPLICE_FELL_BACK, "splice_fell_back", "clients that went over the tap instead")     \
	X(SPLICE_NO_PIPE, "splice_no_pipe", "reads of bulk for which there was no pipe")      \
	X(SPLICE_DRAINED, "splice_drained", "pipes whose bytes found no taker")               \
	X(PUBLISH_UDP_CLIENTS, "publish_udp_clients", "clients of published UDP ports")       \
	X(PUBLISH_UDP_EVICTED, "publish_udp_evicted",                                         \
		"silent clients of published UDP ports that gave way to new ones")            \
	X(PUBLISH_UDP_DROPPED, "publish_udp_dropped",                                         \
		"UDP datagrams to published ports lost for want of a way")                    \
	X(PUBLISH_UDP_REFUSED, "publish_udp_refused",                                         \
		"UDP datagrams to published ports that the container refused")                \
	X(API_REQUESTS, "api_requests", "requests answered on the API socket")                \
	X(API_ERRORS, "api_errors", "requests answered with an error")                        \
	X(API_EVICTED, "api_evicted", "silent API clients closed to make room or by timeout") \
	X(AGENT_REQUESTS, "agent_requests", "what was asked of the netns agent")              \
	X(AGENT_ERRORS, "agent_errors", "requests that the netns agent could not fulfil")     \
	X(PCAP_DROPPED, "pcap_dropped", "frames that passed but are not in the capture")      \
	X(SYSCALLS_REFUSED, "syscalls_refused", "system calls outside the sandbox's list")    \
	X(LOG_DROPPED, "log_dropped", "log lines that would have blocked")

enum counter {
#define X(id, name, text) COUNTER_##id,
	COUNTERS(X)
#undef X
		N_COUNTERS
};

struct counters {
	uint64_t value[N_COUNTERS];
};

static inline void count(struct counters *counters, enum counter which)
{
	counters->value[which]++;
}

const char *counter_name(enum counter which);
