/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/tcp.h"

#include "base/util.h"
#include "wire/option.h"

#define MSS_LEN          4
#define WINDOW_SCALE_LEN 3

void tcp_options_parse(const struct tcp_header *tcp, struct tcp_options *ret)
{
	struct cursor options = {
		.at = (const uint8_t *)(tcp + 1), .left = tcp_header_len(tcp) - TCP_HEADER_MIN};
	const uint8_t *at = options.at;
	uint8_t kind;

	*ret = (struct tcp_options){0};
	for (; option_next(&options, &kind); at = options.at) {
		size_t len = (size_t)(options.at - at);

		if (kind == TCP_OPTION_MSS && len == MSS_LEN)
			ret->mss = (uint16_t)(at[2] << 8 | at[3]);
		if (kind == TCP_OPTION_WINDOW_SCALE && len == WINDOW_SCALE_LEN) {
			ret->has_window_scale = true;
			ret->window_scale = (uint8_t)MIN(at[2], TCP_WINDOW_SCALE_MAX);
		}
	}
}
