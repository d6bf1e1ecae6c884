/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
#include "base/counter.h"
struct icmp_limit;
bool icmp_limit_take(struct icmp_limit *limit, int64_t now_ns);
