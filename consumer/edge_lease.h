/*
 * edge_lease.h: may it act? The consumer's side of edge-monitor's GO, which is a lease.
 *
 * Give it every heartbeat and lease that arrives, ask edge_lease_allowed() before each action. Absent, expired, late,
 * overtaken or foreign messages mean NO_GO. The rules, numbered, and the byte tables are in docs/consumer.md;
 * edge_monitor/consumer.py is the same machine in Python, held equal by tests.
 *
 * C99 (or C++), header only: no allocation, no library but <stdint.h> and <string.h>, no clock, no floating point, no
 * recursion; every loop is bounded by a constant or by a length checked before. One thread; time is an argument, in ns
 * of one clock that counts suspend (CLOCK_BOOTTIME).
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef EDGE_LEASE_H
#define EDGE_LEASE_H

#include <stdint.h>
#include <string.h>

#define EDGE_LEASE_VERSION 1U
#define EDGE_LEASE_HEARTBEAT_BYTES 96U
#define EDGE_LEASE_LEASE_BYTES 128U
#define EDGE_LEASE_BOOT_BYTES 16U
#define EDGE_LEASE_DIGEST_BYTES 32U
#define EDGE_LEASE_GATE_BYTES 32U
#define EDGE_LEASE_MAX_GATES 16U
/* How many boots before the present one are remembered, never to be taken again. */
#define EDGE_LEASE_RETIRED_BOOTS 8U
#define EDGE_LEASE_FLAG_UNAPPROVED 1U
#define EDGE_LEASE_FLAG_WAIVED 2U

#define EDGE_LEASE_HEARTBEAT_TIMEOUT_NS INT64_C(180000000)
#define EDGE_LEASE_MAX_TIMEOUT_NS INT64_C(60000000000)
/* A stamp so much ahead of the consumer's clock was not made by that clock. */
#define EDGE_LEASE_AHEAD_NS INT64_C(10000000)
/* Two crystals part by at most 200 ppm: one ns in 5,000. So fast may the smallest offset seen be forgotten. */
#define EDGE_LEASE_DRIFT INT64_C(5000)
/* Times are below 2^61 ns (73 years since boot), so that no sum overflows. A lease is at most a day long. */
#define EDGE_LEASE_TIME_LIMIT (INT64_C(1) << 61)
#define EDGE_LEASE_LIFE_LIMIT_NS INT64_C(86400000000000)

/* Why a gate is answered so; everything but GO is a NO_GO. */
enum edge_lease_reason {
  EDGE_LEASE_GO = 0,
  EDGE_LEASE_NOT_WATCHED = 1,    /* edge_lease_watch() was not called for this gate */
  EDGE_LEASE_NO_HEARTBEAT = 2,   /* none was ever taken */
  EDGE_LEASE_HEARTBEAT_LATE = 3, /* the newest one is as old as the timeout, or older */
  EDGE_LEASE_NEVER_RECEIVED = 4, /* no lease of this gate was taken */
  EDGE_LEASE_NEW_BOOT = 5,       /* the monitor has started anew and not answered for this gate yet */
  EDGE_LEASE_LOST = 6,           /* a message was lost since the lease: it may have been the NO_GO */
  EDGE_LEASE_REVOKED = 7,        /* the newest lease says NO_GO */
  EDGE_LEASE_EXPIRED = 8,        /* the newest lease said GO; its time is over */
  EDGE_LEASE_UNAPPROVED = 9,     /* the envelope is not approved, and the consumer does not accept that */
  EDGE_LEASE_ENVELOPE = 10,      /* the monitor's envelope is not the pinned one, or changed after the lease */
  EDGE_LEASE_CLOCK = 11          /* the consumer's clock went back, or does not agree with the monitor's */
};

