/* SPDX-License-Identifier: Apache-2.0 */
#include "tcpflow/rtt.h"

#include "wire/tcp.h"

void tcp_rtt_sent(struct tcp_rtt *rtt, uint32_t seq, int64_t now_ns)
{
	if (rtt->is_measuring)
		return;
	rtt->is_measuring = true;
	rtt->seq = seq;
	rtt->sent_ns = now_ns;
}

/* RFC 6298 2.2, 2.3: alpha 1/8, beta 1/4. */
static void take_sample(struct tcp_rtt *rtt, int64_t sample_ns)
{
	int64_t error_ns;

	sample_ns = MAX(sample_ns, 1);
	if (!rtt->srtt_ns) {
		rtt->srtt_ns = sample_ns;
		rtt->rttvar_ns = sample_ns / 2;
		return;
	}
	error_ns = rtt->srtt_ns - sample_ns;
	rtt->rttvar_ns += ((error_ns < 0 ? -error_ns : error_ns) - rtt->rttvar_ns) / 4;
	rtt->srtt_ns += (sample_ns - rtt->srtt_ns) / 8;
}

void tcp_rtt_acked(struct tcp_rtt *rtt, uint32_t ack, int64_t now_ns)
{
	rtt->n_backoffs = 0;
	if (!rtt->is_measuring || seq_before(ack, rtt->seq))
		return;
	rtt->is_measuring = false;
	take_sample(rtt, now_ns - rtt->sent_ns);
}

void tcp_rtt_backoff(struct tcp_rtt *rtt)
{
	rtt->is_measuring = false;
	if (rtt->n_backoffs < 16)
		rtt->n_backoffs++;
}

int64_t tcp_rtt_timeout(const struct tcp_rtt *rtt)
{
	int64_t rto_ns = TCP_RTO_FIRST_NS;

	if (rtt->srtt_ns)
		rto_ns = MAX(rtt->srtt_ns + 4 * rtt->rttvar_ns, TCP_RTO_MIN_NS);
	return MIN(MIN(rto_ns, TCP_RTO_MAX_NS) << rtt->n_backoffs, TCP_RTO_MAX_NS);
}
