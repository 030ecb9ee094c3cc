/*
 * Asks a consumer what it is told to ask, from standard input: the smallest program around edge_lease.h, and the one
 * that the tests hold against edge_monitor/consumer.py.
 *
 *   cc -std=c99 -Wall -Wextra -Wpedantic -o example example.c && ./example < frames
 *
 * A frame is a 32-bit length and as many bytes; numbers are little endian:
 *   'S' u8 settings, i64 heartbeat_timeout_ns, 32 bytes envelope digest, gates' names, each ended by a zero byte
 *       (settings: 1 accept_unapproved, 2 other_clock, 4 every_lease, 8 the digest is pinned)
 *   'M' i64 now_ns, u8 length of the topic, topic, body      a message came       prints  taken WHAT
 *   'A' i64 now_ns, gate's name                              may it act?          prints  GO, or NO_GO REASON
 *   'R'                                                      forget everything
 * Ends with 0 at the end of input, 2 at a frame that is none.
 */
#include <stdio.h>

#include "edge_lease.h"

#define MOST 4096U

static const char *const REASONS[] = {"GO",      "NOT_WATCHED", "NO_HEARTBEAT", "HEARTBEAT_LATE", "NEVER_RECEIVED", "NEW_BOOT", "LOST",
                                      "REVOKED", "EXPIRED",     "UNAPPROVED",   "ENVELOPE",       "CLOCK"};
static const char *const TAKEN[] = {"TAKEN", "IGNORED", "NOT_WATCHED", "MALFORMED", "OLD", "FOREIGN_BOOT", "LATE", "ENVELOPE", "CLOCK"};

static int64_t signed_at(const uint8_t *at) {
  const uint64_t bits = edge_lease_read(at, 8U);
  return (bits <= (uint64_t)INT64_MAX) ? (int64_t)bits : (-1 - (int64_t)(UINT64_MAX - bits));
}

static int set(struct edge_lease *lease, uint8_t *frame, uint32_t length) {
  uint32_t at = 42U;
  if (length < at) {
    return 0;
  }
  edge_lease_init(lease);
  lease->accept_unapproved = (uint8_t)(frame[1] & 1U);
  lease->other_clock = (uint8_t)((frame[1] >> 1) & 1U);
  lease->every_lease = (uint8_t)((frame[1] >> 2) & 1U);
  lease->pinned = (uint8_t)((frame[1] >> 3) & 1U);
  lease->heartbeat_timeout_ns = signed_at(&frame[2]);
  memcpy(lease->pinned_envelope, &frame[10], EDGE_LEASE_DIGEST_BYTES);
  frame[length] = 0U;
  while (at < length) {
    if (!edge_lease_watch(lease, (const char *)&frame[at])) {
      return 0;
    }
    at += edge_lease_length(&frame[at], length - at) + 1U;
  }
  return 1;
}

static int handle(struct edge_lease *lease, uint8_t *frame, uint32_t length) {
  enum edge_lease_reason reason;
  if ((length >= 1U) && (frame[0] == (uint8_t)'S')) {
    return set(lease, frame, length);
  }
  if ((length == 1U) && (frame[0] == (uint8_t)'R')) {
    edge_lease_reset(lease);
    return 1;
  }
  if ((length >= 9U) && (frame[0] == (uint8_t)'A')) {
    frame[length] = 0U;
    reason = edge_lease_allowed(lease, (const char *)&frame[9], signed_at(&frame[1]));
    (void)printf("%s%s\n", (reason == EDGE_LEASE_GO) ? "" : "NO_GO ", REASONS[reason]);
    return 1;
  }
  if ((length >= 10U) && (frame[0] == (uint8_t)'M') && ((10U + frame[9]) <= length)) {
    const uint8_t *body = &frame[10U + frame[9]];
    const uint32_t body_length = length - 10U - frame[9];
    (void)printf("taken %s\n", TAKEN[edge_lease_take(lease, &frame[10], frame[9], body, body_length, signed_at(&frame[1]))]);
    return 1;
  }
  return 0;
}

int main(void) {
  static uint8_t frame[MOST + 1U]; /* one more: names are ended with a zero byte here */
  struct edge_lease lease;
  uint8_t head[4];
  edge_lease_init(&lease);
  while (fread(head, 1U, 4U, stdin) == 4U) {
    const uint32_t length = (uint32_t)edge_lease_read(head, 4U);
    if ((length > MOST) || (fread(frame, 1U, length, stdin) != length) || !handle(&lease, frame, length)) {
      (void)fputs("example: not a frame\n", stderr);
      return 2;
    }
  }
  return 0;
}