/* What became of a message. */
enum edge_lease_taken {
  EDGE_LEASE_TAKEN = 0,
  EDGE_LEASE_TAKEN_IGNORED = 1,      /* another topic */
  EDGE_LEASE_TAKEN_NOT_WATCHED = 2,  /* in order, but a lease of a gate nobody asks for */
  EDGE_LEASE_TAKEN_MALFORMED = 3,    /* not a message of this format, or its topic names another gate */
  EDGE_LEASE_TAKEN_OLD = 4,          /* a duplicate, or overtaken by a newer one */
  EDGE_LEASE_TAKEN_FOREIGN_BOOT = 5, /* another boot while the present one is alive, an earlier one, or a lease first */
  EDGE_LEASE_TAKEN_LATE = 6,         /* a new boot's first heartbeat, too old to begin with */
  EDGE_LEASE_TAKEN_ENVELOPE = 7,     /* of another envelope than the pinned one */
  EDGE_LEASE_TAKEN_CLOCK = 8         /* stamped ahead of the consumer's clock, or the time given is no time */
};

/* The newest lease of a watched gate; without one (held 0), why. until: the first ns at which it no longer counts. */
struct edge_lease_slot {
  uint8_t name[EDGE_LEASE_GATE_BYTES];
  int64_t issued;
  int64_t life;
  int64_t until;
  enum edge_lease_reason why;
  uint8_t held;
  uint8_t go;
  uint8_t unapproved;
};

/* All state. The settings at its head may be changed between edge_lease_init() and the first message. */
struct edge_lease {
  int64_t heartbeat_timeout_ns; /* a heartbeat counts for less than so long: 1 ns to 60 s */
  uint8_t accept_unapproved;    /* 1: for the bench */
  uint8_t other_clock;          /* 1: the monitor is on another machine; ages count from the smallest offset seen */
  uint8_t every_lease;          /* 1: all leases are subscribed, so a gap in seq is a lost message */
  uint8_t pinned;               /* 1: leases must come from pinned_envelope */
  uint8_t pinned_envelope[EDGE_LEASE_DIGEST_BYTES];

  struct edge_lease_slot slots[EDGE_LEASE_MAX_GATES];
  uint32_t gates;
  int64_t latest;
  uint8_t has_boot;
  uint8_t boot[EDGE_LEASE_BOOT_BYTES];
  uint8_t retired[EDGE_LEASE_RETIRED_BOOTS][EDGE_LEASE_BOOT_BYTES];
  uint32_t retired_next;
  uint64_t seq;
  uint8_t envelope[EDGE_LEASE_DIGEST_BYTES];
  uint8_t heartbeat;
  uint8_t unapproved;
  enum edge_lease_reason absent;
  int64_t alive_until;
  int64_t sent;
  uint8_t has_offset;
  int64_t offset;
  int64_t offset_at;
};

/* One decoded message; gate is zero padded, and empty for a heartbeat. */
struct edge_lease_message {
  uint8_t is_heartbeat;
  uint8_t go;
  uint8_t unapproved;
  uint8_t boot[EDGE_LEASE_BOOT_BYTES];
  uint64_t seq;
  int64_t stamp;
  int64_t life;
  uint8_t envelope[EDGE_LEASE_DIGEST_BYTES];
  uint8_t gate[EDGE_LEASE_GATE_BYTES];
};

/* ---- bytes ---- */

static inline uint64_t edge_lease_read(const uint8_t *at, uint32_t bytes) {
  uint64_t value = 0U;
  uint32_t i;
  for (i = bytes; i > 0U; i--) {
    value = (value << 8) | (uint64_t)at[i - 1U];
  }
  return value;
}

static inline int edge_lease_is_zero(const uint8_t *at, uint32_t bytes) {
  uint8_t any = 0U;
  uint32_t i;
  for (i = 0U; i < bytes; i++) {
    any = (uint8_t)(any | at[i]);
  }
  return any == 0U;
}

