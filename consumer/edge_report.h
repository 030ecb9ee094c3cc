/*
 * edge_report.h: what an action gate held back, as the message that the monitor journals as action.blocked (docs/wire.md).
 *
 * Where a verdict of edge_action.h has record 1, encode it and send it to a source of the monitor, without waiting: topic
 * EDGE_REPORT_TOPIC, meta EDGE_REPORT_META, then this body.
 *
 * C99 (or C++), header only, no allocation, no library.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef EDGE_REPORT_H
#define EDGE_REPORT_H

#include "edge_action.h"

#define EDGE_REPORT_TOPIC "edge_monitor/action"
/* {"e": "msgpack", "t": "action"} */
#define EDGE_REPORT_META "\x82\xa1" "e" "\xa7" "msgpack" "\xa1" "t" "\xa6" "action"
#define EDGE_REPORT_META_BYTES (sizeof(EDGE_REPORT_META) - 1U)
/* No report is longer. */
#define EDGE_REPORT_BYTES 512U

/* ---- inside ---- */

struct edge_report_buffer {
  uint8_t *bytes;
  uint32_t size;
  uint32_t used; /* more than size: it did not fit */
};

static inline void edge_report_put(struct edge_report_buffer *b, const void *bytes, uint32_t length) {
  if ((b->used <= b->size) && (length <= (b->size - b->used))) {
    (void)memcpy(&b->bytes[b->used], bytes, length);
    b->used += length;
  } else {
    b->used = b->size + 1U;
  }
}

/* A head byte and a big-endian number of so many bytes. */
static inline void edge_report_head(struct edge_report_buffer *b, uint8_t head, uint64_t value, uint32_t bytes) {
  uint8_t out[9];
  uint32_t i;
  out[0] = head;
  for (i = 0U; i < bytes; i++) {
    out[1U + i] = (uint8_t)(value >> (8U * (bytes - 1U - i)));
  }
  edge_report_put(b, out, 1U + bytes);
}

static inline void edge_report_text(struct edge_report_buffer *b, const char *text) {
  const uint32_t length = edge_lease_length((const uint8_t *)text, 255U);
  if (length < 32U) {
    edge_report_head(b, (uint8_t)(0xa0U + length), 0U, 0U);
  } else {
    edge_report_head(b, 0xd9U, length, 1U);
  }
  edge_report_put(b, text, length);
}

static inline void edge_report_unsigned(struct edge_report_buffer *b, uint64_t value) {
  if (value < 0x80U) {
    edge_report_head(b, (uint8_t)value, 0U, 0U);
  } else if (value <= 0xffU) {
    edge_report_head(b, 0xccU, value, 1U);
  } else if (value <= 0xffffU) {
    edge_report_head(b, 0xcdU, value, 2U);
  } else if (value <= 0xffffffffU) {
    edge_report_head(b, 0xceU, value, 4U);
  } else {
    edge_report_head(b, 0xcfU, value, 8U);
  }
}

/* NaN is nil, infinity a word. */
static inline void edge_report_numbers(struct edge_report_buffer *b, const double *values, uint32_t count) {
  uint32_t i;
  edge_report_head(b, (uint8_t)(0x90U + count), 0U, 0U);
  for (i = 0U; i < count; i++) {
    if (edge_action_is_finite(values[i])) {
      uint64_t bits;
      (void)memcpy(&bits, &values[i], sizeof(bits));
      edge_report_head(b, 0xcbU, bits, 8U);
    } else if (values[i] > 0.0) {
      edge_report_text(b, "inf");
    } else if (values[i] < 0.0) {
      edge_report_text(b, "-inf");
    } else {
      edge_report_head(b, 0xc0U, 0U, 0U);
    }
  }
}

static inline const char *edge_report_rule(uint32_t rule) {
  static const char *const names[EDGE_ACTION_RULES] = {"none", "scope", "not_finite", "no_go", "speed", "range", "budget"};
  return (rule < EDGE_ACTION_RULES) ? names[rule] : "none";
}

static inline const char *edge_report_answer(uint32_t answer) {
  static const char *const names[12] = {"go",   "not_watched", "no_heartbeat", "heartbeat_late", "never_received", "new_boot",
                                        "lost", "revoked",     "expired",      "unapproved",     "envelope",       "clock"};
  return (answer < 12U) ? names[answer] : "go";
}

/* ---- what a vehicle calls ---- */

/*
 * Encode the record of a verdict, for the gate whose answers the action gate is given. The number of bytes; 0 if there is
 * nothing to tell or it does not fit into size (EDGE_REPORT_BYTES are enough).
 */
static inline uint32_t edge_report_encode(uint8_t *out, uint32_t size, const char *gate, const struct edge_action_verdict *verdict) {
  const struct edge_action_refusal *last = &verdict->last;
  struct edge_report_buffer b;
  uint32_t rules = 0U;
  uint32_t i;
  if (verdict->record == 0U) {
    return 0U;
  }
  b.bytes = out;
  b.size = size;
  b.used = 0U;
  for (i = 0U; i < EDGE_ACTION_RULES; i++) {
    rules += (verdict->counts[i] != 0U) ? 1U : 0U;
  }
  edge_report_head(&b, 0x8aU, 0U, 0U);
  edge_report_text(&b, "subject");
  edge_report_text(&b, (const char *)last->subject);
  edge_report_text(&b, "gate");
  edge_report_text(&b, gate);
  edge_report_text(&b, "outcome");
  edge_report_text(&b, (last->outcome == EDGE_ACTION_LIMITED) ? "limited" : "blocked");
  edge_report_text(&b, "rule");
  edge_report_text(&b, edge_report_rule((uint32_t)last->rule));
  edge_report_text(&b, "requested");
  edge_report_numbers(&b, last->requested, last->requested_count);
  edge_report_text(&b, "granted");
  edge_report_numbers(&b, last->granted, last->granted_count);
  edge_report_text(&b, "unit");
  edge_report_text(&b, (const char *)last->unit);
  edge_report_text(&b, "reason");
  edge_report_text(&b, (last->rule == EDGE_ACTION_NO_GO) ? edge_report_answer((uint32_t)last->answer) : "");
  edge_report_text(&b, "counts");
  edge_report_head(&b, (uint8_t)(0x80U + rules), 0U, 0U);
  for (i = 0U; i < EDGE_ACTION_RULES; i++) {
    if (verdict->counts[i] != 0U) {
      edge_report_text(&b, edge_report_rule(i));
      edge_report_unsigned(&b, verdict->counts[i]);
    }
  }
  edge_report_text(&b, "since_ns");
  edge_report_unsigned(&b, (verdict->since_ns < 0) ? 0U : (uint64_t)verdict->since_ns);
  return (b.used <= b.size) ? b.used : 0U;
}

#endif /* EDGE_REPORT_H */
