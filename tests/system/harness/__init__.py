# SPDX-License-Identifier: Apache-2.0
"""What the system tests are made of: private hosts, containers, helpers, traffic."""