/* Length in bytes of the UTF-8 character at at[0], 0 if there is none within left bytes or it is a control character. */
static inline uint32_t edge_lease_character(const uint8_t *at, uint32_t left) {
  const uint32_t first = at[0];
  uint32_t bytes;
  uint32_t low = 0x80U; /* bounds of the second byte: neither overlong, nor a surrogate, nor beyond U+10FFFF */
  uint32_t high = 0xBFU;
  uint32_t i;
  if (first < 0x80U) {
    return ((first >= 0x20U) && (first != 0x7FU)) ? 1U : 0U;
  }
  if ((first >= 0xC2U) && (first <= 0xDFU)) {
    bytes = 2U;
  } else if ((first >= 0xE0U) && (first <= 0xEFU)) {
    bytes = 3U;
    low = (first == 0xE0U) ? 0xA0U : low;
    high = (first == 0xEDU) ? 0x9FU : high;
  } else if ((first >= 0xF0U) && (first <= 0xF4U)) {
    bytes = 4U;
    low = (first == 0xF0U) ? 0x90U : low;
    high = (first == 0xF4U) ? 0x8FU : high;
  } else {
    return 0U;
  }
  if ((bytes > left) || (at[1] < low) || (at[1] > high)) {
    return 0U;
  }
  for (i = 2U; i < bytes; i++) {
    if ((at[i] & 0xC0U) != 0x80U) {
      return 0U;
    }
  }
  return bytes;
}

/* Whether length bytes are a gate's name: 1 to 32 bytes of UTF-8 without control characters. */
static inline int edge_lease_is_name(const uint8_t *name, uint32_t length) {
  uint32_t at = 0U;
  if ((length < 1U) || (length > EDGE_LEASE_GATE_BYTES)) {
    return 0;
  }
  while (at < length) {
    const uint32_t bytes = edge_lease_character(&name[at], length - at);
    if (bytes == 0U) {
      return 0;
    }
    at += bytes;
  }
  return 1;
}

/* Length of a zero-padded or zero-ended name: at most limit. */
static inline uint32_t edge_lease_length(const uint8_t *name, uint32_t limit) {
  uint32_t length = 0U;
  while ((length < limit) && (name[length] != 0U)) {
    length++;
  }
  return length;
}

static inline int edge_lease_decode_heartbeat(struct edge_lease_message *out, const uint8_t *body, uint32_t length) {
  uint64_t flags;
  uint64_t stamp;
  if ((length != EDGE_LEASE_HEARTBEAT_BYTES) || (memcmp(body, "EMH1", 4U) != 0)) {
    return 0;
  }
  flags = edge_lease_read(&body[6], 2U);
  stamp = edge_lease_read(&body[32], 8U);
  out->seq = edge_lease_read(&body[24], 8U);
  if ((edge_lease_read(&body[4], 2U) != EDGE_LEASE_VERSION) || (flags > EDGE_LEASE_FLAG_UNAPPROVED) ||
      edge_lease_is_zero(&body[8], EDGE_LEASE_BOOT_BYTES) || (out->seq == 0U) ||
      (stamp >= (uint64_t)EDGE_LEASE_TIME_LIMIT) || (edge_lease_read(&body[72], 4U) == 0U) ||
      (!edge_lease_is_zero(&body[76], 20U))) {
    return 0;
  }
  out->is_heartbeat = 1U;
  out->go = 0U;
  out->unapproved = (uint8_t)(flags & EDGE_LEASE_FLAG_UNAPPROVED);
  out->stamp = (int64_t)stamp;
  out->life = 0;
  (void)memcpy(out->boot, &body[8], EDGE_LEASE_BOOT_BYTES);
  (void)memcpy(out->envelope, &body[40], EDGE_LEASE_DIGEST_BYTES);
  (void)memset(out->gate, 0, EDGE_LEASE_GATE_BYTES);
  return 1;
}

