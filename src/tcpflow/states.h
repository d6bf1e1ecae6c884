/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The states of a flow and what can happen to it. Names are RFC 9293's, seen from our end, which
 * the container takes for the far host; DIALING stands before its SYN-RECEIVED, since nobody is
 * answered before the host has been, and RESOLVING before its SYN-SENT, since the container's
 * server has to be found on the link.
 *
 *              SYN                                     ICMP error, RST or
 *               |          dial failed                 silence to the container
 *            DIALING ----------------------------------------> (gone)
 *               | host connected: SYN-ACK
 *          SYN_RECEIVED
 *               | ACK
 *          ESTABLISHED ------------------------.
 *      host's  |                               | container's FIN:
 *      end:    |                               | half-close of the host's socket
 *      FIN     v                               v
 *        FIN_WAIT_1 --- FIN --> CLOSING     CLOSE_WAIT
 *              | ACK               |           | host's end: FIN
 *              v                   | ACK       v
 *        FIN_WAIT_2 --- FIN --> TIME_WAIT    LAST_ACK
 *                                  | time      | ACK
 *                                  v           v
 *                          (gone, or DRAINING while `up` holds bytes)
 *
 * A client of a published port is connected from the start; it is the container that is dialled:
 *
 *        tcpflow_arrive()
 *               |          nobody is there
 *            RESOLVING ------------------------.
 *               | heard of: SYN                |
 *               |          refusal, ICMP error |
 *            SYN_SENT -------------------------+--> (gone, a reset for the client)
 *               | SYN-ACK: ACK   or silence
 *          ESTABLISHED
 *
 * A reset from either side, in any state, is a reset to the other one, and the end. VANISHED: the
 * host's side died of silence (ETIMEDOUT), so the container is met with silence, too.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* X(enumerator, name) */
#define TCP_STATES(X)                                                                          \
	X(DIALING, "DIALING")           /* SYN seen, the host is connecting */                 \
	X(SYN_RECEIVED, "SYN_RECEIVED") /* SYN-ACK sent */                                     \
	X(RESOLVING, "RESOLVING") /* a client is there, the container's server is asked for */ \
	X(SYN_SENT, "SYN_SENT")   /* and is dialled */                                         \
	X(ESTABLISHED, "ESTABLISHED")                                                          \
	X(CLOSE_WAIT, "CLOSE_WAIT") /* the container has ended its stream */                   \
	X(FIN_WAIT_1, "FIN_WAIT_1") /* the host has ended its stream */                        \
	X(FIN_WAIT_2, "FIN_WAIT_2") /* and the container knows */                              \
	X(CLOSING, "CLOSING")       /* both have, at once */                                   \
	X(LAST_ACK, "LAST_ACK")     /* both have, the container first */                       \
	X(TIME_WAIT, "TIME_WAIT")   /* the last acknowledgement may get lost */                \
	X(DRAINING, "DRAINING")     /* over for the container, bytes wait for the host */      \
	X(VANISHED, "VANISHED")     /* the far host does not answer any more */

enum tcp_state {
#define X(id, name) TCP_##id,
	TCP_STATES(X)
#undef X
		N_TCP_STATES
};

/* X(enumerator, name) */
#define TCP_EVENTS(X)                                                                     \
	X(SYN, "SYN")             /* from the container, without ACK */                   \
	X(RESET, "RESET")         /* from the container */                                \
	X(SEGMENT, "SEGMENT")     /* with ACK: data, FIN, SYN-ACK */                      \
	X(CONNECTED, "CONNECTED") /* the dial has succeeded */                            \
	X(DIAL_FAILED, "DIAL_FAILED")                                                     \
	X(NEIGHBOR, "NEIGHBOR")     /* the container's server was heard of on the link */ \
	X(NEAR_ERROR, "NEAR_ERROR") /* an ICMP error about our SYN */                     \
	X(FAR_READY, "FAR_READY")   /* the host's socket has something, or room */        \
	X(FAR_ERROR, "FAR_ERROR")   /* a call on it failed for good */                    \
	X(RETRANSMIT, "RETRANSMIT") /* nobody acknowledged in time */                     \
	X(DELAYED_ACK, "DELAYED_ACK")                                                     \
	X(IDLE, "IDLE") /* it was silent for long */

enum tcp_event {
#define X(id, name) TCP_EVENT_##id,
	TCP_EVENTS(X)
#undef X
		N_TCP_EVENTS
};

const char *tcp_state_name(enum tcp_state state);
const char *tcp_event_name(enum tcp_event event);
/* Whether the machine has an answer; tests/script/matrix explains the others. */
bool tcp_event_is_possible(enum tcp_state state, enum tcp_event event);