static inline int edge_lease_decode_lease(struct edge_lease_message *out, const uint8_t *body, uint32_t length) {
  uint64_t stamp;
  uint64_t life;
  uint32_t name;
  if ((length != EDGE_LEASE_LEASE_BYTES) || (memcmp(body, "EML1", 4U) != 0)) {
    return 0;
  }
  out->go = body[6];
  out->seq = edge_lease_read(&body[24], 8U);
  stamp = edge_lease_read(&body[32], 8U);
  life = edge_lease_read(&body[40], 8U);
  name = edge_lease_length(&body[80], EDGE_LEASE_GATE_BYTES);
  if ((edge_lease_read(&body[4], 2U) != EDGE_LEASE_VERSION) || (out->go > 1U) ||
      (body[7] > (EDGE_LEASE_FLAG_UNAPPROVED | EDGE_LEASE_FLAG_WAIVED)) ||
      edge_lease_is_zero(&body[8], EDGE_LEASE_BOOT_BYTES) || (out->seq == 0U) ||
      (stamp >= (uint64_t)EDGE_LEASE_TIME_LIMIT) || (life > (uint64_t)EDGE_LEASE_LIFE_LIMIT_NS) ||
      ((out->go == 1U) != (life > 0U)) || (!edge_lease_is_name(&body[80], name)) ||
      (!edge_lease_is_zero(&body[80U + name], EDGE_LEASE_GATE_BYTES - name)) || (!edge_lease_is_zero(&body[112], 16U))) {
    return 0;
  }
  out->is_heartbeat = 0U;
  out->unapproved = (uint8_t)(body[7] & EDGE_LEASE_FLAG_UNAPPROVED);
  out->stamp = (int64_t)stamp;
  out->life = (int64_t)life;
  (void)memcpy(out->boot, &body[8], EDGE_LEASE_BOOT_BYTES);
  (void)memcpy(out->envelope, &body[48], EDGE_LEASE_DIGEST_BYTES);
  (void)memcpy(out->gate, &body[80], EDGE_LEASE_GATE_BYTES);
  return 1;
}

/* ---- the machine ---- */

/* No lease counts any more. */
static inline void edge_lease_void(struct edge_lease *c, enum edge_lease_reason why) {
  uint32_t i;
  for (i = 0U; i < c->gates; i++) {
    c->slots[i].held = 0U;
    c->slots[i].go = 0U;
    c->slots[i].why = why;
  }
}

/* Neither lease nor heartbeat counts any more. */
static inline void edge_lease_forget(struct edge_lease *c, enum edge_lease_reason why) {
  edge_lease_void(c, why);
  c->heartbeat = 0U;
  c->absent = why;
}

/* The timeout in force: what was set, within its bounds. */
static inline int64_t edge_lease_timeout(const struct edge_lease *c) {
  int64_t timeout = c->heartbeat_timeout_ns;
  if (timeout < 1) {
    timeout = 1;
  } else if (timeout > EDGE_LEASE_MAX_TIMEOUT_NS) {
    timeout = EDGE_LEASE_MAX_TIMEOUT_NS;
  } else {
    /* as set */
  }
  return timeout;
}

/* Nothing measured so far can be compared with the clock; the boot is presumed alive for one timeout. */
static inline void edge_lease_lose_clock(struct edge_lease *c) {
  edge_lease_forget(c, EDGE_LEASE_CLOCK);
  c->alive_until = c->latest + edge_lease_timeout(c);
  c->has_offset = 0U;
}

/* Let time pass; a clock that went back voids everything, and what is no time is refused. */
static inline int edge_lease_passes(struct edge_lease *c, int64_t now) {
  int back;
  if ((now < 0) || (now >= EDGE_LEASE_TIME_LIMIT)) {
    edge_lease_lose_clock(c);
    return 0;
  }
  back = now < c->latest;
  c->latest = now;
  if (back) {
    edge_lease_lose_clock(c);
  }
  return 1;
}

static inline struct edge_lease_slot *edge_lease_find(struct edge_lease *c, const uint8_t *name, uint32_t length) {
  uint32_t i;
  if ((length >= 1U) && (length <= EDGE_LEASE_GATE_BYTES)) {
    for (i = 0U; i < c->gates; i++) {
      struct edge_lease_slot *slot = &c->slots[i];
      if ((edge_lease_length(slot->name, EDGE_LEASE_GATE_BYTES) == length) && (memcmp(slot->name, name, length) == 0)) {
        return slot;
      }
    }
  }
  return NULL;
}

static inline int edge_lease_is_ahead(const struct edge_lease *c, int64_t stamp, int64_t now) {
  return (c->other_clock == 0U) && (stamp > (now + EDGE_LEASE_AHEAD_NS));
}

static inline int edge_lease_is_pinned_out(const struct edge_lease *c, const struct edge_lease_message *m) {
  return (c->pinned != 0U) && (memcmp(c->pinned_envelope, m->envelope, EDGE_LEASE_DIGEST_BYTES) != 0);
}

/* A message of another boot: only a fresh heartbeat begins one, only after the present one has fallen silent. */
static inline enum edge_lease_taken edge_lease_begin(struct edge_lease *c, const struct edge_lease_message *m, int64_t now) {
  uint32_t i;
  if (m->is_heartbeat == 0U) {
    return EDGE_LEASE_TAKEN_FOREIGN_BOOT;
  }
  for (i = 0U; i < EDGE_LEASE_RETIRED_BOOTS; i++) {
    if (memcmp(c->retired[i], m->boot, EDGE_LEASE_BOOT_BYTES) == 0) {
      return EDGE_LEASE_TAKEN_FOREIGN_BOOT;
    }
  }
  if ((c->has_boot != 0U) && (now < c->alive_until)) {
    return EDGE_LEASE_TAKEN_FOREIGN_BOOT;
  }
  if (edge_lease_is_pinned_out(c, m)) {
    edge_lease_forget(c, EDGE_LEASE_ENVELOPE);
    return EDGE_LEASE_TAKEN_ENVELOPE;
  }
  if (edge_lease_is_ahead(c, m->stamp, now)) {
    edge_lease_lose_clock(c);
    return EDGE_LEASE_TAKEN_CLOCK;
  }
  if ((c->other_clock == 0U) && (now >= (m->stamp + edge_lease_timeout(c)))) {
    return EDGE_LEASE_TAKEN_LATE;
  }
  if (c->has_boot != 0U) {
    (void)memcpy(c->retired[c->retired_next], c->boot, EDGE_LEASE_BOOT_BYTES);
    c->retired_next = (c->retired_next + 1U) % EDGE_LEASE_RETIRED_BOOTS;
    edge_lease_void(c, EDGE_LEASE_NEW_BOOT);
  }
  c->has_boot = 1U;
  (void)memcpy(c->boot, m->boot, EDGE_LEASE_BOOT_BYTES);
  c->seq = m->seq - 1U;
  (void)memcpy(c->envelope, m->envelope, EDGE_LEASE_DIGEST_BYTES);
  c->has_offset = 0U;
  return EDGE_LEASE_TAKEN;
}

/* When a message began to count, on the consumer's clock: never later than its receipt. */
static inline int64_t edge_lease_base(struct edge_lease *c, int64_t stamp, int64_t now) {
  int64_t offset = now - stamp;
  uint32_t i;
  if (c->other_clock == 0U) {
    return (stamp < now) ? stamp : now;
  }
  if (c->has_offset != 0U) {
    const int64_t before = c->offset + ((now - c->offset_at) / EDGE_LEASE_DRIFT);
    offset = (before < offset) ? before : offset;
  }
  c->has_offset = 1U;
  c->offset = offset;
  c->offset_at = now;
  /* A quicker message tells that the earlier ones were older than thought. */
  if (c->heartbeat != 0U) {
    const int64_t until = c->sent + offset + edge_lease_timeout(c);
    c->alive_until = (until < c->alive_until) ? until : c->alive_until;
  }
  for (i = 0U; i < c->gates; i++) {
    struct edge_lease_slot *slot = &c->slots[i];
    if (slot->held != 0U) {
      const int64_t until = slot->issued + offset + slot->life;
      slot->until = (until < slot->until) ? until : slot->until;
    }
  }
  return stamp + offset;
}

/* ---- what a vehicle calls ---- */

/* Forget everything received, earlier boots and the clock included: as new. Settings and watched gates stay. */
static inline void edge_lease_reset(struct edge_lease *c) {
  uint32_t i;
  for (i = 0U; i < c->gates; i++) {
    struct edge_lease_slot *slot = &c->slots[i];
    slot->issued = 0;
    slot->life = 0;
    slot->until = 0;
    slot->unapproved = 0U;
  }
  edge_lease_forget(c, EDGE_LEASE_NEVER_RECEIVED);
  c->absent = EDGE_LEASE_NO_HEARTBEAT;
  c->latest = 0;
  c->has_boot = 0U;
  (void)memset(c->boot, 0, sizeof(c->boot));
  (void)memset(c->retired, 0, sizeof(c->retired));
  c->retired_next = 0U;
  c->seq = 0U;
  (void)memset(c->envelope, 0, sizeof(c->envelope));
  c->unapproved = 0U;
  c->alive_until = 0;
  c->sent = 0;
  c->has_offset = 0U;
  c->offset = 0;
  c->offset_at = 0;
}

/* Default settings, no gate, nothing received. */
static inline void edge_lease_init(struct edge_lease *c) {
  (void)memset(c, 0, sizeof(*c));
  c->heartbeat_timeout_ns = EDGE_LEASE_HEARTBEAT_TIMEOUT_NS;
  c->every_lease = 1U;
  edge_lease_reset(c);
}

/* Watch a gate (zero-ended name). 1: it is watched; 0: no name, or 16 gates are watched already. Call before any message. */
static inline int edge_lease_watch(struct edge_lease *c, const char *gate) {
  const uint8_t *name = (const uint8_t *)gate;
  const uint32_t length = (name == NULL) ? 0U : edge_lease_length(name, EDGE_LEASE_GATE_BYTES + 1U);
  struct edge_lease_slot *slot;
  if (!edge_lease_is_name(name, length)) {
    return 0;
  }
  if (edge_lease_find(c, name, length) != NULL) {
    return 1;
  }
  if (c->gates >= EDGE_LEASE_MAX_GATES) {
    return 0;
  }
  slot = &c->slots[c->gates];
  (void)memset(slot, 0, sizeof(*slot));
  (void)memcpy(slot->name, name, length);
  slot->why = EDGE_LEASE_NEVER_RECEIVED;
  c->gates++;
  return 1;
}

/* Take one message, received at now_ns. topic and body may be any bytes; NULL goes with length 0 only. */
static inline enum edge_lease_taken edge_lease_take(struct edge_lease *c, const uint8_t *topic, uint32_t topic_length,
                                                    const uint8_t *body, uint32_t body_length, int64_t now_ns) {
  struct edge_lease_message m;
  struct edge_lease_slot *slot;
  int64_t base;
  if (!edge_lease_passes(c, now_ns)) {
    return EDGE_LEASE_TAKEN_CLOCK;
  }
  if ((topic_length == 9U) && (memcmp(topic, "heartbeat", 9U) == 0)) {
    if (!edge_lease_decode_heartbeat(&m, body, body_length)) {
      return EDGE_LEASE_TAKEN_MALFORMED;
    }
  } else if ((topic_length >= 6U) && (memcmp(topic, "lease/", 6U) == 0)) {
    uint32_t length;
    if (!edge_lease_decode_lease(&m, body, body_length)) {
      return EDGE_LEASE_TAKEN_MALFORMED;
    }
    length = edge_lease_length(m.gate, EDGE_LEASE_GATE_BYTES);
    if ((length != (topic_length - 6U)) || (memcmp(m.gate, &topic[6], length) != 0)) {
      return EDGE_LEASE_TAKEN_MALFORMED;
    }
  } else {
    return EDGE_LEASE_TAKEN_IGNORED;
  }
  if ((c->has_boot == 0U) || (memcmp(c->boot, m.boot, EDGE_LEASE_BOOT_BYTES) != 0)) {
    const enum edge_lease_taken refused = edge_lease_begin(c, &m, now_ns);
    if (refused != EDGE_LEASE_TAKEN) {
      return refused;
    }
  }
  if (m.seq <= c->seq) {
    return EDGE_LEASE_TAKEN_OLD;
  }
  /* From here on it is the newest message of this boot: whatever is wrong with it voids what came before. */
  if ((c->every_lease != 0U) && ((m.seq - c->seq) != 1U)) {
    edge_lease_void(c, EDGE_LEASE_LOST);
  }
  c->seq = m.seq;
  if (edge_lease_is_pinned_out(c, &m)) {
    edge_lease_forget(c, EDGE_LEASE_ENVELOPE);
    return EDGE_LEASE_TAKEN_ENVELOPE;
  }
  if (edge_lease_is_ahead(c, m.stamp, now_ns)) {
    edge_lease_lose_clock(c);
    return EDGE_LEASE_TAKEN_CLOCK;
  }
  if (memcmp(c->envelope, m.envelope, EDGE_LEASE_DIGEST_BYTES) != 0) {
    edge_lease_void(c, EDGE_LEASE_ENVELOPE);
    (void)memcpy(c->envelope, m.envelope, EDGE_LEASE_DIGEST_BYTES);
  }
  base = edge_lease_base(c, m.stamp, now_ns);
  if (m.is_heartbeat != 0U) {
    c->heartbeat = 1U;
    c->sent = m.stamp;
    c->unapproved = m.unapproved;
    c->alive_until = base + edge_lease_timeout(c);
    return EDGE_LEASE_TAKEN;
  }
  slot = edge_lease_find(c, m.gate, edge_lease_length(m.gate, EDGE_LEASE_GATE_BYTES));
  if (slot == NULL) {
    return EDGE_LEASE_TAKEN_NOT_WATCHED;
  }
  slot->held = 1U;
  slot->go = m.go;
  slot->unapproved = m.unapproved;
  slot->issued = m.stamp;
  slot->life = m.life;
  slot->until = base + m.life;
  return EDGE_LEASE_TAKEN;
}

/* Is the gate (zero-ended name) GO at now_ns? EDGE_LEASE_GO, or why not. A time before one already seen voids everything. */
static inline enum edge_lease_reason edge_lease_allowed(struct edge_lease *c, const char *gate, int64_t now_ns) {
  const uint8_t *name = (const uint8_t *)gate;
  const uint32_t length = (name == NULL) ? 0U : edge_lease_length(name, EDGE_LEASE_GATE_BYTES + 1U);
  const struct edge_lease_slot *slot;
  enum edge_lease_reason reason = EDGE_LEASE_GO;
  if (!edge_lease_passes(c, now_ns)) {
    return EDGE_LEASE_CLOCK;
  }
  slot = edge_lease_find(c, name, length);
  if (slot == NULL) {
    reason = EDGE_LEASE_NOT_WATCHED;
  } else if (c->heartbeat == 0U) {
    reason = c->absent;
  } else if (now_ns >= c->alive_until) {
    reason = EDGE_LEASE_HEARTBEAT_LATE;
  } else if (slot->held == 0U) {
    reason = slot->why;
  } else if (slot->go == 0U) {
    reason = EDGE_LEASE_REVOKED;
  } else if (now_ns >= slot->until) {
    reason = EDGE_LEASE_EXPIRED;
  } else if (((slot->unapproved != 0U) || (c->unapproved != 0U)) && (c->accept_unapproved == 0U)) {
    reason = EDGE_LEASE_UNAPPROVED;
  } else {
    /* GO */
  }
  return reason;
}

#endif /* EDGE_LEASE_H */
